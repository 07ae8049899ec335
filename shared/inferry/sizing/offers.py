"""What clouds ask a month for so many predictions of one model, by the ways to run it."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from inferry.sizing.sizes import Size, at, billed

MONTH = 730 * 3600.0
# Of what an instance can do: traffic comes unevenly.
BUSY = 0.7
# Of predictions, that wait for a start.
COLD = 0.001
# Predictions a month that offers are compared for.
TRAFFIC = tuple(10 ** (exponent / 8) for exponent in range(3 * 8, 10 * 8 + 1))

AWS, AZURE = "AWS Lambda", "Azure"


class Offer(NamedTuple):
    """A way to run the model: its memory in MB, seconds of a prediction, USD a month for so many predictions.

    `is_ready`: no prediction waits for a start.
    """

    cloud: str
    name: str
    memory: int
    seconds: float
    monthly: Callable[[float], float]
    is_ready: bool = False

    def per_million(self, predictions: float) -> float:
        """USD for a million predictions, in a month of so many."""
        return self.monthly(predictions) / predictions * 1e6


def offers(prices: Mapping[str, Any], chosen: Size, sizes: Sequence[Size]) -> list[Offer]:
    """All of them, Lambda's in the chosen size, the others in sizes of their own. arm64 is taken to be as quick."""
    return [*_lambda(prices["lambda"], chosen, sizes), *_azure(prices["azure"], chosen, sizes)]


def _lambda(prices: Mapping[str, Any], chosen: Size, sizes: Sequence[Size]) -> list[Offer]:
    gb, warm, cold = chosen.memory / 1024, billed(chosen.warm), billed(chosen.cold)
    request = float(prices["request"])
    x86_64, arm64, snapshot, ready, managed = map(
        _numbers, (prices[name] for name in ("x86_64", "arm64", "snapstart", "provisioned", "managed"))
    )
    alone = at(sizes, 1.0)

    def on_demand(price: float) -> Callable[[float], float]:
        return lambda n: n * (request + (warm + COLD * cold) * gb * price)

    def snapstart(n: float) -> float:
        kept = MONTH * gb * snapshot["cached_gb_second"]
        return kept + n * (request + warm * gb * x86_64["gb_second"] + COLD * gb * snapshot["restored_gb"])

    def provisioned(n: float) -> float:
        kept = _instances(n * chosen.warm) * MONTH * gb * ready["gb_second"]
        return kept + n * (request + warm * gb * ready["running_gb_second"])

    def instances(n: float) -> float:
        count = max(managed["least"], _instances(n * alone.warm / managed["cpus"]))
        return count * MONTH / 3600 * managed["hour"] * (1 + managed["fee"]) + n * managed["request"]

    return [
        Offer(AWS, "x86_64", chosen.memory, chosen.warm, on_demand(x86_64["gb_second"])),
        Offer(AWS, "arm64", chosen.memory, chosen.warm, on_demand(arm64["gb_second"])),
        Offer(AWS, "SnapStart", chosen.memory, chosen.warm, snapstart),
        Offer(AWS, "provisioned", chosen.memory, chosen.warm, provisioned, is_ready=True),
        Offer(
            AWS,
            f"Managed Instances, {prices['managed']['instance']}",
            alone.memory,
            alone.warm,
            instances,
            is_ready=True,
        ),
    ]


def _azure(prices: Mapping[str, Any], chosen: Size, sizes: Sequence[Size]) -> list[Offer]:
    memory = 2048 if chosen.memory <= 2048 and chosen.cpus <= 1 else 4096
    gb, size = memory / 1024, at(sizes, memory / 2048)
    warm = size.warm
    alone = at(sizes, 1.0)
    flex, ready, premium, apps = map(
        _numbers, (prices[name] for name in ("flex", "always_ready", "premium", "container_apps"))
    )

    def on_demand(n: float) -> float:
        # An instance's time is billed while it is active: each short answer its least time, or all of the month.
        least = max(warm, flex["least_seconds"])
        active = min(n * (least + COLD * size.cold), max(_instances(n * warm) * MONTH, n * warm))
        return n * flex["request"] + active * gb * flex["gb_second"]

    def always_ready(n: float) -> float:
        kept = _instances(n * warm) * MONTH * gb * ready["gb_second"]
        return kept + n * (ready["request"] + warm * gb * ready["running_gb_second"])

    def plan(n: float) -> float:
        hour = premium["cpus"] * premium["cpu_hour"] + premium["gb"] * premium["gb_hour"]
        return _instances(n * alone.warm / premium["cpus"]) * MONTH / 3600 * hour

    def container_apps(n: float) -> float:
        replicas, busy = _instances(n * alone.warm), n * alone.warm
        idle = max(replicas * MONTH - busy, 0.0)
        cpus = busy * apps["cpu_second"] + idle * apps["idle_cpu_second"]
        return cpus + replicas * MONTH * 2 * apps["gb_second"] + n * apps["request"]

    return [
        Offer(AZURE, "Flex Consumption", memory, warm, on_demand),
        Offer(AZURE, "Flex, always ready", memory, warm, always_ready, is_ready=True),
        Offer(
            AZURE,
            f"Premium, {prices['premium']['instance']}",
            int(premium["gb"] * 1024),
            alone.warm,
            plan,
            is_ready=True,
        ),
        Offer(AZURE, "Container Apps", 2048, alone.warm, container_apps, is_ready=True),
    ]


def _numbers(prices: Mapping[str, Any]) -> dict[str, float]:
    """Those of a table's values that are no names."""
    return {name: float(value) for name, value in prices.items() if not isinstance(value, str)}


def _instances(busy: float) -> int:
    """How many it takes for so many seconds of work a month, one at least."""
    return max(1, math.ceil(busy / (MONTH * BUSY)))


def wins(all_offers: Sequence[Offer]) -> dict[str, list[tuple[float, float]]]:
    """From how many predictions a month to how many an offer is the cheapest, by the offers' clouds and names."""
    ranges: dict[str, list[tuple[float, float]]] = {}
    last = None
    for traffic in TRAFFIC:
        best = min(all_offers, key=lambda offer: offer.monthly(traffic))
        key = f"{best.cloud}, {best.name}"
        if key == last:
            ranges[key][-1] = (ranges[key][-1][0], traffic)
        else:
            ranges.setdefault(key, []).append((traffic, traffic))
        last = key
    return ranges

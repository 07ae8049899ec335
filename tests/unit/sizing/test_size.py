"""`inferry size`: what limits processes, what is found by sizes, what that costs, and where the choice is written."""

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import onnx_models
import pytest
from inferry.cli import main as cli
from inferry.cli import size as command
from inferry.errors import InvalidRequest
from inferry.sizing import choice, offers, prices
from inferry.sizing.limits import Ended, GroupLimits, StoppedLimits, open_limits
from inferry.sizing.sizes import (
    MB_PER_CPU,
    Found,
    Measurer,
    Size,
    cheapest,
    extrapolated,
    find,
    quickest,
)

# Limits

# Burns a fifth of a second of CPU time; says how long that took, on how many CPUs, and how often it was let go on.
BURN = """
import os, signal, time
stops = []
signal.signal(signal.SIGCONT, lambda *_: stops.append(1))
began = time.monotonic()
while time.process_time() < 0.2: pass
print(time.monotonic() - began, len(os.sched_getaffinity(0)), len(stops))
"""


@pytest.mark.parametrize(("cpus", "stops"), [(0.25, 10), (1.0, 0)])
def test_a_part_of_a_cpu_takes_longer(cpus: float, stops: int) -> None:
    """A busy machine only adds to the time. A quarter of 20 ms is used up at least ten times."""
    ended = StoppedLimits().run((sys.executable, "-S", "-c", BURN), os.environ, cpus, 512)
    seconds, allowed, stopped = ended.output.split()
    assert ended.status == 0
    assert float(seconds) >= 0.1 / cpus
    assert allowed == "1"
    assert int(stopped) >= stops if stops else stopped == "0"


def test_a_control_group_limits_both(tmp_path: Path) -> None:
    """The files that a group has, in a folder in its place: this machine may let us make none."""
    limits = GroupLimits(tmp_path)
    group = tmp_path / f"inferry-size-{os.getpid()}"
    script = f'cat {group}/cgroup.procs; echo $$; echo "oom_kill 1" > {group}/memory.events'
    ended = limits.run(("sh", "-c", script), os.environ, 0.5, 512)
    inside, own = ended.output.split()
    assert (inside, ended.status, ended.out_of_memory) == (own, 0, True)
    assert (group / "cpu.max").read_text() == "10000 20000"
    assert (group / "memory.max").read_text() == str(512 << 20)


@pytest.mark.parametrize(
    ("own", "controllers", "kind"),
    [
        ("0::/here", "cpu memory", GroupLimits),
        ("0::/here", "memory", StoppedLimits),
        ("4:memory:/here", "cpu memory", StoppedLimits),
    ],
)
def test_groups_where_they_can_be_made(own: str, controllers: str, kind: type, tmp_path: Path) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text(own + "\n")
    (tmp_path / "sys/fs/cgroup/here").mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup/here/cgroup.subtree_control").write_text(controllers)
    assert type(open_limits(tmp_path)) is kind


# Sizes


class Imitated:
    """Processes that say what a size's CPUs make of a second of work, half of which two CPUs can share."""

    how = "nothing"

    def __init__(self, peak: int = 200 << 20, least: int = 0) -> None:
        self.peak = peak
        self.least = least
        self.tasks: list[Mapping[str, Any]] = []

    def run(self, command: Sequence[str], environment: Mapping[str, str], cpus: float, memory: int) -> Ended:
        import time

        task = json.loads(command[-1])
        self.tasks.append(task)
        if memory < self.least:
            return Ended("", "", -9, out_of_memory=True)
        quota = min(cpus, 1.0)
        warm = (0.5 + 0.5 / task["threads"]) / quota
        rows = {count: 0.5 + 0.5 / count for count in task["batches"]}
        said = {"answered": time.time() + 10 * warm, "warm": warm, "rows": rows, "peak": self.peak}
        return Ended(json.dumps(said), "", 0)


def found(limits: Imitated, sizes: Sequence[int] = (128, 256, 512, 1769, 3538, 7076)) -> Found:
    return find(Measurer(limits, {}, 2, lambda _: None), 2, sizes)


def test_sizes_in_which_the_model_fits() -> None:
    result = found(Imitated())
    assert result.needs == 223  # 200 MB are nine tenths of it
    assert [(size.memory, size.threads, size.measured) for size in result.sizes] == [
        (256, 1, True),
        (512, 1, True),
        (1769, 1, True),
        (3538, 2, True),
        (7076, 4, False),
    ]
    warm = [size.warm for size in result.sizes]
    assert warm[:4] == pytest.approx([1769 / 256, 1769 / 512, 1.0, 0.75])
    assert warm[4] == pytest.approx(0.5 + 0.5 / 4)
    assert result.sizes[4].cold == pytest.approx(10 * warm[4], rel=0.01)


def test_a_size_that_runs_out_of_memory_is_left_out() -> None:
    assert [size.memory for size in found(Imitated(least=600)).sizes] == [1769, 3538, 7076]
    with pytest.raises(InvalidRequest, match="the model does not fit into 3538 MB"):
        found(Imitated(least=4000))
    with pytest.raises(InvalidRequest, match="the model needs 5689 MB, and this machine can imitate 3538 MB at most"):
        found(Imitated(peak=5120 << 20))


def test_the_fewest_rows_that_are_quick() -> None:
    assert found(Imitated()).batch_size == 16  # of 0.531 s a row, and 32 take 0.516
    assert Found((), 0, {}).batch_size == 1


def size(memory: int, warm: float, *, measured: bool = True) -> Size:
    return Size(memory, memory / MB_PER_CPU, 1, 1.0, warm, 100 << 20, measured)


def test_which_is_cheapest_and_which_quickest() -> None:
    sizes = [size(512, 0.4), size(1024, 0.19), size(1769, 0.12), size(3538, 0.118), size(7076, 0.01, measured=False)]
    assert (cheapest(sizes).memory, quickest(sizes).memory) == (1024, 1769)
    assert cheapest([size(128, 0.0002), size(256, 0.0001)]).memory == 128  # each a millisecond


def test_without_a_second_cpu_nothing_gets_quicker() -> None:
    assert extrapolated([size(512, 0.4), size(1769, 0.1)], 3538).warm == 0.1


# Prices


@pytest.fixture
def round_prices() -> dict[str, Any]:
    table = json.loads(prices.SHIPPED.read_bytes())
    table["lambda"].update(
        x86_64={"gb_second": 1e-5},
        arm64={"gb_second": 8e-6},
        request=2e-7,
        snapstart={"cached_gb_second": 1e-6, "restored_gb": 1e-4},
        provisioned={"gb_second": 4e-6, "running_gb_second": 9e-6},
        managed={"instance": "m", "cpus": 2, "hour": 0.1, "fee": 0.2, "least": 3, "request": 2e-7},
    )
    table["azure"] = {
        "flex": {"gb_second": 2e-5, "request": 4e-7, "least_seconds": 1.0},
        "always_ready": {"gb_second": 4e-6, "running_gb_second": 1e-5, "request": 4e-7},
        "premium": {"instance": "P", "cpus": 1, "gb": 4, "cpu_hour": 0.2, "gb_hour": 0.05},
        "container_apps": {"cpu_second": 2e-5, "idle_cpu_second": 3e-6, "gb_second": 3e-6, "request": 4e-7},
    }
    return table


def test_what_a_month_costs(round_prices: dict[str, Any]) -> None:
    """A million predictions of 100 ms in 1 GB; starts of 10 s, one in a thousand. Sums by hand."""
    chosen, alone, two = (Size(memory, cpus, 1, 10.0, 0.1, 0) for memory, cpus in ((1024, 0.5), (1769, 1), (3538, 2)))
    month = 730 * 3600
    costs = {way.name: way.monthly(1e6) for way in offers.offers(round_prices, chosen, (chosen, alone, two))}
    assert costs == pytest.approx(
        {
            "x86_64": 0.2 + 110_000 * 1e-5,
            "arm64": 0.2 + 110_000 * 8e-6,
            "SnapStart": 0.2 + 100_000 * 1e-5 + 1000 * 1e-4 + month * 1e-6,
            "provisioned": 0.2 + 100_000 * 9e-6 + month * 4e-6,
            "Managed Instances, m": 3 * 730 * 0.12 + 0.2,
            "Flex Consumption": 0.4 + 1_010_000 * 2 * 2e-5,
            "Flex, always ready": 0.4 + 100_000 * 2 * 1e-5 + month * 2 * 4e-6,
            "Premium, P": 730 * 0.4,
            "Container Apps": 0.4 + 100_000 * 2e-5 + (month - 100_000) * 3e-6 + month * 2 * 3e-6,
        }
    )


def test_much_traffic_takes_more_instances(round_prices: dict[str, Any]) -> None:
    chosen = Size(1769, 1, 1, 1.0, 0.1, 0)
    ways = {way.name: way for way in offers.offers(round_prices, chosen, (chosen,))}
    # 10 million seconds of work, of 2,628,000 in a month, seven tenths of which are busy.
    assert ways["Premium, P"].monthly(1e8) == pytest.approx(6 * 730 * 0.4)
    assert ways["Managed Instances, m"].monthly(1e8) == pytest.approx(3 * 730 * 0.12 + 20)
    assert ways["Managed Instances, m"].monthly(1e9) == pytest.approx(28 * 730 * 0.12 + 200)


def test_the_traffic_at_which_each_wins() -> None:
    def way(name: str, month: float, each: float) -> offers.Offer:
        return offers.Offer("C", name, 512, 0.1, lambda n: month + n * each)

    ranges = offers.wins([way("by prediction", 0, 1e-4), way("by month", 100, 1e-6), way("never", 200, 1e-3)])
    assert ranges.keys() == {"C, by prediction", "C, by month"}
    (low, high), (next_low, last) = ranges["C, by prediction"][0], ranges["C, by month"][0]
    assert (round(low), round(last)) == (1000, 10_000_000_000)
    assert high < 100 / (1e-4 - 1e-6) <= next_low


def without(table: dict[str, Any]) -> None:
    del table["azure"]["flex"]["request"]


def negative(table: dict[str, Any]) -> None:
    table["lambda"]["request"] = -1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (without, "azure.flex.request must be a number of 0 or more, got None"),
        (negative, "lambda.request must be a number of 0 or more, got -1"),
        (lambda table: table.update(azure=3), "azure must be an object"),
        (lambda table: table.update(date=7), "date must be str, got 7"),
    ],
)
def test_prices_that_are_none(change: Callable[[dict[str, Any]], None], said: str, tmp_path: Path) -> None:
    table = json.loads(prices.SHIPPED.read_bytes())
    change(table)
    (tmp_path / "prices.json").write_text(json.dumps(table))
    with pytest.raises(InvalidRequest, match=said):
        prices.read(str(tmp_path / "prices.json"))


def test_prices_have_a_date_and_sources() -> None:
    table = prices.read()
    assert len(table["date"]) == 10
    assert all(source.startswith("https://") for source in table["sources"])
    with pytest.raises(InvalidRequest, match=r"can't read nowhere\.json"):
        prices.read("nowhere.json")


# The choice


def test_the_cdk_reads_the_choice(tmp_path: Path) -> None:
    root = Path(__file__).parents[3]
    before = json.loads((root / "cdk.json").read_bytes())
    file = tmp_path / "cdk.json"
    file.write_bytes((root / "cdk.json").read_bytes())
    choice.write(str(file), size(1024, 0.1), "staging")
    before["context"]["environments"]["staging"]["memory"] = 1024
    assert file.read_text() == json.dumps(before, indent=2) + "\n"
    with pytest.raises(InvalidRequest, match=r"environment 'elsewhere' is none of .*: dev, prod, staging"):
        choice.write(str(file), size(1024, 0.1), "elsewhere")


@pytest.mark.parametrize(("memory", "instance"), [(512, 2048), (1769, 2048), (3008, 4096), (10240, 4096)])
def test_terraform_reads_the_choice(memory: int, instance: int, tmp_path: Path) -> None:
    file = tmp_path / "dev.size.tfvars.json"
    file.write_text('{"more": 1}')
    choice.write(str(file), size(memory, 0.1), "dev")
    assert json.loads(file.read_bytes()) == {"more": 1, "instance_memory": instance}


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("values.json", "{}", "can't tell what .* is for: give a cdk.json, or a file that ends in .tfvars.json"),
        ("cdk.json", "{", "is no JSON"),
        ("cdk.json", "[]", "must hold a JSON object"),
        ("a.tfvars.json", "[]", "must hold a JSON object"),
    ],
)
def test_files_that_take_no_choice(name: str, content: str, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(InvalidRequest, match=said):
        choice.write(str(tmp_path / name), size(512, 0.1), "dev")
    assert (tmp_path / name).read_text() == content


# The command


def test_a_real_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(command, "SIZES", (512, 1769, 7076))
    models = onnx_models.write(tmp_path / "models", {"m/1/model.onnx": onnx_models.scaled()})
    (tmp_path / "cdk.json").write_text('{"context": {"environments": {"dev": {}}}}')
    options = ("--models", str(models), "--starts", "1", "--json", "--write", str(tmp_path / "cdk.json"))
    assert cli.main(["size", *options, "--pictures", str(tmp_path / "pictures")]) == 0
    said = capsys.readouterr()
    report = json.loads(said.out)
    assert [(each["memory"], each["measured"]) for each in report["sizes"]] == [
        (512, True),
        (1769, True),
        (7076, False),
    ]
    assert all(0 < each["warm"] < each["cold"] for each in report["sizes"])
    assert report["rows"].keys() == {"1", "2", "4", "8", "16", "32"}
    assert 20 < report["needs"] < 512
    written = json.loads((tmp_path / "cdk.json").read_bytes())["context"]["environments"]["dev"]
    assert written == {"memory": report["chosen"]["memory"]}
    for name in ("size.svg", "price.svg"):
        assert ElementTree.parse(tmp_path / "pictures" / name).getroot().tag.endswith("svg")
    assert "check them" in said.err
    assert "extrapolated" in said.err
    assert "memory is measured and not limited" in said.err or "control groups" in said.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["nothing"], "there is no model 'nothing' in models: a, b"),
        ([], "name one of the models in models: a, b"),
        (["a", "--input", "bad.json"], "the model can't be measured: it answers 400"),
    ],
)
def test_what_is_refused(
    options: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    onnx_models.write(tmp_path / "models", {"a.onnx": onnx_models.scaled(), "b.onnx": onnx_models.scaled()})
    Path("bad.json").write_text('{"inputs": []}')
    assert cli.main(["size", *options, "--models", "models"]) == 1
    assert said in capsys.readouterr().err

"""What a forest's one thread costs: with more, its last digits would depend on how many there are."""

from collections.abc import Iterator

from .measure import microseconds, ratio, sample, say
from .table import Row

ROWS = (1, 64, 2048)


def trees(quick: bool) -> Iterator[Row]:
    """The rows of 200 trees: how many times as long one run takes as with two threads."""
    say("trees: a forest, some times")
    for count in ROWS:
        samples = sample("trees", count, 20 if quick else 300)
        one, two = samples["1"], samples["2"]
        what = f"200 trees, {count} row{'s' * (count > 1)}"
        yield Row(what, f"{microseconds(one)} one thread", f"{microseconds(two)} two threads", ratio(one, two))

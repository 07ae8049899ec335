"""Growth of resident memory under requests of ever changing shapes."""

from collections.abc import Iterator
from statistics import median

from .measure import repository, sample, say
from .table import PERCENT, Row, Target

TARGET = Target(5)
EVERY = 10  # samples in each tenth of the requests


def growth(quick: bool) -> Iterator[Row]:
    """The row of the last tenth of the requests against the end of the first."""
    count = 5_000 if quick else 100_000
    say(f"growth: {count} requests, some minutes" if not quick else f"growth: {count} requests")
    with repository("encoder") as folder:
        sizes = sample("growth", folder, count, count // 10 // EVERY)["rss"]
    before, after = median(sizes[EVERY - 2 : EVERY + 1]), median(sizes[-3:])
    what = f"resident memory, {count} encoder requests of any shape"
    against = f"{before:.1f} MB after {count // 10}"
    yield Row(what, f"{after:.1f} MB", against, (after / before - 1) * 100, TARGET, PERCENT)

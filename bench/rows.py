"""What it costs that a model shows once that its rows may run together."""

from collections.abc import Iterator
from statistics import median

from .measure import milliseconds, repository, sample, say
from .table import PERCENT, Row, Target

TARGET = Target(2)
PROCESSES = {"digits": 15, "encoder": 3}


def rows(quick: bool) -> Iterator[Row]:
    """The share of the proof in the first job of a process, of 10,000 rows of NPY, the quickest there are."""
    for name, processes in PROCESSES.items():
        say(f"rows: {name}")
        with repository(name) as folder:
            samples = [sample("rows", folder) for _ in range(2 if quick else processes)]
        proof, job = ([value for each in samples for value in each[what]] for what in ("proof", "job"))
        share = median(proof) / median(job) * 100
        against = f"{milliseconds(job)} the first job of a process, 10,000 rows"
        yield Row(f"proof of the rows of {name}", milliseconds(proof), against, share, TARGET, PERCENT)

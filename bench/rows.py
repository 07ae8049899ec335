"""What it costs that a model shows once that its rows may run together."""

from collections.abc import Iterator
from statistics import median

from .measure import milliseconds, repository, sample, say
from .table import PERCENT, Row, Target

TARGET = Target(2)
TURNS = {"digits": 15, "encoder": 3}


def rows(quick: bool) -> Iterator[Row]:
    """The share of the proof in a job of 10,000 rows of NPY, the quickest there are, for each model."""
    for name, turns in TURNS.items():
        say(f"rows: {name}")
        with repository(name) as folder:
            samples = sample("rows", folder, 2 if quick else turns)
        proof, job = samples["proof"], samples["job"]
        share = median(proof) / median(job) * 100
        against = f"{milliseconds(job)} a job of 10,000 rows"
        yield Row(f"proof of the rows of {name}", milliseconds(proof), against, share, TARGET, PERCENT)

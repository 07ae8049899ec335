"""What the application adds to a run of the session."""

from collections.abc import Iterator
from statistics import median

from .measure import microseconds, repository, sample, say
from .table import MICROSECONDS, Row, Target

TARGET = Target(60)


def overhead(quick: bool) -> Iterator[Row]:
    """The row of one request of 64 floats in JSON."""
    count = 2_000 if quick else 20_000
    say(f"overhead: {count} requests")
    with repository("digits") as folder:
        samples = sample("overhead", folder, count)
    app, session = samples["app"], samples["session"]
    value = (median(app) - median(session)) * 1e6
    against = f"{microseconds(session)} session.run"
    yield Row("overhead, 64 floats in JSON", microseconds(app), against, value, TARGET, MICROSECONDS)

"""What other clients notice of one large request: the worst health probe, and the rate of their small predictions."""

from collections.abc import Iterator
from statistics import median

from .children.stall import SHAPES
from .measure import milliseconds, sample, say
from .table import MILLISECONDS, Row, Target

# Over the worst probe beside a process that burns a CPU, and of the rate beside that.
PROBE, RATE = Target(50), Target(0.5, at_least=True)
# A little less than MAX_REQUEST_BYTES. Of 16 million strings the time would be over.
SIZE, STRINGS = 66_000_000, 20_000_000


def stall(quick: bool) -> Iterator[Row]:
    """Two rows for each kind of request."""
    for name in SHAPES:
        size = STRINGS if "texts" in name else SIZE
        say(f"stall: {name}")
        rounds = [sample("stall", name, size // 10 if quick else size) for _ in range(1 if quick else 3)]
        values = {key: [found[key][0] for found in rounds] for key in rounds[0]}
        excess = median(a - b for a, b in zip(values["probe"], values["burnt"], strict=True))
        rate = median(a / b for a, b in zip(values["rate"], values["quiet"], strict=True) if b)
        what = f"{name}, answered with {values['status'][0]:.0f}"
        against = f"{milliseconds(values['burnt'])} beside a busy process"
        yield Row(
            f"worst of 200 probes, {what}", milliseconds(values["probe"]), against, excess * 1e3, PROBE, MILLISECONDS
        )
        quiet = f"{median(values['quiet']):.0f} /s beside a busy process"
        yield Row(f"small predictions, {name}", f"{median(values['rate']):.0f} /s", quiet, rate, RATE)

"""Which forms are kept: those that answer the same, are worth their bytes, and are worse in nothing."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from inferry.prepare import trials
from inferry.prepare.trials import Trial
from inferry.repository.manifest import ORIGINAL

# A form has at most so many times the bytes of its model: packed weights lie beside the originals.
MOST_BYTES = 2.1
# In small models, and in those whose time goes into recurrence, nothing is won that many bytes more are worth.
SMALL, MOST_BYTES_OF_SMALL = 8_000_000, 1.02


class Line(NamedTuple):
    """A form, or the model itself: its bytes, its trial, its largest difference from the model's answers (0: the same
    bits), and the `reason` why it is not kept, empty when it is."""

    kind: str
    size: int
    trial: Trial | None = None
    difference: float = 0.0
    reason: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For the manifest, and for machines."""
        cost = self.trial.cost._asdict() if self.trial else {}
        facts = {"form": self.kind, "size": self.size, **cost, "difference": self.difference}
        return {**facts, "kept": not self.reason, "reason": self.reason}


def judged(
    sizes: Mapping[str, int],
    found: Mapping[str, Trial],
    failed: Mapping[str, str],
    *,
    tolerance: float,
    is_recurrent: bool,
) -> list[Line]:
    """A line for each form of `sizes`, the model itself first; a later one has to be better than those kept before."""
    plain = found[ORIGINAL]
    most = MOST_BYTES_OF_SMALL if sizes[ORIGINAL] < SMALL or is_recurrent else MOST_BYTES
    lines, kept = [], [plain]
    for kind, size in sizes.items():
        trial = found.get(kind)
        if trial is None:
            lines.append(Line(kind, size, reason=failed[kind]))
            continue
        difference = trials.differences(trial.outputs, plain.outputs)
        reason = "" if kind == ORIGINAL else _fault(trial, kept, difference, tolerance)
        if not reason and size > most * sizes[ORIGINAL]:
            reason = f"its files have {size / sizes[ORIGINAL]:.2f} times the model's bytes, more than {most:g}"
        lines.append(Line(kind, size, trial, difference, reason))
        if not reason and kind != ORIGINAL:
            kept.append(trial)
    return lines


def _fault(trial: Trial, kept: list[Trial], difference: float, tolerance: float) -> str:
    """Why a form is not kept; empty when it is."""
    plain = kept[0]
    if trial.signature != plain.signature:
        return "its inputs or outputs are others than the model's"
    if trial.failures.keys() != plain.failures.keys():
        return "it fails with other inputs than the model does"
    if difference > tolerance:
        return f"its answers differ by up to {difference:.2g}, more than the tolerance of {tolerance:g}"
    if losses := trial.cost.losses(plain.cost):
        return ", ".join(losses)
    if not trial.cost.gains(plain.cost):
        return "it wins neither in its load nor in its run nor in its memory"
    if not all(trial.cost.gains(other.cost) for other in kept[1:]):
        return "it wins nothing over the portable form"
    return ""

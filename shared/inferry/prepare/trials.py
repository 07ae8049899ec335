"""Forms beside the model that they were made of: loaded and run in processes of their own, in turns, and compared."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from inferry.prepare import cases
from inferry.protocol.signature import Feed
from inferry.protocol.tensors import Array

ROUNDS = 5
# A model that takes more seconds has fewer: what disturbs it is a smaller part.
FEWER, LONG = 3, 0.5
# Where something looks worse by a bit, more rounds show whether it is: up to so many, and as much as a neighbour on the
# machine may add to the least of some.
MOST, NEIGHBOUR = 20, 1.3
# By how much something has to be better to be worth a file, and may be worse.
WORTH, HARMLESS = 0.10, 0.05
# Seconds, seconds and bytes that nobody would notice, of a load, a run and of private memory.
_UNNOTICED = (0.002, 0.0001, 1 << 20)


class TrialFailed(Exception):
    """A process that was to save, load or run a form failed; says why."""


class Cost(NamedTuple):
    """Seconds of CPU of a load and of a run, and the bytes of memory that are a session's own."""

    load: float
    run: float
    private: float

    def gains(self, other: "Cost") -> bool:
        """Whether anything is better than with `other` by enough."""
        return any(
            theirs - ours > max(WORTH * theirs, least)
            for ours, theirs, least in zip(self, other, _UNNOTICED, strict=True)
        )

    def losses(self, other: "Cost") -> list[str]:
        """The measurements that are too much worse than those of `other`."""
        names = ("its load", "its run", "its memory")
        return [
            f"{name} is {ours / theirs:.2f} times the model's own"
            for name, ours, theirs, least in zip(names, self, other, _UNNOTICED, strict=True)
            if ours - theirs > max(HARMLESS * theirs, least)
        ]

    def is_close_to(self, other: "Cost") -> bool:
        """Whether something is worse by so little that it may have been a neighbour on the machine."""
        return self.gains(other) and bool(self.losses(other)) and not self.at_best.losses(other)

    @property
    def at_best(self) -> "Cost":
        """What it may be without neighbours."""
        return Cost(*(value / NEIGHBOUR for value in self))


class Trial(NamedTuple):
    """What loads and runs of a model or a form cost, and what they gave."""

    cost: Cost
    signature: list[Any]
    failures: Mapping[str, str]
    outputs: Mapping[str, Array]


def run(task: Mapping[str, Any]) -> Any:
    """The results of a trial in a process of its own. TrialFailed."""
    command = (sys.executable, "-m", "inferry.prepare.child", json.dumps(task))
    done = subprocess.run(command, env=_environment(), capture_output=True, text=True)  # noqa: S603
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"it ended with status {done.returncode}"]
        raise TrialFailed(lines[-1][:500])
    return json.loads(done.stdout)


def _environment() -> dict[str, str]:
    # numpy's threads would count as ours.
    return {**os.environ, "OPENBLAS_NUM_THREADS": "1"}  # noqa: TID251 - handed on, not read


def attempts(
    forms: Mapping[str, tuple[Path, bool]], feeds: Sequence[Feed], folder: Path
) -> tuple[dict[str, Trial], dict[str, str]]:
    """Trials by name, and why there is none. The first of `forms` is the model itself, which has to run: TrialFailed.

    A form is an ONNX file, and whether it is native. Each runs all inputs once, and the first that the model runs with
    in each round. Of each cost the least counts: what disturbs only adds to it.
    """
    inputs, timed = folder / "inputs.npz", folder / "timed.npz"
    cases.write(inputs, list(feeds))
    found: dict[str, Trial] = {}
    costs: dict[str, list[Cost]] = {}
    failed: dict[str, str] = {}
    plain = next(iter(forms))
    for name, form in forms.items():
        try:
            found[name] = attempt(name, form, inputs, folder)
            costs[name] = [found[name].cost]
        except TrialFailed as exc:
            if name == plain:
                raise
            failed[name] = f"it can't be loaded: {exc}"
    again = attempt(plain, forms[plain], inputs, folder)
    if differences(found[plain].outputs, again.outputs) != 0:
        raise TrialFailed("it gives other answers in each process")
    ran = [feed for index, feed in enumerate(feeds) if str(index) not in found[plain].failures]
    cases.write(timed, ran[:1])
    rounds = FEWER if again.cost.load + again.cost.run > LONG else ROUNDS
    # The others have nothing to win, however long one looks.
    hopeful = [name for name, (cost,) in costs.items() if name != plain and cost.at_best.gains(costs[plain][0])]
    while hopeful:
        for name in [plain, *hopeful] * rounds:
            costs[name].append(attempt(name, forms[name], timed, folder).cost)
        least = {name: Cost(*map(min, zip(*each, strict=True))) for name, each in costs.items()}
        if len(costs[plain]) > MOST or not any(least[name].is_close_to(least[plain]) for name in hopeful):
            break
    least = {name: Cost(*map(min, zip(*each, strict=True))) for name, each in costs.items()}
    return {name: trial._replace(cost=least[name]) for name, trial in found.items()}, failed


def attempt(name: str, form: tuple[Path, bool], inputs: Path, folder: Path) -> Trial:
    """A process that loads a form and runs the inputs of a file. TrialFailed."""
    onnx, native = form
    outputs = folder / "outputs.npz"
    task = {"do": "attempt", "onnx": str(onnx), "native": native, "inputs": str(inputs), "outputs": str(outputs)}
    said = run(task)
    answers = next(iter(cases.read(outputs)), {})
    return Trial(measured(name, onnx, said), said["signature"], said["failures"], answers)


def measured(name: str, onnx: Path, said: Mapping[str, Any]) -> Cost:
    """What the process said that loaded and ran the form `name`. Tests of what is kept put a table in this place."""
    return Cost(said["load"], said["run"], said["private"])


def differences(ours: Mapping[str, Array], theirs: Mapping[str, Array]) -> float:
    """The largest difference of two answers to the same inputs: 0 for the same bits, infinity for another kind."""
    if ours.keys() != theirs.keys():
        return float("inf")
    return max((_difference(array, theirs[name]) for name, array in ours.items()), default=0.0)


def _difference(ours: Array, theirs: Array) -> float:
    if ours.shape != theirs.shape or ours.dtype != theirs.dtype:
        return float("inf")
    if ours.dtype.hasobject:
        return 0.0 if np.array_equal(ours, theirs) else float("inf")
    if ours.tobytes() == theirs.tobytes():
        return 0.0
    if ours.dtype.kind not in "fi":
        return float("inf")
    left, right = (array.astype(np.float64) for array in (ours, theirs))
    with np.errstate(invalid="ignore"):
        apart = np.abs(left - right)
    same = (left == right) | (np.isnan(left) & np.isnan(right))
    apart = np.where(same, 0.0, np.where(np.isnan(apart), np.inf, apart))
    # Zeros of other signs are other bits, and no difference.
    return float(apart.max(initial=0)) or float(np.finfo(np.float64).tiny)

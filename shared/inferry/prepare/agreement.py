"""How far answers of a model with 8-bit weights are those of the float model, or of people: a share of the samples."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from inferry.protocol.tensors import Array

# Of the range of the float model's answers: by how much numbers that are no scores of classes may differ.
CLOSE = 0.01

Answers = Mapping[str, Array]
"""Outputs of runs: "INDEX NAME" of a sample's index and an output's name."""


def agreement(ours: Answers, theirs: Answers, samples: Sequence[int]) -> float:
    """The share of `samples` in which all outputs agree with the float model's (`theirs`).

    Integers, strings and booleans agree when they are equal; floats with several values in their last axis when the
    same one of them is the largest; other floats when they differ by at most CLOSE of the range of all answers.
    """
    ranges = _ranges(theirs)
    names = {key.partition(" ")[2] for key in theirs}
    agreed = [
        all(_agrees(ours.get(f"{index} {name}"), theirs[f"{index} {name}"], ranges.get(name, 0.0)) for name in names)
        for index in samples
    ]
    return sum(agreed) / len(agreed) if agreed else 0.0


def _ranges(answers: Answers) -> dict[str, float]:
    low: dict[str, float] = {}
    high: dict[str, float] = {}
    for key, array in answers.items():
        name = key.partition(" ")[2]
        if array.dtype.kind == "f" and array.size:
            low[name] = min(low.get(name, np.inf), float(np.nanmin(array)))
            high[name] = max(high.get(name, -np.inf), float(np.nanmax(array)))
    return {name: high[name] - low[name] for name in low}


def _agrees(ours: Array | None, theirs: Array, spread: float) -> bool:
    if ours is None or ours.shape != theirs.shape:
        return False
    if theirs.dtype.kind != "f":
        return np.array_equal(ours, theirs)
    if theirs.ndim and theirs.shape[-1] > 1:
        return np.array_equal(ours.argmax(-1), theirs.argmax(-1))
    return bool(np.allclose(ours, theirs, rtol=0, atol=CLOSE * spread, equal_nan=True))


def accuracy(answers: Answers, labels: Mapping[int, Any], outputs: Sequence[str]) -> float:
    """The share of `labels`, by samples' indices, that the first output with classes answers.

    That is the first one of integers or strings, else the first of floats with several values in its last axis, whose
    largest counts. ValueError when there is none.
    """
    first = next(iter(labels))
    kinds = [name for name in outputs if f"{first} {name}" in answers]
    classes = [name for name in kinds if answers[f"{first} {name}"].dtype.kind != "f"]
    scores = [name for name in kinds if _has_scores(answers[f"{first} {name}"])]
    if not (classes or scores):
        raise ValueError("no output has classes that labels could be compared with: leave out --labels")
    name = (classes or scores)[0]
    right = 0
    for index, label in labels.items():
        answer = answers.get(f"{index} {name}")
        if answer is not None:
            said = answer if classes else answer.argmax(-1)
            right += bool(np.array_equal(said.reshape(-1).astype(str), np.asarray(label).reshape(-1).astype(str)))
    return right / len(labels)


def _has_scores(array: Array) -> bool:
    return array.dtype.kind == "f" and array.ndim > 0 and array.shape[-1] > 1

"""A process of its own for what may end it, or must not be disturbed: python -m inferry.prepare.child TASK.

TASK is a JSON object; what was found is printed as one. A form is saved, or loaded and run.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from inferry import process
from inferry.errors import InferryError
from inferry.prepare import cases
from inferry.protocol.tensors import Array, aligned
from inferry.runtime import onnx_file
from inferry.runtime.session import Session, SessionOptions

# Seconds that a run may take, and that the timed runs take together.
_LONGEST, _ENOUGH = 600.0, 0.3
_MOST_RUNS = 50
# Samples by which operators are ranked.
_RANKED = 16


def portable(onnx: str, folder: str, is_quantised: bool) -> dict[str, Any]:
    """Writes the portable form into a folder."""
    from inferry.runtime import forms

    forms.save_portable(Path(onnx), Path(folder), is_quantised)
    return {}


def native(onnx: str, folder: str) -> dict[str, Any]:
    """Writes the native form into a folder; whether its layout depends on the kind of CPU."""
    from inferry.runtime import forms

    forms.save_native(Path(onnx), Path(folder))
    return {"blocked": forms.is_blocked(Path(folder, forms.MODEL))}


def canary(folder: str) -> dict[str, Any]:
    """Writes a canary into a folder, and hears what it says when it was loaded again."""
    from inferry.runtime import canary

    said = canary.save(Path(folder, canary.FILE))
    if canary.says(Path(folder, canary.FILE)) != said:
        raise RuntimeError("the canary says something else once it was saved")
    return {"says": said}


def simplify(onnx: str, target: str) -> dict[str, Any]:
    """Writes a model as quantisers want it."""
    from inferry.runtime import eight_bits

    eight_bits.simplify(Path(onnx), Path(target))
    return {}


def operators(onnx: str, method: str) -> dict[str, Any]:
    """The nodes that a method gives weights of 8 bits."""
    from inferry.runtime import eight_bits

    return {"operators": eight_bits.operators(Path(onnx), method)}


def quantise(onnx: str, method: str, inputs: str, left_out: list[str], target: str) -> dict[str, Any]:
    """Writes a model with 8-bit weights, scales of activations by the inputs of a file."""
    from inferry.runtime import eight_bits

    eight_bits.quantise(Path(onnx), Path(target), method, left_out, cases.read(Path(inputs)))
    return {}


def damage(onnx: str, method: str, inputs: str, groups: list[list[str]], measured: str) -> dict[str, Any]:
    """How far answers to some inputs of a file are off when one of the `groups` of nodes alone has 8-bit weights."""
    from inferry.runtime import eight_bits

    scales, feeds = (cases.read(Path(file))[:_RANKED] for file in (inputs, measured))
    plain = _answers(Path(onnx), feeds)
    found = []
    names = {name for group in groups for name in group}
    with TemporaryDirectory() as folder:
        for number, group in enumerate(groups):
            target = Path(folder, f"{number}.onnx")
            eight_bits.quantise(Path(onnx), target, method, names.difference(group), scales)
            found.append(sum(map(_distance, _answers(target, feeds), plain)))
            for path in Path(folder).iterdir():
                path.unlink()
    return {"damage": found}


def _answers(onnx: Path, feeds: list[dict[str, Array]]) -> list[Array]:
    """All outputs of all runs."""
    session = Session(onnx, onnx_file.read(onnx), "model", SessionOptions(1))
    names = list(session.signature.outputs)
    runs = ({name: aligned(array) for name, array in feed.items()} for feed in feeds)
    return [array for feed in runs for array in session.run(feed, names, time.monotonic() + _LONGEST)]


def _distance(ours: Array, theirs: Array) -> float:
    """Of floats, their squared distance to the float model's by these' own square; of others the share that differs."""
    if theirs.dtype.kind != "f":
        return float(np.mean(ours != theirs)) if ours.shape == theirs.shape else 1.0
    return float(np.sum((ours - theirs) ** 2) / (np.sum(theirs**2) or 1.0))


def attempt(onnx: str, native: bool, inputs: str, outputs: str) -> dict[str, Any]:
    """Loads a model and runs all inputs, with one thread: seconds of CPU of the load and of a run of the first that it
    runs with, the bytes of memory that are its own, and its outputs in a file; of inputs that it fails with the reason.
    """
    feeds = [{name: aligned(array) for name, array in feed.items()} for feed in cases.read(Path(inputs))]
    private, start = _private(), time.process_time()
    session = Session(Path(onnx), onnx_file.read(Path(onnx)), "model", SessionOptions(1, is_native=native))
    process.trim()  # as at a load that serves
    load = time.process_time() - start
    names = list(session.signature.outputs)
    answers: dict[str, Array] = {}
    failures: dict[int, str] = {}
    for index, feed in enumerate(feeds):
        try:
            values = session.run(feed, names, time.monotonic() + _LONGEST)
        except InferryError as exc:
            failures[index] = str(exc)
            continue
        answers.update({f"{index} {name}": value for name, value in zip(names, values, strict=True)})
    first = next((feed for index, feed in enumerate(feeds) if index not in failures), None)
    cases.write(Path(outputs), [answers])
    return {
        "load": load,
        "run": 0.0 if first is None else _timed(session, first, names),
        "private": max(_private() - private, 0),
        "failures": failures,
        "signature": [
            [spec.name, spec.datatype.name, spec.shape, spec.optional, spec.labels, spec.symbols]
            for spec in (*session.signature.inputs.values(), *session.signature.outputs.values())
        ],
    }


def _timed(session: Session, feed: dict[str, Array], names: list[str]) -> float:
    """The least seconds of CPU of some runs: what disturbs one only adds to it."""
    times: list[float] = []
    while len(times) < 3 or (sum(times) < _ENOUGH and len(times) < _MOST_RUNS):
        start = time.process_time()
        session.run(feed, names, time.monotonic() + _LONGEST)
        times.append(time.process_time() - start)
    return min(times)


def _private() -> int:
    """Bytes that no other process shares and no file holds."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Private_Dirty:"))


_TASKS = (portable, native, canary, simplify, operators, quantise, damage, attempt)

if __name__ == "__main__":
    task = json.loads(sys.argv[1])
    tasks: dict[str, Callable[..., dict[str, Any]]] = {f.__name__: f for f in _TASKS}
    print(json.dumps(tasks[task.pop("do")](**task)))

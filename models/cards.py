"""A model as make.py builds it, and the text of its config.json."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

DATATYPES = {"f": "FP32", "i": "INT64", "U": "BYTES"}


@dataclass(frozen=True)
class Built:
    """One model of the repository: its versions and the card that describes them (without digests)."""

    versions: Mapping[str, onnx.ModelProto]
    card: Mapping[str, Any]


def example(inputs: Mapping[str, np.ndarray], expect: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The card's `example`: a request in the Open Inference Protocol and the flat outputs it gives."""
    return {
        "inputs": [tensor(name, array) for name, array in inputs.items()],
        "expect": {name: flat(array) for name, array in expect.items()},
    }


def tensor(name: str, array: np.ndarray) -> dict[str, Any]:
    """One input of a request; the array is float32, int64 or of strings."""
    return {
        "name": name,
        "shape": list(array.shape),
        "datatype": DATATYPES[array.dtype.kind],
        "data": flat(array),
    }


def flat(array: np.ndarray) -> list[Any]:
    """The elements in row-major order, floats rounded to four digits after the point."""
    if array.dtype.kind == "f":
        # + 0.0 turns -0.0 into 0.0
        return [round(float(value), 4) + 0.0 for value in array.ravel()]
    return list(array.ravel().tolist())


def dumps(card: Any, indent: str = "") -> str:
    """JSON with a line for each key and each object of a list, and no other breaks, so that diffs can be read."""
    inner = indent + "  "
    if isinstance(card, Mapping):
        fields = [f"{json.dumps(key)}: {dumps(value, inner)}" for key, value in card.items()]
        return block("{", fields, "}", indent)
    if isinstance(card, list) and card and isinstance(card[0], Mapping):
        return block("[", [json.dumps(item, ensure_ascii=False) for item in card], "]", indent)
    return json.dumps(card, ensure_ascii=False)


def block(start: str, lines: Sequence[str], end: str, indent: str) -> str:
    """Lines between brackets, two spaces further in than the brackets."""
    return f"{start}\n" + ",\n".join(f"{indent}  {line}" for line in lines) + f"\n{indent}{end}"

"""Triton's classification extension: `value:index[:label]`, best first."""

import math
from typing import Any

import numpy as np
import pytest
from inferry.errors import InvalidRequest
from inferry.protocol import classification
from inferry.protocol.classification import top
from inferry.protocol.tensors import DATATYPES, Tensor


def output(datatype: str, value: Any) -> Tensor:
    return Tensor("y", DATATYPES[datatype], np.array(value, DATATYPES[datatype].dtype))


def answer(tensor: Tensor) -> tuple[str, str, Any]:
    assert tensor.array.dtype == object
    return tensor.name, tensor.datatype.name, tensor.array.tolist()


@pytest.mark.parametrize(
    ("datatype", "value", "k", "expected"),
    [
        ("FP32", [0.1, 0.7, 0.2], 2, ["0.700000:1", "0.200000:2"]),
        ("FP32", [0.1, 0.7, 0.2], 1, ["0.700000:1"]),
        ("FP32", [0.1, 0.7, 0.2], 99, ["0.700000:1", "0.200000:2", "0.100000:0"]),
        ("FP64", [-1e-7, -2.5, 1e9], 3, ["1000000000.000000:2", "-0.000000:0", "-2.500000:1"]),
        ("FP32", [math.inf, 0, -math.inf], 3, ["inf:0", "0.000000:1", "-inf:2"]),
        ("INT64", [-(2**63), 2**53 + 1, 2**53], 3, [f"{2**53 + 1}:1", f"{2**53}:2", f"{-(2**63)}:0"]),
        ("UINT64", [1, 2**64 - 1], 1, [f"{2**64 - 1}:1"]),
        ("UINT8", [255, 0, 1], 3, ["255:0", "1:2", "0:1"]),
        ("INT8", [-128, 127], 2, ["127:1", "-128:0"]),
        ("INT16", [3, 1], 1, ["3:0"]),
        ("INT32", [3, 1], 1, ["3:0"]),
        ("UINT16", [3, 1], 1, ["3:0"]),
        ("UINT32", [3, 1], 1, ["3:0"]),
        # Equal values in the order of their index.
        ("FP32", [0.5, 0.9, 0.5, 0.9], 3, ["0.900000:1", "0.900000:3", "0.500000:0"]),
        ("INT8", [1] * 40, 3, ["1:0", "1:1", "1:2"]),
        # Without a batch the whole tensor is one row.
        ("FP32", [[0.1, 0.4], [0.3, 0.2]], 3, ["0.400000:1", "0.300000:2", "0.200000:3"]),
        ("FP32", 0.25, 5, ["0.250000:0"]),
        ("FP32", [], 5, []),
    ],
)
def test_unbatched(datatype: str, value: Any, k: int, expected: list[str]) -> None:
    assert answer(top(output(datatype, value), k, False, ())) == ("y", "BYTES", expected)


@pytest.mark.parametrize(
    ("value", "k", "expected"),
    [
        ([[0.1, 0.9], [0.8, 0.2]], 1, [["0.900000:1"], ["0.800000:0"]]),
        ([[0.1, 0.9], [0.8, 0.2]], 5, [["0.900000:1", "0.100000:0"], ["0.800000:0", "0.200000:1"]]),
        ([[[1, 2], [4, 3]]], 2, [["4.000000:2", "3.000000:3"]]),
        ([0.5, 0.25], 3, [["0.500000:0"], ["0.250000:0"]]),
    ],
)
def test_batched(value: Any, k: int, expected: list[list[str]]) -> None:
    assert answer(top(output("FP32", value), k, True, ())) == ("y", "BYTES", expected)


@pytest.mark.parametrize(("shape", "expected"), [((0, 3), (0, 2)), ((2, 0), (2, 0))])
def test_batched_and_empty(shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    assert top(output("FP32", np.empty(shape)), 2, True, ()).array.shape == expected


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (("cat", "dog", "owl"), ["9:1:dog", "7:2:owl", "5:0:cat"]),
        (("cat", "dog"), ["9:1:dog", "7:2", "5:0:cat"]),  # fewer labels than classes
        (("a:b", "", "é", "more"), ["9:1:", "7:2:é", "5:0:a:b"]),
        ((), ["9:1", "7:2", "5:0"]),
    ],
)
def test_labels(labels: tuple[str, ...], expected: list[str]) -> None:
    assert answer(top(output("INT32", [5, 9, 7]), 3, False, labels)) == ("y", "BYTES", expected)
    assert answer(top(output("INT32", [[5, 9, 7]]), 3, True, labels)) == ("y", "BYTES", [expected])


@pytest.mark.parametrize("datatype", ["FP16", "BF16", "BOOL", "BYTES"])
def test_unsupported_datatypes(datatype: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        top(output(datatype, [1, 0]), 1, False, ())
    message = f"class result not available for output 'y' due to unsupported type '{datatype}'"
    assert str(caught.value) == message


def test_every_datatype_is_supported_or_not() -> None:
    numbers = {"UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP32", "FP64"}
    assert numbers | {"FP16", "BF16", "BOOL", "BYTES"} == set(DATATYPES)


def test_too_many_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert classification.MAX_CLASSES == 1_000_000
    monkeypatch.setattr(classification, "MAX_CLASSES", 3)
    assert answer(top(output("INT8", [[1, 2, 3]] * 2), 1, True, ())) == ("y", "BYTES", [["3:2"], ["3:2"]])
    with pytest.raises(InvalidRequest) as caught:
        top(output("INT8", [[1, 2, 3, 4]]), 1, True, ())
    assert str(caught.value) == "output 'y' has 4 classes, more than 3"


def test_what_is_not_a_number_comes_last() -> None:
    tensor = Tensor("y", DATATYPES["FP32"], np.array([np.nan, 0.25, 0.5], np.float32))
    assert top(tensor, 3, False, ()).array.tolist() == ["0.500000:2", "0.250000:1", "nan:0"]

"""Values of files in a model's datatypes: all of them as they are, or refused."""

from typing import Any

import numpy as np
import pytest
from inferry.errors import InvalidRequest
from inferry.jobs.formats.casting import cast
from inferry.protocol.tensors import DATATYPES

MAX64 = 2**64 - 1


@pytest.mark.parametrize(
    ("values", "datatype", "expected", "lost"),
    [
        (np.array([1.5, np.nan, np.inf]), "FP32", [1.5, np.nan, np.inf], None),
        (np.array([1e39, 1.0, -1e39]), "FP32", [np.inf, 1.0, -np.inf], [True, False, True]),
        (np.array([65520.0, 65519.0]), "FP16", [np.inf, 65504.0], [True, False]),
        (np.array([1, 2**60]), "FP32", [1, 2**60], None),
        (np.array([2**60]), "FP16", [np.inf], [True]),
        (np.array([1, -128, 127]), "INT8", [1, -128, 127], None),
        (np.array([128, 1]), "INT8", [-128, 1], [True, False]),
        (np.array([-1, 1]), "UINT64", [MAX64, 1], [True, False]),
        (np.array([MAX64, 1], np.uint64), "INT64", [-1, 1], [True, False]),
        (np.array([MAX64], np.uint64), "UINT64", [MAX64], None),
        (np.array([True, False]), "BOOL", [True, False], None),
        (np.array(["a", "\u00fc"]), "BYTES", ["a", "\u00fc"], None),
        (np.array([], np.int64), "INT8", [], None),
        (np.array([1.0, 3.39e38, np.nan]), "BF16", [0x3F80, 0x7F7F, 0x7FC0], None),
        (np.array([3.4e38]), "BF16", [0x7F80], [True]),
    ],
)
def test_values(values: Any, datatype: str, expected: list[Any], lost: list[bool] | None) -> None:
    found, mask = cast(values, DATATYPES[datatype], "x")
    assert found.dtype == DATATYPES[datatype].dtype
    np.testing.assert_array_equal(found, np.array(expected, found.dtype))
    assert (None if mask is None else mask.tolist()) == lost


@pytest.mark.parametrize(
    ("values", "datatype", "expected", "lost"),
    [
        ([1.0, -3.0], "INT64", [1, -3], None),
        ([1.0, 1.5, np.nan, np.inf, -np.inf], "INT8", [1, 0, 0, 0, 0], [False, True, True, True, True]),
        ([127.0, 128.0, -128.0, -129.0], "INT8", [127, 0, -128, 0], [False, True, False, True]),
        ([2.0**62, 2.0**63, -(2.0**63)], "INT64", [2**62, 0, -(2**63)], [False, True, False]),
        ([2.0**63, 2.0**64, -1.0], "UINT64", [2**63, 0, 0], [False, True, True]),
        ([True, False], "FP32", [1.0, 0.0], None),
        ([True, False], "UINT8", [1, 0], None),
    ],
)
def test_whole_floats_and_booleans(values: Any, datatype: str, expected: Any, lost: Any) -> None:
    found, mask = cast(np.array(values), DATATYPES[datatype], "x")
    assert (found.tolist(), found.dtype) == (expected, DATATYPES[datatype].dtype)
    assert (None if mask is None else mask.tolist()) == lost


@pytest.mark.parametrize(
    ("values", "datatype"),
    [
        (np.array([1]), "BOOL"),
        (np.array(["1"]), "FP32"),
        (np.array([1]), "BYTES"),
        (np.array([1j]), "FP64"),
    ],
)
def test_kinds_that_never_fit(values: Any, datatype: str) -> None:
    with pytest.raises(InvalidRequest, match=f"x holds .*, but {datatype} is expected"):
        cast(values, DATATYPES[datatype], "x")

"""Numbers of one datatype as another: every value against Python's exact arithmetic."""

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from inferry.errors import InvalidRequest
from inferry.protocol.conversion import exact
from inferry.protocol.tensors import DATATYPES, Array, Datatype, bfloat16_from_float32, float32_from_bfloat16

NUMBERS = [datatype.name for datatype in DATATYPES.values() if datatype.is_number]
POWERS = (7, 8, 11, 15, 16, 24, 31, 32, 53, 63, 64, 127, 128)
VALUES: list[float] = [0, -0.0, 0.5, 0.1, 65504, 65520, 3e38, 1e300, 1e-8, 1e-45, 5e-324]
VALUES += [sign * (2**power + near) for power in POWERS for near in (-1024, -1, 0, 1) for sign in (1, -1)]
VALUES += [math.nan, math.inf, -math.inf]


def array(value: float, datatype: Datatype) -> Array | None:
    """The value in the datatype, rounded if it must be; None where no integer of the datatype is near."""
    if not datatype.is_integer:
        with np.errstate(over="ignore", under="ignore"):
            number = np.array([float(value)])
            if datatype.name == "BF16":
                return bfloat16_from_float32(number.astype(np.float32))
            return number.astype(datatype.dtype)
    limits = np.iinfo(datatype.dtype)
    fits = math.isfinite(value) and value == int(value) and limits.min <= value <= limits.max
    return np.array([int(value)], datatype.dtype) if fits else None


def number(values: Array, datatype: Datatype) -> Any:
    return (float32_from_bfloat16(values) if datatype.name == "BF16" else values)[0].item()


def holds(datatype: Datatype, value: float) -> bool:
    """By definition: whether one of the datatype's numbers is exactly this one."""
    if not math.isfinite(value):
        return datatype.is_float
    near = array(value, datatype)
    found = math.nan if near is None else number(near, datatype)
    return math.isfinite(found) and Fraction(found) == Fraction(value)


@pytest.mark.parametrize("wanted", NUMBERS)
@pytest.mark.parametrize("given", NUMBERS)
def test_every_value_stays_what_it_is_or_is_refused(given: str, wanted: str) -> None:
    one, other = DATATYPES[given], DATATYPES[wanted]
    for values in [found for value in VALUES if (found := array(value, one)) is not None]:
        value = number(values, one)
        if not holds(other, value):
            with pytest.raises(InvalidRequest):
                exact(values, one, other, "x")
            continue
        found = exact(values, one, other, "x")
        assert found.dtype == other.dtype
        got = number(found, other)
        assert got == value or (math.isnan(got) and math.isnan(value)), value


def test_the_first_value_that_is_not_exact() -> None:
    with pytest.raises(InvalidRequest) as caught:
        exact(np.array([[1.0, 2.5], [0.1, 0.2]]), DATATYPES["FP64"], DATATYPES["FP32"], "x is FP64, and not FP32")
    assert str(caught.value) == "x is FP64, and not FP32, which can't hold 0.1 (at [1, 0]) as it is: send FP32"


def test_no_values() -> None:
    assert exact(np.empty((0, 3)), DATATYPES["FP64"], DATATYPES["INT8"], "x").shape == (0, 3)

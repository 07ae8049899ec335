"""Columns whose type isn't that of the input, as values of its type that are the same: none is rounded or guessed."""

from decimal import Decimal
from typing import TypeAlias

import numpy as np
import pyarrow as pa

from inferry.protocol.tensors import Array, Datatype

Wrong: TypeAlias = dict[int, str]
"""What is wrong with values, by their positions."""

# Floats have all integers up to this, and powers of ten up to 10 ** 22.
_EXACT, _POWERS = 1 << 53, 22


def words(held: pa.DataType) -> str:
    """What a column holds, as people say it, and Arrow's word for it."""
    for said, test in _WORDS.items():
        if test(held):
            return f"{said} ({held})"
    return str(held)


def without_extension(array: pa.Array) -> pa.Array:
    """The plain values of a dictionary, and of the extension types that are only a meaning of others."""
    if isinstance(array.type, pa.BaseExtensionType) and array.type.extension_name == "arrow.json":
        array = array.storage
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    plain = _VIEWS.get(array.type)
    return array.cast(plain) if plain else array


def from_decimals(array: pa.Array) -> Array:
    """The floats next to decimals, NaN where one is missing. Arrow's own are often those beside them: it multiplies."""
    held = array.type
    if held.bit_width <= 128 and 0 <= held.scale <= _POWERS:
        if held.bit_width < 128:
            array = array.cast(pa.decimal128(38, held.scale))
        parts = np.frombuffer(array.buffers()[1], "<i8").reshape(-1, 2)[array.offset : array.offset + len(array)]
        low, high = parts[:, 0], parts[:, 1]
        if bool(((high == low >> 63) & (np.abs(low) <= _EXACT)).all()):
            found: Array = low / float(10**held.scale)
            found[array.is_null().to_numpy(zero_copy_only=False)] = np.nan
            return found
    text: Array = array.cast(pa.string()).cast(pa.float64()).to_numpy(zero_copy_only=False)
    return text


def files_of_images(array: pa.Array) -> pa.Array | None:
    """The files of a column of bytes or of Hugging Face's images, or texts; None for what holds none of these."""
    array = without_extension(array)
    held = array.type
    if pa.types.is_struct(held) and held.get_field_index("bytes") >= 0 and is_binary(held.field("bytes").type):
        return array.flatten()[held.get_field_index("bytes")]
    is_text = pa.types.is_string(held) or pa.types.is_large_string(held)
    return array if is_text or is_binary(held) else None


def to_whole(array: pa.Array, datatype: Datatype) -> tuple[Array, Wrong]:
    """Floats or decimals that are whole, as integers."""
    if pa.types.is_decimal(array.type):
        try:
            found: Array = array.fill_null(0).cast(pa.int64()).to_numpy(zero_copy_only=False)
        except pa.ArrowInvalid:
            return _one_by_one(array.to_pylist(), datatype)
        return found, dict.fromkeys(_nulls(array), _MISSING)
    floats: Array = array.cast(pa.float64()).to_numpy(zero_copy_only=False)
    limits = np.iinfo(datatype.dtype)
    whole = np.isfinite(floats) & (np.trunc(floats) == floats)
    held = (floats >= float(limits.min)) & (floats < float(limits.max) + 1)
    wrong = {at: _not_whole(floats[at], datatype) for at in np.flatnonzero(~whole).tolist()}
    wrong |= {at: _out_of_range(floats[at], datatype) for at in np.flatnonzero(whole & ~held).tolist()}
    return np.where(whole & held, floats, 0).astype(datatype.dtype), wrong


def to_text(array: pa.Array) -> tuple[Array, Wrong]:
    """Bytes as the texts that they are in UTF-8."""
    try:
        found: Array = array.cast(pa.string()).to_numpy(zero_copy_only=False)
    except pa.ArrowInvalid:
        return _texts(array.to_pylist())
    return found, {}


def _texts(values: list[bytes | None]) -> tuple[Array, Wrong]:
    found, wrong = np.empty(len(values), object), Wrong()
    for at, value in enumerate(values):
        try:
            found[at] = None if value is None else value.decode()
        except UnicodeDecodeError:
            found[at], wrong[at] = "", "the bytes are not text in UTF-8"
    return found, wrong


def _one_by_one(values: list[Decimal | None], datatype: Datatype) -> tuple[Array, Wrong]:
    limits = np.iinfo(datatype.dtype)
    found, wrong = np.zeros(len(values), datatype.dtype), Wrong()
    for at, value in enumerate(values):
        if value is None:
            wrong[at] = _MISSING
        elif value != value.to_integral_value():
            wrong[at] = _not_whole(value, datatype)
        elif not limits.min <= value <= limits.max:
            wrong[at] = _out_of_range(value, datatype)
        else:
            found[at] = int(value)
    return found, wrong


_MISSING = "the value is missing"


def _not_whole(value: object, datatype: Datatype) -> str:
    return _MISSING if value != value else f"{value} is no whole number, as {datatype.name} is"


def _out_of_range(value: object, datatype: Datatype) -> str:
    return f"{value} is out of range for {datatype.name}"


def _nulls(array: pa.Array) -> list[int]:
    nulls: list[int] = np.flatnonzero(array.is_null().to_numpy(zero_copy_only=False)).tolist()
    return nulls


def is_binary(held: pa.DataType) -> bool:
    """Whether it holds bytes, of one size or of any."""
    return bool(pa.types.is_binary(held) or pa.types.is_large_binary(held) or pa.types.is_fixed_size_binary(held))


_VIEWS = {pa.string_view(): pa.string(), pa.binary_view(): pa.binary()}
_WORDS = {
    "text": lambda held: pa.types.is_string(held) or pa.types.is_large_string(held),
    "bytes": is_binary,
    "true and false": pa.types.is_boolean,
    "whole numbers": pa.types.is_integer,
    "numbers": lambda held: pa.types.is_floating(held) or pa.types.is_decimal(held),
    "lists": lambda held: pa.types.is_list(held) or pa.types.is_large_list(held) or pa.types.is_fixed_size_list(held),
    "objects": lambda held: pa.types.is_struct(held) or pa.types.is_map(held),
    "dates and times": pa.types.is_temporal,
}

"""Columns that are carried over: what a format can hold of them, and one type for values whose blocks have several."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from io import BytesIO
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from inferry.errors import NotSupported

CELLS = "cells"
"""What a reader of CSV says that a column holds: texts, and numbers where printing these gives the same text."""

_UUID = "arrow.uuid"
_MOST = 1 << 63
# The largest integer up to which floats have all.
_EXACT = 1 << 53


def to_array(values: Any) -> pa.Array:
    """Values of any source as a column, none of them changed: those that share no type become text."""
    if isinstance(values, pa.ChunkedArray):
        return values.combine_chunks()
    if isinstance(values, np.ndarray) and values.ndim == 1:
        return pa.array(values.astype(values.dtype.newbyteorder("="), copy=False))
    plain = values.tolist() if isinstance(values, np.ndarray) else values
    try:
        array = pa.array(plain)
    except (pa.ArrowException, OverflowError):
        return _as_text(plain)
    objects = _objects(array.type)
    if objects and (not all(held.num_fields for held in objects) or not _same(array.to_pylist(), plain)):
        return _as_text(plain)
    return array


def text_type(held: pa.DataType, column: str, format_: str) -> pa.DataType:
    """The type, of those that JSON has, that a column becomes in a format of text. NotSupported when there is none."""
    if _is_extension(held, _UUID):
        return pa.string()
    try:
        target = _replaced(held, _leaf_of_text)
        pa.nulls(1, held).cast(target)
    except (pa.ArrowException, NotSupported) as exc:
        raise NotSupported(_refusal(column, held, format_, "write parquet")) from exc
    return target


def to_text(array: pa.Array, target: pa.DataType) -> pa.Array:
    """The column in the type that `text_type` says."""
    if _is_extension(array.type, _UUID):
        return pa.array([value and str(value) for value in array.to_pylist()], pa.string())
    return array if array.type == target else array.cast(target)


def check_parquet(held: pa.DataType, column: str) -> None:
    """NotSupported when Parquet can't hold a column."""
    try:
        pq.write_table(pa.table({column: pa.nulls(1, held)}), BytesIO(), use_dictionary=False)
    except (pa.ArrowException, NotImplementedError) as exc:
        raise NotSupported(_refusal(column, held, "parquet", "write another format")) from exc


def known_type(held: Any, column: str, format_: str) -> pa.DataType:
    """Arrow's type of what a reader says of a column: the type itself, or NumPy's. NotSupported when Arrow has none."""
    if held == CELLS:
        return pa.string()
    if not isinstance(held, np.dtype):
        return held
    try:
        found = pa.array(np.empty(0, held.base.newbyteorder("="))).type
    except pa.ArrowException as exc:
        raise NotSupported(_refusal(column, held, format_, "save it as numbers or text")) from exc
    for _ in held.shape:
        found = pa.list_(found)
    return found


def of_cells(cells: pa.Array, held: pa.DataType) -> bool:
    """Whether all of a column's cells are numbers of this type that are printed as they are written."""
    try:
        numbers = cells.cast(held)
    except pa.ArrowInvalid:
        return False
    return all(map(_is_printed, numbers.to_pylist(), cells.to_pylist()))


def _is_printed(number: Any, cell: Any) -> bool:
    if number is None:
        return cell is None
    return str(number) == cell and math.isfinite(number)


def json_of_cell(cell: str | None) -> bytes:
    """A cell as JSON: a number as it is, if printing it gives this text."""
    if cell is None:
        return b"null"
    try:
        number = float(cell) if "." in cell or "e" in cell else int(cell)
    except ValueError:
        return orjson.dumps(cell)
    is_json = _is_printed(number, cell) and (isinstance(number, float) or -_MOST <= number < _MOST)
    return cell.encode() if is_json else orjson.dumps(cell)


def without_views(held: pa.DataType) -> pa.DataType:
    """The type with plain text and bytes in place of views of them, from which Arrow can't take rows."""
    return _replaced(held, lambda leaf: _PLAIN.get(leaf, leaf))


def unified(types: Iterable[pa.DataType]) -> pa.DataType:
    """The type that can hold the values of all; text when there is no other."""
    found = pa.null()
    for each in types:
        together = _together(found, each)
        if together is None:
            return pa.string()
        found = together
    return found


def converted(array: pa.Array, target: pa.DataType) -> pa.Array:
    """The column in a type of `unified`. ArrowException when a number would be another."""
    if array.type == target:
        return array
    return _as_text(array.to_pylist()) if pa.types.is_string(target) else array.cast(target)


def text(value: Any) -> str | None:
    """A value that shares its column with others of another kind: text as it is, others as JSON."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return orjson.dumps(_canonical(value), default=str, option=orjson.OPT_SORT_KEYS).decode()


def _as_text(values: Sequence[Any]) -> pa.Array:
    return pa.array(map(text, values), pa.string())


def _canonical(value: Any) -> Any:
    """The same for values that are equal: which of two borders a block has must not be seen in it."""
    if isinstance(value, list):
        return [_canonical(item) for item in value]
    if isinstance(value, dict):
        return {name: _canonical(item) for name, item in value.items()}
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) <= _EXACT else value


def _same(found: Any, given: Any) -> bool:
    """Whether Arrow has kept a value as it was: it gives all objects of a column the members of each."""
    if isinstance(given, list) and isinstance(found, list):
        return len(found) == len(given) and all(map(_same, found, given))
    if isinstance(given, dict) and isinstance(found, dict):
        return found.keys() == given.keys() and all(_same(found[name], given[name]) for name in given)
    return bool(found == given or (found != found and given != given))


def _objects(held: pa.DataType) -> list[pa.DataType]:
    """The types of objects in it; those without members are nothing that Parquet has a column for."""
    if pa.types.is_struct(held):
        return [held, *(inner for field in held for inner in _objects(field.type))]
    return _objects(held.value_type) if pa.types.is_list(held) else []


def _together(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    if one == other or pa.types.is_null(other):
        return one
    if pa.types.is_null(one):
        return other
    if {one, other} == {pa.int64(), pa.float64()}:
        return pa.float64()
    if pa.types.is_list(one) and pa.types.is_list(other):
        value = _together(one.value_type, other.value_type)
        return value and pa.list_(value)
    if pa.types.is_struct(one) and pa.types.is_struct(other) and {f.name for f in one} == {f.name for f in other}:
        members = {field.name: _together(field.type, other.field(field.name).type) for field in one}
        return None if None in members.values() else pa.struct(list(members.items()))
    return None


def _replaced(held: pa.DataType, leaf: Callable[[pa.DataType], pa.DataType]) -> pa.DataType:
    """The type with its innermost types replaced."""
    if pa.types.is_list(held):
        return pa.list_(held.value_field.with_type(_replaced(held.value_type, leaf)))
    if pa.types.is_large_list(held):
        return pa.large_list(held.value_field.with_type(_replaced(held.value_type, leaf)))
    if pa.types.is_fixed_size_list(held):
        return pa.list_(held.value_field.with_type(_replaced(held.value_type, leaf)), held.list_size)
    if pa.types.is_struct(held):
        if len({field.name for field in held}) != held.num_fields:
            raise NotSupported(f"{held} has two members of one name")
        return pa.struct([field.with_type(_replaced(field.type, leaf)) for field in held])
    if pa.types.is_map(held):
        return pa.map_(_replaced(held.key_type, leaf), _replaced(held.item_type, leaf))
    return leaf(held)


def _leaf_of_text(held: pa.DataType) -> pa.DataType:
    if pa.types.is_dictionary(held):
        return _replaced(held.value_type, _leaf_of_text)
    if pa.types.is_float16(held):
        return pa.float32()
    if any(test(held) for test in _SAME):
        return held
    if pa.types.is_timestamp(held) and held.tz:
        pa.scalar(0, held).cast(pa.string())  # ArrowInvalid where there is no such time zone
    if any(test(held) for test in _TEXT) or _is_extension(held, "arrow.json"):
        return pa.string()
    raise NotSupported(str(held))


def _is_extension(held: pa.DataType, name: str) -> bool:
    return isinstance(held, pa.BaseExtensionType) and held.extension_name == name


def _refusal(column: str, held: Any, format_: str, instead: str) -> str:
    return f"the column '{column}' holds {held}, which {format_} has no form for: {instead}, or leave it out of --keep"


_PLAIN: Mapping[pa.DataType, pa.DataType] = {pa.string_view(): pa.string(), pa.binary_view(): pa.binary()}
_SAME = (
    pa.types.is_null,
    pa.types.is_boolean,
    pa.types.is_integer,
    pa.types.is_floating,
    pa.types.is_string,
    pa.types.is_large_string,
)
_TEXT = (pa.types.is_decimal, pa.types.is_date, pa.types.is_time, pa.types.is_timestamp)

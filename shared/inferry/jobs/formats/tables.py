"""Columns of tables, which are Arrow's, to a model's inputs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from inferry.errors import InvalidFile, InvalidRequest
from inferry.jobs.formats import conversions
from inferry.jobs.formats.block_builder import ALL, ReadOptions
from inferry.jobs.formats.blocks import Block, Cursor, Group, Rejected, numbers
from inferry.jobs.formats.casting import cast
from inferry.protocol.signature import TensorSpec
from inferry.protocol.tensors import Array, Shape, aligned, empty
from inferry.runtime import images
from inferry.runtime.columns import Assigned, names, required, some
from inferry.runtime.preprocess import Preprocess


def check_width(assigned: Assigned, options: ReadOptions) -> None:
    """InvalidFile when the columns, a value each, are not as many as a row of the input has."""
    spec, count = assigned.spec, len(assigned.columns)
    if spec.fitted(_of_columns(count)) is None:
        raise InvalidFile(
            f"{options.file} has {count} columns for input '{spec.name}' of model '{options.model.name}', whose rows "
            f"have {spec.rows}: {some(assigned.columns)}. Name a column '{spec.name}', list the "
            "columns in the model's config.json, or keep what is no input out with --keep"
        )


def _of_columns(count: int) -> Shape:
    """The shape of a row of so many columns, a value each: one alone may be the value itself."""
    return (count,) if count > 1 else ()


def opened_object(schema: pa.Schema, options: ReadOptions) -> tuple[pa.Field | None, pa.Schema]:
    """The column of objects whose members are what the model takes, and the columns with these in its place.

    None where the columns themselves have a name that the model takes, or no such column is there.
    """
    chosen = () if options.columns == ALL else options.columns
    wanted = {*(chosen or names(options.model))}
    if wanted.isdisjoint(schema.names) and not any(spec.name in schema.names for spec in required(options.model)):
        for field in schema:
            if pa.types.is_struct(field.type) and wanted <= {member.name for member in field.type}:
                others = {other.name: other for other in schema if other.name != field.name}
                return field, pa.schema(({member.name: member for member in field.type} | others).values())
    return None, schema


def without_object(table: pa.Table, field: pa.Field | None) -> pa.Table:
    """The table with the members of that column in its place."""
    if field is None:
        return table
    column = table.column(field.name).combine_chunks()
    members = dict(zip([member.name for member in field.type], column.flatten(), strict=True))
    others = table.drop_columns([field.name])
    return pa.table(members | {name: others.column(name) for name in others.column_names})


def to_block(
    table: pa.Table,
    assigned: Sequence[Assigned],
    options: ReadOptions,
    start: Cursor,
    end_offset: int,
    carried: pa.Table | None = None,
) -> Block:
    """A block of a table's rows; those that don't fit are rejected. InvalidFile when a column is of a wrong type.

    `carried`: the columns to keep, where they are others than those of the same name in `table`.
    """
    columns = [_Column.of(table, item, options) for item in assigned]
    bad: dict[int, tuple[str, str]] = {}
    for column in columns:
        bad = column.bad | bad
    good = np.array([row for row in range(len(table)) if row not in bad], np.int64) if bad else np.arange(len(table))
    kept = (table if carried is None else carried).select(list(dict.fromkeys(options.keep)))
    names = {*options.keep, *(name for item in assigned for name in item.columns)}
    shown = [name for name in table.column_names if name in names]

    def raw(row: int) -> Any:
        return {name: _legible(table.column(name).slice(row, 1)) for name in shown}

    first = numbers(start.row, len(table))
    return Block(
        start,
        Cursor(start.row + len(table), end_offset),
        first[good],
        _groups(columns, good, len(bad) > 0),
        {name: kept.column(name).take(pa.array(good)) if bad else kept.column(name) for name in options.keep},
        [Rejected(int(first[row]), column, reason, raw(row)) for row, (column, reason) in sorted(bad.items())],
        raw=lambda position: raw(int(good[position])),
    )


def _legible(value: pa.ChunkedArray) -> Any:
    """A column of one value as Python's, or as a text where Python has none: nanoseconds, and years over 9999."""
    try:
        return value.to_pylist()[0]
    except (ValueError, OverflowError):
        return " ".join(str(value.combine_chunks()).split())


@dataclass(slots=True)
class _Column:
    """An input's values, all rows behind each other.

    `shapes` says how they are nested in each row, one shape when all are alike; `sizes` how many each row of lists has.
    `bad` has the column and the reason for rows that can't be used.
    """

    spec: TensorSpec
    values: Array
    shapes: Array | Shape
    bad: dict[int, tuple[str, str]]
    sizes: Array | None = None

    @classmethod
    def of(cls, table: pa.Table, item: Assigned, options: ReadOptions) -> "_Column":
        if len(item.columns) == 1:
            return _single(table.column(item.columns[0]).combine_chunks(), item, options)
        return _matrix(table, item, options)

    def feed(self, positions: Array | None, nested: Shape) -> Array:
        """The input of the rows at `positions`, whose values are all nested so."""
        shape, size = self.spec.fitted(nested), math.prod(nested)
        assert shape is not None
        if self.sizes is None or isinstance(self.shapes, tuple):
            chosen = self.values.reshape(-1, size)
            chosen = chosen if positions is None else chosen[positions]
        else:
            starts = np.cumsum(self.sizes) - self.sizes
            chosen = self.values[(starts if positions is None else starts[positions])[:, None] + np.arange(size)]
        return aligned(chosen.reshape(len(chosen), *shape))


def _groups(columns: Sequence[_Column], good: Array, some: bool) -> list[Group]:
    """The rows that can be used, in groups whose inputs have the same sizes."""
    if not len(good):
        return []
    ragged = [column for column in columns if not isinstance(column.shapes, tuple)]
    if not ragged:
        chosen = good if some else None
        return [Group({c.spec.name: c.feed(chosen, c.shapes) for c in columns if isinstance(c.shapes, tuple)})]
    keys = np.concatenate([np.asarray(column.shapes)[good] for column in ragged], axis=1)
    distinct, inverse = np.unique(keys, axis=0, return_inverse=True)
    groups = []
    for number, lengths in enumerate(distinct.tolist()):
        positions = np.flatnonzero(inverse.reshape(-1) == number)
        feed = {}
        for column in columns:
            if isinstance(column.shapes, tuple):
                nested = column.shapes
            else:
                depth = column.shapes.shape[1]
                nested, lengths = tuple(lengths[:depth]), lengths[depth:]
            feed[column.spec.name] = column.feed(good[positions], nested)
        groups.append(Group(feed, positions if len(distinct) > 1 else None))
    return groups


def _matrix(table: pa.Table, item: Assigned, options: ReadOptions) -> _Column:
    """Several columns of a value each as the rows of one input."""
    check_width(item, options)
    quick = _floats(table.select(item.columns), item.spec)
    if quick is not None:
        return _Column(item.spec, quick.reshape(-1), (len(item.columns),), {})
    bad: dict[int, tuple[str, str]] = {}
    matrix = np.empty((len(table), len(item.columns)), item.spec.datatype.dtype)
    for index, name in enumerate(item.columns):
        matrix[:, index], wrong = _values(table.column(name).combine_chunks(), item.spec, name, options)
        bad = wrong | bad
    return _Column(item.spec, matrix.reshape(-1), (len(item.columns),), bad)


def _floats(table: pa.Table, spec: TensorSpec) -> Array | None:
    """The rows of columns that hold nothing but floats, missing ones as NaN; None when a value needs a look."""
    if spec.datatype.dtype.kind != "f" or not set(table.schema.types) <= {pa.float32(), pa.float64()}:
        return None
    matrix, start = empty((len(table), table.num_columns), spec.datatype.dtype), 0
    try:
        with np.errstate(over="raise"):
            for batch in table.to_batches():
                # Arrow copies columns as they are three times as fast as it makes rows; NumPy makes them of either.
                columns = batch.to_tensor(null_to_nan=True, row_major=False).to_numpy()
                matrix[start : start + len(batch)] = columns
                start += len(batch)
    except FloatingPointError:  # a value is out of range
        return None
    return matrix


def _single(array: pa.Array, item: Assigned, options: ReadOptions) -> _Column:
    """One column: a value, or a list of them, in each row."""
    name, spec = item.columns[0], item.spec
    if (how := options.model.preprocess.get(spec.name)) and (files := conversions.files_of_images(array)) is not None:
        return _images(files, how, spec, name)
    bad: dict[int, tuple[str, str]] = {}
    lists: _Lists | None = None
    if _is_list(array.type):
        array, lists = _flat(array, name, bad)
    elif spec.fitted(()) is None:
        check_width(item, options)
    values, wrong = _values(array, spec, name, options)
    if lists is None:
        return _Column(spec, values, (), bad | wrong)
    bad |= _by_row(wrong, lists.sizes)
    return _Column(spec, values, _checked_shapes(lists, spec, name, bad), bad, lists.sizes)


def _images(files: pa.Array, how: Preprocess, spec: TensorSpec, name: str) -> _Column:
    """A column of images' files, or of texts with them in base64."""
    shape = images.row_shape(how, spec)
    values = np.zeros((len(files), *shape), spec.datatype.dtype)
    bad: dict[int, tuple[str, str]] = {}
    for row, file in enumerate(files):
        try:
            if not file.is_valid:
                raise InvalidRequest("the value is missing")
            values[row] = images.row(images.content(file.as_py()), how, spec)
        except InvalidRequest as exc:
            bad[row] = (name, str(exc))
    return _Column(spec, values.reshape(-1), shape, bad)


def _values(
    array: pa.Array, spec: TensorSpec, name: str, options: ReadOptions
) -> tuple[Array, dict[int, tuple[str, str]]]:
    """A column of plain values in the input's datatype, and what is wrong with those that can't be."""
    wrong: dict[int, tuple[str, str]] = {}
    plain = _plain(array, spec, name, options, wrong)
    try:
        values, lost = cast(plain, spec.datatype, f"column '{name}' of {options.file}")
    except InvalidRequest as exc:
        raise InvalidFile(str(exc)) from exc
    if lost is not None:
        wrong |= {at: (name, _out_of_range(plain[at], spec)) for at in np.flatnonzero(lost).tolist()}
    return values, wrong


class _Lists(NamedTuple):
    """How lists are nested: `shapes` has an axis for each level, `sizes` is how many values each row has."""

    shapes: Array
    sizes: Array


def _flat(array: pa.Array, name: str, bad: dict[int, tuple[str, str]]) -> tuple[pa.Array, _Lists]:
    """The innermost values of lists, and how they are nested."""
    if isinstance(array.type, pa.FixedShapeTensorType):
        return _flat_tensors(array, name, bad)
    sizes = _lengths(array)
    levels = [sizes]
    for row in np.flatnonzero(array.is_null().to_numpy(zero_copy_only=False)).tolist():
        bad[row] = (name, "the value is missing")
    array = array.flatten()
    while _is_list(array.type):
        inner = _lengths(array)
        ends = np.cumsum(sizes)
        if len(set(inner.tolist())) > 1:
            for row, (start, end) in enumerate(zip((ends - sizes).tolist(), ends.tolist(), strict=True)):
                if len(set(inner[start:end].tolist())) > 1:
                    bad.setdefault(row, (name, "the lists in it have different lengths"))
        # Of a row without lists there is none to tell; one more stands behind the last.
        first = np.append(inner, 0)[ends - sizes]
        levels.append(np.where(sizes > 0, first, 0))
        total = np.concatenate(([0], np.cumsum(inner)))
        sizes = total[ends] - total[ends - sizes]
        array = array.flatten()
    return array, _Lists(np.stack(levels, axis=1), sizes)


def _flat_tensors(array: pa.Array, name: str, bad: dict[int, tuple[str, str]]) -> tuple[pa.Array, _Lists]:
    """The same of Arrow's tensors of one shape, whose memory has their axes in order."""
    kind = array.type
    if kind.permutation not in (None, list(range(len(kind.shape)))):
        raise InvalidFile(f"column '{name}' holds tensors whose axes are permuted, which are not read: {kind}")
    values, lists = _flat(array.storage, name, bad)
    return values, _Lists(np.tile(np.array(kind.shape, np.int64), (len(array), 1)), lists.sizes)


def _lengths(array: pa.Array) -> Array:
    if pa.types.is_fixed_size_list(array.type):
        there: Array = array.is_valid().to_numpy(zero_copy_only=False)
        return there.astype(np.int64) * int(array.type.list_size)
    lengths: Array = np.asarray(array.value_lengths().fill_null(0), np.int64)
    return lengths


def _checked_shapes(lists: _Lists, spec: TensorSpec, name: str, bad: dict[int, tuple[str, str]]) -> Array | Shape:
    """The shapes, one when all rows are alike; rows of shapes that no row may have become bad."""
    shapes = lists.shapes
    if len(shapes) and (shapes == shapes[0]).all():
        distinct, inverse = shapes[:1], np.zeros(len(shapes), np.int64)
    else:
        distinct, inverse = np.unique(shapes, axis=0, return_inverse=True)
    for number, lengths in enumerate(distinct.tolist()):
        if spec.fitted(tuple(lengths)) is None:
            said = f"{lengths[0]} values" if len(lengths) == 1 else f"lists of the shape {lengths}"
            for row in np.flatnonzero(inverse.reshape(-1) == number).tolist():
                bad.setdefault(row, (name, f"{said}, but rows have {spec.rows}"))
    size = distinct.prod() if len(distinct) == 1 else 0
    are_alike = size > 0 and bool((lists.sizes == size).all())
    return tuple(distinct[0].tolist()) if are_alike else shapes


def _by_row(wrong: dict[int, tuple[str, str]], sizes: Array) -> dict[int, tuple[str, str]]:
    """What is wrong with values, by the rows that they are in."""
    ends = np.cumsum(sizes)
    return {int(np.searchsorted(ends, at, side="right")): why for at, why in reversed(wrong.items())}


def _plain(
    array: pa.Array, spec: TensorSpec, name: str, options: ReadOptions, bad: dict[int, tuple[str, str]]
) -> Array:
    """A column of plain values as NumPy's; missing ones are NaN where the input is a float, else their rows are bad."""
    datatype = spec.datatype
    array = conversions.without_extension(array)
    if pa.types.is_null(array.type):
        array = array.cast(_NULLS[datatype.kind])
    held, wrong = array.type, dict[int, str]()
    values: Array | None = None
    if datatype.is_number and pa.types.is_boolean(held):
        array = array.cast(pa.uint8())
    elif datatype.is_float and pa.types.is_decimal(held):
        values = conversions.from_decimals(array)
    elif datatype.is_integer and (pa.types.is_decimal(held) or pa.types.is_floating(held)):
        values, wrong = conversions.to_whole(array, datatype)
    elif datatype.kind == "string" and conversions.is_binary(held):
        values, wrong = conversions.to_text(array)
        array = pa.array(values, pa.string())
        values = None
    elif not any(test(held) for test in _READS[datatype.kind]):
        raise InvalidFile(
            f"column '{name}' of {options.file} holds {conversions.words(held)}, but {datatype.name} is expected for "
            f"input '{spec.name}' of model '{options.model.name}'"
        )
    bad |= {at: (name, why) for at, why in wrong.items()}
    if values is not None:
        return values
    if array.null_count and not datatype.is_float:
        for row in np.flatnonzero(array.is_null().to_numpy(zero_copy_only=False)).tolist():
            bad[row] = (name, "the value is missing")
        array = array.fill_null(_NOTHING[datatype.kind])
    found: Array = array.to_numpy(zero_copy_only=False)
    return found


def _is_list(type_: pa.DataType) -> bool:
    is_any = pa.types.is_list(type_) or pa.types.is_large_list(type_) or pa.types.is_fixed_size_list(type_)
    return bool(is_any or isinstance(type_, pa.FixedShapeTensorType))


def _out_of_range(value: Any, spec: TensorSpec) -> str:
    return f"{value} is out of range for {spec.datatype.name}"


_READS = {
    "float": (pa.types.is_floating, pa.types.is_integer),
    "integer": (pa.types.is_integer,),
    "bool": (pa.types.is_boolean,),
    "string": (pa.types.is_string, pa.types.is_large_string),
}
_NOTHING: dict[str, Any] = {"integer": 0, "bool": False, "string": ""}
_NULLS = {"float": pa.float64(), "integer": pa.int64(), "bool": pa.bool_(), "string": pa.string()}

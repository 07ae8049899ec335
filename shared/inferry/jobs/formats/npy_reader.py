"""NPY files: the array of a model's only input, or a structured one with a field for each; NPZ: an array for each."""

import io
import math
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Any, BinaryIO, cast

import numpy as np

from inferry.errors import InvalidFile
from inferry.jobs.formats import casting
from inferry.jobs.formats.block_builder import ReadOptions
from inferry.jobs.formats.blocks import Block, Chunk, Cursor, Group, Pace, Rejected, chunk, numbers
from inferry.jobs.formats.lines import damage
from inferry.protocol import npy
from inferry.protocol.signature import TensorSpec, fits
from inferry.protocol.tensors import Array, Shape, aligned, empty

# Bytes of a block: the largest rows are not too many at once.
BLOCK = 4 << 20
# Bytes of an array in Fortran order, whose rows lie all over it, that are turned at a time.
WINDOW = 32 << 20


class NpyRows:
    """The rows of an NPY file, read one block behind the other; an array that is the model's row is the only one."""

    has_requests = False

    def __init__(self, file: BinaryIO, compression: str, options: ReadOptions) -> None:
        """InvalidFile when it isn't an NPY file, or not of the model's input."""
        self._options = options
        size = file.seek(0, io.SEEK_END)
        file.seek(0)
        self._stream = _Stream(file, size, options.file)
        self.kept: Mapping[str, Any] = {}
        fields = self._stream.dtype.names
        self.names = fields or ()
        if fields:
            self._inputs = _by_name(fields, options)
            self.kept = {name: self._stream.dtype[name] for name in options.keep}
        else:
            self._inputs = [_only(options)]
            self._stream.be_one_row(self._inputs[0])
            if options.keep:
                raise InvalidFile(f"{options.file} has no column '{options.keep[0]}' to keep: it is one plain array")
        self.inputs = [((spec.name,), spec) for spec in self._inputs]
        self.total: int = self._stream.count

    def chunks(self, start: Cursor, stop: int | None = None) -> Iterator[Chunk]:
        for row, array in self._stream.arrays(start.row, stop, self._options.pace, self._stream.row_bytes):
            fields = array.dtype.names
            arrays = {name: array[name] for name in fields} if fields else {self._inputs[0].name: array}
            yield chunk(to_block, arrays, self._inputs, self._options, row)

    def borders(self, rows: int) -> Iterator[Cursor]:
        return (Cursor(row, row) for row in range(rows, self.total, rows))


class NpzRows:
    """The rows of an NPZ archive, whose arrays have the names of the inputs and as many rows each."""

    has_requests = False

    def __init__(self, file: BinaryIO, compression: str, options: ReadOptions) -> None:
        """InvalidFile when it isn't an NPZ archive, or when its arrays don't make the model's inputs."""
        self._options = options
        try:
            archive = zipfile.ZipFile(file)
        except (zipfile.BadZipFile, OSError) as exc:
            raise InvalidFile(f"{options.file} is not an NPZ archive: {damage(exc)}") from exc
        members = {name.removesuffix(".npy"): name for name in archive.namelist()}
        if len(members) == 1 and not options.keep and len(options.model.signature.required) == 1:
            spec = _only(options)
            members = {spec.name: next(iter(members.values()))}
        self.names = tuple(members)
        self._inputs = _by_name(self.names, options)
        self.inputs = [((spec.name,), spec) for spec in self._inputs]
        chosen = (*(spec.name for spec in self._inputs), *options.keep)
        self._streams = {
            name: _Stream(
                cast("BinaryIO", archive.open(members[name])),
                archive.getinfo(members[name]).file_size,
                f"{name} in {options.file}",
            )
            for name in chosen
        }
        self.kept = {name: self._streams[name].row_type for name in options.keep}
        counts = {name: stream.count for name, stream in self._streams.items()}
        if len(set(counts.values())) != 1:
            raise InvalidFile(f"the arrays in {options.file} have different numbers of rows: {_listed(counts)}")
        self.total: int = next(iter(counts.values()))

    def chunks(self, start: Cursor, stop: int | None = None) -> Iterator[Chunk]:
        row_bytes = sum(stream.row_bytes for stream in self._streams.values())
        pace = self._options.pace
        together = [stream.arrays(start.row, stop, pace, row_bytes) for stream in self._streams.values()]
        for parts in zip(*together, strict=True):
            arrays = {name: array for name, (_, array) in zip(self._streams, parts, strict=True)}
            yield chunk(to_block, arrays, self._inputs, self._options, parts[0][0])

    def borders(self, rows: int) -> Iterator[Cursor]:
        return (Cursor(row, row) for row in range(rows, self.total, rows))


def to_block(arrays: Mapping[str, Array], inputs: list[TensorSpec], options: ReadOptions, row: int) -> Block:
    """A block of arrays with a row per row; rows whose values don't fit are rejected."""
    count = len(next(iter(arrays.values())))
    feed, bad = {}, dict[int, tuple[str, str]]()
    for spec in inputs:
        array = arrays[spec.name]
        values, lost = casting.cast(_shaped(array, spec, options), spec.datatype, options.file)
        feed[spec.name] = aligned(values)
        if lost is not None:
            for at in np.flatnonzero(lost.reshape(count, -1).any(axis=1)).tolist():
                is_float = array.dtype.kind == "f" and spec.datatype.is_integer
                said = "missing, no whole number or out of range" if is_float else "out of range"
                bad[at] = (spec.name, f"a value is {said} for {spec.datatype.name}")
    kept = {name: arrays[name] for name in options.keep}
    all_rows = numbers(row, count)
    start, end = Cursor(row, row), Cursor(row + count, row + count)

    def raw(at: int) -> Any:
        return {name: array[at].tolist() for name, array in arrays.items()}

    if not bad:
        return Block(start, end, all_rows, [Group(feed)] if count else [], kept, raw=raw)
    good = np.array([at for at in range(count) if at not in bad], np.int64)
    return Block(
        start,
        end,
        all_rows[good],
        [Group({name: aligned(array[good]) for name, array in feed.items()})] if len(good) else [],
        {name: array[good] for name, array in kept.items()},
        [Rejected(int(all_rows[at]), column, reason, raw(at)) for at, (column, reason) in sorted(bad.items())],
        raw=lambda position: raw(int(good[position])),
    )


def _shaped(array: Array, spec: TensorSpec, options: ReadOptions) -> Array:
    shape = array.shape[1:]
    fitted = spec.fitted(shape)
    if fitted is None:
        raise InvalidFile(
            f"the rows of {options.file} have the shape {list(shape)}, but those of input '{spec.name}' of model "
            f"'{options.model.name}' have {spec.rows}"
        )
    return array.reshape(len(array), *fitted)


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} of {name}" for name, count in counts.items())


def _only(options: ReadOptions) -> TensorSpec:
    signature = options.model.session.signature
    if len(signature.required) != 1:
        raise InvalidFile(
            f"{options.file} is one array, but model '{options.model.name}' takes {len(signature.required)} inputs: "
            "give an NPZ archive or a structured array with their names"
        )
    return signature.inputs[next(iter(signature.required))]


def _by_name(names: tuple[str, ...], options: ReadOptions) -> list[TensorSpec]:
    signature = options.model.session.signature
    required = [spec for name, spec in signature.inputs.items() if name in signature.required]
    missing = [name for name in (*(spec.name for spec in required), *options.keep) if name not in names]
    if missing:
        raise InvalidFile(f"{options.file} has no array '{missing[0]}'; it has {', '.join(names)}")
    return required


class _ByRow(io.RawIOBase):
    """The bytes of an array whose columns lie behind each other, row by row; never more in memory than WINDOW, twice.

    `offset`: of the array in the file; `is_own`: nobody else closes it.
    """

    def __init__(
        self, file: BinaryIO, offset: int, shape: Shape, dtype: "np.dtype[Any]", what: str, is_own: bool
    ) -> None:
        self._file, self._offset, self._what = file, offset, what
        self._count, self._row, self._dtype = shape[0], shape[1:], dtype
        self._columns = math.prod(self._row)
        self._is_own = is_own
        self._next = 0
        self._left = memoryview(b"")

    def close(self) -> None:
        if self._is_own:
            self._file.close()
        super().close()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Goes to where a row begins."""
        self._next, self._left = offset // max(self._columns * self._dtype.itemsize, 1), memoryview(b"")
        return offset

    def readinto(self, buffer: Any) -> int:
        if not self._left:
            self._left = self._window()
        size = min(len(buffer), len(self._left))
        buffer[:size] = self._left[:size]
        self._left = self._left[size:]
        return size

    def _window(self) -> memoryview:
        """The next rows of an array in Fortran order, read column by column."""
        size = self._dtype.itemsize
        rows = min(max(WINDOW // (self._columns * size), 1), self._count - self._next)
        found = empty((self._columns, rows), self._dtype)
        pieces = found.view(np.uint8).reshape(self._columns, rows * size)
        for column in range(self._columns):
            self._file.seek(self._offset + (column * self._count + self._next) * size)
            _fill(self._file, memoryview(pieces[column]), self._what, self._count)
        self._next += rows
        together = np.ascontiguousarray(found.reshape(*reversed(self._row), rows).T)
        return memoryview(together.reshape(-1).view(np.uint8))  # type: ignore[arg-type]


def _on_disk(file: BinaryIO, size: int, what: str) -> BinaryIO:
    """An archive's member, which can be read only from its start, in a file of its own that nobody else sees."""
    with ExitStack() as on_failure:
        copy = on_failure.enter_context(tempfile.TemporaryFile())
        try:
            shutil.copyfileobj(file, copy, 1 << 20)
        except (EOFError, zlib.error, zipfile.BadZipFile) as exc:
            raise InvalidFile(f"{what} can't be read: {damage(exc)}") from exc
        except OSError as exc:
            raise InvalidFile(
                f"{what} is in Fortran order, for which its {size} bytes are copied to {tempfile.gettempdir()}: {exc}. "
                "Make room there, or save np.ascontiguousarray(...) of it"
            ) from exc
        on_failure.pop_all()
    return cast("BinaryIO", copy)


def _fill(file: BinaryIO, view: memoryview, what: str, promised: int) -> None:
    """Reads as many bytes as there is room for. InvalidFile when there are fewer."""
    try:
        while view:
            count = file.readinto(view)  # type: ignore[attr-defined]
            if not count:
                raise InvalidFile(f"{what} is cut off: its header promises {promised} rows")
            view = view[count:]
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile) as exc:
        raise InvalidFile(f"{what} can't be read: {damage(exc)}") from exc


class _Stream:
    """An array in NPY form whose rows are read in order."""

    def __init__(self, file: BinaryIO, size: int, what: str) -> None:
        self._file, self._what = file, what
        shape, fortran, self.dtype, self._data = npy.read_header(file, size, what)
        if not shape:
            raise InvalidFile(f"{what} is a single value: its first axis must be the rows")
        if fortran and len(shape) > 1:
            is_archived = isinstance(file, zipfile.ZipExtFile)
            if is_archived:
                file, self._data = _on_disk(file, size - self._data, what), 0
            by_row = _ByRow(file, self._data, shape, self.dtype, what, is_archived)
            self._file, self._data = cast("BinaryIO", by_row), 0
        self.count, self._row = shape[0], shape[1:]
        self.row_bytes = math.prod(self._row) * self.dtype.itemsize
        if self.count and not self.row_bytes:
            raise InvalidFile(f"{what} has the shape {list(shape)}: its rows hold no values")

    def be_one_row(self, spec: TensorSpec) -> None:
        """Takes the array for a single row of the input where it is one, and its own rows are not."""
        shape = (self.count, *self._row)
        if spec.row and spec.fitted(self._row) is None and fits(shape, spec.row):
            self.count, self._row = 1, shape
            self.row_bytes = math.prod(shape) * self.dtype.itemsize

    @property
    def row_type(self) -> "np.dtype[Any]":
        """The type of a row: an array's where it has several values."""
        return np.dtype((self.dtype, self._row))

    def arrays(self, start: int, stop: int | None, pace: Pace, row_bytes: int) -> Iterator[tuple[int, Array]]:
        """`pace.rows` rows at a time, fewer when they would be too large, and how many rows are before them."""
        row, end = start, self.count if stop is None else min(stop, self.count)
        self._file.seek(self._data + start * self.row_bytes)
        while row < end:
            rows = max(min(pace.rows, BLOCK // max(row_bytes, 1), end - row), 1)
            yield row, self._read(rows)
            row += rows

    def _read(self, rows: int) -> Array:
        block = empty((rows, *self._row), self.dtype)
        view = memoryview(block.reshape(-1).view(np.uint8))  # type: ignore[arg-type]
        _fill(self._file, view, self._what, self.count)
        return block

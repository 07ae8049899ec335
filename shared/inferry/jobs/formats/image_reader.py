"""Images, a file each, as rows of a model's only input."""

import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from inferry.errors import InvalidFile, InvalidRequest
from inferry.jobs.formats.block_builder import ReadOptions
from inferry.jobs.formats.blocks import Block, Chunk, Cursor, Group, Rejected, chunk, numbers
from inferry.protocol.tensors import aligned, empty
from inferry.runtime import columns, images
from inferry.runtime.model import Model
from inferry.storage.files import Files
from inferry.storage.stored import StoredFile

FILE = "file"
"""The column with the files' paths below their folder."""
# Bytes of a file: that many pixels of 16 bits, uncompressed, are hardly more.
MOST_BYTES = 400 << 20


class ImageListing(io.RawIOBase):
    """Images where a reader has a file."""

    def __init__(self, files: Files, listing: Sequence[StoredFile]) -> None:
        self.files, self.listing = files, listing

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """It has no bytes of its own."""
        return 0


class ImageRows:
    """The rows of a listing of images."""

    has_requests = False

    def __init__(self, file: ImageListing, compression: str, options: ReadOptions) -> None:
        """InvalidFile for columns that images don't have, or a model that doesn't take one image a row."""
        images.check_installed()
        self._source, self._options = file, options
        self._spec, self._how = _input(options.model, options.file)
        other = [name for name in (*options.keep, *options.columns, *options.apart) if name != FILE]
        if other:
            raise InvalidFile(f"{options.file} has no column '{other[0]}': images have none but '{FILE}', their paths")
        self.inputs = [((FILE,), self._spec)]
        self.names = (FILE,)
        self.kept: Mapping[str, Any] = dict.fromkeys(options.keep, np.dtype(str))
        self.total: int = len(file.listing)

    def chunks(self, start: Cursor, stop: int | None = None) -> Iterator[Chunk]:
        row, end = start.row, self.total if stop is None else min(stop, self.total)
        while row < end:
            after = min(row + self._options.pace.rows, end)
            yield chunk(self._block, row, after)
            row = after

    def borders(self, rows: int) -> Iterator[Cursor]:
        return (Cursor(row, row) for row in range(rows, self.total, rows))

    def _block(self, start: int, end: int) -> Block:
        shape = images.row_shape(self._how, self._spec)
        found = empty((end - start, *shape), self._spec.datatype.dtype)
        good, rejected = list[int](), list[Rejected]()
        for row in range(start, end):
            file = self._source.listing[row]
            try:
                found[len(good)] = images.row(self._read(file), self._how, self._spec)
                good.append(row)
            except InvalidRequest as exc:
                rejected.append(Rejected(row + 1, FILE, str(exc), {FILE: file.path}))
        names = [self._source.listing[row].path for row in good]
        return Block(
            Cursor(start, start),
            Cursor(end, end),
            numbers(0, self.total)[good],
            [Group({self._spec.name: aligned(found[: len(good)])})] if good else [],
            dict.fromkeys(self._options.keep, names),
            rejected,
            raw=lambda position: {FILE: names[position]},
        )

    def _read(self, file: StoredFile) -> bytes:
        if file.size > MOST_BYTES:
            raise InvalidRequest(f"the file has {file.size} bytes, more than {MOST_BYTES} that are read of an image")
        with self._source.files.open(file) as opened:
            return opened.read()


def _input(model: Model, file: str) -> tuple[Any, Any]:
    """The model's only input, and how its images are read."""
    required = columns.required(model)
    if len(required) != 1 or required[0].name not in model.preprocess:
        raise InvalidFile(
            f"{file} is an image, or a folder of them: these are rows of models with one input, and model "
            f"'{model.name}' takes {columns.some([spec.name for spec in required])}. Give a table with a column for "
            "each input, or inputs with the same value in all rows by --set"
        )
    return required[0], model.preprocess[required[0].name]

"""Text files in blocks of whole lines: never more of a file in memory than a block, whatever its size."""

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO, cast

import numpy as np

from inferry.errors import InvalidFile
from inferry.jobs.formats.blocks import Cursor, Pace
from inferry.protocol.tensors import Array

# Bytes that are read at a time, and at first: what comes behind a small block can begin soon.
BLOCK, FIRST = 2 << 20, 1 << 18
# A line longer than this is refused and not kept: the largest tensors are better off in NPY or Parquet.
MAX_LINE = 16 << 20
EXCERPT = 1000
# So many lines are looked at one by one where a block holds something unexpected.
FEW = 32

# Bytes of compressed data that are read at a time, and of memory that its dictionary may take (xz -9 takes 65 MiB).
_PIECE, _XZ = 1 << 16, 128 << 20

_BOM = b"\xef\xbb\xbf"
_FOREIGN = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16", b"PK": "a ZIP archive", b"\x1f\x8b": "compressed with gzip"}


@dataclass(frozen=True, slots=True)
class Lines:
    """Whole lines, which start at `offset` of the text; with `oversize` the first bytes of one line of that size."""

    data: bytes
    offset: int
    oversize: int = 0

    @property
    def end(self) -> int:
        """The offset at which the line behind these begins."""
        return self.offset + (self.oversize or len(self.data))


def opened(file: BinaryIO, compression: str, what: str) -> BinaryIO:
    """The text of a file, compressed as a format says, or not. InvalidFile when it is something else."""
    text = _INFLATING[compression](file)
    with readable(what):
        head = text.read(3)
        text.seek(0)
    for magic, found in _FOREIGN.items():
        if head.startswith(magic):
            raise InvalidFile(f"{what} is {found}: expected text in UTF-8")
    if not head:
        raise InvalidFile(f"{what} is empty")
    return text


def start_of(text: BinaryIO) -> int:
    """The offset of the first line: behind a byte order mark."""
    text.seek(0)
    return len(_BOM) if text.read(3) == _BOM else 0


@contextmanager
def readable(what: str) -> Iterator[None]:
    """Turns what a damaged file raises into InvalidFile."""
    try:
        yield
    except EOFError as exc:
        raise InvalidFile(f"{what} ends in the middle of its compressed data") from exc
    except (OSError, zlib.error) as exc:
        raise InvalidFile(f"{what} can't be read: {damage(exc)}") from exc


def damage(exc: Exception) -> str:
    """What is wrong with a file that a library can't read, whose own words are about its insides."""
    if isinstance(exc, OSError) and exc.errno:
        return exc.strerror or str(exc)
    return "it is damaged, cut off, or not what its name says"


def read_lines(text: BinaryIO, offset: int, pace: Pace, what: str, *, quoted: bytes = b"") -> Iterator[Lines]:
    """Blocks of `pace.rows` lines from `offset`, a line border.

    `quoted`: the quote between which line ends may be, as in CSV, and what escapes it, where something does.
    """
    with readable(what):
        text.seek(offset)
        rest, size = b"", FIRST
        while True:
            read, size = text.read(size), min(2 * size, BLOCK)
            data = rest + read
            end = _last_end(data, quoted) if read else len(data)
            if not end and len(data) > MAX_LINE:
                data, length = _skip_line(text, data)
                yield Lines(data[:EXCERPT], offset, length)
                offset, rest = offset + length, data[EXCERPT:]
                continue
            for part in _parts(data[:end], pace, quoted):
                yield Lines(part, offset)
                offset += len(part)
            rest = data[end:]
            if not read:
                return


def records(data: bytes, *, quoted: bytes = b"", blank: bool = False) -> list[bytes]:
    """The rows of a block without their line ends: lines that are not empty, and empty ones where `blank`."""
    if not quoted or quoted[:1] not in data:
        lines = data.split(b"\n")
    else:
        ends = line_ends(data, quoted).tolist()
        lines = [data[start:end].rstrip(b"\n") for start, end in zip([0, *ends], [*ends, len(data)], strict=True)]
    if not lines[-1]:  # the end of the block, behind the last line's
        lines.pop()
    if b"\r" not in data and all(lines) and not any(map(bytes.isspace, lines)):
        return lines
    return [line.rstrip(b"\r") for line in lines if blank or _holds_something(line, quoted)]


def _holds_something(line: bytes, quoted: bytes) -> bool:
    """Whether a line is a row: space is a value in CSV, and nothing in JSON."""
    return bool(line.strip(b"\r\n")) and (bool(quoted) or not line.isspace())


def halves(lines: Lines, *, quoted: bytes = b"") -> tuple[Lines, Lines]:
    """The first half of a block of several lines, and the rest."""
    ends = line_ends(lines.data, quoted)
    # Quotes that are out of order may leave one line only: its half is cut at any line end, to get on.
    if len(ends) < 2:
        ends = line_ends(lines.data, quoted=b"")
    return _cut(lines, int(ends[(len(ends) - 1) // 2]))


def head(lines: Lines, count: int, *, quoted: bytes = b"", blank: bool = False) -> Lines:
    """The first `count` rows; all when there are fewer."""
    start = 0
    for end in line_ends(lines.data, quoted).tolist():
        count -= blank or _holds_something(lines.data[start:end], quoted)
        start = end
        if not count:
            return _cut(lines, end)[0]
    return lines


def _cut(lines: Lines, end: int) -> tuple[Lines, Lines]:
    return Lines(lines.data[:end], lines.offset), Lines(lines.data[end:], lines.offset + end)


def line_ends(data: bytes, quoted: bytes) -> Array:
    """The offsets behind every line end, those inside of quotes left out."""
    octets = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(octets == ord("\n"))
    if quoted and quoted[:1] in data:
        quotes = octets == ord(quoted[:1])
        if len(quoted) > 1 and quoted[1:] in data:  # what is escaped is no quote
            plain = data.replace(quoted[1:] * 2, b"  ").replace(quoted[1:] + quoted[:1], b"  ")
            quotes = np.frombuffer(plain, np.uint8) == ord(quoted[:1])
        before = np.searchsorted(np.flatnonzero(quotes), ends)
        ends = ends[before % 2 == 0]
    return ends + 1


def how_many(data: bytes, octet: bytes) -> int:
    """How often a byte is in `data`; where it is often there, `bytes.count` takes four times as long."""
    return int(np.count_nonzero(np.frombuffer(data, np.uint8) == ord(octet)))


def _last_end(data: bytes, quoted: bytes) -> int:
    if quoted and quoted[:1] in data:
        ends = line_ends(data, quoted)
        return int(ends[-1]) if len(ends) else 0
    return data.rfind(b"\n") + 1


def _parts(data: bytes, pace: Pace, quoted: bytes) -> Iterator[bytes]:
    if how_many(data, b"\n") <= pace.rows:
        if data:
            yield data
        return
    ends = line_ends(data, quoted).tolist()
    start, line = 0, 0
    while start < len(data):
        line += pace.rows
        end = ends[line - 1] if line <= len(ends) else len(data)
        yield data[start:end]
        start = end


def borders(
    text: BinaryIO, offset: int, rows: int, what: str, *, quoted: bytes = b"", blank: bool = False
) -> Iterator[Cursor]:
    """A line border about every `rows` rows; neither the first line nor the end."""
    row = since = 0
    for lines in read_lines(text, offset, Pace(max(rows // 8, 1)), what, quoted=quoted):
        if since >= rows:
            yield Cursor(row, lines.offset)
            since = 0
        count = 1 if lines.oversize else len(records(lines.data, quoted=quoted, blank=blank))
        row, since = row + count, since + count


def _skip_line(text: BinaryIO, data: bytes) -> tuple[bytes, int]:
    """The line's excerpt and what follows the line, as far as it was read; and the line's size."""
    head, size, tail = data[:EXCERPT].ljust(EXCERPT), 0, data
    while (end := tail.find(b"\n") + 1) == 0 and tail:
        size += len(tail)
        tail = text.read(BLOCK)
    return head + tail[end:], size + end


class Forward(io.RawIOBase):
    """A stream that can only be read on, with the seeks that reading lines needs: back to the start, and ahead."""

    def __init__(self, begin: Callable[[], Any]) -> None:
        """`begin` gives the stream from its start, something to `read`."""
        self._begin = begin
        self._stream, self._position = begin(), 0

    def readable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if offset < self._position:
            self._stream, self._position = self._begin(), 0
        while self._position < offset and self.read(min(BLOCK, offset - self._position)):
            pass
        return self._position

    def read(self, size: int = -1) -> bytes:
        data: bytes = self._stream.read(size)
        self._position += len(data)
        return data


def _zstd(file: BinaryIO) -> Any:
    import pyarrow as pa

    file.seek(0)
    return pa.CompressedInputStream(pa.PythonFile(_Lent(file), "r"), "zstd")


class _Inflated:
    """The content of streams behind each other that bz2 or lzma has compressed, never more of it than is asked for."""

    def __init__(self, file: BinaryIO, make: Callable[[], Any]) -> None:
        file.seek(0)
        self._file, self._make = file, make
        self._decompressor, self._rest = make(), b""

    def read(self, size: int) -> bytes:
        while True:
            if self._decompressor.eof:
                # Zeros may stand between streams of xz.
                self._rest = self._decompressor.unused_data.lstrip(b"\0") or self._file.read(_PIECE).lstrip(b"\0")
                if not self._rest:
                    return b""
                self._decompressor = self._make()
            elif self._decompressor.needs_input and not self._rest:
                self._rest = self._file.read(_PIECE)
                if not self._rest:
                    raise EOFError
            given, self._rest = self._rest, b""
            try:
                data: bytes = self._decompressor.decompress(given, size)
            except lzma.LZMAError as exc:
                raise OSError(str(exc)) from exc
            if data:
                return data


class _Lent(io.RawIOBase):
    """A file for Arrow, which would close it with its own stream."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        return self._file.read(size)


def _xz() -> Any:
    return lzma.LZMADecompressor(memlimit=_XZ)


_INFLATING: dict[str, Callable[[BinaryIO], BinaryIO]] = {
    "": lambda file: file,
    "gzip": lambda file: cast("BinaryIO", gzip.GzipFile(fileobj=file)),
    "zstd": lambda file: cast("BinaryIO", Forward(partial(_zstd, file))),
    "bz2": lambda file: cast("BinaryIO", Forward(partial(_Inflated, file, bz2.BZ2Decompressor))),
    "xz": lambda file: cast("BinaryIO", Forward(partial(_Inflated, file, _xz))),
}

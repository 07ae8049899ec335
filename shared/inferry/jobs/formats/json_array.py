"""A JSON array as lines, one for each element, never more of it in memory than a line may have."""

import codecs
import json
from typing import BinaryIO, cast

from inferry.errors import InvalidFile
from inferry.jobs.formats.lines import BLOCK, MAX_LINE, Forward, readable, start_of

# Bytes in which the first that is no space must be.
_HEAD = 1 << 12
_SPACE = " \t\r\n"


def begins(text: BinaryIO, what: str) -> bool:
    """Whether the first character that is no space is a bracket. InvalidFile where nothing can be read."""
    with readable(what):
        start = start_of(text)
        text.seek(start)
        head = text.read(_HEAD).lstrip()
        text.seek(0)
    return head.startswith(b"[")


def as_lines(text: BinaryIO, what: str) -> BinaryIO:
    """The array's elements as the lines of another text, in which offsets count."""
    return cast("BinaryIO", Forward(lambda: _Elements(text, what)))


class _Elements:
    """Reads elements as they come. InvalidFile where one is none: nobody knows where the next begins."""

    def __init__(self, text: BinaryIO, what: str) -> None:
        text.seek(start_of(text))
        self._text, self._what = text, what
        # Only the ends of values are wanted, so numbers are left as they are.
        self._decoder = json.JSONDecoder(parse_int=str, parse_float=str)
        self._from_bytes = codecs.getincrementaldecoder("utf-8")()
        self._buffer, self._made = "", b""
        self._number = 0
        self._before, self._is_over, self._has_all = "[", False, False

    def read(self, size: int) -> bytes:
        while len(self._made) < size and not self._is_over:
            self._more()
        data, self._made = self._made[:size], self._made[size:]
        return data

    def _more(self) -> None:
        """Reads on, and keeps the elements of the array that are complete now as lines."""
        try:
            piece = self._text.read(BLOCK)
            self._has_all = not piece
            self._buffer += self._from_bytes.decode(piece, final=self._has_all)
        except UnicodeDecodeError as exc:
            raise InvalidFile(f"{self._what} is not text in UTF-8") from exc
        lines, at = [], 0
        while (end := self._skip(at)) is not None:
            if self._buffer[end] == "]":
                self._end(end)
                break
            try:
                _, behind = self._decoder.raw_decode(self._buffer, end)
            except RecursionError as exc:
                raise InvalidFile(f"element {self._number + 1} of {self._what} is nested too deep") from exc
            except ValueError as exc:
                if self._has_all or len(self._buffer) - end > MAX_LINE:
                    said = f"element {self._number + 1} of {self._what} is not JSON, or has over {MAX_LINE} bytes"
                    raise InvalidFile(said) from exc
                break
            if behind == len(self._buffer) and not self._has_all:
                break  # a number may go on
            lines.append(self._buffer[end:behind].replace("\n", " ").replace("\r", " "))
            self._number, self._before, at = self._number + 1, ",", behind
        self._buffer = self._buffer[at:]
        self._made += "".join([f"{line}\n" for line in lines]).encode()

    def _skip(self, at: int) -> int | None:
        """Where the next element or the end begins, behind what must be before it; None when it isn't there yet."""
        buffer, length = self._buffer, len(self._buffer)
        at = self._behind_space(at)
        if at < length and buffer[at] == "]" and self._before == ",":
            return at
        if at < length and buffer[at] != self._before:
            raise InvalidFile(
                f"{self._what} is no JSON array: {buffer[at]!r} stands behind element {self._number} where "
                f"{self._before!r} was expected"
            )
        at = self._behind_space(at + 1)
        if at >= length:
            if self._has_all:
                raise InvalidFile(f"{self._what} ends in the middle of its array, behind element {self._number}")
            return None
        if buffer[at] == "]" and self._before == ",":
            raise InvalidFile(f"element {self._number + 1} of {self._what} is not JSON: there is none behind the comma")
        return at

    def _behind_space(self, at: int) -> int:
        while at < len(self._buffer) and self._buffer[at] in _SPACE:
            at += 1
        return at

    def _end(self, at: int) -> None:
        if self._buffer[at + 1 :].strip() or self._text.read(BLOCK).strip():
            raise InvalidFile(f"{self._what} has more behind the end of its array")
        self._is_over = True

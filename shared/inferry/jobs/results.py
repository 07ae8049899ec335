"""The results of one file: kept in parts while they are made, published at once, and found again by their key."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import orjson

from inferry.errors import StoreError
from inferry.jobs.formats.blocks import Cursor, Rejected
from inferry.jobs.formats.formats import Writer
from inferry.jobs.formats.lines import EXCERPT
from inferry.jobs.report import FINISHED, Report
from inferry.storage.files import Files
from inferry.storage.stored import HIDDEN

Memory: TypeAlias = tuple[Sequence[bytes], bytes]
"""The data of a part, in buffers that follow each other, and its errors."""


@dataclass(frozen=True, slots=True)
class Part:
    """The results of the rows from `start` to `end`, `last` when the file ends there."""

    start: Cursor
    end: Cursor
    rows: int
    errors: int
    seconds: float
    last: bool

    @property
    def name(self) -> str:
        """Says everything, so that a listing is enough to know all parts."""
        last = "last" if self.last else "more"
        counts = (*self.start, *self.end, self.rows, self.errors, round(self.seconds * 1000))
        return f"{'-'.join(map(str, counts))}-{last}"

    @classmethod
    def of(cls, name: str) -> "Part":
        """The part whose file has this name."""
        *counts, last = name.split("-")
        row, offset, end_row, end_offset, rows, errors, milliseconds = map(int, counts)
        start, end = Cursor(row, offset), Cursor(end_row, end_offset)
        return cls(start, end, rows, errors, milliseconds / 1000, last == "last")


class Results:
    """The files NAME, NAME.errors.jsonl and NAME.report.json, and the parts of the first two in a hidden folder."""

    def __init__(self, files: Files, name: str, key: str) -> None:
        self._files = files
        self.name = name
        self.key = key
        # By the name of the results, so that parts of what the input was before are found.
        self._folder = f"{HIDDEN}/parts-{name}"

    @property
    def url(self) -> str:
        """The URL of the file of results."""
        return f"{self._files.url.rstrip('/')}/{self.name}" if self._files.url else self.name

    def report(self) -> Report | None:
        """The report beside the results, which may be that of another key; None when there is none yet."""
        content = self._files.read(self._report_path)
        return Report.from_json(content) if content else None

    def parts(self) -> dict[int, Part]:
        """All parts that are complete, by the number of rows before them."""
        start = self._own
        names = [path.removeprefix(start) for path in self._files.below(self._folder) if path.startswith(start)]
        parts = [Part.of(name.removesuffix(_COMPLETE)) for name in names if name.endswith(_COMPLETE)]
        return {part.start.row: part for part in parts}

    def keep(self, part: Part, data: bytes, errors: bytes) -> None:
        """Writes a part; it counts when the mark that it is complete is there, which comes last."""
        for kind, content in ((_DATA, data), (_ERRORS, errors)):
            if content:
                self._files.create(self._path(part, kind), content)
        self._files.create(self._path(part, _COMPLETE), b".")

    def publish(self, parts: Sequence[Part], writer: Writer, memory: Memory | None = None) -> None:
        """Merges all parts into the results, and their errors; `memory` holds the data and errors of a lone part."""
        rows = sum(part.rows for part in parts)
        with self._files.write(self.name) as file:
            writer.merge(memory[0] if memory else _Contents(self, parts, _DATA), rows, file)
        self.publish_errors(parts, memory)

    def publish_errors(self, parts: Sequence[Part], memory: Memory | None = None) -> None:
        """Merges the errors, or removes those of an earlier content of the input."""
        path = f"{self.name}.errors.jsonl"
        if not any(part.errors for part in parts):
            self._files.delete([path])
            return
        with self._files.write(path) as file:
            for content in [memory[1]] if memory else _Contents(self, parts, _ERRORS):
                file.write(content)

    def commit(self, report: Report) -> Report:
        """Writes the report, after which nobody makes these results again; the report that counts is returned."""
        path = self._report_path
        if self._files.create(path, report.to_json()):
            return report
        other = self.report()
        if other and other.key == self.key and other.state == FINISHED:
            return other
        with self._files.write(path) as file:
            file.write(report.to_json())
        return report

    def forget(self, others: bool = False) -> None:
        """Removes the parts; with `others` those of other keys too, such as of what the input was before."""
        paths = [path for path in self._files.below(self._folder) if others or path.startswith(self._own)]
        # The marks first: what is left of a part doesn't count then.
        self._files.delete(sorted(paths, key=lambda path: not path.endswith(_COMPLETE)))

    def content(self, part: Part, kind: str) -> bytes:
        """A part's data or errors. StoreError when another worker has published and removed them."""
        count = part.rows if kind == _DATA else part.errors
        content = self._files.read(self._path(part, kind)) if count else b""
        if content is None:
            # So that the next run makes it again, if nobody has finished.
            self._files.delete([self._path(part, _COMPLETE)])
            raise StoreError(f"a part of {self.url} is gone: another worker may have finished it; run the job again")
        return content

    @property
    def _report_path(self) -> str:
        return f"{self.name}.report.json"

    @property
    def _own(self) -> str:
        """How the paths of this key's parts begin."""
        return f"{self._folder}/{self.key}-"

    def _path(self, part: Part, kind: str) -> str:
        return f"{self._own}{part.name}{kind}"


_DATA, _ERRORS, _COMPLETE = ".data", ".errors", ".complete"


def _shown(value: Any) -> str:
    """What JSON can't hold: as text, of files only their beginning."""
    if isinstance(value, bytes) and len(value) > EXCERPT:
        return f"{str(value[:20])[:-1]}...' ({len(value)} bytes)"
    return str(value)


class _Contents(Iterable[bytes]):
    """The contents of parts, one in memory at a time, as often as they are asked for."""

    def __init__(self, results: Results, parts: Sequence[Part], kind: str) -> None:
        self._results, self._parts, self._kind = results, parts, kind

    def __iter__(self) -> Iterator[bytes]:
        return (self._results.content(part, self._kind) for part in self._parts)


def error_line(rejected: Rejected) -> bytes:
    """The line of NAME.errors.jsonl for a row without a result."""
    try:
        return orjson.dumps(rejected, default=_shown, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_SERIALIZE_NUMPY)
    except orjson.JSONEncodeError:  # text with half a surrogate pair in it
        return error_line(Rejected(rejected.row, rejected.column, rejected.reason, ascii(rejected.data)))

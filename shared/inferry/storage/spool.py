"""Long lists that memory doesn't hold."""

import weakref
from collections.abc import Collection, Iterable, Iterator
from tempfile import SpooledTemporaryFile
from typing import Any, TypeVar

import orjson

T = TypeVar("T")
# Bytes of JSON in memory: those of some thousand files. More are on disk.
MEMORY = 1 << 20


class Spool(Collection[T]):
    """Texts, or lists of texts and numbers, in a temporary file that ends with the object: one iterator at a time."""

    def __init__(self, items: Iterable[T]) -> None:
        self._file = SpooledTemporaryFile(MEMORY)  # noqa: SIM115
        weakref.finalize(self, self._file.close)
        self._count = 0
        for item in items:
            self._file.write(orjson.dumps(item, option=orjson.OPT_APPEND_NEWLINE))
            self._count += 1

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[T]:
        self._file.seek(0)
        for line in self._file:
            yield orjson.loads(line)

    def __contains__(self, item: Any) -> bool:
        return any(each == item for each in self)

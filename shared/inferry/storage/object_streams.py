"""An object's bytes as a stream to read, and a new one's as a stream to write, through obstore."""

import io
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import obstore

from inferry.errors import StoreError
from inferry.storage.backends import ERRORS, stored
from inferry.storage.stored import StoredFile, translated

if TYPE_CHECKING:
    from obstore.store import ObjectStore

# Bytes of a request: fewer, larger ones cost less time, and this is what a job holds of a file besides its blocks.
PIECE = 8 << 20


class ObjectReader(io.RawIOBase):
    """An object's bytes, by ranges; only as long as it is the one that was found."""

    def __init__(self, backend: "ObjectStore", name: str, file: StoredFile, url: str) -> None:
        self._backend, self._name, self._file, self._url = backend, name, file, url
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._file.size}[whence]
        return self._position

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        content = self._next(len(view))
        view[: len(content)] = content
        return len(content)

    def readall(self) -> bytes:
        return bytes(self._next(self._file.size))

    def _next(self, size: int) -> memoryview:
        end = min(self._position + size, self._file.size)
        if end <= self._position:
            return memoryview(b"")
        with translated(f"can't read {self._file.path!r} in {self._url}", ERRORS):
            found = self._backend.get(self._name, options={"range": (self._position, end)})
            now = stored(found.meta)
            content = memoryview(found.bytes())
        if (now.size, now.identity) != (self._file.size, self._file.identity):
            raise StoreError(f"{self._file.path!r} in {self._url} was replaced while it was read")
        self._position += len(content)
        return content


class ObjectWriter(io.RawIOBase):
    """An object that is there when `complete` has returned. Small ones are one request, others several parts."""

    def __init__(self, backend: "ObjectStore", path: str, url: str) -> None:
        self._backend, self._path, self._url = backend, path, url
        self._start = bytearray()
        self._writer: Any = None
        self._size = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._size

    def write(self, content: Any) -> int:
        view = memoryview(content).cast("B")
        self._size += len(view)
        if self._writer is None and len(self._start) + len(view) <= PIECE:
            self._start += view
            return len(view)
        with self._translated():
            if self._writer is None:
                self._writer = obstore.open_writer(self._backend, self._path, buffer_size=PIECE)
                self._writer.write(bytes(self._start))
            self._writer.write(view)
        return len(view)

    def complete(self) -> None:
        with self._translated():
            if self._writer is None:
                self._backend.put(self._path, bytes(self._start), use_multipart=False)
            else:
                self._writer.close()

    def _translated(self) -> AbstractContextManager[None]:
        return translated(f"can't write {self._path!r} in {self._url}", ERRORS)

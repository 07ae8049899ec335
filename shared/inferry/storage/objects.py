"""Batch jobs' files in s3://, az://, gs:// and memory:// stores, through obstore."""

import io
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import obstore
from obstore.exceptions import AlreadyExistsError, NotSupportedError

from inferry.errors import StoreError
from inferry.storage.bucket import ERRORS, Bucket, open_bucket, stored
from inferry.storage.files import Paths
from inferry.storage.stored import Listing, StoredFile, translated

if TYPE_CHECKING:
    from obstore.store import ObjectStore

# Bytes of a request: fewer, larger ones cost less time, and this is what a job holds of a file besides its blocks.
PIECE = 8 << 20


def open_remote_files(url: str, scheme: str, rest: str) -> "RemoteFiles":
    """The files at a URL, split into its scheme and what follows ://. InvalidSettings when it names no store."""
    if scheme != "memory":
        return RemoteFiles(open_bucket(url, scheme, rest), "")
    # A memory:// URL names a store and no prefix in it: here the first part is the name.
    name, _, prefix = rest.partition("/")
    return RemoteFiles(open_bucket(url, scheme, name), prefix and f"{prefix.rstrip('/')}/")


class RemoteFiles:
    """The objects of a store, those whose names start with `prefix`; paths are what is behind it."""

    def __init__(self, store: Bucket, prefix: str) -> None:
        self.url = store.url
        self._prefix = prefix
        self._store = store
        self._backend: ObjectStore = store.backend

    def list(self) -> Listing:
        found = [file for file in self._store.list() if file.path.startswith(self._prefix)]
        return [StoredFile(file.path.removeprefix(self._prefix), file.size, file.identity) for file in found]

    def below(self, folder: str) -> Paths:
        with translated(f"can't list {self.url}", ERRORS):
            found = [meta["path"] for page in self._backend.list(f"{self._prefix}{folder}/") for meta in page]
        return sorted(path.removeprefix(self._prefix) for path in found)

    def stat(self, path: str) -> StoredFile | None:
        with translated(f"can't read {path!r} in {self.url}", ERRORS):
            try:
                found = stored(self._backend.head(self._name(path)))
                return StoredFile(path, found.size, found.identity)
            except FileNotFoundError:
                return None

    def open(self, file: StoredFile) -> BinaryIO:
        return cast("BinaryIO", io.BufferedReader(_Object(self._backend, self._name(file.path), file, self.url), PIECE))

    def read(self, path: str) -> bytes | None:
        with translated(f"can't read {path!r} in {self.url}", ERRORS):
            try:
                return self._backend.get(self._name(path)).bytes().to_bytes()
            except FileNotFoundError:
                return None

    @contextmanager
    def write(self, path: str) -> Iterator[BinaryIO]:
        # What the block raises is not the store's.
        writer = _Upload(self._backend, self._name(path), self.url)
        yield cast("BinaryIO", writer)
        writer.complete()

    def create(self, path: str, content: bytes) -> bool:
        with translated(f"can't write {path!r} in {self.url}", ERRORS):
            try:
                self._backend.put(self._name(path), content, mode="create", use_multipart=False)
            except AlreadyExistsError:
                return False
            except (NotSupportedError, NotImplementedError):
                # The best that such a store can do; what is written under one name is always the same here.
                if self.stat(path) is not None:
                    return False
                self._backend.put(self._name(path), content, use_multipart=False)
            return True

    def delete(self, paths: Iterable[str]) -> None:
        with translated(f"can't delete in {self.url}", ERRORS):
            for path in paths:
                try:
                    self._backend.delete(self._name(path))
                except FileNotFoundError:
                    continue

    def _name(self, path: str) -> str:
        # Stores take any name, but ours are read again as files on disk are.
        if any(part in ("", ".", "..") for part in path.split("/")):
            raise StoreError(f"{path!r} can't be the name of an object in {self.url}")
        return f"{self._prefix}{path}"


class _Object(io.RawIOBase):
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


class _Upload(io.RawIOBase):
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

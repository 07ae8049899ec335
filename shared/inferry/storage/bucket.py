"""The objects of s3://, az://, gs:// and memory:// stores, through obstore."""

import io
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import starmap
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar, cast

import obstore.store
from obstore.exceptions import AlreadyExistsError, GenericError, NotSupportedError

from inferry.errors import StoreError
from inferry.storage.backends import ERRORS, Backend, memory, open_backend, stored
from inferry.storage.object_streams import PIECE, ObjectReader, ObjectWriter
from inferry.storage.spool import Spool
from inferry.storage.stored import Listing, Paths, StoredFile, is_plain, limited, translated

if TYPE_CHECKING:
    from obstore import ObjectMeta

T = TypeVar("T")
# How often a listing is begun before it counts as failed.
LISTINGS = 3
# What obstore says of a request that it has tried often enough itself.
_GIVEN_UP = "retries"


class Bucket:
    """`files.Files` of a store: objects whose names start with `prefix`; paths are what is behind it.

    `backend` is obstore's own store, `origin` tells it from all others.
    """

    left_out: Sequence[str] = ()

    def __init__(self, url: str, backend: Backend, origin: str, prefix: str = "") -> None:
        self.url = url
        self.backend = backend
        self.origin = origin
        self.prefix = prefix

    def list(self) -> Listing:
        folders: set[str] = set()
        with translated(f"can't list {self.url}", ERRORS):
            found = self._listed(lambda metas: list(self._plain(metas, folders)))
        return sorted(file for file in found if file.path not in folders)

    def scan(self) -> Iterable[StoredFile]:
        folders: set[str] = set()
        with translated(f"can't list {self.url}", ERRORS):
            found = self._listed(lambda metas: Spool(map(tuple, self._plain(metas, folders))))
        return _Scanned(found, folders)

    def below(self, folder: str) -> Paths:
        def paths(metas: Iterator["ObjectMeta"]) -> Spool[str]:
            return Spool(meta["path"].removeprefix(self.prefix) for meta in metas)

        with translated(f"can't list {self.url}", ERRORS):
            return self._listed(paths, f"{self.prefix}{folder}/")

    def stat(self, path: str) -> StoredFile | None:
        with translated(f"can't read {path!r} in {self.url}", ERRORS):
            try:
                found = stored(self.backend.head(self._name(path)))
                return StoredFile(path, found.size, found.identity)
            except FileNotFoundError:
                return None

    def open(self, file: StoredFile) -> BinaryIO:
        return cast(
            "BinaryIO", io.BufferedReader(ObjectReader(self.backend, self._name(file.path), file, self.url), PIECE)
        )

    def read(self, path: str, limit: int | None = None) -> bytes | None:
        with translated(f"can't read {path!r} in {self.url}", ERRORS):
            try:
                found = self.backend.get(self._name(path))
            except FileNotFoundError:
                return None
            if limit is None or found.meta["size"] <= limit:
                return limited(found.bytes().to_bytes(), limit, path)
        raise StoreError(f"{path!r} in {self.url} has {found.meta['size']} bytes; at most {limit} are read")

    @contextmanager
    def write(self, path: str) -> Iterator[BinaryIO]:
        # What the block raises is not the store's.
        writer = ObjectWriter(self.backend, self._name(path), self.url)
        yield cast("BinaryIO", writer)
        writer.complete()

    def create(self, path: str, content: bytes) -> bool:
        with translated(f"can't write {path!r} in {self.url}", ERRORS):
            try:
                self.backend.put(self._name(path), content, mode="create", use_multipart=False)
            except AlreadyExistsError:
                return False
            except (NotSupportedError, NotImplementedError):
                # The best that such a store can do; what is written under one name is always the same here.
                if self.stat(path) is not None:
                    return False
                self.backend.put(self._name(path), content, use_multipart=False)
            return True

    def delete(self, paths: Iterable[str]) -> None:
        with translated(f"can't delete in {self.url}", ERRORS):
            for path in paths:
                try:
                    self.backend.delete(self._name(path))
                except FileNotFoundError:
                    continue

    def _listed(self, collect: "Callable[[Iterator[ObjectMeta]], T]", below: str | None = None) -> T:
        """All objects, from the first page on where one breaks off: obstore asks again where none came at all."""
        for _ in range(LISTINGS - 1):
            try:
                return collect(self._objects(below))
            except GenericError as exc:
                if _GIVEN_UP in str(exc):
                    raise
        return collect(self._objects(below))

    def _objects(self, below: str | None) -> "Iterator[ObjectMeta]":
        for page in self.backend.list(below, chunk_size=1000):
            yield from page

    def _plain(self, metas: "Iterator[ObjectMeta]", folders: set[str]) -> Iterator[StoredFile]:
        """The files whose names may become paths. `folders` gets those that they are in.

        Consoles mark a folder with an object of its name, and a disk has no file and folder of one name.
        """
        start = len(self.prefix)
        for file in map(stored, metas):
            if file.path.startswith(self.prefix) and is_plain(file.path):
                path = file.path[start:]
                folders.update(path[:end] for end, letter in enumerate(path) if letter == "/")
                yield file._replace(path=path)

    def _name(self, path: str) -> str:
        # Stores take any name, but ours are read again as files on disk are.
        if any(part in ("", ".", "..") for part in path.split("/")):
            raise StoreError(f"{path!r} can't be the name of an object in {self.url}")
        return f"{self.prefix}{path}"


class _Scanned(Iterable[StoredFile]):
    """What was found, without what only marks a folder."""

    def __init__(self, found: Spool[Any], folders: set[str]) -> None:
        self._found, self._folders = found, folders

    def __iter__(self) -> Iterator[StoredFile]:
        return (file for file in starmap(StoredFile, self._found) if file.path not in self._folders)


def open_bucket(url: str, scheme: str, rest: str) -> Bucket:
    """The objects at a URL, split into its scheme and what follows ://. InvalidSettings when it names no store."""
    if scheme != "memory":
        return Bucket(url, open_backend(url, scheme, rest), url)
    # A memory:// URL names a store first, and then a prefix in it.
    name, _, prefix = rest.partition("/")
    return _in_memory(url, memory(name), prefix and f"{prefix.rstrip('/')}/")


def memory_bucket(files: Mapping[str, bytes], name: str | None = None) -> Bucket:
    """A bucket in memory that holds `files`: the one at memory://`name`, or without a name one of its own."""
    backend = obstore.store.MemoryStore() if name is None else memory(name)
    url = f"memory://{os.urandom(8).hex() if name is None else name}"
    with translated(f"can't fill {url}", ERRORS):
        for path, content in files.items():
            backend.put(path, content)
    return _in_memory(url, backend, "")


def _in_memory(url: str, backend: Backend, prefix: str) -> Bucket:
    # Identities are mere counters here: without its mark, a process would take another's files from the cache.
    return Bucket(url, backend, f"{url} {_process()}", prefix)


@cache
def _process() -> str:
    return os.urandom(8).hex()

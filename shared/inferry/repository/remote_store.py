"""Models in s3://, az://, gs:// and memory:// stores: kept in a folder on disk."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeAlias

from inferry.errors import InvalidModel, StoreError
from inferry.repository import model_cache
from inferry.repository.content import Content, digest, hold, in_cache
from inferry.repository.layout import MANIFEST
from inferry.runtime import onnx_file
from inferry.storage.backends import ERRORS, Backend, stored
from inferry.storage.bucket import Bucket, memory_bucket, open_bucket
from inferry.storage.stored import Listing, StoredFile, VersionFiles, relative, there, translated

Beside: TypeAlias = Callable[[Path], dict[str, StoredFile]]

PIECE = 8 * 1024 * 1024
PARALLEL = 8


def memory_store(files: Mapping[str, bytes], cache: Path | None = None, name: str | None = None) -> "RemoteStore":
    """A store in memory that holds `files`: the one at memory://`name`, or without a name one of its own."""
    bucket = memory_bucket(files, name)
    return RemoteStore(bucket.url, bucket.backend, cache, bucket.origin)


class FetchedStore(ABC):
    """A store of models over a network: files are fetched into the cache before they are loaded.

    `origin` tells it from all others, in names of the cache.
    """

    left_out: Sequence[str] = ()
    url: str
    origin: str
    _cache: Path | None
    _in_full: bool

    @abstractmethod
    def list(self) -> Listing:
        """As `Store.list`."""

    @abstractmethod
    def read(self, path: str, limit: int | None = None) -> bytes:
        """As `Store.read`."""

    @abstractmethod
    def _download(self, folder: Path, wanted: Mapping[str, StoredFile]) -> None:
        """Writes the files below `folder`, by their paths in it. StoreError when one isn't what was listed."""

    def fetch(self, version: VersionFiles, digest: str | None) -> Content:
        if version.model == MANIFEST:
            from inferry.repository import prepared

            source = prepared.Source(self.read, lambda _: None, self._fetched)
            return prepared.hold(version, source, self._cache, self._in_full)

        def beside(folder: Path) -> dict[str, StoredFile]:
            return version.named(onnx_file.read(folder / version.model).locations)

        folder = self.download(version.folder, [version.onnx], digest, beside)
        prefix = f"{version.folder}/" if version.folder else ""
        with translated(f"can't read {folder}", (OSError,)):
            if model_cache.is_private(folder, beside(folder)):
                return in_cache(folder, version, self._cache, self._in_full)
            return hold(version, lambda path: folder / path.removeprefix(prefix), self._cache, self._in_full)

    def download(
        self, folder: str, files: Sequence[StoredFile], digest: str | None, beside: Beside | None = None
    ) -> Path:
        """A local folder, to be read only, that holds `files` by their paths below `folder` ("" is the root).

        It holds also what `beside` says when it sees these files. It is complete or not there at all, and has `digest`,
        else InvalidModel.
        """
        wanted = relative(folder, files)
        cache = self._cache or model_cache.default_cache()
        with translated(f"can't fetch {folder!r} from {self.url} to {cache}", ERRORS):
            if digest or beside is None:
                return self._kept(cache, wanted, digest, beside)
            # Without a digest, a folder's name has to tell the identity of every file in it.
            first = self._kept(cache, wanted, None, None)
            more = beside(first)
            return first if more.keys() == wanted.keys() else self._kept(cache, more, None, None)

    def _kept(self, cache: Path, wanted: dict[str, StoredFile], digest: str | None, beside: Beside | None) -> Path:
        final = cache / self._key(wanted, digest)
        if not model_cache.use(final, wanted) or (beside and not model_cache.use(final, beside(final))):
            self._fill(cache, final, wanted, digest, beside)
        return final

    def _key(self, wanted: Mapping[str, StoredFile], digest: str | None) -> str:
        """The folder's name, one for each content. A lone file's digest lacks its name, so that is added."""
        files = sorted((name, file.path, file.size, file.identity) for name, file in wanted.items())
        return model_cache.key((digest.lower(), sorted(wanted)) if digest else (self.origin, files))

    def _fill(
        self, cache: Path, final: Path, wanted: dict[str, StoredFile], digest: str | None, beside: Beside | None
    ) -> None:
        """Prepare everything in a folder that nobody reads, then rename it: all is visible at once."""
        with model_cache.staged(cache, wanted) as staged:
            self._download(staged, wanted)
            if beside:
                self._download(staged, model_cache.grow(cache, wanted, beside(staged)))
            _verify(staged, wanted, digest, self.url)
            model_cache.publish(staged, final, wanted)

    def _fetched(self, folder: Path, wanted: Mapping[str, StoredFile]) -> None:
        with translated(f"can't fetch {', '.join(wanted)} from {self.url}", ERRORS):
            self._download(folder, wanted)


class RemoteStore(FetchedStore, Bucket):
    """A store of models in a bucket or container."""

    def __init__(
        self, url: str, backend: Backend, cache: Path | None, origin: str, prefix: str = "", in_full: bool = False
    ) -> None:
        super().__init__(url, backend, origin, prefix)
        self._cache = cache
        self._in_full = in_full

    def list(self) -> Listing:
        return Bucket.list(self)

    def read(self, path: str, limit: int | None = None) -> bytes:
        return there(Bucket.read(self, path, limit), path, self.url)

    def _download(self, folder: Path, wanted: Mapping[str, StoredFile]) -> None:
        for name in wanted:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).touch()
        pieces = [(folder / name, file, start) for name, file in wanted.items() for start in range(0, file.size, PIECE)]
        with ThreadPoolExecutor(PARALLEL, "inferry-fetch") as pool:
            # The first error ends this loop, and that cancels the pieces that wait.
            for _ in pool.map(lambda piece: self._copy(*piece), pieces):
                pass

    def _copy(self, target: Path, file: StoredFile, start: int) -> None:
        """One piece. The response names the object it is from, which must be the one that was listed."""
        end = min(start + PIECE, file.size)
        found = self.backend.get(self._name(file.path), options={"range": (start, end)})
        now = stored(found.meta)
        if (now.size, now.identity) != (file.size, file.identity):
            raise StoreError(f"{file.path!r} in {self.url} was replaced since it was listed: list again")
        content = memoryview(found.bytes())
        if len(content) != end - start:
            raise StoreError(f"{file.path!r} in {self.url}: got {len(content)} bytes, not {end - start}")
        model_cache.write(target, content, start)


def open_remote(url: str, scheme: str, rest: str, cache: Path | None, in_full: bool = False) -> RemoteStore:
    """The store at a URL, split into its scheme and what follows ://. InvalidSettings when it names none."""
    bucket = open_bucket(url, scheme, rest)
    return RemoteStore(url, bucket.backend, cache, bucket.origin, bucket.prefix, in_full)


def _verify(folder: Path, wanted: Mapping[str, StoredFile], expected: str | None, url: str) -> None:
    if expected is None:
        return
    actual = digest(folder, [*wanted])
    if actual != expected.lower():
        raise InvalidModel(f"{', '.join(wanted)} from {url}: the sha256 is {actual}, expected {expected}")

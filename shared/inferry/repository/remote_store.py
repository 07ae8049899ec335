"""Models in s3://, az://, gs:// and memory:// stores: read with obstore, kept in a folder on disk."""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import obstore.store
from obstore.exceptions import BaseError

from inferry.errors import InvalidModel, InvalidSettings, StoreError
from inferry.repository import model_cache
from inferry.repository.content import Content, digest, hold, in_cache
from inferry.repository.store import Files
from inferry.runtime import onnx_file
from inferry.storage.stored import StoredFile, VersionFiles, is_plain, limited, relative, translated

if TYPE_CHECKING:
    from obstore import ObjectMeta
    from obstore.store import BackoffConfig, MemoryStore, ObjectStore, RetryConfig

Beside: TypeAlias = Callable[[Path], dict[str, StoredFile]]
ERRORS = (BaseError, OSError, ValueError)

PIECE = 8 * 1024 * 1024
PARALLEL = 8
BACKENDS = {"s3": "S3Store", "az": "AzureStore", "gs": "GCSStore"}
# Four attempts of 2 s bound an endpoint that is down to about 10 s. A download is given up when nothing
# arrives for 10 s, not because it is long. These go in as `config`: given `client_options`, obstore forgets
# what it read from the environment (AWS_ALLOW_HTTP, AWS_PROXY_URL, ...).
CLIENT = {"connect_timeout": "2s", "read_timeout": "10s", "timeout": "1h"}
ATTEMPTS = 4
_memories: "dict[str, MemoryStore]" = {}


def memory_store(files: Mapping[str, bytes], cache: Path | None = None, name: str | None = None) -> "RemoteStore":
    """A store in memory that holds `files`: the one at memory://`name`, or without a name one of its own."""
    backend = obstore.store.MemoryStore() if name is None else _memory(name)
    url = f"memory://{os.urandom(8).hex() if name is None else name}"
    with translated(f"can't fill {url}", ERRORS):
        for path, content in files.items():
            backend.put(path, content)
    return _in_memory(url, backend, cache)


class RemoteStore:
    """Objects below a prefix, read with obstore; `backend` is obstore's own store."""

    def __init__(self, url: str, backend: "ObjectStore", cache: Path | None, origin: str) -> None:
        self.url = url
        self.backend = backend
        self.left_out: Sequence[str] = ()
        self._cache = cache
        self._origin = origin

    def list(self) -> Files:
        with translated(f"can't list {self.url}", ERRORS):
            found = [stored(meta) for page in self.backend.list(chunk_size=1000) for meta in page]
        plain = {file.path: file for file in found if is_plain(file.path)}
        # Consoles mark a folder with an object of its name, and a disk has no file and folder of one name.
        folders = {path[:end] for path in plain for end, letter in enumerate(path) if letter == "/"}
        return [plain[path] for path in sorted(plain.keys() - folders)]

    def read(self, path: str, limit: int) -> bytes:
        with translated(f"can't read {path!r} in {self.url}", ERRORS):
            found = self.backend.get(path)
            if found.meta["size"] <= limit:
                return limited(found.bytes().to_bytes(), limit, path)
        raise StoreError(f"{path!r} in {self.url} has {found.meta['size']} bytes; at most {limit} are read")

    def fetch(self, version: VersionFiles, digest: str | None) -> Content:
        def beside(folder: Path) -> dict[str, StoredFile]:
            return version.named(onnx_file.read(folder / version.model).locations)

        folder = self.download(version.folder, [version.onnx], digest, beside)
        prefix = f"{version.folder}/" if version.folder else ""
        with translated(f"can't read {folder}", (OSError,)):
            if model_cache.is_private(folder, beside(folder)):
                return in_cache(folder, version)
            return hold(version, lambda path: folder / path.removeprefix(prefix), self._cache)

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
        return model_cache.key((digest.lower(), sorted(wanted)) if digest else (self._origin, files))

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
        """One piece. The answer names the object it is from, which must be the one that was listed."""
        end = min(start + PIECE, file.size)
        found = self.backend.get(file.path, options={"range": (start, end)})
        now = stored(found.meta)
        if (now.size, now.identity) != (file.size, file.identity):
            raise StoreError(f"{file.path!r} in {self.url} was replaced since it was listed: list again")
        content = memoryview(found.bytes())
        if len(content) != end - start:
            raise StoreError(f"{file.path!r} in {self.url}: got {len(content)} bytes, not {end - start}")
        model_cache.write(target, content, start)


def open_remote(url: str, scheme: str, rest: str, cache: Path | None) -> RemoteStore:
    """The store at a URL, split into its scheme and what follows ://. InvalidSettings when it names none."""
    if scheme == "memory":
        return _in_memory(url, _memory(rest), cache)
    return RemoteStore(url, _backend(url, scheme, rest), cache, url)


def _memory(name: str) -> "MemoryStore":
    return _memories.setdefault(name, obstore.store.MemoryStore())


def _in_memory(url: str, backend: "MemoryStore", cache: Path | None) -> RemoteStore:
    # Identities are mere counters here: without its mark, a process would take another's files from the cache.
    return RemoteStore(url, backend, cache, f"{url} {_process()}")


@cache
def _process() -> str:
    return os.urandom(8).hex()


def _backend(url: str, scheme: str, rest: str) -> "ObjectStore":
    if scheme not in BACKENDS:
        known = ", ".join(f"{name}://" for name in ("file", "memory", *BACKENDS))
        raise InvalidSettings(f"a store can't be a {scheme}:// URL; give a folder or one of {known}")
    bucket, _, prefix = rest.partition("/")
    if re.search("[@:?]", bucket) or "?" in prefix:
        # The URL is not repeated: it would carry the credentials into the logs.
        raise InvalidSettings(f"a {scheme}:// URL takes no credentials and no query: use the environment")
    if not bucket:
        raise InvalidSettings(f"{url}: expected {scheme}://bucket/prefix")
    with translated(f"can't open {url}", ERRORS):
        made: ObjectStore = getattr(obstore.store, BACKENDS[scheme])(
            bucket, prefix=prefix.strip("/") or None, config=CLIENT, retry_config=_retries()
        )
    return made


def _retries() -> "RetryConfig":
    backoff: BackoffConfig = {
        "init_backoff": timedelta(milliseconds=100),
        "max_backoff": timedelta(seconds=1),
        "base": 2,
    }
    return {"max_retries": ATTEMPTS - 1, "retry_timeout": timedelta(minutes=3), "backoff": backoff}


def stored(meta: "ObjectMeta") -> StoredFile:
    # Azure quotes the tag in an answer's header and not in a listing.
    tag = (meta["e_tag"] or "").strip('"') or f"{meta['size']}-{meta['last_modified'].isoformat()}"
    return StoredFile(meta["path"], meta["size"], tag)


def _verify(folder: Path, wanted: Mapping[str, StoredFile], expected: str | None, url: str) -> None:
    if expected is None:
        return
    actual = digest(folder, [*wanted])
    if actual != expected.lower():
        raise InvalidModel(f"{', '.join(wanted)} from {url}: the sha256 is {actual}, expected {expected}")

"""Model files by URL: a folder, s3://, az://, gs:// or memory://.

Remote stores go through obstore, which is imported when the first is opened: a folder does without it.
"""

import errno
import hashlib
import os
import re
import stat
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeAlias

from inferry.errors import InvalidModel, InvalidSettings, StoreError

if TYPE_CHECKING:
    from obstore import ObjectMeta
    from obstore.store import BackoffConfig, MemoryStore, ObjectStore, RetryConfig

PIECE = 8 * 1024 * 1024
PARALLEL = 8
TEMPORARY = ".fetch-"
ABANDONED = 24 * 60 * 60

BACKENDS = {"s3": "S3Store", "az": "AzureStore", "gs": "GCSStore"}

# Four attempts of 2 s bound an endpoint that is down to about 10 s. A download is given up when nothing
# arrives for 10 s, not because it is long. These go in as `config`: given `client_options`, obstore forgets
# what it read from the environment (AWS_ALLOW_HTTP, AWS_PROXY_URL, ...).
CLIENT = {"connect_timeout": "2s", "read_timeout": "10s", "timeout": "1h"}
ATTEMPTS = 4

_FOREIGN = re.compile(r"[\x00-\x1f\x7f\\\ud800-\udfff]")

_memories: "dict[str, MemoryStore]" = {}


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One file of a store."""

    path: str
    """Relative to the store's root, "/" separated."""
    size: int
    """In bytes."""
    identity: str
    """Changes whenever the content may have changed."""


Files: TypeAlias = list[StoredFile]
"""A name for the type, because `list` is a method below."""


class Store(Protocol):
    """Where model files are; StoreError when it can't be read."""

    url: str

    def list(self) -> Files:
        """Every file, sorted by path. Hidden ones (a part starts with ".") and unsafe names are left out."""

    def read(self, path: str, limit: int) -> bytes:
        """The content of a small file; StoreError when it is longer than `limit` bytes."""

    def fetch(self, folder: str, files: Sequence[StoredFile], digest: str | None) -> Path:
        """A local folder, to be read only, that holds `files` by their paths below `folder` ("" is the root).

        It is complete or not there at all. What comes over the network must have `digest`, else InvalidModel.
        """


def open_store(url: str, cache: Path | None = None) -> Store:
    """The store at a local path, file:///path, s3://bucket/prefix, az://container/prefix, gs:// or memory://name.

    Endpoints and credentials come from the environment: obstore itself reads AWS_*, AZURE_* and GOOGLE_*
    variables (AWS_ENDPOINT_URL, AWS_REGION, AWS_ALLOW_HTTP, AZURE_STORAGE_ACCOUNT_NAME,
    AZURE_STORAGE_ENDPOINT, GOOGLE_APPLICATION_CREDENTIALS, ...), then asks the machine for an identity. It
    knows no AWS profiles: `aws configure export-credentials --format env` turns one into variables. A memory://
    name is one store while the process lives. Fetched files are kept in `cache`, else in `default_cache()`.
    InvalidSettings when the URL names no store.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        return LocalStore(Path(url), url)
    if scheme == "file":
        return LocalStore(_file_path(url, rest), url)
    if scheme == "memory":
        return _in_memory(url, _memory(rest), cache)
    return RemoteStore(url, _backend(url, scheme, rest), cache, url)


def memory_store(files: Mapping[str, bytes], cache: Path | None = None, name: str | None = None) -> "RemoteStore":
    """A store in memory that holds `files`: the one at memory://`name`, or without a name one of its own."""
    from obstore.store import MemoryStore

    backend = MemoryStore() if name is None else _memory(name)
    url = f"memory://{os.urandom(8).hex() if name is None else name}"
    with _translated(f"can't fill {url}", _remote_errors()):
        for path, content in files.items():
            backend.put(path, content)
    return _in_memory(url, backend, cache)


def digest(folder: Path, paths: Sequence[str]) -> str:
    """SHA-256 in hex: of the only file, or of the lines that `sha256sum` prints for all, sorted by path.

    A user gets the same from `sha256sum model.onnx`, or from `sha256sum * | sha256sum` with LC_ALL=C.
    """
    with _translated(f"can't read {folder}", (OSError,)):
        sums = {path: _sha256(folder / path) for path in sorted(paths)}
    if len(sums) == 1:
        return next(iter(sums.values()))
    lines = "".join(f"{content}  {path}\n" for path, content in sums.items())
    return hashlib.sha256(lines.encode()).hexdigest()


def default_cache() -> Path:
    """A private folder of this user below the temporary folder; StoreError when others can get in."""
    import tempfile

    private = Path(tempfile.gettempdir()) / f"inferry-{os.getuid()}"
    with _translated(f"can't keep models in {private}", (OSError,)):
        with suppress(FileExistsError):
            private.mkdir(0o700)
        found = private.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise StoreError(f"{private} isn't a folder of this user with mode 0700: remove it or set another cache")
    return private / "models"


class LocalStore:
    """Files below a folder. Symbolic links are followed as long as they stay inside it."""

    def __init__(self, root: Path, url: str) -> None:
        self.url = url
        self._root = root.absolute()

    def list(self) -> Files:
        if not self._root.is_dir():
            raise StoreError(f"there is no folder {self._root}: create it, or name the folder with the models")
        with _translated(f"can't list {self.url}", (OSError,)):
            root = _real(self._root)
            return sorted(_walk(root, "", (root,)), key=lambda file: file.path)

    def read(self, path: str, limit: int) -> bytes:
        with _translated(f"can't read {self.url}", (OSError,)), self._locate(path).open("rb") as file:
            return _limited(file.read(limit + 1), limit, self._root / path)

    def fetch(self, folder: str, files: Sequence[StoredFile], digest: str | None) -> Path:
        _relative(folder, files)
        for file in files:
            self._locate(file.path)
        return self._root / folder

    def _locate(self, path: str) -> Path:
        """The file's real path, which is inside the root."""
        real = _real(self._root / path)
        if not (_is_plain(path) and real.is_relative_to(_real(self._root)) and real.is_file()):
            raise StoreError(f"{self.url}: there is no file {path!r}")
        return real


class RemoteStore:
    """Objects below a prefix, read with obstore; `backend` is obstore's own store."""

    def __init__(self, url: str, backend: "ObjectStore", cache: Path | None, origin: str) -> None:
        self.url = url
        self.backend = backend
        self._cache = cache
        self._origin = origin

    def list(self) -> Files:
        with _translated(f"can't list {self.url}", _remote_errors()):
            found = [_stored(meta) for page in self.backend.list(chunk_size=1000) for meta in page]
        plain = {file.path: file for file in found if _is_plain(file.path)}
        # Consoles mark a folder with an object of its name, and a disk has no file and folder of one name.
        folders = {path[:end] for path in plain for end, letter in enumerate(path) if letter == "/"}
        return [plain[path] for path in sorted(plain.keys() - folders)]

    def read(self, path: str, limit: int) -> bytes:
        with _translated(f"can't read {path!r} in {self.url}", _remote_errors()):
            found = self.backend.get(path)
            if found.meta["size"] <= limit:
                return _limited(found.bytes().to_bytes(), limit, path)
        raise StoreError(f"{path!r} in {self.url} has {found.meta['size']} bytes; at most {limit} are read")

    def fetch(self, folder: str, files: Sequence[StoredFile], digest: str | None) -> Path:
        wanted = _relative(folder, files)
        cache = self._cache or default_cache()
        final = cache / self._key(wanted, digest)
        with _translated(f"can't fetch {folder!r} from {self.url} to {cache}", _remote_errors()):
            if not _is_complete(final, wanted):
                cache.mkdir(0o700, parents=True, exist_ok=True)
                _sweep(cache)
                self._fill(cache, final, wanted, digest)
        return final

    def _key(self, wanted: Mapping[str, StoredFile], digest: str | None) -> str:
        """The folder's name, one for each content. A lone file's digest lacks its name, so that is added."""
        files = sorted((name, file.path, file.size, file.identity) for name, file in wanted.items())
        content = (digest.lower(), sorted(wanted)) if digest else (self._origin, files)
        return hashlib.sha256(repr(content).encode()).hexdigest()

    def _fill(self, cache: Path, final: Path, wanted: Mapping[str, StoredFile], digest: str | None) -> None:
        """Prepare everything in a folder that nobody reads, then rename it: all is visible at once."""
        from tempfile import TemporaryDirectory

        try:
            with TemporaryDirectory(prefix=TEMPORARY, dir=cache) as temporary:
                staged = Path(temporary, "files")
                self._download(staged, wanted)
                _verify(staged, wanted, digest, self.url)
                _publish(staged, final, wanted)
        except OSError as exc:
            if exc.errno == errno.ENOSPC:
                raise _no_space(cache, wanted) from exc
            raise

    def _download(self, folder: Path, wanted: Mapping[str, StoredFile]) -> None:
        from concurrent.futures import ThreadPoolExecutor
        from shutil import disk_usage

        if disk_usage(folder.parent).free < sum(file.size for file in wanted.values()):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
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
        now = _stored(found.meta)
        if (now.size, now.identity) != (file.size, file.identity):
            raise StoreError(f"{file.path!r} in {self.url} was replaced since it was listed: list again")
        content = memoryview(found.bytes())
        if len(content) != end - start:
            raise StoreError(f"{file.path!r} in {self.url}: got {len(content)} bytes, not {end - start}")
        _write(target, content, start)


def _memory(name: str) -> "MemoryStore":
    from obstore.store import MemoryStore

    return _memories.setdefault(name, MemoryStore())


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
    from obstore import store

    with _translated(f"can't open {url}", _remote_errors()):
        made: ObjectStore = getattr(store, BACKENDS[scheme])(
            bucket, prefix=prefix.strip("/") or None, config=CLIENT, retry_config=_retries()
        )
    return made


def _retries() -> "RetryConfig":
    from datetime import timedelta

    backoff: BackoffConfig = {
        "init_backoff": timedelta(milliseconds=100),
        "max_backoff": timedelta(seconds=1),
        "base": 2,
    }
    return {"max_retries": ATTEMPTS - 1, "retry_timeout": timedelta(minutes=3), "backoff": backoff}


def _remote_errors() -> tuple[type[Exception], ...]:
    from obstore.exceptions import BaseError

    return (BaseError, OSError, ValueError)


@contextmanager
def _translated(failure: str, errors: tuple[type[Exception], ...]) -> Iterator[None]:
    """Turn `errors` into StoreError."""
    try:
        yield
    except errors as exc:
        raise StoreError(f"{failure}: {_reason(exc)}") from exc


def _reason(error: Exception) -> str:
    """The first line, as obstore adds pages of debug output, and the code in the service's XML."""
    text = str(error)
    code = re.search(r"<Code>(\w+)</Code>", text)
    first = re.split(r"\n|: <\?xml", text, maxsplit=1)[0]
    return f"{first} ({code[1]})" if code else first


def _file_path(url: str, rest: str) -> Path:
    from urllib.parse import unquote

    if not rest.startswith("/"):
        raise InvalidSettings(f"{url}: expected file:///folder, with three slashes")
    return Path(unquote(rest))


def _is_plain(path: str) -> bool:
    """Whether a name from a store may become a path on disk: relative, not hidden, climbing nowhere."""
    return not _FOREIGN.search(path) and all(part and part[0] != "." for part in path.split("/"))


def _relative(folder: str, files: Iterable[StoredFile]) -> dict[str, StoredFile]:
    """The files by their paths relative to `folder`."""
    prefix = f"{folder}/" if folder else ""
    wanted = {file.path.removeprefix(prefix): file for file in files if file.path.startswith(prefix)}
    outside = [file.path for file in files if not (file.path.startswith(prefix) and _is_plain(file.path))]
    if outside or not wanted:
        raise StoreError(f"can't fetch {folder!r}: no files, or files outside of it: {outside}")
    return wanted


def _real(path: Path) -> Path:
    """Without symbolic links; Path.resolve() raises RuntimeError for a link to itself before Python 3.13."""
    return Path(os.path.realpath(path))


def _walk(folder: Path, prefix: str, parents: tuple[Path, ...]) -> Iterator[StoredFile]:
    """The files below a real folder; `parents` are the real folders on the way to it, the root first."""
    with os.scandir(folder) as entries:
        for entry in entries:
            path = prefix + entry.name
            real = _real(Path(entry.path)) if entry.is_symlink() else folder / entry.name
            if not _is_plain(path) or not real.is_relative_to(parents[0]):
                continue
            if real.is_dir() and real not in parents:
                yield from _walk(real, f"{path}/", (*parents, real))
            elif real.is_file():
                with suppress(FileNotFoundError):
                    found = real.stat()
                    identity = f"{found.st_size}-{found.st_mtime_ns}-{found.st_ino}"
                    yield StoredFile(path, found.st_size, identity)


def _stored(meta: "ObjectMeta") -> StoredFile:
    # Azure quotes the tag in an answer's header and not in a listing.
    tag = (meta["e_tag"] or "").strip('"') or f"{meta['size']}-{meta['last_modified'].isoformat()}"
    return StoredFile(meta["path"], meta["size"], tag)


def _limited(content: bytes, limit: int, path: object) -> bytes:
    if len(content) > limit:
        raise StoreError(f"{path} has more than {limit} bytes")
    return content


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write(target: Path, content: memoryview, start: int) -> None:
    descriptor = os.open(target, os.O_WRONLY)
    try:
        while content:
            written = os.pwrite(descriptor, content, start)
            content, start = content[written:], start + written
    finally:
        os.close(descriptor)


def _is_complete(folder: Path, wanted: Mapping[str, StoredFile]) -> bool:
    with suppress(FileNotFoundError, NotADirectoryError):
        return all((folder / name).stat().st_size == file.size for name, file in wanted.items())
    return False


def _verify(folder: Path, wanted: Mapping[str, StoredFile], expected: str | None, url: str) -> None:
    if expected is None:
        return
    actual = digest(folder, [*wanted])
    if actual != expected.lower():
        raise InvalidModel(f"{', '.join(wanted)} from {url}: the sha256 is {actual}, expected {expected}")


def _publish(staged: Path, final: Path, wanted: Mapping[str, StoredFile]) -> None:
    """Move `staged` to `final`, unless another process was first."""
    try:
        staged.rename(final)
    except OSError:
        if _is_complete(final, wanted):
            return
        # Systems clean their temporary folders file by file: this one lost some.
        with suppress(FileNotFoundError):
            final.rename(staged.with_name("damaged"))
        staged.rename(final)


def _sweep(cache: Path) -> None:
    """Remove what killed processes left behind; what is younger than a day may be a download that goes on."""
    from shutil import rmtree

    for left in cache.glob(f"{TEMPORARY}*"):
        with suppress(FileNotFoundError):
            if time.time() - left.stat().st_mtime > ABANDONED:
                rmtree(left, ignore_errors=True)


def _no_space(cache: Path, wanted: Mapping[str, StoredFile]) -> StoreError:
    from shutil import disk_usage

    needed, free = sum(file.size for file in wanted.values()), disk_usage(cache).free
    missing = max(needed - free, 0)
    return StoreError(f"no space in {cache}: {needed} bytes are needed, {free} free, {missing} missing")

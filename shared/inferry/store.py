"""Model files by URL: a folder, s3://, az://, gs:// or memory://.

Remote stores are in `remote`, which is imported when the first is opened: a folder does without obstore.
"""

import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, Protocol, TypeAlias

from inferry.errors import InvalidSettings, StoreError

_FOREIGN = r"[\x00-\x1f\x7f\\\ud800-\udfff]"


class StoredFile(NamedTuple):
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
    name is one store while the process lives. Fetched files are kept in `cache`, else in `remote.default_cache()`.
    InvalidSettings when the URL names no store.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        return LocalStore(Path(url), url)
    if scheme == "file":
        return LocalStore(file_path(url, rest), url)
    from inferry.remote import open_remote

    return open_remote(url, scheme, rest, cache)


def digest(folder: Path, paths: Sequence[str]) -> str:
    """SHA-256 in hex: of the only file, or of the lines that `sha256sum` prints for all, sorted by path.

    A user gets the same from `sha256sum model.onnx`, or from `sha256sum * | sha256sum` with LC_ALL=C.
    """
    with translated(f"can't read {folder}", (OSError,)):
        sums = {path: _sha256(folder / path) for path in sorted(paths)}
    if len(sums) == 1:
        return next(iter(sums.values()))
    lines = "".join(f"{content}  {path}\n" for path, content in sums.items())
    return hashlib.sha256(lines.encode()).hexdigest()


class LocalStore:
    """Files below a folder. Symbolic links are followed as long as they stay inside it."""

    def __init__(self, root: Path, url: str) -> None:
        self.url = url
        self._root = root.absolute()

    def list(self) -> Files:
        if not self._root.is_dir():
            what = "is not a folder" if self._root.exists() else "does not exist"
            raise StoreError(f"{self._root} {what}: name the folder with the models, or an .onnx file")
        with translated(f"can't list {self.url}", (OSError,)):
            root = _real(self._root)
            return sorted(_walk(root, "", (root,)), key=lambda file: file.path)

    def read(self, path: str, limit: int) -> bytes:
        with translated(f"can't read {self.url}", (OSError,)), self._locate(path).open("rb") as file:
            return limited(file.read(limit + 1), limit, self._root / path)

    def fetch(self, folder: str, files: Sequence[StoredFile], digest: str | None) -> Path:
        relative(folder, files)
        for file in files:
            self._locate(file.path)
        return self._root / folder

    def _locate(self, path: str) -> Path:
        """The file's real path, which is inside the root."""
        real = _real(self._root / path)
        if not (is_plain(path) and real.is_relative_to(_real(self._root)) and real.is_file()):
            raise StoreError(f"{self.url}: there is no file {path!r}")
        return real


class OneFile:
    """A store that shows one flat model of another."""

    def __init__(self, store: Store, name: str) -> None:
        self._store, self._name = store, name
        self.url = f"{store.url}/{name}"
        self.read = store.read
        self.fetch = store.fetch

    def list(self) -> Files:
        files = [file for file in self._store.list() if file.path.startswith(self._name)]
        if not any(file.path == self._name for file in files):
            raise StoreError(f"there is no file {self.url}")
        return files


@contextmanager
def translated(failure: str, errors: tuple[type[Exception], ...]) -> Iterator[None]:
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


def file_path(url: str, rest: str) -> Path:
    """The path that a file:// URL names; `rest` is what follows ://."""
    from urllib.parse import unquote

    if not rest.startswith("/"):
        raise InvalidSettings(f"{url}: expected file:///folder, with three slashes")
    return Path(unquote(rest))


def is_plain(path: str) -> bool:
    """Whether a name from a store may become a path on disk: relative, not hidden, climbing nowhere."""
    # Compiling the expression takes as long as looking at a repository of some models.
    if not (path.isascii() and path.isprintable() and "\\" not in path) and re.search(_FOREIGN, path):
        return False
    return all(part and part[0] != "." for part in path.split("/"))


def relative(folder: str, files: Iterable[StoredFile]) -> dict[str, StoredFile]:
    """The files by their paths relative to `folder`."""
    prefix = f"{folder}/" if folder else ""
    wanted = {file.path.removeprefix(prefix): file for file in files if file.path.startswith(prefix)}
    outside = [file.path for file in files if not (file.path.startswith(prefix) and is_plain(file.path))]
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
            if not is_plain(path) or not real.is_relative_to(parents[0]):
                continue
            if real.is_dir() and real not in parents:
                yield from _walk(real, f"{path}/", (*parents, real))
            elif real.is_file():
                with suppress(FileNotFoundError):
                    found = real.stat()
                    identity = f"{found.st_size}-{found.st_mtime_ns}-{found.st_ino}"
                    yield StoredFile(path, found.st_size, identity)


def limited(content: bytes, limit: int, path: object) -> bytes:
    if len(content) > limit:
        raise StoreError(f"{path} has more than {limit} bytes")
    return content


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

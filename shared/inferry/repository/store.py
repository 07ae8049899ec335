"""Model files by URL: a folder, s3://, az://, gs:// or memory://.

Remote stores are in `remote`, which is imported when the first is opened: a folder does without obstore.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol, TypeAlias

from inferry.errors import InvalidSettings, StoreError
from inferry.repository.content import Content, hold
from inferry.storage.stored import StoredFile, VersionFiles, is_plain, limited, translated

Files: TypeAlias = list[StoredFile]
"""A name for the type, because `list` is a method below."""


class Store(Protocol):
    """Where model files are; StoreError when it can't be read."""

    url: str
    left_out: Sequence[str]
    """What the last listing left out, with the reason."""

    def list(self) -> Files:
        """Every file, sorted by path. Hidden ones (a part starts with ".") and unsafe names are left out."""

    def read(self, path: str, limit: int) -> bytes:
        """The content of a small file; StoreError when it is longer than `limit` bytes."""

    def fetch(self, version: VersionFiles, digest: str | None) -> Content:
        """The content of a version: of its ONNX file, and of the external data that this names.

        What comes over the network must have `digest`, else InvalidModel.
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
        return LocalStore(Path(url), url, cache)
    if scheme == "file":
        return LocalStore(file_path(url, rest), url, cache)
    from inferry.repository.remote_store import open_remote

    return open_remote(url, scheme, rest, cache)


def open_file(url: str, cache: Path | None = None) -> Store:
    """The store that holds a single .onnx file, at a path or a URL as those of `open_store`."""
    scheme, separator, rest = url.partition("://")
    if not separator or scheme == "file":
        return LocalFile(file_path(url, rest) if separator else Path(url), url, cache)
    folder, _, name = url.rpartition("/")
    return OneFile(open_store(folder, cache), name)


class LocalStore:
    """Files below a folder. Symbolic links are followed as long as they stay inside it."""

    def __init__(self, root: Path, url: str, cache: Path | None = None) -> None:
        self.url = url
        self.left_out: Sequence[str] = ()
        self._root = root.absolute()
        self._cache = cache

    def list(self) -> Files:
        if not self._root.is_dir():
            what = "is not a folder" if self._root.exists() else "does not exist"
            raise StoreError(f"{self._root} {what}: name the folder with the models, or an .onnx file")
        with translated(f"can't list {self.url}", (OSError,)):
            root = _real(self._root)
            left_out: list[str] = []
            found = sorted(_walk(root, "", (root,), left_out), key=lambda file: file.path)
        self.left_out = sorted(left_out)
        return found

    def read(self, path: str, limit: int) -> bytes:
        with translated(f"can't read {self.url}", (OSError,)), self._locate(path).open("rb") as file:
            return limited(file.read(limit + 1), limit, self._root / path)

    def fetch(self, version: VersionFiles, digest: str | None) -> Content:
        with translated(f"can't read {version.model} in {self.url}", (OSError,)):
            return hold(version, self._locate, self._cache)

    def _locate(self, path: str) -> Path:
        """The file's real path, which is inside the root."""
        if is_plain(path):
            real = _real(self._root / path)
            if real.is_relative_to(_real(self._root)) and real.is_file():
                return real
        raise StoreError(f"{self.url}: there is no file {path!r}")


class OneFile:
    """A store that shows one flat model of another, and what lies beside it."""

    left_out: Sequence[str] = ()

    def __init__(self, store: Store, name: str) -> None:
        self._store, self._name = store, name
        self.url = f"{store.url}/{name}"
        self.read = store.read
        self.fetch = store.fetch

    def list(self) -> Files:
        found = self._store.list()
        if not any(file.path == self._name for file in found):
            raise StoreError(f"there is no file {self.url}")
        return [file for file in found if file.path == self._name or _may_be_data(file.path)]


class LocalFile(LocalStore):
    """One flat model, and what lies beside it. Whoever names a file means it: links lead wherever they lead.

    Model hubs keep files under names of their digest, and show them through links.
    """

    def __init__(self, path: Path, url: str, cache: Path | None = None) -> None:
        super().__init__(path.parent, url, cache)
        self._name = path.name

    def list(self) -> Files:
        with translated(f"can't list {self._root}", (OSError,)):
            paths = sorted(self._root.iterdir()) if self._root.is_dir() else []
            found = [file for path in paths if is_plain(path.name) and (file := _stored(path.name, path))]
        if not any(file.path == self._name for file in found):
            raise StoreError(f"there is no file {self.url}{_leads(self._root / self._name)}")
        return [file for file in found if file.path == self._name or _may_be_data(file.path)]

    def _locate(self, path: str) -> Path:
        if is_plain(path) and (real := _real(self._root / path)).is_file():
            return real
        raise StoreError(f"there is no file {self._root / path}")


def file_path(url: str, rest: str) -> Path:
    """The path that a file:// URL names; `rest` is what follows ://."""
    from urllib.parse import unquote

    if not rest.startswith("/"):
        raise InvalidSettings(f"{url}: expected file:///folder, with three slashes")
    return Path(unquote(rest))


def _real(path: Path) -> Path:
    """Without symbolic links; Path.resolve() raises RuntimeError for a link to itself before Python 3.13."""
    return Path(os.path.realpath(path))


def _walk(folder: Path, prefix: str, parents: tuple[Path, ...], left_out: list[str]) -> Iterator[StoredFile]:
    """The files below a real folder; `parents` are the real folders on the way to it, the root first."""
    with os.scandir(folder) as entries:
        for entry in entries:
            path = prefix + entry.name
            if not is_plain(path):
                continue
            real = _real(Path(entry.path)) if entry.is_symlink() else folder / entry.name
            if entry.is_symlink() and (problem := _bad_link(real, parents)):
                left_out.append(f"{path} is a link {problem}")
            elif real.is_dir():
                if real not in parents:
                    yield from _walk(real, f"{path}/", (*parents, real), left_out)
            elif file := _stored(path, real):
                yield file


def _may_be_data(path: str) -> bool:
    return "/" not in path and not path.endswith(".onnx")


def _bad_link(real: Path, parents: tuple[Path, ...]) -> str:
    """What is wrong with a link to `real`."""
    if not real.is_relative_to(parents[0]):
        return "that leads out of the repository"
    if real in parents:
        return "to a folder that it lies in"
    return "" if real.exists() else "to a file that does not exist"


def _stored(path: str, real: Path) -> StoredFile | None:
    with suppress(FileNotFoundError):
        if real.is_file():
            found = real.stat()
            return StoredFile(path, found.st_size, f"{found.st_size}-{found.st_mtime_ns}-{found.st_ino}")
    return None


def _leads(path: Path) -> str:
    return f": it is a link to {path.readlink()}, which does not exist" if path.is_symlink() else ""

"""Model files by URL: a folder, s3://, az://, gs:// or memory://.

Those that are no folders are in `remote_store`, which is imported when the first is opened: a folder does without
obstore.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from inferry.errors import StoreError
from inferry.repository.content import Content, hold, is_safe
from inferry.repository.layout import MANIFEST
from inferry.storage.local import Folder, file_path, real_path, stored
from inferry.storage.stored import Listing, StoredFile, VersionFiles, is_plain, translated


class Store(Protocol):
    """Where model files are; StoreError when it can't be read."""

    url: str
    left_out: Sequence[str]
    """What the last listing left out, with the reason."""

    def list(self) -> Listing:
        """Every file, sorted by path. Hidden ones (a part starts with ".") and unsafe names are left out."""

    def read(self, path: str, limit: int) -> bytes:
        """The content of a small file; StoreError when it is longer than `limit` bytes."""

    def fetch(self, version: VersionFiles, digest: str | None) -> Content:
        """The content of a version: of its ONNX file, and of the external data that this names.

        What comes over the network must have `digest`, else InvalidModel.
        """


def open_store(url: str, cache: Path | None = None, in_full: bool = False) -> Store:
    """The store at a local path, file:///path, s3://bucket/prefix, az://container/prefix, gs:// or memory://name.

    Endpoints and credentials come from the environment: obstore itself reads AWS_*, AZURE_* and GOOGLE_*
    variables (AWS_ENDPOINT_URL, AWS_REGION, AWS_ALLOW_HTTP, AZURE_STORAGE_ACCOUNT_NAME,
    AZURE_STORAGE_ENDPOINT, GOOGLE_APPLICATION_CREDENTIALS, ...), then asks the machine for an identity. It
    knows no AWS profiles: `aws configure export-credentials --format env` turns one into variables. A memory://
    name is one store while the process lives. Fetched files are kept in `cache`, else in `model_cache.default_cache()`.
    `in_full`: they are hashed at each load, whatever is known of them. InvalidSettings when the URL names no store.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        return LocalStore(Path(url), url, cache, in_full)
    if scheme == "file":
        return LocalStore(file_path(url, rest), url, cache, in_full)
    from inferry.repository.remote_store import open_remote

    return open_remote(url, scheme, rest, cache, in_full)


def open_file(url: str, cache: Path | None = None, in_full: bool = False) -> Store:
    """The store that holds a single .onnx file, at a path or a URL as those of `open_store`."""
    scheme, separator, rest = url.partition("://")
    if not separator or scheme == "file":
        return LocalFile(file_path(url, rest) if separator else Path(url), url, cache, in_full)
    folder, _, name = url.rpartition("/")
    return OneFile(open_store(folder, cache, in_full), name)


class LocalStore(Folder):
    """The models of a folder."""

    def __init__(self, root: Path, url: str, cache: Path | None = None, in_full: bool = False) -> None:
        super().__init__(root, url)
        self._cache = cache
        self._in_full = in_full

    def fetch(self, version: VersionFiles, digest: str | None) -> Content:
        with translated(f"can't read {version.model} in {self.url}", (OSError,)):
            if version.model == MANIFEST:
                from inferry.repository import prepared

                source = prepared.Source(self.read, self._in_place, self._fill)
                return prepared.hold(version, source, self._cache, self._in_full)
            return hold(version, self.locate, self._cache, self._in_full, real_path(self._root))

    def _in_place(self, path: str) -> Path | None:
        """A form's file, where nobody writes it: its mode lets nobody, and its folder is named by its digest."""
        real = self.locate(path)
        is_kept = not real.stat().st_mode & 0o222 or is_safe(real)
        return real if is_kept and real == real_path(self._root) / path else None

    def _fill(self, folder: Path, files: Mapping[str, StoredFile]) -> None:
        from inferry.repository import model_cache

        for name, file in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            model_cache.clone(self.locate(file.path), folder / name)


class OneFile:
    """A store that shows one flat model of another, and what lies beside it."""

    left_out: Sequence[str] = ()

    def __init__(self, store: Store, name: str) -> None:
        self._store, self._name = store, name
        self.url = f"{store.url}/{name}"
        self.read = store.read
        self.fetch = store.fetch

    def list(self) -> Listing:
        found = self._store.list()
        if not any(file.path == self._name for file in found):
            raise StoreError(f"there is no file {self.url}")
        return [file for file in found if file.path == self._name or _may_be_data(file.path)]


class LocalFile(LocalStore):
    """One flat model, and what lies beside it. Whoever names a file means it: links lead wherever they lead.

    Model hubs keep files under names of their digest, and show them through links.
    """

    def __init__(self, path: Path, url: str, cache: Path | None = None, in_full: bool = False) -> None:
        super().__init__(path.parent, url, cache, in_full)
        self._name = path.name

    def list(self) -> Listing:
        with translated(f"can't list {self._root}", (OSError,)):
            paths = sorted(self._root.iterdir()) if self._root.is_dir() else []
            found = [file for path in paths if is_plain(path.name) and (file := stored(path.name, path))]
        if not any(file.path == self._name for file in found):
            raise StoreError(f"there is no file {self.url}{_leads(self._root / self._name)}")
        return [file for file in found if file.path == self._name or _may_be_data(file.path)]

    def locate(self, path: str) -> Path:
        if is_plain(path) and (real := real_path(self._root / path)).is_file():
            return real
        raise StoreError(f"there is no file {self._root / path}")


def _may_be_data(path: str) -> bool:
    return "/" not in path and not path.endswith(".onnx")


def _leads(path: Path) -> str:
    return f": it is a link to {path.readlink()}, which does not exist" if path.is_symlink() else ""

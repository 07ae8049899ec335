"""Models by URL, in a folder, s3://, az://, gs:// or memory://: the port over files, and what a version needs of it.

Those that are no folders are in `remote_store`, and MLflow's in `mlflow`, which are imported when the first is opened:
a folder does without obstore.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from inferry.errors import InvalidSettings, StoreError
from inferry.repository.content import Content, hold
from inferry.repository.layout import CONFIG_FILE, MANIFEST, Scan
from inferry.storage.local import LocalFiles, file_path, is_safe, real_path, stored_at
from inferry.storage.stored import Listing, StoredFile, VersionFiles, is_plain, there, translated


class Store(Protocol):
    """What models need of `storage.files.Files`, whose first members these are, and how a version comes out of it."""

    url: str
    left_out: Sequence[str]

    def list(self) -> Listing:
        """Every file, as `Files.list`."""

    def read(self, path: str, limit: int) -> bytes:
        """The content of a small file, as `Files.read`; StoreError when there is none."""

    def fetch(self, version: VersionFiles, digest: str | None) -> Content:
        """The content of a version: of its ONNX file, and of the external data that this names.

        What comes over the network must have `digest`, else InvalidModel.
        """


def is_registry(url: str) -> bool:
    """Whether a URL is that of an MLflow server: mlflow+http:// or mlflow+https://."""
    return url.startswith("mlflow+")


def open_store(url: str, cache: Path | None = None, in_full: bool = False) -> Store:
    """The store at a local path, file:///path, s3://bucket/prefix, az://container/prefix, gs://, memory://name, mlflow+http://.

    As `storage.files.open_files` opens it. Fetched files are kept in `cache`, else in `model_cache.default_cache()`.
    `in_full`: they are hashed at each load, whatever is known of them. InvalidSettings when the URL names no store.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        return LocalStore(Path(url), url, cache, in_full)
    if scheme == "file":
        return LocalStore(file_path(url, rest), url, cache, in_full)
    if is_registry(url):
        return open_registry(url, "", cache, in_full)[0]
    from inferry.repository.remote_store import open_remote

    return open_remote(url, scheme, rest, cache, in_full)


def open_registry(url: str, model_name: str, cache: Path | None = None, in_full: bool = False) -> tuple[Store, Scan]:
    """The store at mlflow+http:// or mlflow+https://, and what finds the models in its files. InvalidSettings."""
    try:
        from inferry.repository.mlflow.store import open_mlflow
    except ImportError as exc:
        raise InvalidSettings(
            f"functions have no models from MLflow: put them into the image or a bucket, or use inferry serve ({exc})"
        ) from exc
    store = open_mlflow(url, model_name, cache, in_full)
    return store, store.scan


def open_file(url: str, cache: Path | None = None, in_full: bool = False) -> Store:
    """The store that holds a single .onnx file, at a path or a URL as those of `open_store`."""
    scheme, separator, rest = url.partition("://")
    if not separator or scheme == "file":
        return LocalFile(file_path(url, rest) if separator else Path(url), url, cache, in_full)
    folder, _, name = url.rpartition("/")
    return OneFile(open_store(folder, cache, in_full), name)


class LocalStore(LocalFiles):
    """The models of a folder, which no link leads out of."""

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

    def locate(self, path: str) -> Path:
        """The file's real path, which is inside the root."""
        if is_plain(path):
            real = real_path(self._root / path)
            if real.is_relative_to(real_path(self._root)) and real.is_file():
                return real
        raise StoreError(f"{self.url}: there is no file {path!r}")

    def _path(self, path: str) -> str:
        return str(self.locate(path))

    def read(self, path: str, limit: int | None = None) -> bytes:
        return there(super().read(path, limit), path, self.url)


class OneFile:
    """A store that shows one flat model of another, its config, and what lies beside it."""

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
        own = (self._name, _config_of(self._name))
        return [file for file in found if file.path in own or _may_be_data(file.path)]


class LocalFile(LocalStore):
    """One flat model, its config, and what lies beside it: whoever names a file means it, wherever its links lead.

    Model hubs keep files under names of their digest, and show them through links.
    """

    def __init__(self, path: Path, url: str, cache: Path | None = None, in_full: bool = False) -> None:
        super().__init__(path.parent, url, cache, in_full)
        self._name = path.name

    def list(self) -> Listing:
        with translated(f"can't list {self._root}", (OSError,)):
            paths = sorted(self._root.iterdir()) if self._root.is_dir() else []
            found = [file for path in paths if is_plain(path.name) and (file := stored_at(path.name, path))]
            config = _config_of(self._name)
            beside = stored_at(config, self._root / config)
        if not any(file.path == self._name for file in found):
            raise StoreError(f"there is no file {self.url}{_leads(self._root / self._name)}")
        own = [file for file in found if file.path == self._name or _may_be_data(file.path)]
        return [*own, beside] if beside else own

    def locate(self, path: str) -> Path:
        if is_plain(path) and (real := real_path(self._root / path)).is_file():
            return real
        raise StoreError(f"there is no file {self._root / path}")


def _config_of(name: str) -> str:
    """Where the config of a flat file lies, as in a repository."""
    return f"{name.removesuffix('.onnx')}/{CONFIG_FILE}"


def _may_be_data(path: str) -> bool:
    return "/" not in path and not path.endswith(".onnx")


def _leads(path: Path) -> str:
    return f": it is a link to {path.readlink()}, which does not exist" if path.is_symlink() else ""

"""The files that batch jobs read and write, by URL: those of a folder here, the others in `objects`."""

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Protocol, TypeAlias, TypeVar, cast

from inferry.errors import InvalidRequest, StoreError
from inferry.storage.local import Folder, file_path
from inferry.storage.stored import Listing, StoredFile, is_plain, translated

HIDDEN = ".inferry"
"""Where unfinished work is kept, below the folder of the results; no listing shows it."""

TEMPORARY = "writing-"
ABANDONED = 24 * 60 * 60
RACES = 20
T = TypeVar("T")
_ABSENT = (FileNotFoundError, NotADirectoryError)

Paths: TypeAlias = list[str]
"""A name for the type, because `list` is a method below."""


class Files(Protocol):
    """The files below a folder or a prefix, by their paths relative to it; StoreError when the store fails."""

    url: str

    def list(self) -> Listing:
        """Every file, sorted by path; hidden ones (a part starts with ".") and unsafe names are left out."""

    def below(self, folder: str) -> Paths:
        """The paths of the files in a hidden folder of ours."""

    def stat(self, path: str) -> StoredFile | None:
        """The file as it is now, None when there is none."""

    def open(self, file: StoredFile) -> BinaryIO:
        """Its bytes, seekable; reading fails with StoreError once the file is another."""

    def read(self, path: str) -> bytes | None:
        """The content of a small file, None when there is none."""

    def write(self, path: str) -> AbstractContextManager[BinaryIO]:
        """A file to write to: what was written replaces `path` at once when the block ends, and never if it raises."""

    def create(self, path: str, content: bytes) -> bool:
        """Writes a small file, whole or not at all, unless there is one of this path: False then."""

    def delete(self, paths: Iterable[str]) -> None:
        """Removes files; those that are gone already are no error."""


def open_files(url: str) -> Files:
    """The files at a local folder, file:///folder, s3://bucket/prefix, az://, gs:// or memory://.

    InvalidSettings when the URL names no store. Credentials as for `store.open_store`.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        return LocalFiles(Path(url or "."), url)
    if scheme == "file":
        return LocalFiles(file_path(url, rest), url)
    from inferry.storage.objects import open_remote_files

    return open_remote_files(url, scheme, rest)


def split(url: str) -> tuple[str, str]:
    """A file's URL as that of its folder and its name."""
    scheme, separator, rest = url.rpartition("://")
    folder, slash, name = rest.rpartition("/")
    return f"{scheme}{separator}{folder}{slash}", name


def keep_apart(source: str, target: str) -> None:
    """InvalidRequest when files written below `target` would be found below `source`: results would become inputs."""
    if is_inside(target, source):
        raise InvalidRequest(
            f"the output {target} is inside of the input {source}: its results would be read as input again; "
            "name a folder beside it"
        )


def is_inside(url: str, folder: str) -> bool:
    """Whether one place is the other, or below it."""
    return _place(url).startswith(_place(folder))


def _place(url: str) -> str:
    """The same for all ways to write a folder's place."""
    scheme, separator, rest = url.partition("://")
    if not separator or scheme == "file":
        rest = os.path.realpath(file_path(url, rest) if separator else url)
    return f"{scheme if separator else 'file'}://{rest.strip('/')}/"


class LocalFiles:
    """The files below a folder, which is made when the first is written."""

    def __init__(self, root: Path, url: str) -> None:
        self.url = url
        self._root = root.absolute()

    def list(self) -> Listing:
        return Folder(self._root, self.url).list()

    def below(self, folder: str) -> Paths:
        with translated(f"can't list {self.url}", (OSError,)), suppress(FileNotFoundError, NotADirectoryError):
            return sorted(f"{folder}/{entry.name}" for entry in self._path(folder).iterdir())
        return []

    def stat(self, path: str) -> StoredFile | None:
        with translated(f"can't read {path!r} in {self.url}", (OSError,)), suppress(*_ABSENT):
            found = self._path(path)
            return _stored(path, found.stat()) if found.is_file() else None
        return None

    def open(self, file: StoredFile) -> BinaryIO:
        with translated(f"can't read {file.path!r} in {self.url}", (OSError,)):
            opened = self._path(file.path).open("rb", buffering=0)
            if _stored(file.path, os.fstat(opened.fileno())) != file:
                opened.close()
                raise StoreError(f"{file.path!r} in {self.url} was replaced meanwhile")
            return cast("BinaryIO", opened)

    def read(self, path: str) -> bytes | None:
        with translated(f"can't read {path!r} in {self.url}", (OSError,)), suppress(*_ABSENT):
            return self._path(path).read_bytes()
        return None

    @contextmanager
    def write(self, path: str) -> Iterator[BinaryIO]:
        with translated(f"can't write {path!r} in {self.url}", (OSError,)), self._temporary() as (temporary, file):
            with file:
                yield file
            _in_folder(self._path(path), temporary.replace)

    def create(self, path: str, content: bytes) -> bool:
        with translated(f"can't write {path!r} in {self.url}", (OSError,)), self._temporary() as (temporary, file):
            with file:
                file.write(content)
            try:
                # Fails, unlike a rename, when there is one.
                _in_folder(self._path(path), lambda target: target.hardlink_to(temporary))
            except FileExistsError:
                return False
            return True

    def delete(self, paths: Iterable[str]) -> None:
        ours = True
        with translated(f"can't delete in {self.url}", (OSError,)):
            for path in paths:
                ours &= path.startswith(HIDDEN)
                self._path(path).unlink(missing_ok=True)
                self._remove_empty(self._path(path).parent)
            if ours:
                self._remove_empty(self._root / HIDDEN)

    def _path(self, path: str) -> Path:
        if not is_plain(path.removeprefix(f"{HIDDEN}/")):
            raise StoreError(f"{path!r} can't be the name of a file in {self.url}")
        return self._root / path

    def _remove_empty(self, folder: Path) -> None:
        """Removes our hidden folders with their last file."""
        with suppress(OSError):
            while folder.is_relative_to(self._root / HIDDEN):
                folder.rmdir()
                folder = folder.parent

    @contextmanager
    def _temporary(self) -> Iterator[tuple[Path, BinaryIO]]:
        """A new file on the same disk as what it will be renamed to; nothing is there afterwards."""
        folder = self._root / HIDDEN
        path = folder / f"{TEMPORARY}{os.urandom(8).hex()}"
        file = _in_folder(path, lambda path: path.open("xb"))
        _sweep(folder)
        try:
            yield path, file
        finally:
            file.close()
            path.unlink(missing_ok=True)


def _in_folder(path: Path, make: Callable[[Path], T]) -> T:
    """What `make` returns, in a folder that is there: other workers remove it when they have nothing left in it."""
    for _ in range(RACES):
        with suppress(FileNotFoundError):
            return make(path)
        with suppress(FileExistsError, FileNotFoundError):
            path.parent.mkdir(parents=True, exist_ok=True)
    return make(path)


def _sweep(folder: Path) -> None:
    """Removes what killed processes left behind."""
    for left in folder.glob(f"{TEMPORARY}*"):
        # It is gone already, or somebody else's: what is written now is no worse for that.
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > ABANDONED:
                left.unlink()


def _stored(path: str, found: os.stat_result) -> StoredFile:
    return StoredFile(path, found.st_size, f"{found.st_size}-{found.st_mtime_ns}-{found.st_ino}")

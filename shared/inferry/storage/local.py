"""The files of a local folder, and what its links lead to."""

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, TypeVar, cast

from inferry.errors import InvalidSettings, StoreError
from inferry.storage.stored import HIDDEN, Listing, Paths, StoredFile, is_plain, limited, translated

TEMPORARY = "writing-"
ABANDONED = 24 * 60 * 60
RACES = 20
T = TypeVar("T")
_ABSENT = (FileNotFoundError, NotADirectoryError)


class LocalFiles:
    """`files.Files` of a folder, which is made when the first is written.

    A listing follows symbolic links as long as they stay inside of it; a file that is asked for may be any link.
    """

    def __init__(self, root: Path, url: str) -> None:
        self.url = url
        self.left_out: Sequence[str] = ()
        self._root = root.absolute()

    def list(self) -> Listing:
        if not self._root.is_dir():
            what = "is not a folder" if self._root.exists() else "does not exist"
            raise StoreError(f"{self._root} {what}: name the folder with the models, or an .onnx file")
        with translated(f"can't list {self.url}", (OSError,)):
            root = real_path(self._root)
            left_out: list[str] = []
            found = sorted(_walk(root, "", (root,), left_out), key=lambda file: file.path)
        self.left_out = sorted(left_out)
        return found

    def below(self, folder: str) -> Paths:
        with translated(f"can't list {self.url}", (OSError,)), suppress(FileNotFoundError, NotADirectoryError):
            return sorted(f"{folder}/{entry.name}" for entry in self._path(folder).iterdir())
        return []

    def stat(self, path: str) -> StoredFile | None:
        with translated(f"can't read {path!r} in {self.url}", (OSError,)), suppress(*_ABSENT):
            found = self._path(path)
            return stored(path, found.stat()) if found.is_file() else None
        return None

    def open(self, file: StoredFile) -> BinaryIO:
        with translated(f"can't read {file.path!r} in {self.url}", (OSError,)):
            opened = self._path(file.path).open("rb", buffering=0)
            if stored(file.path, os.fstat(opened.fileno())) != file:
                opened.close()
                raise StoreError(f"{file.path!r} in {self.url} was replaced meanwhile")
            return cast("BinaryIO", opened)

    def read(self, path: str, limit: int | None = None) -> bytes | None:
        failed = translated(f"can't read {path!r} in {self.url}", (OSError,))
        with failed, suppress(*_ABSENT), self._path(path).open("rb") as file:
            return limited(file.read(-1 if limit is None else limit + 1), limit, self._root / path)
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


def file_path(url: str, rest: str) -> Path:
    """The path that a file:// URL names; `rest` is what follows ://."""
    from urllib.parse import unquote

    if not rest.startswith("/"):
        raise InvalidSettings(f"{url}: expected file:///folder, with three slashes")
    return Path(unquote(rest))


def real_path(path: Path) -> Path:
    """Without symbolic links; Path.resolve() raises RuntimeError for a link to itself before Python 3.13."""
    return Path(os.path.realpath(path))


def _walk(folder: Path, prefix: str, parents: tuple[Path, ...], left_out: list[str]) -> Iterator[StoredFile]:
    """The files below a real folder; `parents` are the real folders on the way to it, the root first."""
    with os.scandir(folder) as entries:
        for entry in entries:
            path = prefix + entry.name
            if not is_plain(path):
                continue
            real = real_path(Path(entry.path)) if entry.is_symlink() else folder / entry.name
            if entry.is_symlink() and (problem := _bad_link(real, parents)):
                left_out.append(f"{path} is a link {problem}")
            elif real.is_dir():
                if real not in parents:
                    yield from _walk(real, f"{path}/", (*parents, real), left_out)
            elif file := stored_at(path, real):
                yield file


def _bad_link(real: Path, parents: tuple[Path, ...]) -> str:
    """What is wrong with a link to `real`; empty when nothing is."""
    if not real.is_relative_to(parents[0]):
        return "that leads out of the repository"
    if real in parents:
        return "to a folder that it lies in"
    return "" if real.exists() else "to a file that does not exist"


def is_safe(path: Path) -> bool:
    """Whether nobody writes the files there: a read-only mount, as a function's image is.

    Others are inferry's cache, and forms that it prepared, in folders named by their digest.
    """
    return bool(os.statvfs(path).f_flag & os.ST_RDONLY)


def sha256_of(path: Path) -> str:
    """A file's SHA-256 in hex. OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _in_folder(path: Path, make: Callable[[Path], T]) -> T:
    """What `make` returns, in a folder that is there: other workers remove it when they have nothing left in it."""
    for _ in range(RACES):
        with suppress(FileNotFoundError):
            return make(path)
        with suppress(FileExistsError, FileNotFoundError):
            _make_folder(path.parent)
    return make(path)


def _make_folder(path: Path) -> None:
    """Makes a folder and those above it. `Path.mkdir(parents=True)` calls itself for each, and 1,000 are too many."""
    missing = []
    while not path.is_dir():
        missing.append(path)
        path = path.parent
    for folder in reversed(missing):
        with suppress(FileExistsError):
            folder.mkdir()


def _sweep(folder: Path) -> None:
    """Removes temporary files that killed processes left behind."""
    for left in folder.glob(f"{TEMPORARY}*"):
        # It is gone already, or somebody else's: what is written now is no worse for that.
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > ABANDONED:
                left.unlink()


def stored_at(path: str, real: Path) -> StoredFile | None:
    """The file at a real path, None when there is none."""
    with suppress(FileNotFoundError):
        if real.is_file():
            return stored(path, real.stat())
    return None


def stored(path: str, found: os.stat_result) -> StoredFile:
    return StoredFile(path, found.st_size, f"{found.st_size}-{found.st_mtime_ns}-{found.st_ino}")

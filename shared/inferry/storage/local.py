"""The files of a local folder, and what its links lead to.

Paths are texts where every file of a job passes: pathlib took a sixth of the time of a small one.
"""

import errno
import hashlib
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO, TypeVar, cast

from inferry.errors import InvalidSettings, StoreError
from inferry.storage.stored import HIDDEN, Listing, Paths, StoredFile, is_plain, limited, translated

TEMPORARY = "writing-"
ABANDONED = 24 * 60 * 60
RACES = 20
T = TypeVar("T")
_ABSENT = (FileNotFoundError, NotADirectoryError)
# What stat says of a link to itself besides.
_NOWHERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


class LocalFiles:
    """`files.Files` of a folder, which is made when the first is written.

    A listing follows symbolic links as long as they stay inside of it; a file that is asked for may be any link.
    """

    def __init__(self, root: str | Path, url: str) -> None:
        self.url = url
        self.left_out: Sequence[str] = ()
        self._folder = os.path.join(os.getcwd(), root)

    def list(self) -> Listing:
        if not os.path.isdir(self._folder):
            what = "is not a folder" if os.path.exists(self._folder) else "does not exist"
            raise StoreError(f"{self._root} {what}: name the folder with the models, or an .onnx file")
        with translated(f"can't list {self.url}", (OSError,)):
            root = os.path.realpath(self._folder)
            left_out: list[str] = []
            found = sorted(_walk(root, "", (root,), left_out), key=lambda file: file.path)
        self.left_out = sorted(left_out)
        return found

    def scan(self) -> Listing:
        return self.list()

    def below(self, folder: str) -> Paths:
        with translated(f"can't list {self.url}", (OSError,)), suppress(*_ABSENT):
            return sorted(f"{folder}/{name}" for name in os.listdir(self._path(folder)))
        return []

    def stat(self, path: str) -> StoredFile | None:
        with translated(f"can't read {path!r} in {self.url}", (OSError,)):
            return stored_at(path, self._path(path))

    def open(self, file: StoredFile) -> BinaryIO:
        with translated(f"can't read {file.path!r} in {self.url}", (OSError,)):
            opened = open(self._path(file.path), "rb", buffering=0)  # noqa: SIM115
            if stored(file.path, os.fstat(opened.fileno())) != file:
                opened.close()
                raise StoreError(f"{file.path!r} in {self.url} was replaced meanwhile")
            return cast("BinaryIO", opened)

    def read(self, path: str, limit: int | None = None) -> bytes | None:
        failed = translated(f"can't read {path!r} in {self.url}", (OSError,))
        with failed, suppress(*_ABSENT), open(self._path(path), "rb") as file:
            return limited(file.read(-1 if limit is None else limit + 1), limit, self._root / path)
        return None

    @contextmanager
    def write(self, path: str) -> Iterator[BinaryIO]:
        with translated(f"can't write {path!r} in {self.url}", (OSError,)), self._temporary() as (temporary, file):
            with file:
                yield file
            _in_folder(self._path(path), partial(os.replace, temporary))

    def create(self, path: str, content: bytes) -> bool:
        with translated(f"can't write {path!r} in {self.url}", (OSError,)), self._temporary() as (temporary, file):
            with file:
                file.write(content)
            try:
                # Fails, unlike a rename, when there is one.
                _in_folder(self._path(path), partial(os.link, temporary))
            except FileExistsError:
                return False
            return True

    def delete(self, paths: Iterable[str]) -> None:
        ours = True
        with translated(f"can't delete in {self.url}", (OSError,)):
            for path in paths:
                ours &= path.startswith(HIDDEN)
                found = self._path(path)
                with suppress(FileNotFoundError):
                    os.unlink(found)
                self._remove_empty(os.path.dirname(found))
            if ours:
                self._remove_empty(self._hidden)

    @contextmanager
    def kept_folder(self) -> Iterator[None]:
        """Inside, the hidden folder stays, which each write would make and each job remove.

        ext4 gives the number of a file that was removed in the last seconds to no other, and looks at all of these
        whenever it makes one: 10,000 small jobs took twice the time.
        """
        with ExitStack() as stack:
            stack.callback(self._remove_empty, self._hidden)
            # Where nothing can be written, whoever needs to will say so.
            with suppress(OSError):
                stack.enter_context(self._temporary())
            yield

    def _path(self, path: str) -> str:
        if not is_plain(path.removeprefix(f"{HIDDEN}/")):
            raise StoreError(f"{path!r} can't be the name of a file in {self.url}")
        return f"{self._folder}/{path}"

    @property
    def _root(self) -> Path:
        return Path(self._folder)

    @property
    def _hidden(self) -> str:
        return f"{self._folder}/{HIDDEN}"

    def _remove_empty(self, folder: str) -> None:
        """Removes our hidden folders with their last file."""
        with suppress(OSError):
            while f"{folder}/".startswith(f"{self._hidden}/"):
                os.rmdir(folder)
                folder = os.path.dirname(folder)

    @contextmanager
    def _temporary(self) -> Iterator[tuple[str, BinaryIO]]:
        """A new file on the same disk as what it will be renamed to; nothing is there afterwards."""
        path = f"{self._hidden}/{TEMPORARY}{os.urandom(8).hex()}"
        file = _in_folder(path, lambda path: open(path, "xb"))  # noqa: SIM115
        _sweep(self._hidden)
        try:
            yield path, file
        finally:
            file.close()
            with suppress(FileNotFoundError):
                os.unlink(path)


def file_path(url: str, rest: str) -> Path:
    """The path that a file:// URL names; `rest` is what follows ://."""
    from urllib.parse import unquote

    if not rest.startswith("/"):
        raise InvalidSettings(f"{url}: expected file:///folder, with three slashes")
    return Path(unquote(rest))


def real_path(path: Path) -> Path:
    """Without symbolic links; Path.resolve() raises RuntimeError for a link to itself before Python 3.13."""
    return Path(os.path.realpath(path))


def _walk(folder: str, prefix: str, parents: tuple[str, ...], left_out: list[str]) -> Iterator[StoredFile]:
    """The files below a real folder; `parents` are the real folders on the way to it, the root first."""
    with os.scandir(folder) as entries:
        for entry in entries:
            path = prefix + entry.name
            if not is_plain(path):
                continue
            is_link = entry.is_symlink()
            real = os.path.realpath(entry.path) if is_link else entry.path
            if is_link and (problem := _bad_link(real, parents)):
                left_out.append(f"{path} is a link {problem}")
            elif os.path.isdir(real) if is_link else entry.is_dir():
                if real not in parents:
                    yield from _walk(real, f"{path}/", (*parents, real), left_out)
            elif file := stored_at(path, real):
                yield file


def _bad_link(real: str, parents: tuple[str, ...]) -> str:
    """What is wrong with a link to `real`; empty when nothing is."""
    if not f"{real}/".startswith(f"{parents[0].rstrip('/')}/"):
        return "that leads out of the repository"
    if real in parents:
        return "to a folder that it lies in"
    return "" if os.path.exists(real) else "to a file that does not exist"


def is_safe(path: Path) -> bool:
    """Whether nobody writes the files there: a read-only mount, as a function's image is.

    Others are inferry's cache, and forms that it prepared, in folders named by their digest.
    """
    return bool(os.statvfs(path).f_flag & os.ST_RDONLY)


def sha256_of(path: Path) -> str:
    """A file's SHA-256 in hex. OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _in_folder(path: str, make: Callable[[str], T]) -> T:
    """What `make` returns, in a folder that is there: other workers remove it when they have nothing left in it."""
    for _ in range(RACES):
        with suppress(FileNotFoundError):
            return make(path)
        with suppress(FileExistsError, FileNotFoundError):
            _make_folder(Path(path).parent)
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


def _sweep(folder: str) -> None:
    """Removes temporary files that killed processes left behind."""
    # The folder or the file is gone already, or somebody else's: what is written now is no worse for that.
    with suppress(OSError):
        for name in os.listdir(folder):
            with suppress(OSError):
                left = f"{folder}/{name}"
                if name.startswith(TEMPORARY) and time.time() - os.stat(left).st_mtime > ABANDONED:
                    os.unlink(left)


def stored_at(path: str, real: str | Path) -> StoredFile | None:
    """The file at a place on disk, None when there is none."""
    try:
        found = os.stat(real)
    except OSError as exc:
        if exc.errno in _NOWHERE:
            return None
        raise
    return stored(path, found) if stat.S_ISREG(found.st_mode) else None


def stored(path: str, found: os.stat_result) -> StoredFile:
    return StoredFile(path, found.st_size, f"{found.st_size}-{found.st_mtime_ns}-{found.st_ino}")

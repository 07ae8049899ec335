"""Where prepared versions go: a folder, or a bucket. Each version appears whole, and none is ever half written."""

import ctypes
import fcntl
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from shutil import copyfileobj, disk_usage, rmtree
from typing import Protocol

from inferry.errors import InvalidRequest
from inferry.repository.layout import MANIFEST
from inferry.repository.manifest import FormFile
from inferry.storage import files
from inferry.storage.local import file_path, sha256_of
from inferry.storage.stored import translated

# Hidden: no listing of a repository shows it.
TEMPORARY = ".prepare-"
# Of <fcntl.h> and <linux/fs.h>.
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


class Output(Protocol):
    """The repository that prepared models are written to."""

    url: str

    def manifest(self, folder: str) -> bytes | None:
        """The manifest in a version's folder."""

    def has(self, folder: str, wanted: Mapping[str, FormFile]) -> bool:
        """Whether a version's folder has these files, by their paths in it, and as they have to be."""

    def free(self) -> int | None:
        """Bytes that there are for it, where that is known."""

    def staged(self) -> AbstractContextManager[Path]:
        """A folder to prepare versions in, which is gone afterwards."""

    def publish(self, staged: Path, folder: str, kept: Sequence[str]) -> Path | None:
        """Puts a version's folder in its place, with those files that are `kept` of what is there; where it is now, on
        this machine."""

    def write_config(self, path: str, content: bytes) -> bool:
        """Writes a config.json, or a label file; whether it was another."""


def open_output(url: str, source: str) -> "LocalOutput | BucketOutput":
    """The folder or bucket at a URL. InvalidRequest when it is the source, or one is inside of the other."""
    if files.is_inside(url, source) or files.is_inside(source, url):
        raise InvalidRequest(
            f"{url} and {source} are one place, or one lies in the other: name a folder beside it for what is prepared"
        )
    scheme, separator, rest = url.partition("://")
    if separator and scheme != "file":
        return BucketOutput(url)
    return LocalOutput(file_path(url, rest) if separator else Path(url), url)


class LocalOutput:
    """A folder, which is made when there is something to put into it."""

    def __init__(self, root: Path, url: str) -> None:
        self.url = url
        self._root = root.absolute()

    def manifest(self, folder: str) -> bytes | None:
        with suppress(FileNotFoundError, NotADirectoryError):
            return (self._root / folder / MANIFEST).read_bytes()
        return None

    def has(self, folder: str, wanted: Mapping[str, FormFile]) -> bool:
        with translated(f"can't read {folder} in {self.url}", (OSError,)):
            try:
                return all(sha256_of(self._root / folder / name) == file.sha256 for name, file in wanted.items())
            except (FileNotFoundError, NotADirectoryError):
                return False

    def free(self) -> int | None:
        existing = next(folder for folder in (self._root, *self._root.parents) if folder.exists())
        return disk_usage(existing).free

    @contextmanager
    def staged(self) -> Iterator[Path]:
        with translated(f"can't write to {self.url}", (OSError,)):
            self._root.mkdir(parents=True, exist_ok=True)
            lock = os.open(self._root, os.O_RDONLY)
            try:
                self._take(lock)
                # Nobody else is at work: these are of processes that were killed.
                for left in self._root.glob(f"{TEMPORARY}*"):
                    rmtree(left, ignore_errors=True)
                with tempfile.TemporaryDirectory(prefix=TEMPORARY, dir=self._root) as temporary:
                    yield Path(temporary)
            finally:
                os.close(lock)

    def _take(self, lock: int) -> None:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise InvalidRequest(f"another `inferry prepare` writes to {self.url}: wait for its end") from exc

    def publish(self, staged: Path, folder: str, kept: Sequence[str]) -> Path | None:
        final = self._root / folder
        with translated(f"can't write {folder} to {self.url}", (OSError,)):
            for path in kept:
                (staged / path).parent.mkdir(exist_ok=True)
                with suppress(FileExistsError):  # kinds of CPU whose forms are the same
                    (staged / path).hardlink_to(final / path)
            final.parent.mkdir(exist_ok=True)
            if final.exists():
                # What was there is in the folder for what is unfinished now, and goes with it.
                _exchange(staged, final)
            else:
                staged.rename(final)
        return final

    def write_config(self, path: str, content: bytes) -> bool:
        target = self._root / path
        with translated(f"can't write {path} to {self.url}", (OSError,)):
            with suppress(FileNotFoundError):
                if target.read_bytes() == content:
                    return False
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary = target.with_name(f"{TEMPORARY}{os.urandom(8).hex()}")
            temporary.write_bytes(content)
            temporary.replace(target)
        return True


def _exchange(one: Path, other: Path) -> None:
    """Exchanges two folders at once, so that there is one at every moment."""
    names = (os.fsencode(one), os.fsencode(other))
    try:
        failed = ctypes.CDLL(None, use_errno=True).renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE)
    except AttributeError:  # another system
        failed = -1
    if failed:
        # A disk that can't do it, a share say: there is a moment in which the version is missing.
        aside = one.with_name(f"{one.name}-before")
        other.rename(aside)
        one.rename(other)


class BucketOutput:
    """A bucket: prepared.json comes last, and what it names is there by then."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._files = files.open_files(url)

    def manifest(self, folder: str) -> bytes | None:
        return self._files.read(f"{folder}/{MANIFEST}")

    def has(self, folder: str, wanted: Mapping[str, FormFile]) -> bool:
        # Nobody reads hundreds of megabytes to see that they need not be written: names and sizes have to do.
        there = {file.path: file.size for file in self._files.list() if file.path.startswith(f"{folder}/")}
        return all(there.get(f"{folder}/{name}") == file.size for name, file in wanted.items())

    def free(self) -> int | None:
        return None

    @contextmanager
    def staged(self) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="inferry-prepare-") as temporary:
            yield Path(temporary)

    def publish(self, staged: Path, folder: str, kept: Sequence[str]) -> Path | None:
        wanted = {str(path.relative_to(staged)): path for path in sorted(staged.rglob("*")) if path.is_file()}
        there = {file.path: file for file in self._files.list() if file.path.startswith(f"{folder}/")}
        last = wanted.pop(MANIFEST)
        for name, path in wanted.items():
            found = there.pop(f"{folder}/{name}", None)
            # A form's folder is named by what is in it.
            if "/" in name and found is not None and found.size == path.stat().st_size:
                continue
            self._write(f"{folder}/{name}", path)
        self._write(f"{folder}/{MANIFEST}", last)
        stays = {f"{folder}/{name}" for name in (MANIFEST, *kept)}
        self._files.delete([path for path in there if path not in stays])
        return None

    def _write(self, path: str, source: Path) -> None:
        with source.open("rb") as file, self._files.write(path) as target:
            copyfileobj(file, target, 8 << 20)

    def write_config(self, path: str, content: bytes) -> bool:
        if self._files.read(path) == content:
            return False
        with self._files.write(path) as target:
            target.write(content)
        return True

"""The cache: a folder in which fetched and copied models are kept, each in a folder of its own, whole or not at all.

Several processes may share it. What has not been used for a week goes, and what others need the room of goes sooner:
a model that is loaded needs its files no longer, and whoever finds that they are gone fetches them again.
"""

import errno
import fcntl
import hashlib
import os
import re
import stat
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import copyfileobj, disk_usage, rmtree

from inferry.errors import StoreError
from inferry.runtime import onnx_file
from inferry.storage.stored import StoredFile, VersionFiles, translated

TEMPORARY = ".fetch-"
# Seconds. A download takes less than a day.
ABANDONED = 24 * 60 * 60
UNUSED = 7 * 24 * 60 * 60
# Other things in the folder are not ours.
_KEY = re.compile("[0-9a-f]{64}")
_BLOCK = 1024 * 1024


def default_cache() -> Path:
    """A private folder of this user below the temporary folder; StoreError when others can get in."""
    private = Path(tempfile.gettempdir()) / f"inferry-{os.getuid()}"
    with translated(f"can't keep models in {private}", (OSError,)):
        with suppress(FileExistsError):
            private.mkdir(0o700)
        found = private.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise StoreError(f"{private} isn't a folder of this user with mode 0700: remove it or set another cache")
    return private / "models"


def key(content: object) -> str:
    """The name of a folder of this user's for what `content` stands for."""
    return hashlib.sha256(repr((os.getuid(), content)).encode()).hexdigest()


def is_private(folder: Path, names: Iterable[str]) -> bool:
    """Whether nobody else writes these files: no other user may enter the folder, and none is known by another name."""
    with suppress(FileNotFoundError, NotADirectoryError, PermissionError):
        found = folder.lstat()
        closed = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077
        return closed and all(_is_own((folder / name).lstat()) for name in names)
    return False


def copy(version: VersionFiles, locate: Callable[[str], Path], cache: Path) -> Path:
    """A private folder of the cache with copies of a version's files, made now unless they are there already.

    `locate` gives the path of a file of the version. InvalidModel, StoreError.
    """
    with translated(f"can't copy {version.model} to {cache}", (OSError,)):
        cache.mkdir(0o700, parents=True, exist_ok=True)
        with _alone(cache):
            folder = next((folder for folder in _kept(cache) if _holds(folder, version, locate)), None)
            return folder or _copied(version, locate, cache)


def use(folder: Path, wanted: Mapping[str, StoredFile]) -> bool:
    """Whether all of the files are there; then they have been used now."""
    if not _is_complete(folder, wanted):
        return False
    with suppress(OSError):  # of another user, on a disk for all, say
        os.utime(folder)
    return True


def make_room(cache: Path, wanted: Mapping[str, StoredFile]) -> None:
    """Removes what is old, and of the rest the longest unused until the files fit. StoreError when they never do."""
    _sweep(cache)
    size = sum(file.size for file in wanted.values())
    kept = sorted(_kept(cache), key=_used)
    if size > disk_usage(cache).free + sum(map(_size, kept)):
        raise no_space(cache, wanted)
    for folder in kept:
        if size <= disk_usage(cache).free:
            return
        discard(folder)


@contextmanager
def staged(cache: Path, wanted: Mapping[str, StoredFile]) -> Iterator[Path]:
    """A private folder that nobody reads yet, with room for the files; it is gone afterwards, unless it was published.

    StoreError when there is no space, for `wanted` as it is then.
    """
    cache.mkdir(0o700, parents=True, exist_ok=True)
    make_room(cache, wanted)
    try:
        with tempfile.TemporaryDirectory(prefix=TEMPORARY, dir=cache) as temporary:
            folder = Path(temporary, "files")
            folder.mkdir(0o700)
            yield folder
    except OSError as exc:
        if exc.errno == errno.ENOSPC:
            raise no_space(cache, wanted) from exc
        raise


def grow(cache: Path, wanted: dict[str, StoredFile], files: Mapping[str, StoredFile]) -> dict[str, StoredFile]:
    """Adds to `wanted` what is new in `files`, makes room for it, and returns it."""
    new = {name: file for name, file in files.items() if name not in wanted}
    wanted.update(new)
    make_room(cache, new)
    return new


def write(target: Path, content: memoryview, start: int) -> None:
    """Writes a piece of a file at the offset `start`."""
    descriptor = os.open(target, os.O_WRONLY)
    try:
        while content:
            written = os.pwrite(descriptor, content, start)
            content, start = content[written:], start + written
    finally:
        os.close(descriptor)


def publish(staged: Path, final: Path, wanted: Mapping[str, StoredFile]) -> None:
    """Move `staged` to `final`, unless another process was first."""
    try:
        staged.rename(final)
    except OSError:
        if _is_complete(final, wanted) and is_private(final, wanted):
            return
        # Systems clean their temporary folders file by file: this one lost some.
        with suppress(FileNotFoundError):
            final.rename(staged.with_name("damaged"))
        staged.rename(final)


def no_space(cache: Path, wanted: Mapping[str, StoredFile]) -> StoreError:
    """The error of a cache without room, which says how much is missing."""
    needed, free = sum(file.size for file in wanted.values()), disk_usage(cache).free
    missing = max(needed - free, 0)
    return StoreError(f"no space in {cache}: {needed} bytes are needed, {free} free, {missing} missing")


def not_private(cache: Path) -> str:
    """What to do about a cache whose files others may write."""
    return f"{cache} is on a file system that can't keep folders private (mode 0700): set MODEL_CACHE_DIR to another"


def _is_complete(folder: Path, wanted: Mapping[str, StoredFile]) -> bool:
    with suppress(FileNotFoundError, NotADirectoryError, PermissionError):
        return all((folder / name).stat().st_size == file.size for name, file in wanted.items())
    return False


def _is_own(file: os.stat_result) -> bool:
    return stat.S_ISREG(file.st_mode) and file.st_uid == os.getuid() and file.st_nlink == 1


@contextmanager
def _alone(cache: Path) -> Iterator[None]:
    """Processes that start together take turns: the first makes the copy that all of them use."""
    descriptor = os.open(cache, os.O_RDONLY)
    try:
        with suppress(OSError):  # a disk without locks may get a copy more
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _holds(folder: Path, version: VersionFiles, locate: Callable[[str], Path]) -> bool:
    """Whether the version's files are there; then they have been used now."""
    onnx = version.onnx
    if not _is_same(folder / version.model, locate(onnx.path)):
        return False
    wanted = version.named(onnx_file.read(folder / version.model).locations)
    same = all(_is_same(folder / name, locate(file.path)) for name, file in wanted.items())
    return same and is_private(folder, wanted) and use(folder, {})


def _is_same(kept: Path, original: Path) -> bool:
    with suppress(FileNotFoundError, NotADirectoryError, PermissionError):
        if kept.stat().st_size == original.stat().st_size:
            with kept.open("rb") as one, original.open("rb") as other:
                while block := one.read(_BLOCK):
                    if block != other.read(_BLOCK):
                        return False
                return True
    return False


def _copied(version: VersionFiles, locate: Callable[[str], Path], cache: Path) -> Path:
    wanted = {version.model: version.onnx}
    with staged(cache, wanted) as folder:
        clone(locate(version.onnx.path), folder / version.model)
        for name, file in grow(cache, wanted, version.named(onnx_file.read(folder / version.model).locations)).items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            clone(locate(file.path), folder / name)
        final = cache / key(os.urandom(32))
        publish(folder, final, {})
    if not is_private(final, wanted):
        raise StoreError(not_private(cache))
    return final


def clone(original: Path, target: Path) -> None:
    """Makes a copy that shares the disk's blocks until one of both changes, where the file system can do that."""
    with original.open("rb", buffering=0) as source, target.open("xb") as copied:
        with suppress(OSError, AttributeError):  # other disks, other systems: the rest is copied
            while os.copy_file_range(source.fileno(), copied.fileno(), 1 << 30):
                pass
        copyfileobj(source, copied, _BLOCK)


def _kept(cache: Path) -> list[Path]:
    return [folder for folder in cache.iterdir() if _KEY.fullmatch(folder.name)]


def _sweep(cache: Path) -> None:
    """Removes what killed processes left behind, and what nobody uses."""
    now = time.time()
    for folder in list(cache.iterdir()):
        if folder.name.startswith(TEMPORARY) and now - _used(folder) > ABANDONED:
            rmtree(folder, ignore_errors=True)
        elif _KEY.fullmatch(folder.name) and now - _used(folder) > UNUSED:
            discard(folder)


def _used(folder: Path) -> float:
    try:
        return folder.stat().st_mtime
    except FileNotFoundError:  # another process was first
        return time.time()


def _size(folder: Path) -> int:
    size = 0
    with suppress(FileNotFoundError):  # another process removes it
        for file in folder.rglob("*"):
            size += file.stat().st_size
    return size


def discard(folder: Path) -> None:
    """Removes a folder, under another name first: nobody finds half of it."""
    gone = folder.with_name(f"{TEMPORARY}{os.urandom(8).hex()}")
    with suppress(OSError):
        folder.rename(gone)
        rmtree(gone, ignore_errors=True)

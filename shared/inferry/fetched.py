"""The folder in which fetched models are kept, each in a folder of its own: whole, or not there at all.

Several processes may share it. What has not been used for a week goes, and what others need the room of goes sooner:
a model that is loaded needs its files no longer, and whoever finds that they are gone fetches them again.
"""

import errno
import os
import re
import stat
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from shutil import disk_usage, rmtree

from inferry.errors import StoreError
from inferry.store import StoredFile, translated

TEMPORARY = ".fetch-"
# Seconds. A download takes less than a day.
ABANDONED = 24 * 60 * 60
UNUSED = 7 * 24 * 60 * 60
# Other things in the folder are not ours.
_KEY = re.compile("[0-9a-f]{64}")


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


def use(folder: Path, wanted: Mapping[str, StoredFile]) -> bool:
    """Whether all of the files are there; then they have been used now."""
    if not _is_complete(folder, wanted):
        return False
    with suppress(OSError):  # of another user, on a disk for all, say
        os.utime(folder)
    return True


def make_room(cache: Path, wanted: Mapping[str, StoredFile]) -> None:
    """Removes what is old, and of the rest the longest unused until the files fit. OSError when they never do."""
    _sweep(cache)
    size = sum(file.size for file in wanted.values())
    kept = sorted((folder for folder in cache.iterdir() if _KEY.fullmatch(folder.name)), key=_used)
    if size > disk_usage(cache).free + sum(map(_size, kept)):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    for folder in kept:
        if size <= disk_usage(cache).free:
            return
        _remove(folder)


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
        if _is_complete(final, wanted):
            return
        # Systems clean their temporary folders file by file: this one lost some.
        with suppress(FileNotFoundError):
            final.rename(staged.with_name("damaged"))
        staged.rename(final)


def no_space(cache: Path, wanted: Mapping[str, StoredFile]) -> StoreError:
    """Says how much is missing."""
    needed, free = sum(file.size for file in wanted.values()), disk_usage(cache).free
    missing = max(needed - free, 0)
    return StoreError(f"no space in {cache}: {needed} bytes are needed, {free} free, {missing} missing")


def _is_complete(folder: Path, wanted: Mapping[str, StoredFile]) -> bool:
    with suppress(FileNotFoundError, NotADirectoryError):
        return all((folder / name).stat().st_size == file.size for name, file in wanted.items())
    return False


def _sweep(cache: Path) -> None:
    """Removes what killed processes left behind, and what nobody uses."""
    now = time.time()
    for folder in list(cache.iterdir()):
        if folder.name.startswith(TEMPORARY) and now - _used(folder) > ABANDONED:
            rmtree(folder, ignore_errors=True)
        elif _KEY.fullmatch(folder.name) and now - _used(folder) > UNUSED:
            _remove(folder)


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


def _remove(folder: Path) -> None:
    """Under another name first: nobody finds half of it."""
    gone = folder.with_name(f"{TEMPORARY}{os.urandom(8).hex()}")
    with suppress(OSError):
        folder.rename(gone)
        rmtree(gone, ignore_errors=True)

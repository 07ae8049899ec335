"""SHA-256 of files: of a large one that was hashed before and did not change since, what was found then.

To hash weights of 400 MB takes longer than to map them. So what was found is kept with the file's identity: its inode,
its size, and the times of its last change. A file that is changed in place has another.
"""

import hashlib
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import orjson

from inferry.storage.local import is_safe, sha256_of

# Smaller ones take less time to hash than to look up.
LARGE = 4 * 1024 * 1024
# Two changes within a tick of the file system's clock have one time: a file is left alone for a while first.
_TICK_NS = 20_000_000

# The folder in MODEL_CACHE_DIR, and in SHIPPED of a repository.
FOLDER = "digests"
SHIPPED = ".inferry"


class Digest(NamedTuple):
    """`hashed`: the file's content was hashed now; else its identity was compared."""

    sha256: str
    hashed: bool


class Digests:
    """What is known of files that nobody changes while they are in use."""

    def __init__(self, cache: Path | None = None, in_full: bool = False, root: Path | None = None) -> None:
        """`cache`: the folder whose `digests` it keeps, else the user's own; `in_full`: hash all of them again.

        `root`: a repository on a read-only mount, which may bring what was found when it was made.
        """
        self._cache = cache
        self._in_full = in_full
        self._root = root

    @property
    def in_full(self) -> bool:
        """Whether all files are hashed again, whatever is known of them."""
        return self._in_full

    def of(self, path: Path) -> Digest:
        """The file's SHA-256 in hex. OSError."""
        before = path.stat()
        if before.st_size < LARGE:
            return Digest(sha256_of(path), True)
        if not self._in_full and self._root and (known := _shipped(self._root, path, before.st_size)):
            return Digest(known, False)
        kept = self._kept(path)
        if not self._in_full and (known := _known(kept, before)):
            return Digest(known, False)
        hashed_at, found = time.time_ns(), sha256_of(path)
        if _identity(path.stat()) == _identity(before) and hashed_at - before.st_ctime_ns > _TICK_NS:
            _write(kept, before, found)
        return Digest(found, True)

    def keep(self, path: Path, found: os.stat_result, sha256: str) -> None:
        """Remembers what a file had that was hashed elsewhere, and was moved to `path` since."""
        if found.st_size >= LARGE:
            _write(self._kept(path), found, sha256)

    def _kept(self, path: Path) -> Path:
        from inferry.repository import model_cache

        folder = (self._cache or model_cache.default_cache()) / FOLDER
        return folder / f"{model_cache.key(os.path.realpath(path))}.json"


def ship(root: Path) -> None:
    """Hashes the large files of a repository that goes into an image, and leaves what was found in it. OSError."""
    for path in [path for path in sorted(root.rglob("*")) if path.is_file() and path.stat().st_size >= LARGE]:
        record = _record(root, path)
        record.parent.mkdir(parents=True, exist_ok=True)
        record.write_bytes(orjson.dumps({"size": path.stat().st_size, "sha256": sha256_of(path)}))


def _shipped(root: Path, path: Path, size: int) -> str:
    """What an image brings of a file of this size: inode and times are others in each place that it is unpacked."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        values = orjson.loads(_record(root, path).read_bytes())
        if values["size"] == size and is_safe(path):
            return str(values["sha256"])
    return ""


def _record(root: Path, path: Path) -> Path:
    name = hashlib.sha256(path.relative_to(root).as_posix().encode()).hexdigest()
    return root / SHIPPED / FOLDER / f"{name}.json"


def _identity(found: os.stat_result) -> list[int]:
    return [found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns]


def _known(kept: Path, found: os.stat_result) -> str:
    """Empty when there is none, or when others may write what is there."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        status = kept.stat()
        if status.st_uid == os.getuid() and not status.st_mode & 0o022:
            values = orjson.loads(kept.read_bytes())
            if values["identity"] == _identity(found):
                return str(values["sha256"])
    return ""


def _write(kept: Path, found: os.stat_result, sha256: str) -> None:
    # A disk may be full, or read-only: the next process hashes again.
    with suppress(OSError):
        kept.parent.mkdir(0o700, parents=True, exist_ok=True)
        temporary = kept.parent / f".{os.urandom(8).hex()}"
        temporary.touch(0o600)
        temporary.write_bytes(orjson.dumps({"identity": _identity(found), "sha256": sha256}))
        temporary.replace(kept)

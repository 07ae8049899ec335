"""A local folder: its files, and what its links lead to."""

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from inferry.errors import InvalidSettings, StoreError
from inferry.storage.stored import Listing, StoredFile, is_plain, limited, translated


class Folder:
    """Files below a folder. Symbolic links are followed as long as they stay inside it."""

    def __init__(self, root: Path, url: str) -> None:
        self.url = url
        self.left_out: Sequence[str] = ()
        """What the last listing left out, with the reason."""
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

    def read(self, path: str, limit: int) -> bytes:
        with translated(f"can't read {self.url}", (OSError,)), self.locate(path).open("rb") as file:
            return limited(file.read(limit + 1), limit, self._root / path)

    def locate(self, path: str) -> Path:
        """The file's real path, which is inside the root."""
        if is_plain(path):
            real = real_path(self._root / path)
            if real.is_relative_to(real_path(self._root)) and real.is_file():
                return real
        raise StoreError(f"{self.url}: there is no file {path!r}")


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
            elif file := stored(path, real):
                yield file


def _bad_link(real: Path, parents: tuple[Path, ...]) -> str:
    """What is wrong with a link to `real`."""
    if not real.is_relative_to(parents[0]):
        return "that leads out of the repository"
    if real in parents:
        return "to a folder that it lies in"
    return "" if real.exists() else "to a file that does not exist"


def stored(path: str, real: Path) -> StoredFile | None:
    with suppress(FileNotFoundError):
        if real.is_file():
            found = real.stat()
            return StoredFile(path, found.st_size, f"{found.st_size}-{found.st_mtime_ns}-{found.st_ino}")
    return None

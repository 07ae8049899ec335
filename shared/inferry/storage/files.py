"""Files by URL: the port that models, jobs and their results go through. `local` has folders, `bucket` the others."""

import os
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import BinaryIO, Protocol

from inferry.errors import InvalidRequest
from inferry.storage.local import LocalFiles, file_path
from inferry.storage.stored import Listing, Paths, StoredFile


class Files(Protocol):
    """The files below a folder or a prefix, by their paths relative to it; StoreError when the store fails."""

    url: str
    left_out: Sequence[str]
    """What the last listing left out, with the reason."""

    def list(self) -> Listing:
        """Every file, sorted by path; hidden ones (a part starts with ".") and unsafe names are left out."""

    def scan(self) -> Iterable[StoredFile]:
        """The same in any order, to be read as often as wanted; of a bucket, memory doesn't hold them."""

    def below(self, folder: str) -> Paths:
        """The paths of the files in a hidden folder of ours, in any order; of a bucket, memory doesn't hold them."""

    def stat(self, path: str) -> StoredFile | None:
        """The file as it is now, None when there is none."""

    def open(self, file: StoredFile) -> BinaryIO:
        """Its bytes, seekable; reading fails with StoreError once the file is another."""

    def read(self, path: str, limit: int | None = None) -> bytes | None:
        """The content of a small file, None when there is none; StoreError when it has more than `limit` bytes."""

    def write(self, path: str) -> AbstractContextManager[BinaryIO]:
        """A file to write to: what was written replaces `path` at once when the block ends, and never if it raises."""

    def create(self, path: str, content: bytes) -> bool:
        """Writes a small file, whole or not at all, unless there is one of this path: False then."""

    def delete(self, paths: Iterable[str]) -> None:
        """Removes files; those that are gone already are no error."""


def open_files(url: str) -> Files:
    """The files at a local folder, file:///folder, s3://bucket/prefix, az://, gs:// or memory://.

    Endpoints and credentials come from the environment, as `bucket` says; a memory:// name is one store while the
    process lives. InvalidSettings when the URL names no store.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        return LocalFiles(url, url)
    if scheme == "file":
        return LocalFiles(file_path(url, rest), url)
    from inferry.storage.bucket import open_bucket

    return open_bucket(url, scheme, rest)


def kept_folder(url: str) -> AbstractContextManager[None]:
    """Inside, a local folder keeps the hidden one of unfinished work, which is made and removed for each job else."""
    files = open_files(url)
    return files.kept_folder() if isinstance(files, LocalFiles) else nullcontext()


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

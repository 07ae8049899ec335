"""The files of a store by their names, and which of them are a version's."""

import re
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple, TypeAlias

from inferry.errors import InvalidModel, StoreError

_FOREIGN = r"[\x00-\x1f\x7f\\\ud800-\udfff]"
_LONGEST = 200


class StoredFile(NamedTuple):
    """A file of a store, as a listing tells of it."""

    path: str
    """Relative to the store's root, "/" separated."""
    size: int
    """In bytes."""
    identity: str
    """Changes whenever the content may have changed."""


Listing: TypeAlias = list[StoredFile]
Paths: TypeAlias = Collection[str]
"""Names for the types where `list` is a method."""

HIDDEN = ".inferry"
"""Where unfinished work is kept, below the folder of the results; no listing shows it."""


class VersionFiles(NamedTuple):
    """The ONNX file of a version, `model` below `folder`, and with it all `files` that may hold its external data."""

    folder: str
    model: str
    files: tuple[StoredFile, ...]

    @property
    def paths(self) -> list[str]:
        """The paths of all of the version's files, relative to `folder`."""
        return [file.path[len(self.folder) :].lstrip("/") for file in self.files]

    @property
    def onnx(self) -> StoredFile:
        """The version's ONNX file."""
        path = f"{self.folder}/{self.model}" if self.folder else self.model
        return next(file for file in self.files if file.path == path)

    def of(self, names: Iterable[str]) -> dict[str, StoredFile | None]:
        """The files of these paths below `folder`, None where there is none."""
        files = dict(zip(self.paths, self.files, strict=True))
        return {name: files.get(name) for name in names}

    def named(self, locations: Sequence[str]) -> dict[str, StoredFile]:
        """The ONNX file and its external data, by paths relative to `folder`. InvalidModel names a foreign location."""
        own = {self.model: self.onnx}
        if locations:
            files = dict(zip(self.paths, self.files, strict=True))
            for location in locations:
                name = "/".join(part for part in location.split("/") if part not in ("", "."))
                if location.startswith("/") or name not in files:
                    raise InvalidModel(self._foreign(location))
                own[name] = files[name]
        return own

    def _foreign(self, location: str) -> str:
        where = "in its folder or below" if self.folder else "beside it"
        return (
            f"{self.model} has external data in {location[:_LONGEST]!r}, which is not one of the model's files: the "
            f"name must be relative, without '..', and the file {where}, where no link leads out of the repository"
        )


class translated:
    """Turns `errors` that are raised within into StoreError, whose message begins with `failure`."""

    def __init__(self, failure: str, errors: tuple[type[Exception], ...]) -> None:
        self._failure, self._errors = failure, errors

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, self._errors):
            raise StoreError(f"{self._failure}: {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    """The first line, as obstore adds pages of debug output, and the code in the service's XML."""
    text = str(error)
    code = re.search(r"<Code>(\w+)</Code>", text)
    first = re.split(r"\n|: <\?xml", text, maxsplit=1)[0]
    return f"{first} ({code[1]})" if code else first


def is_plain(path: str) -> bool:
    """Whether a name from a store may become a path on disk: relative, not hidden, climbing nowhere."""
    # Compiling the expression takes as long as looking at a repository of some models.
    if not (path.isascii() and path.isprintable() and "\\" not in path) and re.search(_FOREIGN, path):
        return False
    return all(part and part[0] != "." for part in path.split("/"))


def relative(folder: str, files: Iterable[StoredFile]) -> dict[str, StoredFile]:
    """The files by their paths relative to `folder`."""
    prefix = f"{folder}/" if folder else ""
    wanted = {file.path.removeprefix(prefix): file for file in files if file.path.startswith(prefix)}
    outside = [file.path for file in files if not (file.path.startswith(prefix) and is_plain(file.path))]
    if outside or not wanted:
        raise StoreError(f"can't fetch {folder!r}: no files, or files outside of it: {outside}")
    return wanted


def limited(content: bytes, limit: int | None, path: object) -> bytes:
    """`content`, unless it is longer than `limit` bytes."""
    if limit is not None and len(content) > limit:
        raise StoreError(f"{path} has more than {limit} bytes")
    return content


def there(content: bytes | None, path: str, url: str) -> bytes:
    """The content of a file of a listing. StoreError when it is gone."""
    if content is None:
        raise StoreError(f"there is no file {path!r} in {url}")
    return content

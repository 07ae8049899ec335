"""A version's files, hashed, where nobody changes them: what is served is what was hashed.

ONNX Runtime maps external data into memory, so a file that is overwritten in place would change the weights of a loaded
model, and a file that is cut off would end the process. A file is mapped only where nobody else
writes: see `storage.local.is_safe`.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

from inferry.protocol.signature import Signature
from inferry.runtime import onnx_file
from inferry.runtime.model import ServedForm
from inferry.runtime.onnx_file import ModelFile
from inferry.storage.local import is_safe, sha256_of
from inferry.storage.stored import VersionFiles, translated

# A session made of bytes needs them, and twice as much again, while it is made: a larger file goes through the cache.
IN_MEMORY = 64 * 1024 * 1024

Locate: TypeAlias = Callable[[str], Path]
"""The real path of a store's file; StoreError when there is none."""


class Content(NamedTuple):
    """`model`: the ONNX file, external data beside it, or its bytes; `file`: what it says of itself.

    `names`: paths of all of its files; `size`: their bytes; `digest`: their SHA-256, of a prepared version's `form`
    that of the model that it was made of. `hashed`: all was hashed now, else what is known of the same files was taken.
    `instead` gives a prepared version's next form, to be told why this one can't be loaded; InvalidModel when there is
    none. `agree` compares a registry's words with the model's signature: what differs, for the log; InvalidModel.
    """

    model: Path | bytes
    file: ModelFile
    names: tuple[str, ...]
    size: int
    digest: str
    hashed: bool = True
    form: ServedForm | None = None
    instead: Callable[[str], "Content"] | None = None
    agree: Callable[[Signature], list[str]] | None = None


def hold(
    version: VersionFiles, locate: Locate, cache: Path | None, in_full: bool = False, root: Path | None = None
) -> Content:
    """The content of a version's files: in place, or read, or copied into `cache`. InvalidModel, OSError.

    `in_full`: all is hashed now; `root`: the repository's folder, where an image brings what is known of its files.
    """
    onnx = locate(version.onnx.path)
    if is_safe(onnx):
        file = onnx_file.read(onnx)
        wanted = version.named(file.locations)
        if all(_in_place(onnx.parent / name, locate(file.path)) for name, file in wanted.items()):
            return mapped(onnx, file, tuple(wanted), cache, in_full, root)
    if onnx.stat().st_size <= IN_MEMORY:
        content = onnx.read_bytes()
        file = onnx_file.parse(content, version.model)
        if not file.locations:
            sha256 = hashlib.sha256(content).hexdigest()
            return Content(content, file, (version.model,), len(content), sha256)
    from inferry.repository import model_cache

    folder = model_cache.copy(version, locate, cache or model_cache.default_cache())
    return in_cache(folder, version, cache, in_full)


def in_cache(folder: Path, version: VersionFiles, cache: Path | None, in_full: bool = False) -> Content:
    """The content of a folder of the cache, which is private and holds the version's files."""
    onnx = folder / version.model
    file = onnx_file.read(onnx)
    return mapped(onnx, file, tuple(version.named(file.locations)), cache, in_full)


def mapped(
    onnx: Path,
    file: ModelFile,
    names: tuple[str, ...],
    cache: Path | None = None,
    in_full: bool = True,
    root: Path | None = None,
) -> Content:
    """The content of files that nobody can change, hashed where their digests aren't known."""
    from inferry.repository.digests import Digests

    digests = Digests(cache, in_full, root)
    with translated(f"can't read {onnx.parent}", (OSError,)):
        size = sum((onnx.parent / name).stat().st_size for name in names)
        found = {name: digests.of(onnx.parent / name) for name in names}
    sha256 = combined({name: each.sha256 for name, each in found.items()})
    return Content(onnx, file, names, size, sha256, all(each.hashed for each in found.values()))


def digest(folder: Path, paths: Sequence[str]) -> str:
    """SHA-256 in hex, as `combined` has it, of files that are hashed now."""
    with translated(f"can't read {folder}", (OSError,)):
        return combined({path: sha256_of(folder / path) for path in paths})


def combined(sums: Mapping[str, str]) -> str:
    """One SHA-256 for files: of the only file, or of the lines that `sha256sum` prints for all, sorted by path.

    A user gets the same from `sha256sum model.onnx`, or from `sha256sum model.onnx weights.bin | sha256sum`.
    """
    if len(sums) == 1:
        return next(iter(sums.values()))
    lines = "".join(f"{sums[path]}  {path}\n" for path in sorted(sums))
    return hashlib.sha256(lines.encode()).hexdigest()


def _in_place(path: Path, real: Path) -> bool:
    """Whether the file lies where ONNX Runtime looks for it, through no link."""
    return path == real and is_safe(real)

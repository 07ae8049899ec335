"""The formats of batch jobs' files, by extension: what reads their rows, and what writes the model's outputs."""

import bz2
import gzip
import lzma
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, BinaryIO, NamedTuple, Protocol

from inferry.errors import InvalidRequest, InvalidSettings, extra
from inferry.jobs.formats.block_builder import ReadOptions
from inferry.jobs.formats.blocks import PredictedBlock, Reader
from inferry.runtime.model import Model


class Writer(Protocol):
    """Outputs of a model to bytes, in three steps: a block (`encode`), a part (`seal`), the file (`merge`).

    Each format has a writer. Blocks are encoded by several threads at a time.
    """

    def encode(self, predicted: PredictedBlock) -> Any:
        """A block in whatever form `seal` takes it: bytes, or a record batch of Arrow's; None for one without rows."""

    def seal(self, blocks: Sequence[Any]) -> Sequence[bytes]:
        """A part of the file, from its encoded `blocks`: buffers that follow each other."""

    def merge(self, parts: Iterable[bytes], rows: int, target: BinaryIO) -> None:
        """Writes the file of `rows` rows to `target`; what iterates over `parts` may be asked for more than once."""

    def header(self) -> bytes:
        """The line of the columns' names with which a file of text starts; b"" where there is none."""


@dataclass(frozen=True, slots=True)
class Format:
    """A format's name, and the compression around it: "", "gzip", "zstd", "bz2" or "xz"."""

    name: str
    compression: str = ""

    @property
    def extension(self) -> str:
        """The extension of files in this format, with the dot: `.csv.gz`."""
        return f".{self.name}{_EXTENSIONS[self.compression]}"

    @property
    def is_sliced(self) -> bool:
        """Whether several workers may share a file: what is one stream of compressed bytes is read from its start."""
        return _ADAPTERS[self.name].is_sliced and not self.compression


class _Adapters(NamedTuple):
    """What reads and what writes a format, each as "module:Class", imported when it is needed.

    `is_compressed`: whether the files may be compressed as a whole. `is_sliced`: whether rows can be read from the
    middle of a file, so that several workers of a run may share it.
    """

    reader: str
    writer: str
    is_compressed: bool = False
    is_sliced: bool = False


FORMATS: Mapping[str, _Adapters] = {
    "jsonl": _Adapters("json_lines_reader:JsonLines", "json_writer:JsonLinesWriter", True, True),
    "csv": _Adapters("csv_reader:CsvRows", "csv_writer:CsvWriter", True, True),
    "parquet": _Adapters("parquet_reader:ParquetRows", "arrow_writers:ParquetWriter", is_sliced=True),
    "tsv": _Adapters("csv_reader:TsvRows", "csv_writer:TsvWriter", True, True),
    "feather": _Adapters("arrow_reader:ArrowRows", "arrow_writers:ArrowWriter"),
    "orc": _Adapters("arrow_reader:OrcRows", "arrow_writers:OrcWriter"),
    "npy": _Adapters("npy_reader:NpyRows", "npy_writer:NpyWriter", is_sliced=True),
    "npz": _Adapters("npy_reader:NpzRows", "npy_writer:NpzWriter"),
}
# With what is read and never written.
_ADAPTERS: Mapping[str, _Adapters] = {**FORMATS, "images": _Adapters("image_reader:ImageRows", "")}
IMAGES = Format("images")
COMPRESSED = tuple(name for name, adapters in FORMATS.items() if adapters.is_compressed)
_EXTENSIONS = {"": "", "gzip": ".gz", "zstd": ".zst", "bz2": ".bz2", "xz": ".xz"}
_TITLES = {"parquet": "Parquet", "feather": "Feather", "images": "images"}
_SYNONYMS = {"ndjson": "jsonl", "json": "jsonl", "pq": "parquet", "arrow": "feather"}


def named(name: str) -> Format:
    """The format that an option names: an extension, "csv" or "csv.gz". InvalidRequest lists those that there are."""
    found = of_file(f"x.{name.lstrip('.')}")
    if found is None:
        raise InvalidRequest(
            f"unknown format {name[:40]!r}; there are {', '.join(FORMATS)}, and .gz, .zst, .bz2 or .xz of "
            f"{', '.join(COMPRESSED)}"
        )
    return found


def of_file(path: str) -> Format | None:
    """The format that a file's extension says, None when it is none of ours."""
    stem = path.lower()
    compression = next((c for c, extension in _EXTENSIONS.items() if extension and stem.endswith(extension)), "")
    name = stem.removesuffix(_EXTENSIONS[compression]).rpartition(".")[2]
    name = _SYNONYMS.get(name, name)
    if name not in FORMATS or (compression and name not in COMPRESSED) or "." not in stem:
        return None
    return Format(name, compression)


def open_reader(format: Format, file: BinaryIO, options: ReadOptions) -> Reader:  # noqa: A002
    """The rows of a file. InvalidFile when it can't be read."""
    reader: Reader = _reader(format)(file, format.compression, options)
    return reader


def check_reader(format: Format) -> None:  # noqa: A002
    """InvalidSettings when a package is missing that reads such files."""
    _reader(format)


def _reader(format: Format) -> Any:  # noqa: A002
    return _found(_ADAPTERS[format.name].reader, "reading", format)


def open_writer(
    format: Format,  # noqa: A002
    model: Model,
    keep: Sequence[str],
    requests: bool,
    kept: Mapping[str, Any],
) -> Writer:
    """What writes the outputs of `model` with the columns to `keep`; `kept` are their types, as a `Reader` has them.

    `requests`: each row is a request of the protocol, and its outputs are a response.

    NotSupported when it can't.
    """
    writer: Writer = _found(FORMATS[format.name].writer, "writing", format)(model, keep, requests, kept)
    return _Compressed(writer, format.compression) if format.compression else writer


class _Compressed:
    """Compresses each part by itself: what is behind each other is one file, in gzip and in zstd."""

    def __init__(self, writer: Writer, compression: str) -> None:
        self._writer = writer
        self._compress = _COMPRESS[compression]
        self.encode = writer.encode
        self.header = writer.header

    def seal(self, blocks: Sequence[Any]) -> Sequence[bytes]:
        content = b"".join(self._writer.seal(blocks))
        return [self._compress(content)] if content else []

    def merge(self, parts: Iterable[bytes], rows: int, target: BinaryIO) -> None:
        # A file without rows is a compressed one all the same.
        target.write(self._compress(self.header()))
        for part in parts:
            target.write(part)


def _zstd(content: bytes) -> bytes:
    import pyarrow as pa

    compressed: bytes = pa.Codec("zstd").compress(content, asbytes=True)
    return compressed


_COMPRESS: Mapping[str, Callable[[bytes], bytes]] = {
    "gzip": lambda content: gzip.compress(content, 6, mtime=0),
    "zstd": _zstd,
    "bz2": bz2.compress,
    "xz": lzma.compress,
}


def _found(name: str, doing: str, format: Format) -> Any:  # noqa: A002
    module, _, attribute = name.partition(":")
    try:
        return getattr(import_module(f"inferry.jobs.formats.{module}"), attribute)
    except ModuleNotFoundError as exc:
        if exc.name != "pyarrow":
            raise
        title = _TITLES.get(format.name, format.name.upper())
        raise InvalidSettings(f"{doing} {title} needs pyarrow: {extra('batch')}") from exc

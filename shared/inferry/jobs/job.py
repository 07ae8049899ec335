"""A job: one file to predict, and where its results will be."""

from dataclasses import dataclass

from inferry.errors import (
    InvalidFile,
    InvalidRequest,
)
from inferry.jobs.formats import formats
from inferry.jobs.formats.blocks import Cursor
from inferry.jobs.formats.formats import FORMATS, Format
from inferry.runtime import columns as named
from inferry.runtime.model import Model
from inferry.storage.files import split


@dataclass(frozen=True, slots=True)
class Slice:
    """The rows of a file from `start`, a border that `borders` gave, to the row `stop`; None: to the end."""

    start: Cursor
    stop: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One file to predict.

    `input`: its URL or path; `output`: that of the results, or of their folder when it ends with "/"; `model`: a name,
    empty for the service's default; `format` and `to`: of the input and of the results, by default what the names say;
    `keep`: columns to carry over, as `kept` reads them; `max_errors`: a count of rows, or a share as a float;
    `batch_size`: rows of a run, 0 for the model's own; `header`: whether the first line of CSV names the columns, where
    it might be a row; `columns`: those of the model's only input, "*" alone for all of the file's; `constants`: inputs
    with one value for all rows, NAME=VALUE in JSON; `drop`: columns that are neither inputs nor kept by "*";
    `delimiter` to `null`: a `Dialect`; `part`: only these rows, whose results are published by a later run without it.
    """

    input: str
    output: str
    model: str = ""
    version: str | None = None
    format: str = ""
    to: str = ""
    keep: tuple[str, ...] = ()
    max_errors: int | float | None = None
    batch_size: int = 0
    header: bool | None = None
    columns: tuple[str, ...] = ()
    constants: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    delimiter: str = ""
    decimal: str = ""
    quote: str = ""
    escape: str = ""
    null: str = ""
    part: Slice | None = None


def target(job: Job) -> str:
    """Where the job's results will be. InvalidFile, InvalidRequest when nothing says their format."""
    _, path = split(job.input)
    if not path:
        return job.output
    return target_of(job, format_of(job.format, path), path)[1]


def check_columns(job: Job, model: Model) -> None:
    """InvalidRequest where the job names columns of a model whose inputs have names enough."""
    if job.columns and len(inputs := named.required(model)) != 1:
        raise InvalidRequest(
            f"--columns names the values of a model's only input, but model '{model.name}' takes {len(inputs)}, each "
            f"in a column of its name: {named.some([spec.name for spec in inputs])}"
        )


def format_of(name: str, path: str) -> Format:
    found = formats.named(name) if name else formats.of_file(path)
    if found is None:
        raise InvalidFile(
            f"can't tell the format of {path}: name it with --format, or one of the extensions {', '.join(FORMATS)}"
        )
    return found


def target_of(job: Job, source: Format, path: str) -> tuple[Format, str]:
    """The format of the results and their URL; below a folder they have the input's name."""
    like = Format("jsonl") if source == formats.IMAGES else source
    if not job.output.endswith("/"):
        to = formats.named(job.to) if job.to else formats.of_file(job.output)
        return to or like, job.output
    to = formats.named(job.to) if job.to else like
    return to, f"{job.output}{path}" + ("" if to == source else to.extension)

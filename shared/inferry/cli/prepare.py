"""`inferry prepare`: what is going to be written, what became of each version, and the proof as a table."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from inferry.cli import infer
from inferry.cli.inspect import size_text
from inferry.cpus import session_threads
from inferry.errors import InvalidRequest, InvalidSettings, ModelUnavailable
from inferry.observability.logs import printable
from inferry.prepare.output import Output, open_output
from inferry.prepare.preparation import Outcome, Request, Samples, prepare
from inferry.prepare.verdict import Line
from inferry.protocol import npy
from inferry.protocol.types import InferRequest
from inferry.repository.layout import CONFIG_FILE
from inferry.repository.manifest import ORIGINAL
from inferry.repository.repository import Repository, open_repository
from inferry.repository.version import Entry
from inferry.runtime import rows
from inferry.runtime.model import Model
from inferry.settings import Settings


def run(settings: Settings, target: str, request: Request, stream: TextIO) -> list[Outcome]:
    """Prepares every version of the repository at MODEL_PATH, one after another; says on `stream` what it does."""
    output = open_output(target, settings.model_path)
    cache = Path(settings.model_cache_dir) if settings.model_cache_dir else None
    repository = open_repository(
        settings.model_path,
        settings.model_name,
        cache_size=1,
        threads=session_threads(settings),
        cache=cache,
        in_full=True,
    )
    for problem in repository.problems:
        print(f"left out: {printable(problem)}", file=stream)

    def planned(entry: Entry, size: int, forms: Mapping[str, int]) -> None:
        _plan(entry, size, forms, output, stream)

    outcomes = []
    for entry in repository.entries():
        try:
            outcome = prepare(repository, entry, output, request, planned, cache)
        except ModelUnavailable as exc:
            outcome = Outcome(entry.name, entry.version, "failed", str(exc))
        outcomes.append(outcome)
        print("\n".join(map(printable, _lines(outcome))), file=stream, flush=True)
    _copy_configs(repository, output)
    return outcomes


def _plan(entry: Entry, size: int, forms: Mapping[str, int], output: Output, stream: TextIO) -> None:
    """Says what may be written. InvalidRequest when there is no room for it."""
    what = ", ".join(f"{kind} at most {size_text(most)}" for kind, most in forms.items()) or "a copy"
    print(f"{entry.name} {entry.version}: {size_text(size)}; to {output.url}: {what}", file=stream, flush=True)
    # The model itself as well, where it has to be copied.
    needed, free = size + sum(forms.values()), output.free()
    if free is not None and needed > free:
        raise InvalidRequest(f"no space in {output.url}: {needed} bytes may be needed, and {free} are free")


def _copy_configs(repository: Repository, output: Output) -> None:
    """Copies each model's config.json as it is."""
    for name in repository.names():
        content = repository.config_file(name)
        if content is not None:
            output.write_config(f"{name}/{CONFIG_FILE}", content)


def samples(given: Sequence[str]) -> Samples:
    """What reads `--samples FILE`, or `--samples NAME=FILE` for one of several models. InvalidSettings."""
    files: dict[str, str] = {}
    for text in given:
        name, separator, file = text.rpartition("=")
        if name in files:
            raise InvalidSettings(f"--samples names two files for {name or 'all models'}")
        files[name if separator else ""] = file

    def read(model: Model) -> InferRequest | None:
        file = files.get(model.name, files.get(""))
        return None if file is None else _request(file, model)

    return read


def _request(file: str, model: Model) -> InferRequest:
    """A document of JSON as `inferry infer` takes it, or the rows of a .npy file."""
    if file.lower().endswith(".npy"):
        return rows.to_request(npy.read_array(infer.read(file), file).tolist(), model)
    if file == "-" or file.lower().endswith(".json"):
        return infer.document(infer.read(file), model)
    raise InvalidRequest(f"can't tell the format of {file}: give samples as .json or .npy, or - for JSON on stdin")


def _lines(outcome: Outcome) -> Iterator[str]:
    what = f"{outcome.name} {outcome.version}: {outcome.status}"
    if outcome.cases:
        what += f", {outcome.cases} inputs"
    yield what + (f": {outcome.reason}" if outcome.reason else "")
    if outcome.lines:
        yield from _table(outcome.lines)


def _table(lines: Sequence[Line]) -> Iterator[str]:
    header = ("FORM", "SIZE", "LOAD", "RUN", "PRIVATE", "ANSWERS", "")
    cells = [header, *map(_cells, lines)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(header))]
    for line in cells:
        yield ("  " + "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))).rstrip()


def _cells(line: Line) -> tuple[str, ...]:
    if line.trial is None:
        return line.kind, size_text(line.size), "", "", "", "", f"not kept: {line.reason}"
    load, run, private = line.trial.cost
    answers = "same bits" if line.difference == 0 else f"differ by {line.difference:.2g}"
    fate = "" if line.kind == ORIGINAL else f"not kept: {line.reason}" if line.reason else "kept"
    numbers = (f"{load * 1e3:.1f} ms", f"{run * 1e3:.2f} ms", size_text(int(private)))
    return line.kind, size_text(line.size), *numbers, "" if line.kind == ORIGINAL else answers, fate


def report(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """What became of each version, for --json."""
    return {"models": [outcome.as_dict() for outcome in outcomes]}


def has_failed(outcomes: Sequence[Outcome]) -> bool:
    """Whether a version is missing in the prepared repository."""
    return any(outcome.status == "failed" for outcome in outcomes)

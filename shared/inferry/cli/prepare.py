"""`inferry prepare`: what is going to be written, what became of each version, and the proof as a table."""

import argparse
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TextIO

from inferry.cli import infer
from inferry.cli.inspect import size_text
from inferry.cpus import session_threads
from inferry.errors import InvalidRequest, InvalidSettings, ModelUnavailable, extra
from inferry.jobs.formats import formats
from inferry.jobs.formats.block_builder import ReadOptions
from inferry.jobs.formats.blocks import Block, Cursor, Pace
from inferry.observability.logs import printable
from inferry.prepare.output import Output, open_output
from inferry.prepare.preparation import Outcome, Request, Samples, prepare
from inferry.prepare.quantising import FLOAT, METHODS, Chosen, Quantising, Variant
from inferry.prepare.verdict import Line
from inferry.protocol import npy
from inferry.protocol.json_documents import load
from inferry.protocol.signature import Feed
from inferry.repository.layout import CONFIG_FILE
from inferry.repository.manifest import ORIGINAL
from inferry.repository.repository import Repository, open_repository
from inferry.repository.version import ModelVersion
from inferry.runtime.model import Model
from inferry.settings import Settings

# Of samples that are read at a time.
_ROWS = 1024


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

    def planned(entry: ModelVersion, size: int, forms: Mapping[str, int]) -> None:
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


def _plan(entry: ModelVersion, size: int, forms: Mapping[str, int], output: Output, stream: TextIO) -> None:
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

    def read(model: Model) -> Sequence[Feed]:
        file = files.get(model.name, files.get(""))
        return () if file is None else _feeds(file, model)

    return read


def quantising(options: argparse.Namespace) -> Quantising | None:
    """What is asked for by --quantize, --agreement, --labels and --samples. InvalidSettings."""
    if options.quantize is None:
        if options.labels:
            raise InvalidSettings("--labels is for --quantize static, dynamic or any")
        return None
    if not options.samples:
        raise InvalidSettings(
            "--quantize takes samples of what the model is asked, in the files that `inferry batch` reads: give "
            "--samples FILE, or --samples NAME=FILE for one of several models"
        )
    if find_spec("onnx") is None:
        raise InvalidSettings(f"--quantize needs the package onnx: {extra('quantize')}")
    methods = METHODS if options.quantize == "any" else (options.quantize,)
    return Quantising(methods, options.agreement, _labels(options.labels) if options.labels else None)


def _labels(file: str) -> Sequence[Any]:
    """A label for each sample: an array of JSON, or of a .npy file. InvalidRequest."""
    if file.lower().endswith(".npy"):
        values = npy.read_array(infer.read(file), file).tolist()
    else:
        values = load(infer.read(file))
    if not isinstance(values, list):
        raise InvalidRequest(
            f"{file} is no array of labels: give one of JSON, or a .npy file, with one for each sample"
        )
    return values


def check_samples(given: Sequence[str]) -> None:
    """InvalidRequest or InvalidSettings when files of `--samples` are not there, or can't be read here."""
    for file in (text.rpartition("=")[2] for text in given):
        if kind := _format(file):
            formats.check_reader(kind)
        if file != "-" and not Path(file).is_file():
            raise InvalidRequest(f"there is no file {file}, which --samples names")


def _format(file: str) -> formats.Format | None:
    """That of a file's rows; None for a document of JSON. InvalidRequest when its name tells none."""
    if file == "-" or file.lower().endswith(".json"):
        return None
    kind = formats.of_file(file)
    if kind is None:
        endings = ", ".join(f".{ending}" for ending in formats.FORMATS)
        raise InvalidRequest(f"can't tell the format of {file}: give samples in {endings} or .json, or - for stdin")
    return kind


def _feeds(file: str, model: Model) -> Sequence[Feed]:
    """A document of JSON as `inferry infer` takes it, or the rows of a file as `inferry batch` reads it."""
    kind = _format(file)
    if kind is None:
        unlimited = dataclasses.replace(model.session.signature, max_batch_size=0)
        return [unlimited.feed(infer.document(infer.read(file), model))]
    options = ReadOptions(model, (), Pace(_ROWS), file)
    try:
        with Path(file).open("rb") as content:
            reader = formats.open_reader(kind, content, options)
            blocks = [block for make in reader.chunks(Cursor()) for block in make()]
    except OSError as exc:
        raise InvalidRequest(f"can't read {file}: {exc.strerror or exc}") from exc
    return [feed for block in blocks for feed in _of_block(block, file, model)]


def _of_block(block: Block, file: str, model: Model) -> Iterator[Feed]:
    """The rows of a block in their order."""
    if block.rejected:
        rejected = min(block.rejected, key=lambda each: each.row)
        raise InvalidRequest(f"row {rejected.row} of {file} is no input of model '{model.name}': {rejected.reason}")
    unlimited = dataclasses.replace(model.session.signature, max_batch_size=0)
    yield from map(unlimited.feed, block.requests)
    if len(block.groups) == 1:
        yield block.groups[0].feed
        return
    rows: dict[int, Feed] = {}
    for group in block.groups:
        for at, position in enumerate(range(len(block.rows)) if group.positions is None else group.positions.tolist()):
            rows[position] = {name: array[at : at + 1] for name, array in group.feed.items()}
    yield from (rows[position] for position in sorted(rows))


def _lines(outcome: Outcome) -> Iterator[str]:
    what = f"{outcome.name} {outcome.version}: {outcome.status}"
    if outcome.cases:
        what += f", {outcome.cases} inputs"
    yield what + (f": {outcome.reason}" if outcome.reason else "")
    if outcome.chosen:
        yield from _tried(outcome.chosen)
    if outcome.lines:
        yield from _table(outcome.lines)


def _tried(chosen: Chosen) -> Iterator[str]:
    """The models with 8-bit weights beside the float one; a star is at those that no other outdoes in everything."""
    if chosen.variants:
        has_labels = chosen.variants[0].accuracy is not None
        header = ("WEIGHTS", "SIZE", "LOAD", "RUN", "PRIVATE", "AGREEMENT", *(["ACCURACY"] if has_labels else []), "")
        yield from _aligned([header, *map(_variant, chosen.variants)])
    yield from (f"  {method} can't be tried: {reason}" for method, reason in chosen.failed.items())


def _variant(variant: Variant) -> tuple[str, ...]:
    what = variant.method
    if variant.left_out:
        what += f", {len(variant.left_out)} of {variant.operators} operators float"
    load, run, private = variant.cost
    numbers = (f"{load * 1e3:.1f} ms", f"{run * 1e3:.2f} ms", size_text(int(private)), f"{variant.agreement:.4f}")
    right = () if variant.accuracy is None else (f"{variant.accuracy:.4f}",)
    fate = "" if variant.method == FLOAT else f"not chosen: {variant.reason}" if variant.reason else "chosen"
    return ("* " if variant.is_best else "  ") + what, size_text(variant.size), *numbers, *right, fate


def _table(lines: Sequence[Line]) -> Iterator[str]:
    header = ("FORM", "SIZE", "LOAD", "RUN", "PRIVATE", "ANSWERS", "")
    return _aligned([header, *map(_cells, lines)])


def _aligned(cells: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
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

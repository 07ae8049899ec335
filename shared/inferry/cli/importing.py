"""`inferry import`: a model of another framework, or an ONNX file, checked and put into a repository."""

import argparse
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from shutil import copyfile
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np

from inferry.cli import example, init, prepare, trials
from inferry.cli.exports import advice, foreign
from inferry.cli.inspect import size_text
from inferry.cpus import session_threads
from inferry.errors import InvalidRequest
from inferry.observability.logs import printable
from inferry.origins import renamed
from inferry.origins.comparison import Compared, compare
from inferry.origins.origin import ENDINGS, Origin, Wish, open_origin
from inferry.prepare.stripped import stripped
from inferry.protocol.signature import Feed
from inferry.protocol.tensors import Array, aligned
from inferry.repository.layout import CONFIG_FILE, MODEL_FILE
from inferry.repository.repository import open_repository
from inferry.runtime import onnx_file
from inferry.runtime.model import Model
from inferry.settings import Settings

_SECONDS = 60.0
# Random rows that the original answers too, beside the samples.
_MORE = 200


class Against(NamedTuple):
    """Inputs, and what the framework answered to them: by the names of outputs, or in their order."""

    feed: dict[str, Array]
    answers: Mapping[str, Array]


def run(options: argparse.Namespace, settings: Settings) -> Iterator[str]:
    """Imports a model, and says line by line what it does. InvalidRequest when its answers are others than before."""
    path = Path(options.source)
    if path.suffix.lower().removeprefix(".") not in ENDINGS and (found := foreign([options.source])):
        raise InvalidRequest(f"{path} can't be imported: {found[0]['export']}")
    if "://" in settings.model_path:
        raise InvalidRequest(f"{settings.model_path} is not on this machine: give --models a folder, and copy it there")
    name = options.name or path.stem
    final = Path(settings.model_path, name)
    if (final / "1").exists() and not options.force:
        raise InvalidRequest(f"there is already {final / '1'}: --force writes over it, --name gives another name")
    names = _class_names(options.labels, path)
    prepare.check_samples(options.samples)
    origin = open_origin(path, Wish(options.trust, options.inputs))
    yield f"{path}: {size_text(path.stat().st_size)}, {'made' if origin.folder else 'converted'} by {origin.maker}"
    with TemporaryDirectory(prefix="inferry-") as folder:
        version = Path(folder, name, "1")
        yield from _write(origin, dict(options.rename), version)
        if origin.columns:
            yield f"  columns   {', '.join(origin.columns)}"
            # So that tables of samples are read as a server reads them.
            (version.parent / CONFIG_FILE).write_text(json.dumps({"columns": origin.columns}))
        model = open_repository(folder, "", threads=session_threads(settings)).get(name)
        given = list(prepare.samples(options.samples)(model)) if options.samples else []
        # Not all models take words that come to mind, as encoders refuse unknown categories.
        sample = example.of_samples(model.session, given)
        found_example = example.Found(sample, 1, "") if sample else example.find(model.session)
        if found_example.example is None:
            raise InvalidRequest(
                f"{path} is not imported: {init.no_example(found_example)}. Give rows that it takes: --samples FILE"
            )
        trial = trials.run(model.session, found_example.example.feed, _MORE if origin.answers else 0)
        yield from (f"  rows      {line}" for line in trial.lines)
        if trial.problem and (call := advice(model.session.file.producer)):
            yield f"  export    {call}"
        yield from _checked(origin, model, given, trial.feeds, options)
        _publish(version, final / "1")
    known = init.Known(names or origin.names, trial.problem, origin.columns, sample)
    try:
        outcome = init.init(str(final), settings, options.pin, options.force, known)
    except InvalidRequest as exc:
        yield f"{final} has no {CONFIG_FILE}: {exc}"
    else:
        yield from outcome.lines


def _write(origin: Origin, names: Mapping[str, str], version: Path) -> Iterator[str]:
    """Writes the ONNX file without what no run needs, and the files that it names."""
    renamed.check(names, renamed.outputs(origin.onnx))
    version.mkdir(parents=True)
    content = stripped(renamed.renamed(origin.onnx, names))
    (version / MODEL_FILE).write_bytes(content)
    if len(content) < len(origin.onnx):
        yield f"  stripped  {size_text(len(origin.onnx))} to {size_text(len(content))}: notes of the exporter's"
    locations = onnx_file.parse(content, MODEL_FILE).locations
    for location in locations:
        source = (origin.folder or version) / location
        inside = not Path(location).is_absolute() and ".." not in Path(location).parts
        if not inside or not source.is_file():
            raise InvalidRequest(f"the file names its weights '{location}', which is no file beside it")
        (version / location).parent.mkdir(parents=True, exist_ok=True)
        copyfile(source, version / location)
    if locations:
        yield f"  weights   {', '.join(locations)}"


def _checked(
    origin: Origin, model: Model, given: Sequence[Feed], feeds: Sequence[Feed], options: argparse.Namespace
) -> Iterator[str]:
    """Compares answers with those of the framework, or with what it answered. InvalidRequest when they are others."""
    found: list[Compared] = []
    names = dict(options.rename)
    if options.against:
        against = _against(options.against, model, given, names)
        found += compare([_run(model, against.feed)], [against.answers])
        yield from _report(found, options.against, model)
    if origin.answers is not None:
        runs = [*given, *feeds]
        theirs = []
        for feed in runs:
            try:
                theirs.append(_renamed(origin.answers(feed), names, model))
            except Exception as exc:
                raise InvalidRequest(f"the original can't answer inputs that the ONNX file takes: {exc}") from exc
        mine = compare([_run(model, feed) for feed in runs], theirs)
        rows = sum(len(next(iter(feed.values()))) for feed in runs if feed)
        yield from _report(mine, f"the original, {rows} rows", model)
        found += mine
    if origin.answers is None and not options.against:
        yield "  answers   not compared: give --against FILE.npz with inputs and what the framework answers to them"
    elif not found:
        raise InvalidRequest("no output could be compared, as none has a name that the original's answers have")
    wrong = [each for each in found if each.problem or each.difference > options.tolerance]
    if wrong:
        each = wrong[0]
        said = (
            each.problem or f"differs by {each.difference:.2g} of its largest value (--tolerance {options.tolerance})"
        )
        call = advice(model.session.file.producer)
        raise InvalidRequest(f"not imported: output '{each.output}' {said}{'. ' + call if call else ''}")


def _renamed(answers: Mapping[str, Array], names: Mapping[str, str], model: Model) -> dict[str, Array]:
    """What the framework answers, by the model's outputs: one of these may have the old name of another."""
    before = {new: old for old, new in names.items()}
    origins = {name: before.get(name, name) for name in model.session.signature.outputs}
    return {name: answers[old] for name, old in origins.items() if old in answers}


def _report(found: Sequence[Compared], what: str, model: Model) -> Iterator[str]:
    for each in found:
        said = each.problem or (f"within {each.difference:.2g} of the largest value" if each.difference else "the same")
        yield f"  answers   {each.output}: {said}, beside {what}"
    missing = model.session.signature.outputs.keys() - {each.output for each in found}
    if missing:
        yield f"  answers   not compared: {', '.join(sorted(missing))}, beside {what}"


def _run(model: Model, feed: Feed) -> dict[str, Array]:
    names = list(model.session.signature.outputs)
    arrays = model.session.run({k: aligned(v) for k, v in feed.items()}, names, time.monotonic() + _SECONDS)
    return dict(zip(names, arrays, strict=True))


def _against(file: str, model: Model, samples: Sequence[Feed], names: Mapping[str, str]) -> Against:
    """The arrays of an NPZ: inputs by name, unless they are samples, and the others answers by old or new names."""
    try:
        with np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (OSError, ValueError) as exc:
        raise InvalidRequest(f"can't read {file}: {exc}") from exc
    signature = model.session.signature
    feed = {name: arrays.pop(name) for name in signature.inputs if name in arrays}
    if not signature.required <= feed.keys() and len(samples) == 1:
        feed = {**samples[0]}
    if missing := signature.required - feed.keys():
        raise InvalidRequest(
            f"{file} has no array '{min(missing)}', the input; give it there, or in one --samples file"
        )
    outputs = list(signature.outputs)
    if arrays.keys() <= {f"arr_{index}" for index in range(len(outputs))}:
        arrays = {outputs[int(name.removeprefix("arr_"))]: array for name, array in arrays.items()}
    arrays = {names.get(name, name): array for name, array in arrays.items()}
    if unknown := sorted(arrays.keys() - {*outputs}):
        raise InvalidRequest(f"{file} has the array '{unknown[0]}', and the outputs are {', '.join(outputs)}")
    return Against(_cast(feed, model), arrays)


def _cast(feed: Mapping[str, Array], model: Model) -> dict[str, Array]:
    """Inputs as the model takes them; texts of NumPy's are objects."""
    specs = model.session.signature.inputs
    for name, array in feed.items():
        if array.dtype.kind != "U" and array.dtype != specs[name].datatype.dtype:
            wanted = specs[name].datatype.name
            raise InvalidRequest(f"the array '{name}' is {array.dtype}, and the model takes {wanted}")
    return {name: array.astype(specs[name].datatype.dtype) for name, array in feed.items()}


def _publish(staged: Path, final: Path) -> None:
    """Puts a version's folder in its place, all of it at once where that is new."""
    from shutil import move, rmtree

    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        if final.exists():
            rmtree(final)
        move(staged, final)
    except OSError as exc:
        raise InvalidRequest(f"can't write {final}: {exc.strerror or exc}") from exc


def _class_names(file: str | None, source: Path) -> tuple[str, ...]:
    """The classes in a file: an array of JSON, or `id2label` of a config of Hugging Face, which may lie beside."""
    beside = source.parent / CONFIG_FILE
    if not file and not (source.suffix == ".onnx" and beside.is_file()):
        return ()
    try:
        value: Any = json.loads((Path(file) if file else beside).read_text())
    except (OSError, ValueError) as exc:
        if not file:
            return ()
        raise InvalidRequest(f"can't read {file}: {exc}") from exc
    names = value.get("id2label") if isinstance(value, dict) else value
    if isinstance(names, dict) and {*names} == {str(index) for index in range(len(names))}:
        names = [names[str(index)] for index in range(len(names))]
    if isinstance(names, list) and all(isinstance(each, str | int) for each in names):
        return tuple(map(str, names))
    if file:
        raise InvalidRequest(f"{file} has no names of classes: give an array of them, or an object 'id2label'")
    return ()


def lines(options: argparse.Namespace, settings: Settings) -> Iterator[str]:
    """What `run` says, for a terminal."""
    return map(printable, run(options, settings))

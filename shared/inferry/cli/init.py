"""`inferry init`: a config.json of what a model's file tells and of what a run shows, where the server looks for it."""

import ast
import dataclasses
import json
import posixpath
import shlex
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from inferry.cli.example import Example, Found, find
from inferry.cli.inspect import size_text
from inferry.cli.places import Place, find_model, only
from inferry.cpus import session_threads
from inferry.errors import InvalidRequest, ModelUnavailable
from inferry.observability.logs import printable
from inferry.protocol.tensors import Array
from inferry.repository.layout import CONFIG_FILE
from inferry.repository.repository import Repository, open_repository
from inferry.repository.version import MAX_CONFIG_BYTES, ModelVersion
from inferry.runtime.model import WARM_UP_TIMEOUT, Model
from inferry.runtime.model_config import ModelConfig, parse_config
from inferry.runtime.verdicts import PROVEN, SINGLE, Verdict
from inferry.settings import Settings

# Rows of a batch: more make hardly a model quicker, and keep the first one waiting.
_BATCH = 32


class Outcome(NamedTuple):
    """What was written, in lines for people, and whether there is an example."""

    lines: list[str]
    has_example: bool


class Known(NamedTuple):
    """What somebody knows beside the file.

    `names` of classes, the reason why rows run `apart`, the `columns` of the only input, and an `example`.
    """

    names: Sequence[str] = ()
    apart: str = ""
    columns: Sequence[str] = ()
    example: Example | None = None


def init(model: str, settings: Settings, pin: bool, force: bool, known: Known = Known()) -> Outcome:  # noqa: B008
    """Writes the config.json of a file, a folder or a name. InvalidRequest when it is there already, and not `force`d.

    ModelUnavailable when the model can't be loaded without one.
    """
    place = find_model(model, settings)
    repository = open_repository(place.path, settings.model_name)
    name = place.name or only(repository, place.path)
    version = place.version or repository.versions(name)[0]
    target = _target(Path(place.path), repository.entry(name, version))
    if target.exists() and not force:
        raise InvalidRequest(f"there is already {target}: --force writes over it")
    server = _Server(repository, name, version, session_threads(settings))
    loaded = server.load(version, ModelConfig())
    found = Found(known.example, 1, "") if known.example else find(loaded.session)
    feed = found.example.feed if found.example else None
    verdict = loaded.row_proof.by_example(feed, time.monotonic() + WARM_UP_TIMEOUT)
    if known.apart and verdict.rows == PROVEN:
        verdict = verdict._replace(rows=SINGLE, reason=known.apart)
    labels, unused = _labels(loaded, found.example.outputs if found.example else {}, known.names)
    digests = {version: loaded.digest, **server.others()}
    parts: dict[str, dict[str, Any]] = {
        "labels": {"labels": labels} if labels else {},
        "columns": {"columns": list(known.columns)} if known.columns else {},
        "an example": {"example": {"inputs": found.example.inputs}} if found.example else {},
        "batching": {"max_batch_size": _BATCH, "dynamic_batching": {}} if verdict.rows == PROVEN else {},
        "digests": {"sha256": digests} if pin else {},
    }
    config, refused = _accepted({part: keys for part, keys in parts.items() if keys}, server, list(digests))
    reasons = [f"without {part}: {reason}" for part, reason in refused.items()]
    if not config:
        raise InvalidRequest(f"nothing to write for model '{name}': {'; '.join([no_example(found), *reasons])}")
    _write(target, _text(config) + "\n", force)
    lines = [
        f"wrote {target}",
        *_about(loaded, found, labels, unused, verdict, known),
        *(f"! {reason}" for reason in reasons),
    ]
    return Outcome(list(map(printable, [*lines, f"serve it: {_command(place, settings)}"])), "example" in config)


class _Server(NamedTuple):
    """What loads the versions of a model as a server does; `version` is the one that was asked for."""

    repository: Repository
    name: str
    version: str
    threads: int

    def load(self, version: str, config: ModelConfig) -> Model:
        """A version with another config than its own. ModelUnavailable says why not."""
        entry = self.repository.entry(self.name, version)
        stats = self.repository.metrics.model(self.name, version)
        return dataclasses.replace(entry, config=config, config_error=None).open(self.threads, stats)

    def others(self) -> dict[str, str]:
        """The other versions that can be served without a config, with their digests."""
        digests = {}
        for version in self.repository.versions(self.name):
            if version != self.version:
                with suppress(ModelUnavailable):
                    digests[version] = self.load(version, ModelConfig()).digest
        return digests

    def refusal(self, config: Mapping[str, Any], versions: Sequence[str]) -> str:
        """Why a version can't be served with this config; empty when all can. The one that was asked for runs it."""
        text = _text(config).encode()
        if len(text) >= MAX_CONFIG_BYTES:
            return f"it would have {len(text):,} bytes, and {MAX_CONFIG_BYTES:,} are the most"
        for version in versions:
            warm_up = version == self.version and "example" in config
            try:
                self.load(version, parse_config(text, self.name)._replace(warm_up=warm_up))
            except ModelUnavailable as exc:
                return str(exc)
        return ""


def _accepted(
    parts: Mapping[str, dict[str, Any]], server: _Server, versions: Sequence[str]
) -> tuple[dict[str, Any], dict[str, str]]:
    """The config of all parts with which a server loads all the versions, and why it would not with the others."""
    refused: dict[str, str] = {}
    config = _joined(parts.values())
    if not server.refusal(config, versions):
        return config, refused
    config = {}
    for name, part in parts.items():
        more = _joined([config, part])
        if reason := server.refusal(more, versions):
            refused[name] = reason
        else:
            config = more
    return config, refused


def _joined(parts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """One object, with its keys in the order of the docs: what is edited comes before a long example."""
    keys = {key: value for part in parts for key, value in part.items()}
    return {key: keys[key] for key in ModelConfig._fields if key in keys}


def _command(place: Place, settings: Settings) -> str:
    named = f" --model-name {settings.model_name}" if settings.model_name else ""
    return shlex.join(["inferry", "serve", place.path]) + named


def _target(root: Path, entry: ModelVersion) -> Path:
    """Where the server looks for the config of a version, by `repository.layout`."""
    if root.suffix == ".onnx" and not root.is_dir():
        root = root.parent
    folder = posixpath.dirname(entry.files.folder)
    if not entry.files.folder and entry.files.model == f"{entry.name}.onnx":
        folder = entry.name  # a flat file's folder lies beside it
    return root / folder / CONFIG_FILE


def _labels(model: Model, outputs: Mapping[str, Array], given: Sequence[str]) -> tuple[dict[str, list[str]], str]:
    """Class names by output, those `given` or the file's, and what is left to say of names that fit nowhere."""
    signature = model.session.signature
    labels = {name: list(spec.labels) for name, spec in signature.outputs.items() if spec.labels}
    names = list(given) or _names(model.session.custom_metadata.get("names", ""))
    if not names:
        return labels, ""
    fitting = [
        name
        for name, spec in signature.outputs.items()
        if spec.datatype.is_float and _is_scores(outputs[name].shape if name in outputs else spec.shape, len(names))
    ]
    labels |= dict.fromkeys(fitting, names)
    return (
        labels,
        "" if fitting else f"there are names of {len(names)} classes, and no output has a score for each alone",
    )


def _is_scores(shape: Sequence[int] | None, count: int) -> bool:
    """Whether there is a row of scores per row: the axes of boxes say something else, of whatever length."""
    lengths = list(shape or ())
    while len(lengths) > 2 and lengths[-1] == 1:
        lengths.pop()
    return len(lengths) == 2 and lengths[1] == count


def _names(text: str) -> list[str]:
    """The classes in the `names` of the metadata, as Ultralytics writes them: {0: 'cat', 1: 'dog'}, or a list."""
    try:
        names = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return []
    if isinstance(names, dict) and {*names} == {*range(len(names))}:
        names = [names[index] for index in range(len(names))]
    return names if isinstance(names, list) and all(isinstance(name, str) for name in names) else []


def _write(target: Path, text: str, force: bool) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("w" if force else "x", encoding="utf-8") as file:
            file.write(text)
    except OSError as exc:
        raise InvalidRequest(f"can't write {target}: {exc.strerror}") from exc


def _text(value: Any, indent: str = "") -> str:
    """JSON with a line for each key and each input, so that it can be read and edited."""
    inner = f"{indent}  "
    if isinstance(value, dict) and value and not indent.startswith(" " * 4):
        lines = [f"{json.dumps(key, ensure_ascii=False)}: {_text(item, inner)}" for key, item in value.items()]
        return "{\n" + ",\n".join(inner + line for line in lines) + f"\n{indent}}}"
    if isinstance(value, list) and value and isinstance(value[0], dict):
        lines = [inner + json.dumps(item, ensure_ascii=False) for item in value]
        return "[\n" + ",\n".join(lines) + f"\n{indent}]"
    return json.dumps(value, ensure_ascii=False)


def _about(
    model: Model, found: Found, labels: Mapping[str, Sequence[str]], unused: str, verdict: Verdict, known: Known
) -> Iterator[str]:
    """What was found, in a line each."""
    signature = model.session.signature
    if found.example:
        given = ", ".join(f"{i['name']} {i['datatype']}{i['shape']}" for i in found.example.inputs) or "no inputs"
        gave = ", ".join(
            f"{name} {signature.outputs[name].datatype.name}{list(array.shape)}"
            for name, array in found.example.outputs.items()
        )
        yield f"  example   {given}; it gives {gave}"
        if found.example.inputs and not known.example:
            yield "  example   random values: put in your own"
    else:
        yield f"  example   none: {no_example(found)}"
    for output, names in labels.items():
        shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        yield f"  labels    {output}: {shown}"
    if not labels:
        yield f"  labels    none: {unused or 'the file has none'}"
    if verdict.rows == PROVEN:
        yield f"  batching  up to {_BATCH} rows in a run, as each gives the same alone"
    else:
        yield f"  batching  none: rows {verdict.rows}: {verdict.reason}"
    yield f"  size      {size_text(model.size)}, SHA-256 {model.digest}"


def no_example(found: Found) -> str:
    """Why there is none."""
    if not found.tries:
        return found.problem
    return f"it ran with none of {found.tries} inputs that were tried; the last: {found.problem}"

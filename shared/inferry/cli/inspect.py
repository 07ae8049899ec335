"""What `inferry inspect` says of a repository, as data and as a table."""

import posixpath
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from inferry.cli.exports import advice, foreign
from inferry.cli.places import how_to_add
from inferry.cpus import session_threads
from inferry.errors import ModelUnavailable
from inferry.observability.logs import printable
from inferry.repository import metadata
from inferry.repository.repository import Repository, open_repository
from inferry.repository.store import open_store
from inferry.repository.version import ModelVersion
from inferry.settings import Settings

# The status of the command when nothing can be served.
NOTHING = 3
# Tensors in a cell of the table, and files of other formats below it.
_SHOWN, _FILES = 3, 10


def inspect(settings: Settings) -> dict[str, Any]:
    """Every version of every model, each loaded once: its signature and facts, or the reason why it can't be served."""
    if Path(settings.model_path).is_file() and (found := foreign([settings.model_path])):
        return {"path": settings.model_path, "models": [], "problems": [], "not_onnx": found}
    cache = Path(settings.model_cache_dir) if settings.model_cache_dir else None
    repository = open_repository(
        settings.model_path,
        settings.model_name,
        cache_size=1,
        threads=session_threads(settings),
        cache=cache,
        in_full=True,
    )
    models = [_entry(repository, entry) for entry in repository.entries()]
    return {
        "path": settings.model_path,
        "models": models,
        "problems": repository.problems,
        "not_onnx": _not_onnx(settings.model_path, repository.entries()),
    }


def status(report: dict[str, Any]) -> int:
    """What the command exits with: 3 when nothing can be served, 1 when something can't or is left out, else 0."""
    states = {model["state"] for model in report["models"]}
    if "READY" not in states:
        return NOTHING
    return 1 if report["problems"] or len(states) > 1 else 0


def table(report: dict[str, Any]) -> str:
    """The report as a table, to be read by people."""
    header = ("MODEL", "VERSION", "INPUTS", "OUTPUTS", "ROWS", "SIZE", "OPSET", "SHA-256")
    lines = [header, *(_row(model) for model in report["models"])]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    failed = [model for model in report["models"] if model["state"] != "READY"]
    text += [f"! {model['name']} {model['version']}: {model['reason']}" for model in failed]
    text += [f"! {problem}" for problem in report["problems"]]
    text += [line for model in report["models"] for line in _all_tensors(model)]
    text += [note for model in report["models"] if (note := _rows(model))]
    noted = [model for model in report["models"] if model.get("properties", {}).get("numerics")]
    text += [f"* {model['name']} {model['version']} {model['properties']['numerics']}" for model in noted]
    if not report["models"] and [file["path"] for file in report["not_onnx"]] == [report["path"]]:
        text = []
    elif not report["models"]:
        text = [f"no models in {report['path']}: {how_to_add(report['path'])}", *text[1:]]
    text += [f"  {file['path']} is not ONNX. {file['export']}" for file in report["not_onnx"][:_FILES]]
    if (more := len(report["not_onnx"]) - _FILES) > 0:
        text.append(f"  and {more} more files are not ONNX")
    return "\n".join(map(printable, text))


def _entry(repository: Repository, entry: ModelVersion) -> dict[str, Any]:
    try:
        model = repository.get(entry.name, entry.version)
    except ModelUnavailable as exc:
        return {"name": entry.name, "version": entry.version, "state": "UNAVAILABLE", "reason": str(exc)}
    model.prove_rows()
    facts, axes = metadata.metadata(model, [entry.version]), metadata.named_axes(model)
    for tensor in (*facts["inputs"], *facts["outputs"]):
        if tensor["name"] in axes:
            tensor["axes"] = axes[tensor["name"]]
    return {"version": entry.version, "state": "READY", **{key: facts[key] for key in _FACTS}}


def _not_onnx(path: str, entries: Sequence[ModelVersion]) -> list[dict[str, Any]]:
    """The files in the folder that some other framework reads, but for those that models have their weights in."""
    if path.endswith(".onnx"):
        return []
    own = frozenset(
        posixpath.join(entry.files.folder, name) for entry in entries for name in entry.names or (entry.files.model,)
    )
    return foreign((file.path for file in open_store(path).list()), path, own)


_FACTS = ("name", "platform", "inputs", "outputs", "properties")


def _row(model: dict[str, Any]) -> Sequence[str]:
    if model["state"] != "READY":
        return model["name"], model["version"], "unavailable", "", "", "", "", ""
    properties = model["properties"]
    return (
        model["name"],
        model["version"],
        _tensors(model["inputs"]),
        _tensors(model["outputs"]),
        properties["rows"],
        size_text(int(properties["size"])),
        properties.get("opset", ""),
        properties["sha256"][:12],
    )


def _rows(model: dict[str, Any]) -> str:
    """Why a model's rows are not proven, where they are not; a note, as it is no fault."""
    properties = model.get("properties", {})
    reason = properties.get("rows_reason")
    if not reason:
        return ""
    note = f"  {model['name']} {model['version']}: rows {properties['rows']}: {reason}"
    is_fixed = any(
        tensor["shape"] and tensor["shape"][0] != -1 for tensor in model["inputs"] if not _is_optional(tensor)
    )
    call = advice(properties.get("producer", "")) if is_fixed else ""
    return f"{note}; with a free batch: {call}" if call else note


def _is_optional(tensor: dict[str, Any]) -> bool:
    return "optional" in tensor.get("parameters", ())


def _tensors(tensors: Sequence[dict[str, Any]]) -> str:
    """Those that there is room for in a cell."""
    more = [f"and {len(tensors) - _SHOWN} more"] if len(tensors) > _SHOWN else []
    return ", ".join([*map(_tensor, tensors[:_SHOWN]), *more])


def _all_tensors(model: dict[str, Any]) -> Iterator[str]:
    """All inputs, and all outputs, where the table has room for some only."""
    for kind in ("inputs", "outputs"):
        tensors = model.get(kind, ())
        if len(tensors) > _SHOWN:
            yield f"  {model['name']} {model['version']} {kind}: {', '.join(map(_tensor, tensors))}"


def _tensor(tensor: dict[str, Any]) -> str:
    return f"{tensor['name']} {tensor['datatype']}{_shape(tensor)}"


def _shape(tensor: dict[str, Any]) -> str:
    if "rank" in tensor.get("parameters", ()):
        return "[...]"
    if "axes" in tensor:
        return f"[{tensor['axes']}]"
    return str(list(tensor["shape"])).replace("-1", "?")


def size_text(size: int) -> str:
    """A number of bytes to be read by people: 28.3 kB."""
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000  # type: ignore[assignment]
    return f"{size:.3g} GB"

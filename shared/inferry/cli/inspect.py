"""What `inferry inspect` says of a repository, as data and as a table."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from inferry.cpus import session_threads
from inferry.errors import ModelUnavailable
from inferry.observability.logs import printable
from inferry.repository import metadata
from inferry.repository.repository import Repository, open_repository
from inferry.repository.version import ModelVersion
from inferry.settings import Settings


def inspect(settings: Settings) -> dict[str, Any]:
    """Every version of every model, each loaded once: its signature and facts, or the reason why it can't be served."""
    cache = Path(settings.model_cache_dir) if settings.model_cache_dir else None
    repository = open_repository(
        settings.model_path,
        settings.model_name,
        cache_size=1,
        threads=session_threads(settings),
        cache=cache,
        in_full=True,
    )
    return {
        "path": settings.model_path,
        "models": [_entry(repository, entry) for entry in repository.entries()],
        "problems": repository.problems,
    }


def has_problems(report: dict[str, Any]) -> bool:
    """Whether a model can't be served, or a file is left out."""
    return bool(report["problems"]) or any(model["state"] != "READY" for model in report["models"])


def table(report: dict[str, Any]) -> str:
    """The report as a table, to be read by people."""
    header = ("MODEL", "VERSION", "INPUTS", "OUTPUTS", "ROWS", "SIZE", "OPSET", "SHA-256")
    lines = [header, *(_row(model) for model in report["models"])]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    failed = [model for model in report["models"] if model["state"] != "READY"]
    text += [f"! {model['name']} {model['version']}: {model['reason']}" for model in failed]
    text += [f"! {problem}" for problem in report["problems"]]
    text += [note for model in report["models"] if (note := _rows(model))]
    noted = [model for model in report["models"] if model.get("properties", {}).get("numerics")]
    text += [f"* {model['name']} {model['version']} {model['properties']['numerics']}" for model in noted]
    if not report["models"]:
        text = [f"no models in {report['path']}: put NAME.onnx or NAME/1/model.onnx there", *text[1:]]
    return "\n".join(map(printable, text))


def _entry(repository: Repository, entry: ModelVersion) -> dict[str, Any]:
    try:
        model = repository.get(entry.name, entry.version)
    except ModelUnavailable as exc:
        return {"name": entry.name, "version": entry.version, "state": "UNAVAILABLE", "reason": str(exc)}
    model.prove_rows()
    facts = metadata.metadata(model, [entry.version])
    return {"version": entry.version, "state": "READY", **{key: facts[key] for key in _FACTS}}


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
    reason = model.get("properties", {}).get("rows_reason")
    return f"  {model['name']} {model['version']}: rows {model['properties']['rows']}: {reason}" if reason else ""


def _tensors(tensors: Sequence[dict[str, Any]], most: int = 3) -> str:
    texts = [f"{t['name']} {t['datatype']}{_shape(t)}" for t in tensors[:most]]
    more = [f"and {len(tensors) - most} more"] if len(tensors) > most else []
    return ", ".join(texts + more)


def _shape(tensor: dict[str, Any]) -> str:
    if "rank" in tensor.get("parameters", ()):
        return "[...]"
    return str(list(tensor["shape"])).replace("-1", "?")


def size_text(size: int) -> str:
    """A number of bytes to be read by people: 28.3 kB."""
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000  # type: ignore[assignment]
    return f"{size:.3g} GB"

"""Which models and versions the files of a repository are: Triton's layout, and flat files."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from inferry.stored import StoredFile, VersionFiles

MODEL_FILE = "model.onnx"
CONFIG_FILE = "config.json"

_NAME = re.compile(r"(?!\.+$)[A-Za-z0-9._-]+")  # "." and ".." are other folders
_RESERVED = ("stats",)  # /v2/models/stats is a route


@dataclass(slots=True)
class ModelFiles:
    """A model's versions, and its config.json when it has one."""

    versions: dict[str, VersionFiles] = field(default_factory=dict)
    config: StoredFile | None = None


def scan(files: Iterable[StoredFile]) -> tuple[dict[str, ModelFiles], list[str]]:
    """The models in a repository, by name, and a sentence about each file that can't be part of one.

    `NAME/VERSION/model.onnx`, `NAME/config.json`, and `NAME.onnx` (version 1). External data lies in the version's
    folder or below it, that of a flat file beside it.
    """
    models: dict[str, ModelFiles] = {}
    problems: list[str] = []
    folders: dict[tuple[str, str], list[StoredFile]] = {}
    flat: list[StoredFile] = []
    for file in files:
        parts = file.path.split("/")
        if len(parts) == 1:
            flat.append(file)
        elif len(parts) == 2 and parts[1] == CONFIG_FILE:
            models.setdefault(parts[0], ModelFiles()).config = file
        elif len(parts) == 2 and parts[1].endswith(".onnx"):
            problems.append(f"{file.path} has no version folder: move it to {parts[0]}/1/{MODEL_FILE}")
        elif len(parts) > 2:
            folders.setdefault((parts[0], parts[1]), []).append(file)
    for (name, version), members in folders.items():
        _add_folder(models, problems, name, version, members)
    _add_flat(models, problems, flat)
    return {name: model for name, model in sorted(models.items()) if model.versions}, problems


def _add_folder(
    models: dict[str, ModelFiles], problems: list[str], name: str, version: str, files: Sequence[StoredFile]
) -> None:
    folder = f"{name}/{version}"
    if not any(file.path == f"{folder}/{MODEL_FILE}" for file in files):
        if any(file.path.endswith(".onnx") for file in files):
            problems.append(f"{folder} has no {MODEL_FILE}: a version's ONNX file must have that name")
    elif problem := _bad_name(name) or _bad_name(version):
        problems.append(f"{folder}: {problem}")
    else:
        model = models.setdefault(name, ModelFiles())
        model.versions[version] = VersionFiles(folder, MODEL_FILE, tuple(files))


def _add_flat(models: dict[str, ModelFiles], problems: list[str], files: Sequence[StoredFile]) -> None:
    beside = tuple(files)
    for file in files:
        name, dot, extension = file.path.rpartition(".")
        if not dot or extension != "onnx":
            continue
        if problem := _bad_name(name):
            problems.append(f"{file.path}: {problem}")
        elif name in models and models[name].versions:
            problems.append(f"{file.path} is ignored: the folder {name}/ holds a model of the same name")
        else:
            models.setdefault(name, ModelFiles()).versions["1"] = VersionFiles("", file.path, beside)


def _bad_name(name: str) -> str:
    if name in _RESERVED:
        return f"'{name}' is a reserved name"
    return "" if _NAME.fullmatch(name) else f"'{name}' must consist of letters, digits, '.', '_' and '-'"


def newest_first(versions: Iterable[str]) -> list[str]:
    """Numbers before other names, each from the highest down."""
    return sorted(versions, key=_age, reverse=True)


def _age(version: str) -> tuple[bool, int, str, str]:
    # Numbers compare by their digits: Python refuses to convert more than 4,300 of them.
    digits = version.lstrip("0") if version.isdecimal() else ""
    return version.isdecimal(), len(digits), digits, version

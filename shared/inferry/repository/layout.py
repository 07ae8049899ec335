"""Which models and versions the files of a repository are: Triton's layout, and flat files."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from inferry.storage.stored import StoredFile, VersionFiles

MODEL_FILE = "model.onnx"
CONFIG_FILE = "config.json"
# Beside the forms of a version that inferry prepared, which has no MODEL_FILE.
MANIFEST = "prepared.json"
# What a name of Linux's file systems may have.
MAX_NAME_BYTES = 255

_NAME = re.compile(r"(?!\.+$)[A-Za-z0-9._-]+")  # "." and ".." are other folders
_RESERVED = ("stats",)  # /v2/models/stats is a route


@dataclass(slots=True)
class ModelFiles:
    """A model's versions, and its config.json when it has one.

    A registry may keep one with each version instead (`configs`), and then names the `default` version itself.
    """

    versions: dict[str, VersionFiles] = field(default_factory=dict)
    config: StoredFile | None = None
    configs: dict[str, StoredFile] | None = None
    default: str = ""


Found: TypeAlias = tuple[dict[str, ModelFiles], list[str]]
"""Models by name, and a sentence about each file that can't be part of one."""
Scan: TypeAlias = Callable[[Iterable[StoredFile]], Found]


def scan(listed: Iterable[StoredFile], model_name: str = "", folder: str = "") -> Found:
    """The models in a repository, by name, and a sentence about each file that can't be part of one.

    `NAME/VERSION/model.onnx`, `NAME/config.json`, and `NAME.onnx` (version 1). External data lies in the version's
    folder or below it, that of a flat file beside it. `NAME/VERSION/prepared.json` stands for a version as well.

    A folder of nothing but numbered versions (`1/model.onnx`, `config.json`) is a model's own, called `model_name`,
    else as the `folder` is. With `model_name` so is one with an ONNX file in it: version 1, with whatever lies beside.
    """
    files = list(listed)
    models, problems = _repository(files)
    if models and model_name in ("", *models):
        return models, problems
    own = _versions(files)
    if model_name and not own:
        own = _bare(files)
    if not own:
        missing = [f"there is no model '{model_name}', as MODEL_NAME says"] if model_name else []
        return models, problems + missing
    name = model_name or folder
    if problem := bad_name(name):
        return {}, [f"{problem}: name the model with --model-name or MODEL_NAME"]
    return {name: ModelFiles(own, next((file for file in files if file.path == CONFIG_FILE), None))}, []


def _versions(files: Sequence[StoredFile]) -> dict[str, VersionFiles]:
    """The numbered versions in a model's own folder."""
    folders: dict[str, list[StoredFile]] = {}
    for file in files:
        version, slash, _ = file.path.partition("/")
        if slash and version.isascii() and version.isdecimal():
            folders.setdefault(version, []).append(file)
    return {
        version: VersionFiles(version, main, tuple(members))
        for version, members in folders.items()
        if (main := _main(version, members))
    }


def _bare(files: Sequence[StoredFile]) -> dict[str, VersionFiles]:
    """The model whose ONNX file lies in the folder itself, MODEL_FILE or the only one, as version 1."""
    found = [file.path for file in files if "/" not in file.path and file.path.endswith(".onnx")]
    if MODEL_FILE not in found and len(found) != 1:
        return {}
    model = MODEL_FILE if MODEL_FILE in found else found[0]
    return {"1": VersionFiles("", model, tuple(file for file in files if file.path != CONFIG_FILE))}


def _repository(files: Iterable[StoredFile]) -> tuple[dict[str, ModelFiles], list[str]]:
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
            problems.append(_misplaced(file.path, *parts))
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
    model_file = _main(folder, files)
    if not model_file:
        if any(file.path.endswith(".onnx") for file in files):
            problems.append(f"{folder} has no {MODEL_FILE}: a version's ONNX file must have that name")
    elif problem := bad_name(name) or bad_name(version):
        problems.append(f"{folder}: {problem}")
    else:
        model = models.setdefault(name, ModelFiles())
        model.versions[version] = VersionFiles(folder, model_file, tuple(files))


def _main(folder: str, files: Sequence[StoredFile]) -> str:
    """The file that makes a folder a version: its ONNX file, else what `inferry prepare` wrote; empty without."""
    paths = {file.path for file in files}
    return next((name for name in (MODEL_FILE, MANIFEST) if f"{folder}/{name}" in paths), "")


def _add_flat(models: dict[str, ModelFiles], problems: list[str], files: Sequence[StoredFile]) -> None:
    beside = tuple(files)
    for file in files:
        name, dot, extension = file.path.rpartition(".")
        if not dot or extension != "onnx":
            continue
        if problem := bad_name(name):
            problems.append(f"{file.path}: {problem}")
        elif name in models and models[name].versions:
            problems.append(f"{file.path} is ignored: the folder {name}/ holds a model of the same name")
        else:
            models.setdefault(name, ModelFiles()).versions["1"] = VersionFiles("", file.path, beside)


def _misplaced(path: str, folder: str, _file: str) -> str:
    if folder.isdecimal():
        return (
            f"{path} is a version without a model: move the folder {folder} into one with the model's name, or serve "
            "the model's own folder by itself"
        )
    return f"{path} has no version folder: move it to {folder}/1/{MODEL_FILE}"


def bad_name(name: str) -> str:
    """Why no model and no version can have this name; empty when one can."""
    if name in _RESERVED:
        return f"'{name}' is a reserved name"
    if len(name) > MAX_NAME_BYTES:
        return f"'{name[:100]}...' has more than {MAX_NAME_BYTES} characters"
    return "" if _NAME.fullmatch(name) else f"'{name}' must consist of letters, digits, '.', '_' and '-'"


def newest_first(versions: Iterable[str]) -> list[str]:
    """Numbers before other names, each from the highest down."""
    return sorted(versions, key=_age, reverse=True)


def _age(version: str) -> tuple[bool, int, str, str]:
    # Numbers compare by their digits: Python refuses to convert more than 4,300 of them.
    digits = version.lstrip("0") if version.isdecimal() else ""
    return version.isdecimal(), len(digits), digits, version

"""Where the model is that a command is about: a file, a folder or a name in the repository, on this machine."""

from pathlib import Path
from typing import NamedTuple

from inferry.cli.exports import refuse_foreign
from inferry.errors import InvalidRequest
from inferry.repository.layout import MANIFEST, MODEL_FILE
from inferry.repository.repository import Repository
from inferry.repository.store import is_registry
from inferry.settings import Settings


class Place(NamedTuple):
    """The model that was named: what the server would be given, and its `version` if one was named."""

    path: str
    name: str = ""
    version: str = ""


def find_model(model: str, settings: Settings) -> Place:
    """The file or the folder of this path, else the model of this name in the repository."""
    if "://" in model:
        raise InvalidRequest(f"{model} is not on this machine: name an .onnx file or a folder")
    refuse_foreign(model)
    path = Path(model)
    if path.suffix == ".onnx":
        if path.name == MODEL_FILE and _is_version(path.absolute().parent):
            return _in_own_folder(path.absolute().parent, path.parent)
        return Place(model)
    if path.is_dir():
        is_version = any((path / name).exists() for name in (MODEL_FILE, MANIFEST)) and _is_version(path.absolute())
        return _in_own_folder(path.absolute(), path) if is_version else Place(model)
    if "://" in settings.model_path:
        raise InvalidRequest(f"{settings.model_path} is not on this machine: name an .onnx file or a folder")
    name, _, version = model.partition("/")
    return Place(settings.model_path, name, version)


def how_to_add(path: str) -> str:
    """What to do about a repository without models."""
    if is_registry(path):
        return f"inferry push MODEL '{path.partition('?')[0]}' registers one"
    return "put NAME.onnx or NAME/1/model.onnx there"


def _is_version(folder: Path) -> bool:
    return folder.name.isascii() and folder.name.isdecimal()


def _in_own_folder(folder: Path, given: Path) -> Place:
    """The version in `folder`, whose model's folder is above it; as short as it was `given`."""
    above = given.parent if given.name == folder.name else folder.parent
    return Place(str(above), version=folder.name)


def only(repository: Repository, path: str) -> str:
    """The name of the only model at `path`. InvalidRequest lists what is there instead."""
    names = repository.names()
    if len(names) != 1:
        known = f"name one of {', '.join(names)}, as {path}/{names[0]}" if names else "; ".join(repository.problems)
        raise InvalidRequest(f"there are {len(names)} models in {path}{': ' if known else ''}{known}")
    return names[0]

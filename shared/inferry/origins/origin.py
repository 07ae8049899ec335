"""A model as some framework saved it: its ONNX file, and what the framework itself answers."""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import NamedTuple, TypeAlias

from inferry.errors import InvalidRequest
from inferry.protocol.signature import Feed
from inferry.protocol.tensors import DATATYPES, Array, Datatype

Answers: TypeAlias = Callable[[Feed], Mapping[str, Array]]
"""What the framework answers to inputs, by the names of the ONNX file's outputs; those that it has nothing for are left
out."""


class Input(NamedTuple):
    """An input that the user describes: rows of `width` values."""

    name: str
    datatype: Datatype
    width: int


class Wish(NamedTuple):
    """`trusts`: the user's word that what is in the file may run; `inputs`: where the file doesn't tell them."""

    trusts: bool = False
    inputs: Sequence[Input] = ()


class Origin(NamedTuple):
    """`onnx`: the ONNX file, whose external data is in `folder`; `maker`: what made it.

    `answers` is None where no framework can be asked. `names`: the classes, in the order of scores. `columns`: the
    names of the values of the only input's rows.
    """

    onnx: bytes
    maker: str
    answers: Answers | None = None
    names: tuple[str, ...] = ()
    folder: Path | None = None
    columns: tuple[str, ...] = ()


# The module that opens the files of each ending.
_OPENERS = {
    "onnx": "onnx_files",
    "joblib": "pickles",
    "pkl": "pickles",
    "pickle": "pickles",
    "skops": "pickles",
    "txt": "lightgbm_models",
    "ubj": "xgboost_models",
    "json": "xgboost_models",
    "cbm": "catboost_models",
    "pt2": "torch_models",
}
ENDINGS = tuple(_OPENERS)


def open_origin(path: Path, wish: Wish) -> Origin:
    """The model in a file. InvalidRequest when it can't be made into an ONNX file, with what to do."""
    opener = _OPENERS.get(path.suffix.lower().removeprefix("."))
    if opener is None:
        endings = ", ".join(f".{ending}" for ending in ENDINGS)
        raise InvalidRequest(f"can't import {path}: give a file in {endings}")
    if not path.is_file():
        raise InvalidRequest(f"there is no file {path}")
    origin: Origin = import_module(f"inferry.origins.{opener}").open_file(path, wish)
    return origin


# What a model mostly needs beside a package that is missing, so that the user hears of all at once.
COMPANIONS = {
    "skops": ("sklearn", "skl2onnx"),
    "joblib": ("sklearn", "skl2onnx"),
    "sklearn": ("skl2onnx",),
    "lightgbm": ("onnxmltools",),
    "xgboost": ("onnxmltools",),
    "catboost": (),
    "torch": ("onnxscript",),
}
# What pip calls them, where it is something else.
_DISTRIBUTIONS = {"sklearn": "scikit-learn"}


def needed(package: str, path: Path) -> ModuleType:
    """A module of a framework or a converter, which inferry doesn't bring. InvalidRequest when it is not there."""
    name = package.partition(".")[0]
    if find_spec(name) is None:
        wanted = [each for each in (name, *COMPANIONS.get(name, ())) if find_spec(each) is None]
        missing = [_DISTRIBUTIONS.get(each, each) for each in wanted]
        raise InvalidRequest(
            f"{path} needs {', '.join(missing)}: run inferry in the environment that the model was trained in, as the "
            f"versions have to fit, and install there what is missing: pip install {' '.join(missing)}"
        )
    try:
        return import_module(package)
    except ImportError as exc:
        raise InvalidRequest(f"{path} needs {name}, which can't be imported: {exc}") from exc


def parse_input(text: str) -> Input:
    """NAME=DATATYPE[WIDTH] of the command line. ValueError when it is something else."""
    name, _, rest = text.partition("=")
    datatype, _, width = rest.removesuffix("]").partition("[")
    if not name or datatype not in DATATYPES or not width.isdecimal() or not rest.endswith("]"):
        raise ValueError(text)
    return Input(name, DATATYPES[datatype], int(width))


def matrix(feed: Feed) -> Array:
    """The only input."""
    return next(iter(feed.values()))

"""The folder of models that goes into the image: which there are, what their cards say, and a request for each."""

import json
from pathlib import Path
from typing import Any

from inferry.errors import InferryError
from inferry.repository.metadata import example
from inferry.repository.repository import open_repository

from cdk.props import InvalidProps, Props

CARD = "config.json"
LAYOUT = "NAME.onnx or NAME/1/model.onnx, see docs/models.md#layout"


class ModelFolder:
    """`names` are the models in the folder, sorted. InvalidProps when it can't go into an image."""

    def __init__(self, path: Path) -> None:
        if not path.is_dir():
            raise InvalidProps(f"model_path is a folder of models, and {path} is none: it needs {LAYOUT}")
        self.path = path
        self._repository = open_repository(str(path))
        self.names = tuple(self._repository.names())
        if not self.names:
            problems = "".join(f"; {problem}" for problem in self._repository.problems)
            raise InvalidProps(f"no models in model_path {path}: it needs {LAYOUT}{problems}")
        if self.names == (path.resolve().name,) and not self._has(path.resolve().name):
            raise InvalidProps(f"model_path {path} is one model's own folder: give the folder that it is in")

    def require(self, prop: str, *names: str) -> None:
        """InvalidProps, which names the prop, when one of these is no model of the folder."""
        if missing := [name for name in names if name not in self.names]:
            raise InvalidProps(f"{prop} is {missing[0]}, and the models in {self.path} are {', '.join(self.names)}")

    def card(self, name: str) -> Path | None:
        """The model's config.json, where it has one."""
        path = self.path / name / CARD
        return path if path.exists() else None

    def request(self, name: str) -> dict[str, Any] | None:
        """An inference request: the card's example, else one of zeros; None where that is huge.

        InvalidProps when the model has to be loaded for it, and can't be.
        """
        card = self.card(name)
        inputs = json.loads(card.read_text(encoding="utf-8")).get("example", {}).get("inputs") if card else None
        if inputs:
            return {"inputs": inputs}
        try:
            return example(self._repository.get(name))
        except InferryError as exc:
            raise InvalidProps(f"model {name} in {self.path} can't be served: {exc}") from exc

    def _has(self, name: str) -> bool:
        return (self.path / name).is_dir() or (self.path / f"{name}.onnx").exists()


def models_of(props: Props, source: Path) -> ModelFolder:
    """Those that go into the image. InvalidProps when a name among the props is none of theirs."""
    models = ModelFolder(source / props.model_path)
    models.require("DEFAULT_MODEL", *filter(None, [props.settings.default_model]))
    models.require("checked_models", *props.checked_models)
    return models

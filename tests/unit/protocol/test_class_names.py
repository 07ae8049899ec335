"""Labels of a config.json that don't fit the model: its version does not load."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import onnx_models
import pytest
from inferry.errors import InvalidModel
from inferry.repository.repository import open_repository
from inferry.runtime.model import Model

THREE = ["ant", "bee", "cat"]
SCORES, FREE = onnx_models.identity("FP32", ("n", 3)), onnx_models.identity("FP32", ("n", "m"))
ZIPMAP = onnx_models.zipmap(("no", "yes"))
BEGINNING = "'labels' in config.json have {} names for output '{}' of version 1 of model 'm': "


def example(*values: float) -> dict[str, Any]:
    tensor = {"name": "x", "shape": [1, len(values)], "datatype": "FP32", "data": values}
    return {"warm_up": True, "example": {"inputs": [tensor]}}


@pytest.fixture
def load(repository: Callable[..., str]) -> Callable[..., Model]:
    def load(model: bytes, labels: Mapping[str, Any], others: Mapping[str, bytes] = {}, **config: Any) -> Model:
        content = json.dumps({"labels": labels, **config}).encode()
        path = repository({"m/1/model.onnx": model, "m/config.json": content, **others})
        return open_repository(path).get("m", "1")

    return load


@pytest.mark.parametrize(
    ("model", "labels", "config", "message"),
    [
        (
            SCORES,
            {"z": THREE},
            {},
            "'labels' in config.json name output 'z', which version 1 of model 'm' doesn't have; its outputs are 'y'",
        ),
        (
            ZIPMAP,
            {"probabilities": ["no", "yes"], "probability": ["no", "yes"]},
            {},
            "'labels' in config.json name output 'probability', which version 1 of model 'm' doesn't have; "
            "its outputs are 'label', 'probabilities'",
        ),
        (SCORES, {"y": ["a", "b"]}, {}, BEGINNING.format(2, "y") + "3 are expected, one for each of its values"),
        (SCORES, {"y": [*THREE, "d"]}, {}, BEGINNING.format(4, "y") + "3 are expected, one for each of its values"),
        (SCORES, {"y": []}, {}, BEGINNING.format(0, "y") + "3 are expected, one for each of its values"),
        (FREE, {"y": []}, {}, BEGINNING.format(0, "y") + "one is needed at least"),
        (
            ZIPMAP,
            {"probabilities": THREE},
            {},
            BEGINNING.format(3, "probabilities") + "2 are expected, one for each of its values",
        ),
        (FREE, {"y": THREE}, example(1, 2), BEGINNING.format(3, "y") + "2 are expected, one for each of its values"),
        (
            onnx_models.identity("FP32", ("n", 3, 1, 1)),
            {"y": ["a"]},
            {},
            BEGINNING.format(1, "y") + "3 are expected, one for each of its values",
        ),
        (
            onnx_models.identity("FP32", ()),
            {"y": ["a", "b"]},
            {},
            BEGINNING.format(2, "y") + "1 are expected, one for each of its values",
        ),
        (
            onnx_models.identity("INT64", ("n",)),
            {"y": []},
            {},
            BEGINNING.format(0, "y") + "one is needed at least",
        ),
    ],
)
def test_labels_that_do_not_fit(
    load: Callable[..., Model], model: bytes, labels: Mapping[str, Any], config: Mapping[str, Any], message: str
) -> None:
    with pytest.raises(InvalidModel) as caught:
        load(model, labels, **config)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("model", "labels", "config"),
    [
        (SCORES, {"y": THREE}, {}),
        (SCORES, {}, {}),
        (FREE, {"y": THREE}, {}),
        (FREE, {"y": THREE}, example(1, 2, 3)),
        (onnx_models.identity("FP32", ("n", 3, 1, 1)), {"y": THREE}, {}),
        (onnx_models.identity("INT64", ("n",)), {"y": THREE}, {}),
        (onnx_models.identity("INT64", ("n", 2)), {"y": THREE}, {}),
        (ZIPMAP, {"probabilities": ["bad", "good"]}, {}),
        (ZIPMAP, {"probabilities": ["bad", "good"]}, example(0.25, 0.75)),
    ],
)
def test_labels_that_fit(
    load: Callable[..., Model], model: bytes, labels: Mapping[str, Any], config: Mapping[str, Any]
) -> None:
    loaded = load(model, labels, **config)
    assert {name: list(loaded.labels(name)) for name in labels} == labels


def test_versions_share_a_config(load: Callable[..., Model]) -> None:
    """One may name what only another has, if it names one of its own."""
    other = {"m/2/model.onnx": onnx_models.identity("FP32", ("n", 3), output="z")}
    assert load(SCORES, {"y": THREE, "z": THREE}, other).labels("y") == tuple(THREE)
    with pytest.raises(InvalidModel, match="name output 'z', which version 1 of model 'm' doesn't have"):
        load(SCORES, {"z": THREE}, other)

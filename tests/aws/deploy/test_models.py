"""One's own folder of models in the image: without a config.json, and without the examples."""

import json
import shlex
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import onnx_models
import pytest
from account import Account
from assemblies import Assembly, sources, synthesise
from codedeploy import CodeDeploy
from deployed import Environment
from templates import FUNCTION

from cdk.props import InvalidProps

ZEROS = {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [0, 0]}]}
# As cdk.json has them.
PLAIN: dict[str, Any] = {"environments": {"dev": {}}}


def models(folder: Path, **files: bytes) -> Path:
    """Models of two numbers, as files of these names."""
    return onnx_models.write(folder, {f"{name}.onnx": content for name, content in files.items()})


def own(folder: Path, path: Path, **more: Any) -> Assembly:
    """What is synthesised where the examples are not even there."""
    source = sources(folder / "source")
    shutil.rmtree(source / "models")
    return synthesise({**PLAIN, "model_path": str(path), **more}, folder / "out", source)


def image(assembly: Assembly) -> dict[str, Any]:
    [found] = json.loads(next(assembly.folder.glob("*.assets.json")).read_text())["dockerImages"].items()
    return {"hash": found[0], **found[1]["source"]}


def test_the_image_takes_the_models_from_there(tmp_path: Path) -> None:
    """By name, in place of the stage `models` of the Dockerfile: the builder's context is the project's folder."""
    path = models(tmp_path / "my models", fraud=onnx_models.scaled(2, 2))
    found = image(own(tmp_path / "stack", path))
    assert found["dockerBuildContexts"] == {"models": str(path)}
    folder = tmp_path / "stack" / "out" / found["directory"]
    assert {entry.name for entry in folder.iterdir()} == {".dockerignore", "functions", "shared"}


def test_another_model_is_another_image(tmp_path: Path) -> None:
    """And the same models in another place are the same image."""
    first = models(tmp_path / "first", fraud=onnx_models.scaled(2, 2))
    same = models(tmp_path / "same", fraud=onnx_models.scaled(2, 2))
    other = models(tmp_path / "other", fraud=onnx_models.scaled(3, 2))
    hashes = [image(own(tmp_path / f"{path.name} stack", path))["hash"] for path in (first, same, other)]
    assert (hashes[0] == hashes[1], hashes[0] == hashes[2]) == (True, False)


@pytest.mark.parametrize(("prepare", "arguments"), [("none", None), ("one", {"PREPARE": "one"})])
def test_the_image_prepares_them(prepare: str, arguments: dict[str, str] | None, tmp_path: Path) -> None:
    path = models(tmp_path / "models", fraud=onnx_models.scaled(2, 2))
    assert image(own(tmp_path / "stack", path, prepare=prepare)).get("dockerBuildArgs") == arguments


def test_the_examples_need_no_context_of_their_own(dev: Assembly) -> None:
    assert "dockerBuildContexts" not in image(dev)


def test_the_check_asks_all_of_them(tmp_path: Path) -> None:
    path = models(tmp_path / "models", fraud=onnx_models.scaled(2, 2), churn=onnx_models.scaled(3, 2))
    assembly = own(tmp_path / "stack", path)
    check = assembly.only(FUNCTION, "CheckHandler")
    assert json.loads(check["Environment"]["Variables"]["MODELS"]) == ["churn", "fraud"]
    folder = assembly.folder / f"asset.{check['Code']['S3Key'].removesuffix('.zip')}"
    assert [path.name for path in folder.rglob("*") if path.is_file()] == ["handler.py"]


REFUSED: dict[str, tuple[dict[str, bytes], dict[str, Any], str]] = {
    "nothing": (
        {},
        {},
        "no models in model_path PATH: it needs NAME.onnx or NAME/1/model.onnx, see docs/models.md#layout",
    ),
    "a model without its version": (
        {"fraud/model.onnx": b""},
        {},
        "no models in model_path PATH: it needs NAME.onnx or NAME/1/model.onnx, see docs/models.md#layout; "
        "fraud/model.onnx has no version folder: move it to fraud/1/model.onnx",
    ),
    "a model's own folder": (
        {"1/model.onnx": b""},
        {},
        "model_path PATH is one model's own folder: give the folder that it is in",
    ),
    "a default of another folder": (
        {"fraud.onnx": b""},
        {"environments": {"dev": {"settings": {"DEFAULT_MODEL": "digits"}}}},
        "DEFAULT_MODEL is digits, and the models in PATH are fraud",
    ),
    "another folder's to check": (
        {"fraud.onnx": b"", "churn.onnx": b""},
        {"checked_models": "fraud,digits"},
        "checked_models is digits, and the models in PATH are churn, fraud",
    ),
    "no model": ({"fraud.onnx": b"no ONNX"}, {}, "model fraud in PATH can't be served: "),
}


@pytest.mark.parametrize("case", REFUSED)
def test_before_anything_is_built(tmp_path: Path, case: str) -> None:
    files, context, expected = REFUSED[case]
    path = tmp_path / "models"
    path.mkdir()
    onnx_models.write(path, files)
    with pytest.raises(InvalidProps) as caught:
        own(tmp_path / "stack", path, **context)
    said = str(caught.value).replace(str(path), "PATH")
    assert said.startswith(expected) if expected.endswith(": ") else said == expected


def test_a_path_that_is_no_folder(tmp_path: Path) -> None:
    file = models(tmp_path, model=onnx_models.scaled(2, 2)) / "model.onnx"
    with pytest.raises(InvalidProps) as caught:
        own(tmp_path / "stack", file)
    needs = "it needs NAME.onnx or NAME/1/model.onnx, see docs/models.md#layout"
    assert str(caught.value) == f"model_path is a folder of models, and {file} is none: {needs}"


@pytest.fixture(scope="module")
def environment(
    account: Account, codedeploy: CodeDeploy, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Environment]:
    with ExitStack() as emulators:
        yield Environment(account, codedeploy, tmp_path_factory.mktemp("deployed"), emulators, stack="own-dev")


def test_two_versions(environment: Environment, tmp_path: Path) -> None:
    """From the file alone to the line of curl, and a second version by way of its check."""
    context = {**PLAIN, "project": "own", "authorization": "none"}
    for factor in (2, 3):
        path = models(tmp_path / str(factor), fraud=onnx_models.scaled(factor, 2))
        told = {"model_path": str(path)}
        status, said = environment.deploy(None, {**context, **told}, MODEL_PATH=str(path))
        assert status == 0, said
    assert list(environment.codedeploy.statuses.values()) == ["Succeeded"]
    *_, body = shlex.split(environment.outputs["Curl"])
    assert json.loads(body) == ZEROS
    answer = environment.curl()
    assert (answer["model_name"], answer["outputs"][0]["data"]) == ("fraud", [0, 0])
    status, said = environment.destroy()
    assert status == 0, said

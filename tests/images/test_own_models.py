"""Images with another folder of models: the examples are not in them, and every model was loaded by the build.

What the build found out of their rows lies in .inferry.
"""

import json
from dataclasses import replace
from pathlib import Path

import onnx_models
import prepared_models
import pytest
from containers import FUNCTIONS, IMAGES, build, inside

MODELS = "import json, os; print(json.dumps(sorted(os.listdir('models'))))"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_another_folder(base: str, name: str, tmp_path: Path) -> None:
    models = onnx_models.write(tmp_path / "my models", {"fraud.onnx": onnx_models.scaled()})
    image = replace(IMAGES[name], name=f"{name}-own")
    build(image, "--build-context", f"models={models}")
    assert json.loads(inside(image, "python3", "-c", MODELS)) == [".inferry", "fraud.onnx"]


FORM = """
from inferry.repository.repository import open_repository
model = open_repository("models", threads=1).get("conv")
print(model.form.kind, model.hashed)
"""


@pytest.mark.parametrize("name", FUNCTIONS)
def test_prepared_models(base: str, name: str, tmp_path: Path) -> None:
    """By one switch; in the image, which is mounted read-only, they are mapped and not hashed."""
    models = onnx_models.write(tmp_path / "models", {"conv/1/model.onnx": prepared_models.convolutions()})
    image = replace(IMAGES[name], name=f"{name}-prepared")
    build(image, "--build-context", f"models={models}", "--build-arg", "PREPARE=many")
    assert inside(image, "python3", "-c", FORM) == "native False\n"


def test_a_model_that_can_not_be_served(base: str, tmp_path: Path) -> None:
    """The build ends with the reason."""
    models = onnx_models.write(tmp_path / "models", {"fraud.onnx": b"no ONNX"})
    image = replace(IMAGES["lambda"], name="lambda-broken")
    with pytest.raises(AssertionError, match="fraud"):
        build(image, "--build-context", f"models={models}")

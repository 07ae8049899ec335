"""The options of `make azure-package`: whose Python it is for, and whose models are in it."""

import runpy
import subprocess
import sys
from pathlib import Path

import onnx_models
import pytest
from configuration import ROOT

PACKAGE = ROOT / "deploy" / "azure" / "package.py"
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--python", "3.9"], f"the app has Python 3.9, and this one is {VERSION}: make ... AZURE_PYTHON=python3.9"),
        (["--models", "nowhere"], "--models is a folder of models, and nowhere is none: see docs/models.md#layout"),
    ],
)
def test_what_is_refused(options: list[str], said: str) -> None:
    """Before anything is installed."""
    done = subprocess.run(
        [sys.executable, str(PACKAGE), *options], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr.splitlines()[-1]) == (2, f"package.py: error: {said}")


@pytest.mark.parametrize("own", [True, False])
def test_models(tmp_path: Path, own: bool) -> None:
    """Those of the folder under the name that the app knows, or none."""
    models = onnx_models.write(tmp_path / "mine", {"fraud.onnx": onnx_models.scaled()})
    app = tmp_path / "app"
    app.mkdir()
    runpy.run_path(str(PACKAGE))["copy_code"](app, models if own else None)
    found = {path.name for path in app.iterdir()}
    assert found == {"azure_app", "function_app.py", "host.json", "requirements.txt", "shared"} | (
        {"models"} if own else set()
    )
    assert [path.name for path in app.glob("models/*")] == (["fraud.onnx"] if own else [])

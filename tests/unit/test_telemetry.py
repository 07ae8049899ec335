"""onnxruntime >= 1.29 reports home unless it is told not to before it is imported; inferry tells it."""

import os
import subprocess
import sys
from pathlib import Path

import onnx_models

SCRIPT = """
import sys, time
from pathlib import Path
import numpy as np
from inferry.runtime import onnx_file
from inferry.runtime.session import Session, SessionOptions
path = Path(sys.argv[1])
session = Session(path, onnx_file.read(path), "m", SessionOptions())
answer, = session.run({"x": np.ones((1, 3), np.float32)}, ["y"], time.monotonic() + 10)
print(answer.tolist())
"""


def test_nothing_is_written_to_the_home_directory(tmp_path: Path) -> None:
    home, model = tmp_path / "home", tmp_path / "model.onnx"
    home.mkdir()
    model.write_bytes(onnx_models.identity())
    # Not what the shell says: a user has set nothing.
    env = {name: value for name, value in os.environ.items() if name in ("PATH", "LD_LIBRARY_PATH", "PYTHONPATH")}
    env |= {"HOME": str(home), "USERPROFILE": str(home), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", SCRIPT, str(model)]
    result = subprocess.run(command, env=env, cwd=tmp_path, check=True, capture_output=True, text=True)
    assert (result.stdout, result.stderr) == ("[[1.0, 1.0, 1.0]]\n", "")
    assert sorted(path.name for path in home.rglob("*")) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "model.onnx"]

"""The commands over a bucket: servers that start together on one cold cache, infer, and inspect."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import onnx_models
import pytest
import services
from inferry import store
from servers import environment, serving, tensor

# Several pieces.
BALLAST = os.urandom(20_000_000)
NAME = "from-a-bucket"


@pytest.fixture(scope="module")
def bucket(s3: services.S3, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment for s3://from-a-bucket, which holds a model with a file beside it, and its digest."""
    files = {"model.onnx": onnx_models.scaled(2.0), "ballast.bin": BALLAST}
    digest = store.digest(onnx_models.write(tmp_path_factory.mktemp("scale"), files), [*files])
    s3.create(NAME)
    for file, content in files.items():
        s3.put(NAME, f"scale/1/{file}", content)
    s3.put(NAME, "scale/config.json", json.dumps({"sha256": {"1": digest}}).encode())
    return s3.environment | {"NO_PROXY": services.HOST}


def run(*arguments: str, **env: str) -> str:
    command = [sys.executable, "-m", "inferry", *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment(env))
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout


def test_servers_that_start_together_on_one_cold_cache(bucket: dict[str, str], tmp_path: Path) -> None:
    cache = tmp_path / "cache"

    def start(_: int) -> list[float]:
        with serving(f"s3://{NAME}", MODEL_CACHE_DIR=str(cache), **bucket) as server:
            answer = server.infer("scale", tensor("x", "FP32", [1, 3], [1, 2, 3]))
            data: list[float] = answer.json["outputs"][0]["data"]
            return data

    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(start, range(3))) == [[2.0, 4.0, 6.0]] * 3
    (kept,) = cache.iterdir()
    assert {path.name: path.stat().st_size for path in kept.iterdir()} == {
        "model.onnx": len(onnx_models.scaled(2.0)),
        "ballast.bin": len(BALLAST),
    }


def test_infer_and_inspect(bucket: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("a,b,c\n1,2,3\n4,5,6\n")
    env = {"MODEL_CACHE_DIR": str(tmp_path / "cache"), **bucket}
    predicted = run("infer", "scale", "--models", f"s3://{NAME}", "--input", str(tmp_path / "x.csv"), **env)
    assert predicted == '{"y":[2.0,4.0,6.0]}\n{"y":[8.0,10.0,12.0]}\n'
    (model,) = json.loads(run("inspect", f"s3://{NAME}", "--json", **env))["models"]
    assert (model["name"], model["version"], model["state"]) == ("scale", "1", "READY")
    assert model["properties"]["size"] == str(len(BALLAST) + len(onnx_models.scaled(2.0)))

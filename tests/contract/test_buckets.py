"""The commands over buckets of S3 and Google: servers that start together on one cold cache, infer, inspect, batch."""

import json
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx_models
import pytest
import services
from inferry.repository import content, digests
from inferry.storage.files import open_files
from servers import environment, serving, tensor

# Several pieces.
MODEL, WEIGHTS = onnx_models.external(2.0, ballast=20_000_000)
NAME = "from-a-bucket"
REFUSED = b"""\
{"row":2,"column":"c","reason":"'x' is found where FP32 is expected","data":{"a":"4","b":"5","c":"x"}}
"""


@dataclass(frozen=True)
class Bucket:
    """Its URL, and what opens it."""

    url: str
    environment: dict[str, str]


@pytest.fixture(scope="module", params=["s3", "gs"])
def bucket(
    request: pytest.FixtureRequest, service_of: Callable[[str], Any], tmp_path_factory: pytest.TempPathFactory
) -> Bucket:
    """It holds a model with external data, its digest, a file of nobody, and rows."""
    service = service_of(request.param)
    files = {"model.onnx": MODEL, "weights.bin": WEIGHTS}
    digest = content.digest(onnx_models.write(tmp_path_factory.mktemp("scale"), files), [*files])
    service.create(NAME)
    for file, data in {**files, "README.md": b"no part of the model"}.items():
        service.put(NAME, f"models/scale/1/{file}", data)
    service.put(NAME, "models/scale/config.json", json.dumps({"sha256": {"1": digest}}).encode())
    service.put(NAME, "rows/a.csv", b"a,b,c\n1,2,3\n4,5,x\n")
    service.put(NAME, "rows/deep/b.jsonl", b'{"x": [1, 2, 3]}\n')
    return Bucket(f"{request.param}://{NAME}", service.environment | {"NO_PROXY": services.HOST})


def run(*arguments: str, **env: str) -> str:
    command = [sys.executable, "-m", "inferry", *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment(env))
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout


def test_servers_that_start_together_on_one_cold_cache(bucket: Bucket, tmp_path: Path) -> None:
    cache = tmp_path / "cache"

    def start(_: int) -> list[float]:
        with serving(f"{bucket.url}/models", MODEL_CACHE_DIR=str(cache), **bucket.environment) as server:
            answer = server.infer("scale", tensor("x", "FP32", [1, 3], [1, 2, 3]))
            data: list[float] = answer.json["outputs"][0]["data"]
            return data

    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(start, range(3))) == [[2.0, 4.0, 6.0]] * 3
    (kept,) = (folder for folder in cache.iterdir() if folder.name != digests.FOLDER)
    assert {path.name: path.stat().st_size for path in kept.iterdir()} == {
        "model.onnx": len(MODEL),
        "weights.bin": len(WEIGHTS),
    }


def test_infer_and_inspect(bucket: Bucket, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("a,b,c\n1,2,3\n4,5,6\n")
    env = {"MODEL_CACHE_DIR": str(tmp_path / "cache"), **bucket.environment}
    predicted = run("infer", "scale", "--models", f"{bucket.url}/models", "--input", str(tmp_path / "x.csv"), **env)
    assert predicted == '{"y":[2.0,4.0,6.0]}\n{"y":[8.0,10.0,12.0]}\n'
    (model,) = json.loads(run("inspect", f"{bucket.url}/models", "--json", **env))["models"]
    assert (model["name"], model["version"], model["state"]) == ("scale", "1", "READY")
    assert model["properties"]["size"] == str(len(MODEL) + len(WEIGHTS))


def test_batch(bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows and results in the bucket; a second run finds everything done."""
    env = {"MODEL_PATH": f"{bucket.url}/models", "MODEL_CACHE_DIR": str(tmp_path / "cache"), **bucket.environment}
    command = [sys.executable, "-m", "inferry", "batch", f"{bucket.url}/rows", f"{bucket.url}/results", "--json"]
    for variable, value in bucket.environment.items():
        monkeypatch.setenv(variable, value)
    summaries, identities = [], []
    for _ in range(2):
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment(env))
        assert ended.returncode == 0, ended.stderr
        summaries.append(json.loads(ended.stdout))
        results = open_files(f"{bucket.url}/results")
        identities.append(results.list())
    assert summaries[0] == summaries[1]
    assert identities[0] == identities[1]
    assert {file.path: results.read(file.path) for file in identities[0] if "report" not in file.path} == {
        "a.csv": b"y_0,y_1,y_2\n2.0,4.0,6.0\n",
        "a.csv.errors.jsonl": REFUSED,
        "deep/b.jsonl": b'{"y":[2.0,4.0,6.0]}\n',
    }

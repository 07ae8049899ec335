"""MLflow 3, with PostgreSQL behind it: what is registered there is served, and what is pushed comes back."""

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import onnx_models
from compose import Platform
from conftest import Registered, inputs, register, with_client
from inferry.repository.repository import Repository, open_repository
from onnx import TensorProto, helper
from standins import eventually

CONFIG = {"description": "Doubles three numbers.", "labels": {"y": ["a", "b", "c"]}, "max_batch_size": 8}


def opened(platform: Platform, cache: Path, query: str = "") -> Repository:
    """The registry as another server of ours sees it, from this machine."""
    return open_repository(f"mlflow+http://127.0.0.1:{platform.ports['MLFLOW_PORT']}{query}", cache=cache)


def inferry(*arguments: str) -> Sequence[str]:
    done = subprocess.run([sys.executable, "-m", "inferry", *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def metadata(platform: Platform, name: str, version: str = "") -> dict[str, object]:
    answer = platform.ask(f"/v2/models/{name}{f'/versions/{version}' if version else ''}")
    assert answer.status == 200, answer.body
    found: dict[str, object] = answer.json
    return found


def doubling(ballast: int) -> bytes:
    """Doubles three numbers, and has so many bytes that the graph names and does not use."""
    factor = helper.make_tensor("factor", TensorProto.FLOAT, [1], [2.0])
    unused = helper.make_tensor("ballast", TensorProto.UINT8, [ballast], bytes(ballast), raw=True)
    x, y = (onnx_models.tensor(name, "FP32", ("batch", 3)) for name in "xy")
    return onnx_models.model([helper.make_node("Mul", ["x", "factor"], ["y"])], [x], [y], [factor, unused])


def test_external_data_has_mlflows_name(platform: Platform, tmp_path: Path) -> None:
    """Weights over a kilobyte lie beside the file as <uuid>.data."""
    large = register(tmp_path, "large", doubling(5000))
    eventually(lambda: platform.ask(large.path, inputs()).status == 200)
    assert platform.ask(large.path, inputs()).json["outputs"][0]["data"] == [0.0, 2.0, 4.0]
    repository = opened(platform, tmp_path / "cache")
    repository.get("large")
    (name,) = {*(repository.entry("large", "1").names or ())} - {"model.onnx"}
    assert re.fullmatch(r"[0-9a-f-]{36}\.data", name)


JSON = {"Content-Type": "application/json"}


def asked(platform: Platform, method: str, route: str, body: dict[str, str]) -> None:
    answer = platform.ask(f"/api/2.0/mlflow/{route}", body, JSON, "MLFLOW_PORT", method)
    assert answer.status == 200, answer.body


def test_an_alias_moves_while_a_server_runs(platform: Platform, twice: Registered, tmp_path: Path) -> None:
    """Of another server than Compose's, whose default is the highest version."""
    champion = {"name": twice.name, "alias": "champion"}
    asked(platform, "POST", "registered-models/alias", {**champion, "version": twice.version})
    again = register(tmp_path, twice.name, onnx_models.scaled(4.0))
    repository = opened(platform, tmp_path / "cache", "?alias=champion")
    assert repository.names() == [twice.name]
    assert repository.get(twice.name).version == twice.version
    asked(platform, "POST", "registered-models/alias", {**champion, "version": again.version})
    repository.refresh()
    assert repository.get(twice.name).version == again.version
    assert eventually(lambda: newest(platform, again)) == [0.0, 4.0, 8.0]
    # The tests after this one want it to double.
    asked(platform, "DELETE", "model-versions/delete", {"name": again.name, "version": again.version})
    eventually(lambda: platform.ask(twice.path, inputs()).json["model_version"] == twice.version)


def newest(platform: Platform, model: Registered) -> list[float] | None:
    answer = platform.ask(model.path, inputs()).json
    found: list[float] = answer["outputs"][0]["data"]
    return found if answer["model_version"] == model.version else None


def test_files_right_in_the_bucket(platform: Platform, tmp_path: Path) -> None:
    """Of an experiment whose artifacts MLflow does not pass on: Compose's server has the bucket's key."""
    direct = register(tmp_path, "direct", onnx_models.scaled(3.0), "s3://models/direct")
    eventually(lambda: platform.ask(direct.path, inputs()).status == 200)
    assert platform.ask(direct.path, inputs()).json["outputs"][0]["data"] == [0.0, 3.0, 6.0]
    uri = platform.ask("/api/2.0/mlflow/model-versions/get-download-uri?name=direct&version=1", port="MLFLOW_PORT")
    assert uri.json["artifact_uri"].startswith("s3://models/direct/")


def test_what_has_no_onnx_is_left_out_with_a_line(platform: Platform, twice: Registered, tmp_path: Path) -> None:
    with_client(tmp_path, "sklearn", "regression")

    def logged() -> bool:
        platform.ask(twice.path, inputs())
        return "left out: regression/1: it has no ONNX, but the flavours python_function, sklearn" in platform.log(
            "api"
        )

    eventually(logged)
    assert platform.ask("/v2/models/regression").status == 404


def test_a_model_is_pushed_with_its_config(platform: Platform, tmp_path: Path) -> None:
    """It comes back from the registry with its labels and the same digest, and MLflow's own client can load it."""
    content, data = onnx_models.external(2.0, "parts/weights.bin")
    files = {"pushed/1/model.onnx": onnx_models.scaled(5.0), "pushed/2/model.onnx": content}
    files |= {"pushed/2/parts/weights.bin": data}
    config = {
        **CONFIG,
        "default_version": "2",
        "sha256": {"1": hashlib.sha256(files["pushed/1/model.onnx"]).hexdigest()},
    }
    folder = onnx_models.write(tmp_path / "models", {**files, "pushed/config.json": json.dumps(config).encode()})
    url = f"mlflow+http://127.0.0.1:{platform.ports['MLFLOW_PORT']}"
    said = inferry("push", str(folder / "pushed"), url, "--alias", "champion")
    sums = [
        f"{hashlib.sha256(file).hexdigest()}  {name}\n"
        for name, file in (("model.onnx", content), ("parts/weights.bin", data))
    ]
    digest = hashlib.sha256("".join(sums).encode()).hexdigest()
    assert said == [
        f"pushed pushed 2 to {url.removeprefix('mlflow+')} as pushed, version 1",
        f"  files   model.onnx, parts/weights.bin, config.json; {len(content) + len(data)} B, SHA-256 {digest}",
        "  config  without default_version and sha256: MLflow numbers versions itself",
        "  alias   champion",
        f"serve it: inferry serve '{url}?alias=champion'",
    ]
    inferry("push", str(folder / "pushed" / "1"), url)
    eventually(lambda: platform.ask("/v2/models/pushed/versions/2").status == 200)
    served = metadata(platform, "pushed", "1")
    assert served["properties"]["sha256"] == digest  # type: ignore[index]
    answer = platform.ask("/predict", {"model_name": "pushed", "features": [1, 2, 3]}).json
    assert (answer["model_version"], answer["labels"]) == ("2", {"y": ["a", "b", "c"]})
    assert (
        opened(platform, tmp_path / "cache", "?alias=champion").get("pushed").config.description
        == CONFIG["description"]
    )
    assert with_client(tmp_path, "predict", "pushed", "1") == {"y": [[2.0, 2.0, 2.0]]}
    query = "/api/2.0/mlflow/model-versions/get?name=pushed&version=1"
    version = platform.ask(query, port="MLFLOW_PORT").json["model_version"]
    assert version["tags"] == [{"key": "inferry.sha256", "value": digest}]
    assert version["description"] == CONFIG["description"]


def test_files_that_were_exchanged_are_refused(platform: Platform, tmp_path: Path) -> None:
    """By the digest that a push leaves in the registry: through its server anybody may write over a model's files."""
    (tmp_path / "exchanged.onnx").write_bytes(onnx_models.scaled(2.0))
    inferry("push", str(tmp_path / "exchanged.onnx"), f"mlflow+http://127.0.0.1:{platform.ports['MLFLOW_PORT']}")
    query = "/api/2.0/mlflow/model-versions/get-download-uri?name=exchanged&version=1"
    root = platform.ask(query, port="MLFLOW_PORT").json["artifact_uri"].partition(":/")[2]
    path = f"/api/2.0/mlflow-artifacts/artifacts/{root}/model.onnx"
    assert platform.ask(path, onnx_models.scaled(9.0), port="MLFLOW_PORT", method="PUT").status == 200
    answer = eventually(lambda: there(platform, "/v2/models/exchanged/infer"))
    assert answer.status == 503
    digest = hashlib.sha256(onnx_models.scaled(2.0)).hexdigest()
    assert f"expected {digest}" in answer.json["error"]


def there(platform: Platform, path: str) -> object:
    answer = platform.ask(path, inputs())
    return answer if answer.status != 404 else None

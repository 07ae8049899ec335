"""`inferry push`: what reaches the registry, that it comes back, and that half of a model never becomes a version."""

import hashlib
import json
from pathlib import Path

import numpy as np
import onnx_models
import pytest
from inferry.cli.main import main
from inferry.repository.repository import open_repository
from registries import Registry

CONTENT, DATA = onnx_models.external(2.0, "parts/weights.bin")
CONFIG = {"description": "Doubles.", "labels": {"y": ["a", "b", "c"]}, "max_batch_size": 8}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model of two versions, the first of which is its default, and a flat one with its weights beside it."""
    onnx, weights = onnx_models.external(3.0, "flat.weights")
    files = {
        "scale/1/model.onnx": CONTENT,
        "scale/1/parts/weights.bin": DATA,
        "scale/2/model.onnx": onnx_models.scaled(),
    }
    config = json.dumps({**CONFIG, "default_version": "1", "sha256": {"2": _sha256(onnx_models.scaled())}}).encode()
    return onnx_models.write(
        tmp_path / "models", {**files, "scale/config.json": config, "flat.onnx": onnx, "flat.weights": weights}
    )


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_a_model_comes_back_as_it_went(
    registry: Registry, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["push", str(folder / "scale"), registry.url, "--alias", "champion"]) == 0
    digest = _sha256(f"{_sha256(CONTENT)}  model.onnx\n{_sha256(DATA)}  parts/weights.bin\n".encode())
    url = registry.url.removeprefix("mlflow+")
    assert capsys.readouterr().out.splitlines() == [
        f"pushed scale 1 to {url} as scale, version 1",
        f"  files   model.onnx, parts/weights.bin, config.json; {len(CONTENT) + len(DATA)} B, SHA-256 {digest}",
        "  config  without default_version and sha256: MLflow numbers versions itself",
        "  alias   champion",
        f"serve it: inferry serve '{registry.url}?alias=champion'",
    ]
    (logged,) = registry.logged.values()
    assert (logged.status, registry.models["scale"]["1"].tags) == ("LOGGED_MODEL_READY", {"inferry.sha256": digest})
    assert {name: logged.files[name] for name in ("model.onnx", "parts/weights.bin")} == {
        "model.onnx": CONTENT,
        "parts/weights.bin": DATA,
    }
    assert json.loads(logged.files["config.json"]) == CONFIG
    model = open_repository(f"{registry.url}?alias=champion", cache=tmp_path / "cache").get("scale")
    assert (model.digest, model.config.labels) == (digest, {"y": ("a", "b", "c")})


def test_a_config_without_numbers_of_versions_is_copied(registry: Registry, folder: Path) -> None:
    text = b'{ "max_batch_size" : 8 }'
    (folder / "scale" / "config.json").write_bytes(text)
    assert main(["push", "scale/2", registry.url, "--models", str(folder), "--name", "other"]) == 0
    (logged,) = registry.logged.values()
    assert logged.files["config.json"] == text
    assert registry.models.keys() == {"other"}


def test_a_flat_file_gets_mlflows_name(registry: Registry, folder: Path, tmp_path: Path) -> None:
    """Its weights keep theirs; a second push is a second version."""
    for _ in range(2):
        assert main(["push", str(folder / "flat.onnx"), registry.url]) == 0
    assert registry.models["flat"].keys() == {"1", "2"}
    assert "config.json" not in registry.models["flat"]["1"].files
    model = open_repository(registry.url, cache=tmp_path / "cache").get("flat")
    (array,) = model.session.run({"x": np.ones((1, 3), np.float32)}, ["y"], float("inf"))
    assert (model.version, array.tolist()) == ("2", [[3.0, 3.0, 3.0]])


def test_what_mlmodel_says_is_what_the_file_says(
    registry: Registry, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Of every datatype that NumPy has: a model that was pushed is served without a warning."""
    shape = ("batch", 3)
    kinds = {"b": "BOOL", "i": "INT64", "u": "UINT8", "h": "FP16", "d": "FP64", "s": "BYTES"}
    (tmp_path / "kinds.onnx").write_bytes(onnx_models.echo({name: (kind, shape) for name, kind in kinds.items()}))
    assert main(["push", str(tmp_path / "kinds.onnx"), registry.url]) == 0
    caplog.clear()
    open_repository(registry.url, cache=tmp_path / "cache").get("kinds")
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == []
    text = registry.models["kinds"]["1"].files["MLmodel"].decode()
    assert all(f'"dtype":"{dtype}"' in text for dtype in ("bool", "int64", "uint8", "float16", "float64", "str"))


@pytest.mark.parametrize(
    "model", [onnx_models.identity("BF16"), onnx_models.unranked(onnx_models.identity(), "x", "y")]
)
def test_a_model_that_numpy_has_no_words_for_has_no_signature(registry: Registry, tmp_path: Path, model: bytes) -> None:
    (tmp_path / "m.onnx").write_bytes(model)
    assert main(["push", str(tmp_path / "m.onnx"), registry.url]) == 0
    assert b"signature" not in registry.models["m"]["1"].files["MLmodel"]
    assert open_repository(registry.url, cache=tmp_path / "cache").get("m").version == "1"


@pytest.mark.parametrize(
    ("lies", "status", "problem"),
    [
        ({"/0/m-0/artifacts/parts": (507, b"full")}, "LOGGED_MODEL_UPLOAD_FAILED", "does not take .* (507): full"),
        ({"logged-models": (200, b"{}")}, None, "knows no logged models: inferry push needs MLflow 3"),
        ({"logged-models": (404, b"<!doctype")}, None, "answers logged-models with 404"),
        ({"registered-models/create": (403, b"no")}, "LOGGED_MODEL_READY", "403: no (MLFLOW_TRACKING_USERNAME"),
        (
            {"registered-models/alias": (400, b"bad")},
            "LOGGED_MODEL_READY",
            "version 1 of scale is registered, but not its",
        ),
    ],
)
def test_a_push_that_fails(
    registry: Registry,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    lies: dict[str, tuple[int, bytes]],
    status: str | None,
    problem: str,
) -> None:
    """Is no version, and says so in a line."""
    registry.lies = lies
    assert main(["push", str(folder / "scale"), registry.url, "--alias", "champion"]) == 1
    said = capsys.readouterr().err
    assert all(part in said for part in problem.split(" .* "))
    assert [logged.status for logged in registry.logged.values()] == ([status] if status else [])
    has_version = bool(registry.models.get("scale"))
    assert has_version == (problem.startswith("version 1"))


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["scale", "mlflow+http://127.0.0.1:1?alias=x"], "takes no query: --alias names an alias"),
        (["scale", "http://127.0.0.1:1"], "mlflow+http:// or mlflow+https:// URL"),
        (["s3://bucket/scale", "mlflow+http://127.0.0.1:1"], "s3://bucket/scale is not on this machine"),
        (["scale", "mlflow+http://127.0.0.1:1", "--name", "a b"], "'a b' must consist of letters"),
        (["scale", "mlflow+http://127.0.0.1:1"], "can't reach MLflow at http://127.0.0.1:1"),
        (["broken", "mlflow+http://127.0.0.1:1"], "is not an ONNX file"),
    ],
)
def test_what_cant_be_pushed(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], problem: str
) -> None:
    (folder / "broken.onnx").write_bytes(b"no model")
    assert main(["push", *arguments, "--models", str(folder)]) == 1
    assert problem in capsys.readouterr().err

"""KServe's resources by its own types, and what its storage initialiser, modelcars and agents leave at /mnt/models."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import onnx_models
import pytest
from contract.servers import serving, tensor
from manifests import FOLDER, ROOT, rendered, resources

PYTHON = ROOT / ".tools" / "kserve" / "bin" / "python"
TEXT = rendered(FOLDER / "kserve")
MODEL = onnx_models.scaled()


def judged(text: str) -> str:
    if not PYTHON.exists():
        pytest.fail("kserve is missing: make test-cluster installs it")
    command = [str(PYTHON), str(Path(__file__).with_name("kserve_types.py"))]
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_kserve_takes_it() -> None:
    assert judged(TEXT) == ""


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("autoSelect", "autoselect", "has no such key"),
        ("  containers:", "  container:", "must not be `None`"),
        ("storageUri", "storageURI", "has no such key"),
    ],
)
def test_what_is_wrong_is_found(old: str, new: str, said: str) -> None:
    assert old in TEXT
    assert said in judged(TEXT.replace(old, new))


def test_the_model_finds_the_runtime() -> None:
    found = resources(TEXT)
    runtime = found["ClusterServingRuntime", "inferry"]["spec"]
    model = found["InferenceService", "fraud"]["spec"]["predictor"]["model"]
    assert model["runtime"] == "inferry"
    assert model["modelFormat"]["name"] in [item["name"] for item in runtime["supportedModelFormats"]]
    assert model["protocolVersion"] in runtime["protocolVersions"]
    (container,) = runtime["containers"]
    assert container["image"].startswith("registry.example.com/inferry-server:")
    assert runtime["protocolVersions"] == ["v2", "grpc-v2"]
    assert {"name": "GRPC_PORT", "value": "9000"} in container["env"]
    assert container["args"] == ["serve", "/mnt/models", "--model-name={{.Name}}"]


def one_file(folder: Path) -> None:
    onnx_models.write(folder, {"model.onnx": MODEL})


def any_name(folder: Path) -> None:
    onnx_models.write(folder, {"fraud-2026.onnx": MODEL})


def external_data(folder: Path) -> None:
    model, weights = onnx_models.external()
    onnx_models.write(folder, {"model.onnx": model, "weights.bin": weights})


def versions(folder: Path) -> None:
    onnx_models.write(folder, {"1/model.onnx": onnx_models.scaled(5.0), "2/model.onnx": MODEL})


def triton(folder: Path) -> None:
    """A repository with the model's folder in it, and Triton's configuration."""
    onnx_models.write(folder, {"fraud/1/model.onnx": MODEL, "fraud/config.pbtxt": b'name: "fraud"\n'})


def modelcar(folder: Path) -> None:
    """A link to the file system of another container's process."""
    onnx_models.write(folder.with_name("proc") / "root" / "models", {"model.onnx": MODEL})
    folder.symlink_to(folder.with_name("proc") / "root" / "models")


def config_map(folder: Path) -> None:
    """Links by way of ..data to a folder with a date."""
    onnx_models.write(folder, {"..2026_11_30/model.onnx": MODEL})
    (folder / "..data").symlink_to("..2026_11_30")
    (folder / "model.onnx").symlink_to("..data/model.onnx")


def agent(folder: Path) -> None:
    """The multi-model agent marks what it has fetched."""
    onnx_models.write(folder, {"model.onnx": MODEL, "SUCCESS.0123456789abcdef": b""})


LAYOUTS: tuple[Callable[[Path], None], ...] = (
    one_file,
    any_name,
    external_data,
    versions,
    triton,
    modelcar,
    config_map,
    agent,
)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_layouts(layout: Callable[[Path], None], tmp_path: Path) -> None:
    """The runtime's arguments, with the name that KServe fills in."""
    folder = tmp_path / "mnt" / "models"
    folder.parent.mkdir()
    layout(folder)
    with serving(str(folder), "--model-name=fraud", STRICT_READINESS="true") as server:
        answer = server.infer("fraud", tensor("x", "FP32", [1, 3], [1, 2, 3]))
        assert (answer.status, answer.json["outputs"][0]["data"]) == (200, [2.0, 4.0, 6.0])
        assert server.ask("GET", "/v2/models/fraud/ready").status == 200
        assert server.ask("GET", "/v2/health/ready").status == 200

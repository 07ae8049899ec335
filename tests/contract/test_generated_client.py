"""A client that a generator makes of /openapi.json works, and its functions have the names of the routes."""

import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from inferry.http.routes import ROUTES
from servers import Server

if TYPE_CHECKING:
    from types import ModuleType

pytest.importorskip("openapi_python_client", reason="the generator comes with the group 'dev'")

HEADLINE = {"name": "text", "shape": [1, 1], "datatype": "BYTES", "data": ["Heavy rain"]}


@pytest.fixture(scope="module")
def generated(examples: Server, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """`generated("api.health")` is a module of the client."""
    folder = tmp_path_factory.mktemp("generated")
    (folder / "openapi.json").write_bytes(examples.ask("GET", "/openapi.json").body)
    (folder / "config.yaml").write_text("post_hooks: []\n")
    arguments = [
        "--path",
        "openapi.json",
        "--config",
        "config.yaml",
        "--meta",
        "none",
        "--output-path",
        "inferry_client",
    ]
    made = subprocess.run(
        [sys.executable, "-m", "openapi_python_client", "generate", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (made.returncode, made.stdout, made.stderr) == (0, "Generating inferry_client\n", "")
    sys.path.insert(0, str(folder))
    yield lambda name="": importlib.import_module(f"inferry_client.{name}".rstrip("."))
    sys.path.remove(str(folder))


def test_every_route_has_its_function(generated: Any) -> None:
    package: ModuleType = generated("api")
    files = [path for path in Path(package.__path__[0]).rglob("*.py") if path.name != "__init__.py"]
    assert sorted(path.stem for path in files) == sorted(route.name for route in ROUTES)


@pytest.fixture
def client(examples: Server, generated: Any) -> Iterator[Any]:
    with generated().Client(base_url=examples.url) as client:
        yield client


def test_the_generated_client_works(client: Any, generated: Any) -> None:
    models = generated("models")

    def call(function: str, *arguments: str, **options: Any) -> Any:
        return generated(f"api.{function}").sync(*arguments, client=client, **options).to_dict()

    assert call("health.live") == {"live": True}
    assert call("models.model_metadata", "newsline")["versions"] == ["1"]
    assert call("models.model_stats_of_version", "newsline", "1")["model_stats"][0]["name"] == "newsline"
    infer = {"inputs": [HEADLINE], "outputs": [{"name": "label"}]}
    label = {"name": "label", "datatype": "BYTES", "shape": [1], "data": ["weather"]}
    answer = {"model_name": "newsline", "model_version": "1", "outputs": [label]}
    assert call("models.infer", "newsline", body=models.InferJsonBody.from_dict(infer)) == answer
    body = models.InferOfVersionJsonBody.from_dict(infer)
    assert call("models.infer_of_version", "newsline", "1", body=body) == answer
    rows = models.PredictBody.from_dict({"features": ["Heavy rain"], "model_name": "newsline"})
    assert call("simple.predict", body=rows)["predictions"][0]["label"] == "weather"
    instances = models.V1PredictBody.from_dict({"instances": ["Heavy rain"]})
    assert call("k_serve_v_1.v1_predict", "newsline", body=instances)["predictions"][0]["label"] == "weather"
    error = call("models.infer", "nobody", body=models.InferJsonBody.from_dict(infer))["error"]
    assert error.startswith("unknown model 'nobody'")
    refused = generated("api.streams.post_v2_models_model_generate").sync("newsline", client=client)
    assert "doesn't offer" in refused.error

"""The app below a path: the host's own routePrefix, and a proxy's in front."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import onnx_models
import pytest
from functionhosts import ROOT, running
from servers import Server

PREFIX = "AzureFunctionsJobHost__extensions__http__routePrefix"
# By the settings, the paths below which the host has our functions.
PLACED = {
    "the host's": ({PREFIX: "ml"}, ["/ml"]),
    "a proxy's": ({"BASE_PATH": "/ml"}, ["/ml", ""]),
    "both": ({PREFIX: "ml", "BASE_PATH": "/ml"}, ["/ml"]),
}


@pytest.fixture(scope="module", params=PLACED)
def placed(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[tuple[Server, list[str]]]:
    folder = onnx_models.write(tmp_path_factory.mktemp("placed"), {"m.onnx": onnx_models.identity("FP32", ("n",))})
    env, prefixes = PLACED[request.param]
    with running(ROOT, **env, MODEL_PATH=str(folder)) as server:
        yield server, prefixes


def test_every_function_is_below_the_path(placed: tuple[Server, list[str]]) -> None:
    server, prefixes = placed
    for before in prefixes:
        for path in ("/health", "/v2/health/live", "/v2/health/ready", "/v2/models/m/ready", "/v2/models/m/", "/docs"):
            assert server.ask("GET", f"{before}{path}").status == 200, (before, path)
    for before in {"", "/mlx", "/ml/ml"} - set(prefixes):
        assert server.ask("GET", f"{before}/v2/health/ready").status == 404


def test_links_lead_there(placed: tuple[Server, list[str]]) -> None:
    server, prefixes = placed
    for before in prefixes:
        page = server.ask("GET", f"{before}/docs").body.decode()
        # The script asks for ../../openapi.json, from where it is itself.
        assert re.findall('src="([^"]*docs.js)"', page) == ["/ml/docs/assets/docs.js"]
        assert server.ask("GET", f"{before}/openapi.json").json["servers"] == [{"url": "/ml"}]


APP = "import azure.functions as func\n\napp = func.AsgiFunctionApp(None)\n"


def test_the_route_of_azure_functions_own_class_has_no_prefix(tmp_path: Path) -> None:
    """Azure/azure-functions-python-worker#1310; this is why our app has a route of its own."""
    (tmp_path / "function_app.py").write_text(APP)
    (tmp_path / "host.json").write_text(json.dumps({"version": "2.0"}))
    refused = re.escape(
        "template 'api//{*route}'. The route template separator character '/' cannot appear consecutively"
    )
    with pytest.raises(AssertionError, match=refused), running(tmp_path):
        pass

"""BASE_PATH behind proxies that leave a prefix on the path, or take it off: paths, and links in answers."""

import json
import re
from pathlib import Path

import onnx_models
import pytest
from inferry.errors import InvalidSettings
from inferry.http.routes import FIRST_SEGMENTS
from inferry.settings import Settings
from servers import Server, serving, tensor

REQUEST = json.dumps({"inputs": [tensor("x", "FP32", [1], [1])]}).encode()


def links(server: Server, before: str) -> set[str]:
    """The prefixes of all links that a client finds who asks at paths with `before` in front."""

    def found(path: str) -> str:
        answer = server.ask("GET", f"{before}{path}")
        assert answer.status == 200, (path, answer)
        return answer.body.decode()

    later = server.ask("POST", f"{before}/v2/models/m/infer", REQUEST, {"Prefer": "respond-async"})
    assert (later.status, later.json["url"]) == (202, later.headers["location"])
    page = found("/docs")
    return {
        later.headers["location"].partition("/v2/models/m/requests/")[0],
        json.loads(found("/"))["docs"].removesuffix("/docs"),
        json.loads(found("/openapi.json"))["servers"][0]["url"].removesuffix("/"),
        *re.findall("url: '([^']*)/openapi.json'", page),
        *(link.rpartition("/docs/assets/")[0] for link in re.findall('(?:src|href)="([^"]+)"', page)),
    }


# What is served where: by the setting, the prefixes at which it answers and that links have; and where nothing is.
SERVED = {"": ([""], "", "/ml"), "/ml": (["/ml", ""], "/ml", "/mlx"), "/a/b/": (["/a/b", ""], "/a/b", "/a")}


@pytest.mark.parametrize("given", SERVED)
def test_the_local_server(tmp_path: Path, given: str) -> None:
    folder = onnx_models.write(tmp_path / "models", {"m.onnx": onnx_models.identity("FP32", ("n",))})
    places = {"BATCH_INPUT": f"{tmp_path}/in", "BATCH_OUTPUT": f"{tmp_path}/out"}
    prefixes, linked, nowhere = SERVED[given]
    with serving(folder, BASE_PATH=given, **places) as server:
        for before in prefixes:
            assert links(server, before) == {linked}
            for path in ("/v2/health/ready", "/v2/health/ready/", "/metrics", "/health"):
                assert server.ask("GET", f"{before}{path}").status == 200
        for before in (nowhere, *(f"{prefix}{prefix}" for prefix in prefixes if prefix)):
            assert server.ask("GET", f"{before}/v2/health/ready").status == 404
        assert f"{linked}/docs\n" in server.output


@pytest.mark.parametrize("given", ["ml", "/ml?", "//", "/a//b", "/a b", "https://example.com/ml"])
def test_what_is_no_path_is_refused(given: str) -> None:
    with pytest.raises(InvalidSettings, match="BASE_PATH must be a path like /ml, got"):
        Settings.from_env({"BASE_PATH": given})


@pytest.mark.parametrize("first", sorted(FIRST_SEGMENTS - {""}))
def test_a_path_of_the_api_itself_is_refused(first: str) -> None:
    for given in (f"/{first}", f"/{first}/ml"):
        with pytest.raises(
            InvalidSettings, match=f"BASE_PATH can't begin with /{first}, as paths of the API itself do"
        ):
            Settings(base_path=given)

"""One matrix of where clients call the API behind AWS's front ends: paths are found, and links in answers lead back."""

import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import lambda_events as events
import onnx_models
import pytest
from inferry.app import create_app
from inferry.service import Service
from inferry.settings import Settings
from wrappers.conftest import context

from functions.gateway import Gateway

JSON = "application/json"
OWN, GATEWAYS = "api.example.com", "a1b2c3d4e5.execute-api.eu-central-1.amazonaws.com"
REQUEST = json.dumps({"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1]}]})
LATER = "/v2/models/m/requests"


class Where(NamedTuple):
    """A way to the function. `mapping` is a custom domain's, None at the gateway's own name."""

    front: str
    stage: str
    mapping: str | None
    resource: str

    @property
    def mount(self) -> str:
        """What the resource has in front of the API's own paths."""
        return "/ml" if self.resource.startswith("/ml") else ""

    @property
    def prefix(self) -> str:
        """What a client writes before the API's own paths."""
        if self.mapping is not None:
            return (f"/{self.mapping}" if self.mapping else "") + self.mount
        return ("" if self.stage == "$default" else f"/{self.stage}") + self.mount

    def event(self, method: str, path: str, slash: str, body: str = "") -> dict[str, Any]:
        """As the gateway makes it of a request. `path` is one of the API's; there is none of `resource` for another."""
        sent = f"{self.mount}{path}".rstrip("/")
        template, parameters = self.route(path)
        headers = {
            "host": OWN if self.mapping is not None else GATEWAYS,
            "content-type": JSON,
            "prefer": "respond-async",
        }
        if self.front == "http 2.0":
            # Its paths have the stage at custom domains too, and no mapping.
            raw = f"{'' if self.stage == '$default' else f'/{self.stage}'}{sent}{slash}" or "/"
            return _newer(method, raw, template, parameters, headers, body, self.stage)
        client = f"{self.prefix.removesuffix(self.mount)}{sent}{slash}" or "/"
        # At the gateway's own name the path of a REST API has no stage, and that of an HTTP API has one.
        bare = self.front == "rest" and self.mapping is None
        event = _older(method, f"{sent}{slash}" or "/" if bare else client, template, parameters, headers, body)
        event["requestContext"] |= {"path": client, "stage": self.stage, "domainName": headers["host"]}
        return event | ({"version": "1.0"} if self.front == "http 1.0" else {})

    def route(self, path: str) -> tuple[str, dict[str, str] | None]:
        """The resource that a path is for, and its parameters: a greedy one has no slash at its end."""
        if self.resource == "$default":
            return "$default", None
        if self.resource == "each":
            known = re.sub("/models/m(?=/|$)", "/models/{model}", path)
            return known, {"model": "m"} if known != path else None
        if path == "/":
            return self.mount or "/", None
        front = self.resource.removesuffix("{proxy+}")
        return self.resource, {"proxy": f"{self.mount}{path}".removeprefix(front).strip("/")}


def _older(
    method: str, path: str, resource: str, parameters: dict[str, str] | None, headers: dict[str, str], body: str
) -> dict[str, Any]:
    event = events.load("rest-api-stage")
    event["requestContext"] |= {"resourcePath": resource, "httpMethod": method}
    return event | {
        "resource": resource,
        "path": path,
        "httpMethod": method,
        "headers": headers,
        "multiValueHeaders": {name: [value] for name, value in headers.items()},
        "pathParameters": parameters,
        "body": body or None,
    }


def _newer(
    method: str,
    path: str,
    resource: str,
    parameters: dict[str, str] | None,
    headers: dict[str, str],
    body: str,
    stage: str,
) -> dict[str, Any]:
    event = events.load("http-api-stage")
    key = resource if resource == "$default" else f"ANY {resource}"
    at = event["requestContext"]
    at |= {"stage": stage, "routeKey": key, "domainName": headers["host"], "http": at["http"] | {"method": method}}
    at["http"]["path"] = path
    given = {"rawPath": path, "routeKey": key, "headers": headers, "body": body}
    return (
        {name: value for name, value in event.items() if name != "pathParameters"}
        | given
        | ({"pathParameters": parameters} if parameters else {})
    )


def cells() -> Iterator[Where]:
    stages = {"rest": ["prod"], "http 1.0": ["prod", "$default"], "http 2.0": ["prod", "$default"]}
    for front, mapping in itertools.product(stages, (None, "", "ml", "ml/prod", "v2")):
        for stage in stages[front]:
            for resource in ("/{proxy+}", "/ml/{proxy+}", "/v2/{proxy+}", "each", "$default"):
                # A mapping that an event doesn't name is BASE_PATH's business, below.
                is_named = not mapping or (front != "http 2.0" and resource != "$default")
                if is_named and not (front == "rest" and resource == "$default"):
                    yield Where(front, stage, mapping, resource)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("paths")
    onnx_models.write(folder / "models", {"m.onnx": onnx_models.identity("FP32", ("n",))})
    return folder


def serving(folder: Path, base: str = "") -> Iterator[Gateway]:
    settings = Settings(
        model_path=f"{folder}/models",
        base_path=base,
        batch_input=f"{folder}/in",
        batch_output=f"{folder}/out",
        intra_op_threads=1,
    )
    service = Service.from_settings(settings)
    gateway = Gateway(create_app(service))
    yield gateway
    gateway.open_loop().close()
    service.close()


@pytest.fixture(scope="module")
def gateway(folder: Path) -> Iterator[Gateway]:
    yield from serving(folder)


def seen(gateway: Gateway, event: Any) -> dict[str, str]:
    """What a client learns: whether the API is there, and where everything else is. `event(method, path, body)`."""

    def ask(method: str, path: str, body: str = "") -> tuple[int, dict[str, Any], str]:
        answer = gateway(event(method, path, body), context())
        headers = answer["headers"] | {n: v[0] for n, v in answer.get("multiValueHeaders", {}).items()}
        return answer["statusCode"], headers, events.body(answer).decode()

    def found(method: str, path: str, body: str = "") -> str:
        status, _, text = ask(method, path, body)
        assert status == 200, (path, status, text)
        return text

    assert json.loads(found("GET", "/v2/models/m/ready")) == {"name": "m", "ready": True}
    status, headers, text = ask("POST", LATER, REQUEST)
    assert status == 202, text
    assert json.loads(text)["url"] == headers["location"]
    pages = {}
    if event.__self__.resource != "/v2/{proxy+}":  # others are not there
        page = found("GET", "/docs")
        assert {link.rpartition("/docs/assets/")[0] for link in re.findall('(?:src|href)="([^"]+)"', page)} == {
            json.loads(found("GET", "/"))["docs"].removesuffix("/docs")
        }
        pages = {
            "home": json.loads(found("GET", "/"))["docs"].removesuffix("/docs"),
            # The script asks for ../../openapi.json, from where it is itself.
            "document": re.findall('src="([^"]*)/docs/assets/docs.js"', page)[0],
            "servers": json.loads(found("GET", "/openapi.json"))["servers"][0]["url"].removesuffix("/"),
        }
    return {"later": headers["location"].partition(LATER)[0], **pages}


class Asked(NamedTuple):
    """A way, and whether its paths end with a slash."""

    where: Where
    slash: str

    @property
    def resource(self) -> str:
        return self.where.resource

    def event(self, method: str, path: str, body: str = "") -> dict[str, Any]:
        return self.where.event(method, path, self.slash, body)


@pytest.mark.parametrize("slash", ["", "/"], ids=["bare", "slash"])
@pytest.mark.parametrize("where", list(cells()), ids=lambda where: " ".join(map(str, where)))
def test_the_api_is_where_clients_call_it(gateway: Gateway, where: Where, slash: str) -> None:
    assert set(seen(gateway, Asked(where, slash).event).values()) == {where.prefix}


@pytest.mark.parametrize("where", list(cells()), ids=lambda where: " ".join(map(str, where)))
def test_what_is_not_there_is_not_found(gateway: Gateway, where: Where) -> None:
    for path in ("/v2/nothing", "/v2/health/ready/ml"):
        assert gateway(where.event("GET", path, ""), context())["statusCode"] == 404


class Behind(NamedTuple):
    """A front end of which an event says nothing: `passed` is what comes of a client's path below /ml."""

    source: str
    passed: str
    resource: str = ""

    def event(self, method: str, path: str, body: str = "") -> dict[str, Any]:
        sent = f"{self.passed}{path}"
        headers = {"host": "d111111abcdef8.cloudfront.net", "content-type": JSON, "prefer": "respond-async"}
        if self.source == "alb":
            event = events.load("alb")
            return event | {"httpMethod": method, "path": sent, "headers": headers, "body": body}
        if self.source == "function-url":
            return _newer(method, sent, "$default", None, headers, body, "$default")
        if self.source == "http-api":
            return Where("http 2.0", "prod", "ml", "/{proxy+}").event(method, path, "", body)
        return Where("rest", "prod", None, "/{proxy+}").event(method, sent, "", body)


BEHIND = {
    "a load balancer's rule /ml/*": Behind("alb", "/ml"),
    "a load balancer that rewrites": Behind("alb", ""),
    "CloudFront's /ml/* over a Function URL": Behind("function-url", "/ml"),
    "a function of CloudFront's takes it off": Behind("function-url", ""),
    "CloudFront's /ml/* over a stage": Behind("rest-api", "/ml"),
    "CloudFront's function over a stage": Behind("rest-api", ""),
    "an HTTP API's mapping": Behind("http-api", ""),
}


@pytest.fixture(scope="module", params=["/ml", "/ml/"])
def based(folder: Path, request: pytest.FixtureRequest) -> Iterator[Gateway]:
    yield from serving(folder, request.param)


@pytest.mark.parametrize("name", BEHIND)
def test_base_path_says_what_no_event_does(based: Gateway, name: str) -> None:
    assert set(seen(based, BEHIND[name].event).values()) == {"/ml"}


def test_base_path_of_a_root(folder: Path) -> None:
    """CloudFront over the stage of a REST API: its clients write no stage."""
    for gateway in serving(folder, "/"):
        where = Where("rest", "prod", None, "/{proxy+}")
        assert set(seen(gateway, Asked(where, "").event).values()) == {""}


def test_a_prefix_is_quoted_in_links(gateway: Gateway) -> None:
    where = Where("rest", "prod", "a%20b", "/{proxy+}")
    assert set(seen(gateway, Asked(where, "").event).values()) == {"/a%20b"}


def test_a_mapping_in_the_newer_format(gateway: Gateway) -> None:
    """AWS's documentation says that it isn't there; where it is, the resource tells it from the path all the same."""
    event = Where("http 2.0", "$default", "", "/{proxy+}").event("GET", "/v2/health/ready", "")
    event["rawPath"] = event["requestContext"]["http"]["path"] = "/ml/v2/health/ready"
    assert gateway(event, context())["statusCode"] == 200


@pytest.mark.parametrize("resource", ["$default", "/{proxy+}"])
def test_without_a_wildcard_a_prefix_can_not_be_told_from_the_path(gateway: Gateway, resource: str) -> None:
    event = Where("http 1.0", "$default", "ml", resource).event("GET", "/v2/health/ready", "")
    assert gateway({**event, "pathParameters": None}, context())["statusCode"] == 404

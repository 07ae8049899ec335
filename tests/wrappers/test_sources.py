"""functions/sources.py: the format that is read and written here is read and written as Mangum does it."""

import gzip
from typing import Any

import lambda_events as events
import pytest
from mangum.handlers import HTTPGateway
from mangum.types import LambdaConfig
from wrappers.conftest import context

from functions.sources import MAX_TEXT, HTTPApi

CONFIG = LambdaConfig(
    api_gateway_base_path="/", text_mime_types=["text/", "application/json", "application/xml"], exclude_headers=[]
)
NEWER = [name for name in events.HTTP if events.load(name).get("version") == "2.0"]
CHANGES: dict[str, dict[str, Any]] = {
    "as it is": {},
    "with a query": {"rawQueryString": "a=1&b=%20"},
    "with names in any case": {"headers": {"Content-Type": "application/json", "X-B": "ü"}},
    "without headers": {"headers": {}},
    "with cookies": {"cookies": ["a=1", "b=2"]},
    "in the older format": {
        "version": "1.0",
        "path": "/v2",
        "httpMethod": "GET",
        "multiValueHeaders": {"a": ["1", "2"]},
    },
}


def scope(source: Any) -> dict[str, Any]:
    """Without `server`, which stands in for a host header, and all requests have one."""
    read = {name: value for name, value in source.scope.items() if name != "server"}
    return read | {"headers": [tuple(pair) for pair in read["headers"]]}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", NEWER)
def test_a_request_is_read_as_mangum_reads_it(name: str, change: str) -> None:
    event, at = events.load(name) | CHANGES[change], context()
    assert scope(HTTPApi(event, at, CONFIG)) == scope(HTTPGateway(event, at, CONFIG))


def test_a_path_is_read_as_mangum_reads_it() -> None:
    for path in ("", "/", "/a%20b", "/%C3%BC/x"):
        event, at = events.http_api("GET", path), context()
        assert scope(HTTPApi(event, at, CONFIG)) == scope(HTTPGateway(event, at, CONFIG)), path


JSON = (b"content-type", b"application/json")
ANSWERS: dict[str, tuple[list[tuple[bytes, bytes]], bytes]] = {
    "JSON": ([JSON, (b"content-length", b"2")], b"{}"),
    "JSON that isn't ASCII": ([JSON], '{"ü":"😀"}'.encode()),
    "compressed JSON": ([JSON, (b"content-encoding", b"gzip")], gzip.compress(b"{}")),
    "nothing": ([JSON], b""),
    "no type": ([], b"{}"),
    "text": ([(b"content-type", b"text/plain; charset=utf-8")], b"text"),
    "bytes": ([(b"content-type", b"application/octet-stream")], bytes(range(256))),
    "a header twice": ([JSON, (b"vary", b"origin"), (b"vary", b"accept")], b"{}"),
    "cookies": ([JSON, (b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")], b"{}"),
    "a cookie": ([JSON, (b"set-cookie", b"a=1")], b"{}"),
}


@pytest.mark.parametrize("version", ["2.0", "1.0"])
@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_is_written_as_mangum_writes_it(name: str, version: str) -> None:
    headers, body = ANSWERS[name]
    event = events.load("http-api") | {"version": version, "path": "/v2", "httpMethod": "GET"}
    response: Any = {"status": 201, "headers": headers, "body": body}
    at = context()
    assert HTTPApi(event, at, CONFIG)(response) == HTTPGateway(event, at, CONFIG)(response)


def test_a_large_text_comes_in_base64() -> None:
    """As in Lambda's JSON each of its quotes is two characters."""
    for size, is_base64 in ((MAX_TEXT, False), (MAX_TEXT + 1, True)):
        answer = HTTPApi(events.load("http-api"), context(), CONFIG)(
            {"status": 200, "headers": [JSON], "body": b'"' * size}
        )
        assert answer["isBase64Encoded"] is is_base64
        assert events.body(answer) == b'"' * size

"""functions/runtime.py: events come and answers go as with AWS's client, whatever the connection does."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from awslambdaric.lambda_runtime_client import LambdaRuntimeClientError
from runtimeapi import ACCEPTED, CLOSED, ID, RESET, RuntimeApi, event, runtime_api

from functions.runtime import RuntimeClient

ROOT = Path(__file__).parents[2]
RUNTIMES = ("functions", "awslambdaric")
HANDLER = """
import os, signal, sys

def handler(event, context):
    if event == "fail":
        raise ValueError("as asked")
    identity, client = context.identity, context.client_context
    return {
        "event": event,
        "id": context.aws_request_id,
        "arn": context.invoked_function_arn,
        "tenant": context.tenant_id,
        "trace": os.environ.get("_X_AMZN_TRACE_ID"),
        "deadline": context._epoch_deadline_time_in_ms,
        "identity": identity and identity.cognito_identity_id,
        "client": client and client.custom,
        "w3c": context.w3c(),
    }

def ended(*_):
    print("goodbye", flush=True)
    sys.exit(0)

if os.environ.get("HEARS"):
    signal.signal(signal.SIGTERM, ended)
"""
EVERYTHING = (
    "Content-Type: application/json",
    "Lambda-Runtime-Trace-Id: Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=1",
    "Lambda-Runtime-Deadline-Ms: 1542409706888",
    "Lambda-Runtime-Invoked-Function-Arn: arn:aws:lambda:us-east-2:123456789012:function:inferry:live",
    'Lambda-Runtime-Client-Context: {"custom": {"a": "\u00fc"}, "w3c": {"traceparent": "00-1-2-01"}}',
    'Lambda-Runtime-Cognito-Identity: {"cognitoIdentityId": "us-east-2:1"}',
    "Lambda-Runtime-Aws-Tenant-Id: a tenant",
    "Lambda-Runtime-Invocation-Id: another id",
)
LEAST = (
    "Content-Type: application/json",
    "lambda-runtime-deadline-ms: 1542409706888",
    "Lambda-Runtime-Invoked-Function-Arn: arn:aws:lambda:us-east-2:123456789012:function:inferry",
    "Lambda-Runtime-Trace-Id:",
)


@contextmanager
def running(runtime: str, api: RuntimeApi, folder: Path, **env: str) -> Iterator[subprocess.Popen[str]]:
    """A runtime around HANDLER, as a process."""
    (folder / "answering.py").write_text(HANDLER)
    given = {"AWS_LAMBDA_RUNTIME_API": api.address, "PYTHONPATH": f"{folder}:{ROOT}", **env}
    process = subprocess.Popen(
        [sys.executable, "-m", runtime, "answering.handler"],
        env={**os.environ, **given},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # it may have processes of its own
        process.communicate()


def exchanges(runtime: str, folder: Path, *responses: bytes) -> list[tuple[Any, ...]]:
    """What the runtime asks for, and what it hands in, until there is no response any more."""
    with runtime_api(*responses) as api, running(runtime, api, folder):
        asked = api.wait(len(responses) + 1)
    names = ("content-type", "lambda-runtime-invocation-id")
    return [
        (request.method, request.path, *(request.headers.get(name) for name in names), said(request.body))
        for request in asked
    ]


def said(body: bytes) -> Any:
    document = json.loads(body) if body else None
    if isinstance(document, dict):
        document.pop("stackTrace", None)  # has the lines of the runtime's own files
    return document


@pytest.mark.parametrize("headers", [EVERYTHING, LEAST], ids=["everything", "least"])
def test_a_handler_sees_the_same_as_with_aws_client(headers: tuple[str, ...], tmp_path: Path) -> None:
    responses = (event('{"x": "\u00fc"}'.encode(), *headers), ACCEPTED, event(b'"fail"', *headers), ACCEPTED)
    ours, theirs = (exchanges(runtime, tmp_path, *responses) for runtime in RUNTIMES)
    assert ours == theirs
    next_, answer, _, error, _ = ours
    assert next_ == ("GET", "/2018-06-01/runtime/invocation/next", None, None, None)
    assert answer[:2] == ("POST", f"/2018-06-01/runtime/invocation/{ID}/response")
    assert answer[-1]["event"] == {"x": "\u00fc"}
    assert answer[-1]["tenant"] == ("a tenant" if headers is EVERYTHING else None)
    assert error[1] == f"/2018-06-01/runtime/invocation/{ID}/error"


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_an_answer_that_lambda_refuses_ends_the_process(runtime: str, tmp_path: Path) -> None:
    refused = b"HTTP/1.1 413 Too Large\r\nContent-Length: 4\r\n\r\nbig!"
    with runtime_api(event(b"{}", *LEAST), refused) as api, running(runtime, api, tmp_path) as process:
        output, _ = process.communicate(timeout=20)
    assert process.returncode == 1
    assert len(api.requests) == 2
    if runtime == "functions":
        assert f"{ID}/response' endpoint failed. Reason: '413'. Response body: 'big!'" in output


def test_sigterm_is_heard_while_no_event_comes(tmp_path: Path) -> None:
    with runtime_api() as api, running("functions", api, tmp_path, HEARS="1") as process:
        api.wait(1)
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=20)
    assert (process.returncode, output) == (0, "goodbye\n")


def test_managed_instances_get_aws_runtime(tmp_path: Path) -> None:
    """Which asks for as many events at once as there may be."""
    with runtime_api() as api, running("functions", api, tmp_path, AWS_LAMBDA_MAX_CONCURRENCY="2"):
        asked = api.wait(2)
    assert {request.connection for request in asked} == {1, 2}
    assert {request.path for request in asked} == {"/2018-06-01/runtime/invocation/next"}


@contextmanager
def client(*responses: bytes | list[bytes]) -> Iterator[tuple[RuntimeClient, RuntimeApi]]:
    """A client of a runtime API that answers so."""
    with runtime_api(*responses) as api, closing(RuntimeClient(api.address)) as ours:
        yield ours, api


CHUNKED = f"HTTP/1.1 200 OK\r\nLambda-Runtime-Aws-Request-Id: {ID}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
FRAMINGS: dict[str, tuple[bytes | list[bytes], bytes]] = {
    "a length": (event(b'{"x": 1}'), b'{"x": 1}'),
    "nothing in it": (event(b""), b""),
    "chunks": (CHUNKED + b'4\r\n{"x"\r\n4;ext=1\r\n: 1}\r\n0\r\nTrailer: 1\r\n\r\n', b'{"x": 1}'),
    "byte by byte": ([bytes([byte]) for byte in event(b'{"x": 1}')], b'{"x": 1}'),
    "chunks, byte by byte": ([bytes([byte]) for byte in CHUNKED + b"2\r\n{}\r\n0\r\n\r\n"], b"{}"),
    "6 MB": (event(b"x" * 6_291_556), b"x" * 6_291_556),
    "the header of another 100 kB": (event(b"{}", f"Lambda-Runtime-Client-Context: {'x' * 100_000}"), b"{}"),
}


@pytest.mark.parametrize("name", FRAMINGS)
def test_events_are_whole_however_they_come(name: str) -> None:
    response, body = FRAMINGS[name]
    with client(response, ACCEPTED, event(b'"next"')) as (ours, api):
        assert ours.wait_next_invocation().event_body == body
        ours.post_invocation_result(ID, "{}")
        assert ours.wait_next_invocation().event_body == b'"next"'
    assert {request.connection for request in api.requests} == {1}


@pytest.mark.parametrize("answer", ["", "ü", b"\x00\xff", b"x" * 6_291_556], ids=["empty", "text", "bytes", "6 MB"])
def test_answers_are_handed_in_whole(answer: str | bytes) -> None:
    with client(ACCEPTED) as (ours, api):
        ours.post_invocation_result(ID, answer, "application/unknown")
    [request] = api.requests
    assert request.body == (answer.encode() if isinstance(answer, str) else answer)
    assert request.headers["content-type"] == "application/unknown"
    assert request.headers["host"] == api.address


def test_a_connection_that_was_closed_meanwhile_is_opened_again() -> None:
    """As idle ones may be, in an environment that was frozen: nothing is lost."""
    with client(event(), CLOSED, ACCEPTED, CLOSED, event(b'"2"')) as (ours, api):
        ours.wait_next_invocation()
        ours.post_invocation_result(ID, '"1"')
        assert ours.wait_next_invocation().event_body == b'"2"'
    assert [request.method for request in api.requests] == ["GET", "POST", "POST", "GET", "GET"]
    assert [request.connection for request in api.requests] == [1, 1, 2, 2, 3]
    assert [request.body for request in api.requests[1:3]] == [b'"1"'] * 2


def test_a_connection_that_was_reset_meanwhile_is_opened_again() -> None:
    with client([event(), RESET], ACCEPTED) as (ours, api):
        ours.wait_next_invocation()
        api.gone.wait(20)
        ours.post_invocation_result(ID, "{}")
    assert [request.connection for request in api.requests] == [1, 2]


def test_a_new_connection_that_is_closed_is_an_error() -> None:
    with client(CLOSED) as (ours, api), pytest.raises(ConnectionResetError, match="too early"):
        ours.wait_next_invocation()
    assert len(api.requests) == 1


def test_a_response_that_breaks_off_is_an_error_and_not_asked_for_again() -> None:
    with client(event(), [event(b"{}")[:-1], CLOSED]) as (ours, api):
        ours.wait_next_invocation()
        with pytest.raises(ConnectionResetError, match=r"response to GET .*/next too early"):
            ours.wait_next_invocation()
    assert len(api.requests) == 2


@pytest.mark.parametrize(
    "response",
    [event(b"No").replace(b"200 OK", b"500 No"), b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"],
    ids=["500", "no id"],
)
def test_what_is_no_event_is_an_error(response: bytes) -> None:
    with (
        client(response) as (ours, _),
        pytest.raises(LambdaRuntimeClientError, match=r"invocation/next.*'(500|200)'.*'(No|{})'"),
    ):
        ours.wait_next_invocation()


def test_a_server_that_is_not_there_is_an_error() -> None:
    with pytest.raises(ConnectionRefusedError):
        RuntimeClient("127.0.0.1:9").wait_next_invocation()

"""The context of a request: what a host says, what headers say in its place, and what nobody said."""

import math
import os
import re
from typing import Any

import pytest
from inferry.observability import context
from inferry.observability.context import Context

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


def scope(host: dict[str, Any] | None = None, **headers: str) -> dict[str, Any]:
    pairs = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]
    return {"type": "http", "headers": pairs} | ({} if host is None else {"inferry": host})


HOST = {"request_id": "r1", "trace_id": "1-abc-def", "deadline": 12.5, "cold_start": True}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, Context()),
        (scope(), Context()),
        (scope({}), Context()),
        (scope(HOST), Context("r1", "1-abc-def", 12.5, True)),
        (scope(HOST, x_request_id="other", traceparent=PARENT), Context("r1", "1-abc-def", 12.5, True)),
        (scope(x_request_id="r2", traceparent=PARENT), Context("r2", TRACE)),
        (scope({"deadline": 3.0}, x_request_id="r2"), Context("r2", "", 3.0)),
        (scope({"request_id": "", "trace_id": ""}, x_request_id="r2", traceparent=PARENT), Context("r2", TRACE)),
        (scope(x_request_id="a" * 5000), Context("a" * 100)),
        (scope(x_request_id='a b\n"é'), Context('a?b?"?')),
    ],
)
def test_read(given: dict[str, Any], expected: Context) -> None:
    assert context.read(given) == expected


@pytest.mark.parametrize(
    "header",
    [
        "",
        TRACE,
        f"00-{'0' * 32}-00f067aa0ba902b7-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-00f067aa0ba902b7-01",
        f"00-{TRACE}-00f067aa0ba902b7",
        f"00-{TRACE}-00f067aa0ba902b7-01x",
        f"ff-{TRACE}-00f067aa0ba902b7-01",
        f"00-{TRACE}-00f067aa0ba902b7-01-more",
    ],
)
def test_no_traceparent(header: str) -> None:
    assert context.read(scope(traceparent=header)).trace_id == ""


@pytest.mark.parametrize(
    ("traces", "expected"),
    [
        ([PARENT], True),
        ([PARENT, PARENT.replace("4b", "cc")], True),
        ([PARENT, ""], False),
        ([PARENT, f"00-{'0' * 32}-00f067aa0ba902b7-01"], False),
        ([PARENT, f"00-{TRACE}-{'0' * 16}-01"], False),
        ([PARENT, f"ff-{TRACE}-00f067aa0ba902b7-01"], False),
        ([PARENT[:-1], f"0{PARENT}"], False),
        ([f"{PARENT},{PARENT}", ""], False),
        ([f"{PARENT},{PARENT}", PARENT], False),
    ],
)
def test_plain_traceparents(traces: list[str], expected: bool) -> None:
    given = [trace.encode() for trace in traces]
    assert context.are_plain_traces(given) == expected
    if expected:
        assert [trace[context.TRACE_ID].decode() for trace in given] == list(map(context.trace_id, given))


def test_ids_of_hosts_are_no_traceparents() -> None:
    assert not context.are_plain_traces([PARENT.encode(), PARENT])
    assert not context.are_plain_ids([b"42", "42"])


@pytest.mark.parametrize(("name", "expected"), [(b"42", True), (b'4"2', False), (b"4\\2", False)])
def test_plain_ids(name: bytes, expected: bool) -> None:
    assert context.are_plain_ids([b"42", name]) == expected


def test_a_later_version_of_traceparent_may_have_more() -> None:
    assert context.read(scope(traceparent=f"cc-{TRACE}-00f067aa0ba902b7-01-more")).trace_id == TRACE


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (scope(), b""),
        (scope({"deadline": 1.0}), b""),
        (scope(HOST, x_request_id="other"), b"r1"),
        (scope({"request_id": "a\r\nset-cookie: é€"}), b"a??set-cookie:???"),
        (scope(x_request_id="r2"), b"r2"),
        (scope(x_request_id="a" * 5000), b"a" * 100),
    ],
)
def test_id_header(given: dict[str, Any], expected: bytes) -> None:
    request_id, _ = context.ids(given)
    assert context.id_header(request_id) == (b"x-request-id", expected)


def test_new_ids() -> None:
    """Each is there once, in this process and in its children."""
    made = [context.new_id() for _ in range(200)]
    assert all(re.fullmatch(b"[0-9a-f]{16}", name) for name in made)
    read, write = os.pipe()
    if (child := os.fork()) == 0:
        os.write(write, context.new_id())
        os._exit(0)
    os.waitpid(child, 0)
    others = {*made, os.read(read, 16), context.new_id()}
    assert len(others) == 202
    os.close(read)
    os.close(write)


def test_deadline() -> None:
    assert [context.deadline(given) for given in ({}, scope({}), scope(HOST))] == [math.inf, math.inf, 12.5]


def test_no_more_of_a_traceparent_is_kept_than_is_read() -> None:
    """Many of them wait for their lines in the log together."""
    of_today = "00-" + "1" * 32 + "-" + "2" * 16 + "-01"
    for found, expected in ((f"{of_today}-", ""), (f"01{of_today[2:]}-", "1" * 32), (f"01{of_today[2:]}", "")):
        *_, trace = context.named(None, {b"traceparent": found.encode() + b"a" * 60_000})
        assert len(trace) <= 56
        assert context.trace_id(trace) == expected

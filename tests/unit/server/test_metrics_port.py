"""The port for scrapes alone: what it answers, and how little it lets itself be kept busy with."""

import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress

import pytest
from inferry.server import metrics_port


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(metrics_port, "_SECONDS", 0.2)
    return metrics_port.listen("127.0.0.1", 0, lambda _: "up 1\n")


def scrape(port: int) -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        body: bytes = answer.read()
        return body


@pytest.fixture
def idle(port: int) -> Iterator[list[socket.socket]]:
    """As many connections as there may be, and one more, whose clients say nothing."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(socket.create_connection(("127.0.0.1", port), 30))
            for _ in range(metrics_port._CONNECTIONS + 1)
        ]


def test_a_scrape(port: int) -> None:
    assert scrape(port) == b"up 1\n"


def test_connections_that_say_nothing_end_and_scrapes_go_on(port: int, idle: list[socket.socket]) -> None:
    for connection in idle:
        assert connection.recv(1) == b""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        try:
            assert scrape(port) == b"up 1\n"
            return
        except OSError:
            time.sleep(0.05)
    raise AssertionError("no scrape was answered")


def test_connections_that_say_nothing_shut_no_scrape_out() -> None:
    """Not even for the time that each of them has."""
    port = metrics_port.listen("127.0.0.1", 0, lambda _: "up 1\n")
    with ExitStack() as stack:
        for _ in range(3 * metrics_port._CONNECTIONS):
            stack.enter_context(socket.create_connection(("127.0.0.1", port), 30))
            assert scrape(port) == b"up 1\n"


def test_a_scrape_that_is_answered_is_not_cut_off() -> None:
    asked, answered = threading.Event(), threading.Event()

    def slow(_: object) -> str:
        asked.set()
        assert answered.wait(30)
        return "up 1\n"

    port = metrics_port.listen("127.0.0.1", 0, slow)
    with ExitStack() as stack, ThreadPoolExecutor(1) as pool:
        scraped = pool.submit(scrape, port)
        assert asked.wait(30)
        idle = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port), 30))
            for _ in range(2 * metrics_port._CONNECTIONS)
        ]
        assert idle[0].recv(1) == b""
        answered.set()
        assert scraped.result() == b"up 1\n"


def test_a_header_that_never_ends(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), 30) as connection:
        connection.sendall(b"GET /metrics HTTP/1.1\r\n")
        end = time.monotonic() + 60
        with suppress(OSError):  # the pipe is broken, or the connection reset
            while time.monotonic() < end:
                connection.sendall(b"x: y\r\n")
                time.sleep(0.02)
        assert time.monotonic() < end

"""Clients that are slow, large, many or gone cost the others nothing; a server that ends loses none of them."""

import http.client
import json
import re
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from select import select
from typing import Any, NamedTuple

import onnx
import onnx_models
import pytest
from servers import JSON, Server, serving, tensor

pytestmark = pytest.mark.local

SECONDS = 30.0
FOREVER = 10**9
BODY = json.dumps({"inputs": [tensor("x", "FP32", [1, 3], [1, 2, 3])]}).encode()
INFER = "POST /v2/models/quick/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n"
WHOLE = INFER.format(len(BODY)).encode() + BODY
GET = b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n"


def slow_rows() -> bytes:
    """`onnx_models.slow` with symbolic first axes: a batch of two fails, and then each of its requests runs alone."""
    proto = onnx.load_from_string(onnx_models.slow())
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    return proto.SerializeToString()


FILES = {
    "quick.onnx": onnx_models.identity(),
    "slow.onnx": onnx_models.slow(),
    "batched/1/model.onnx": slow_rows(),
    "batched/config.json": b'{"max_batch_size": 2, "dynamic_batching": {}}',
    "wide.onnx": onnx_models.identity("FP32", ("n",)),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return onnx_models.write(tmp_path_factory.mktemp("clients"), FILES)


@pytest.fixture(scope="module")
def server(models: Path) -> Iterator[Server]:
    """A server that waits for nobody for long."""
    limits = {"HEADER_TIMEOUT": "1", "BODY_TIMEOUT": "1", "IDLE_TIMEOUT": "1", "MAX_HEADER_BYTES": "20000"}
    with serving(models, MODEL_TIMEOUT="120", **limits) as server:
        yield server


class Reply(NamedTuple):
    """What comes until the server closes: "" for nothing at all."""

    status: int
    headers: dict[str, str]
    body: bytes


def connected(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), SECONDS)


def replies(client: socket.socket) -> list[Reply]:
    """All answers of a connection that the server closes."""
    text, found = b"", []
    while part := client.recv(65536):
        text += part
    while text:
        head, _, text = text.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines)
        length = int(headers["content-length"])
        found.append(Reply(int(first.split()[1]), headers, text[:length]))
        text = text[length:]
    return found


def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


SILENT: dict[str, tuple[bytes, list[tuple[int, str]]]] = {
    "nothing": (b"", []),
    "empty lines": (b"\r\n\r\n", []),
    "half a header": (GET + b"X-A: b", [(408, "HEADER_TIMEOUT")]),
    "half a body": (INFER.format(1000).encode() + BODY, [(408, "BODY_TIMEOUT")]),
    "no body": (INFER.format(10).encode(), [(408, "BODY_TIMEOUT")]),
    "half a body for /predict": (
        b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50\r\n\r\n{",
        [(408, "BODY_TIMEOUT")],
    ),
    "a chunk that does not end": (
        b"POST /v2/models/quick/infer HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n20\r\n{",
        [(408, "BODY_TIMEOUT")],
    ),
    "a request, and nothing more": (GET + b"\r\n", [(200, "live")]),
    "a request and empty lines": (GET + b"\r\n\r\n\r\n", [(200, "live")]),
    "a request, and half a header": (GET + b"\r\n" + GET, [(200, "live"), (408, "HEADER_TIMEOUT")]),
    "a body that is refused before it comes": (
        INFER.format(10**9).encode() + b"{",
        [(413, "MAX_REQUEST_BYTES")],
    ),
}


@pytest.mark.parametrize("name", SILENT)
def test_a_client_that_falls_silent_is_let_go(server: Server, name: str) -> None:
    sent, expected = SILENT[name]
    with connected(server) as client:
        client.sendall(sent)
        found = replies(client)
    assert [reply.status for reply in found] == [status for status, _ in expected]
    for reply, (_, words) in zip(found, expected, strict=True):
        assert words in reply.body.decode()
        if reply.status == 408:
            assert (reply.headers["content-type"], reply.headers["connection"]) == (JSON, "close")
            assert json.loads(reply.body).keys() == {"error"}


def test_a_slow_upload_that_goes_on_is_no_fault(server: Server) -> None:
    """It takes twice as long as a body may stand still, at some kilobytes a second."""
    body = BODY.ljust(6000)
    with connected(server) as client:
        client.sendall(INFER.format(len(body)).encode())
        start = time.monotonic()
        for sent in range(0, len(body), 100):
            time.sleep(max(0.0, start + 2.4 * sent / len(body) - time.monotonic()))
            client.sendall(body[sent : sent + 100])
        (reply,) = replies(client)
    assert (reply.status, json.loads(reply.body)["outputs"][0]["data"]) == (200, [1, 2, 3])


def test_an_upload_of_next_to_nothing_does_not_go_on(server: Server) -> None:
    """A byte now and then holds a connection for no longer than silence does."""
    with connected(server) as client:
        client.sendall(INFER.format(60_000).encode() + b"{")
        until(lambda: select([client], [], [], 0.05)[0] or not client.send(b" "))
        (reply,) = replies(client)
    assert reply.status == 408
    assert json.loads(reply.body) == {
        "error": "less than 500 bytes of the request's body came in 1 s (BODY_TIMEOUT): send it again"
    }


def is_held(server: Server, port: int) -> bool:
    """Whether the server has the connection that its client has at this port: the kernel says whose it is."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        here, there = (int(address.rpartition(":")[2], 16) for address in fields[1:3])
        if (here, there) == (server.port, port):
            return fields[9] != "0"
    return False


def test_an_answer_that_is_not_taken_is_given_up(server: Server) -> None:
    """It would stay in memory for ever."""
    count = 4_000_000
    head = json.dumps(
        {
            "inputs": [
                {"name": "x", "shape": [count], "datatype": "FP32", "parameters": {"binary_data_size": 4 * count}}
            ],
            "parameters": {"binary_data_output": True},
        }
    ).encode()
    lines = f"POST /v2/models/wide/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(head) + 4 * count}\r\n"
    with connected(server) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.sendall(f"{lines}Inference-Header-Content-Length: {len(head)}\r\n\r\n".encode() + head)
        client.sendall(bytes(4 * count))
        port = client.getsockname()[1]
        assert is_held(server, port)
        until(lambda: not is_held(server, port))


def resident(server: Server) -> int:
    """Bytes."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{server.process.pid}/status").read_text())
    assert found
    return int(found[1]) * 1024


def test_uploads_that_end_early_leave_no_memory_behind(models: Path) -> None:
    count, size = 10, 60_000_000
    with serving(models, MODEL_TIMEOUT="120", MAX_BUFFERED_BYTES=str(2 * count * (size + 1))) as server:
        server.ask("GET", "/v2/health/live")
        before = resident(server)
        with ExitStack() as stack:
            clients = [stack.enter_context(connected(server)) for _ in range(count)]
            for client in clients:
                client.sendall(INFER.format(size + 1).encode())
            for client in clients:
                client.sendall(bytes(size))
            until(lambda: resident(server) > before + count * size * 3 // 4)
        until(lambda: resident(server) < before + count * size // 4)


LARGE = {
    "in one piece": (GET + b"X-A: " + b"a" * 30_000 + b"\r\n\r\n", b""),
    "that never ends": (GET + b"X-A: ", b"a" * 4_000_000),
    "of many fields": (GET, b"".join(b"X-%d: a\r\n" % n for n in range(100_000))),
    "of one long path": (b"GET /", b"a" * 4_000_000),
    "behind a body, in chunks": (
        b"POST /v2/models/quick/infer HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n0\r\n",
        b"X-A: " + b"a" * 4_000_000,
    ),
}


@pytest.mark.parametrize("name", LARGE)
def test_a_header_that_is_too_large(server: Server, name: str) -> None:
    first, rest = LARGE[name]
    found: list[Reply] = []
    with connected(server) as client:
        try:
            client.sendall(first)
            client.sendall(rest)
            found = replies(client)
        except ConnectionError:
            assert "behind a body" in name  # there an answer was begun by the application
    assert [reply.status for reply in found] == ([] if "behind a body" in name else [431])
    for reply in found:
        assert json.loads(reply.body) == {
            "error": "the request's header is over 20000 bytes (MAX_HEADER_BYTES): send fewer or shorter fields"
        }
        assert reply.headers["connection"] == "close"
    assert server.ask("GET", "/v2/health/live").status == 200


def test_a_connection_that_was_refused_is_closed(server: Server) -> None:
    """Though requests that came before are answered still: it counts as none of MAX_CONNECTIONS any more."""
    with connected(server) as client:
        port = client.getsockname()[1]
        client.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 7000 + b"GET /")
        until(lambda: not is_held(server, port))
    assert "Exception in callback" not in server.log


def test_a_header_of_many_fields(server: Server) -> None:
    """Below the limit of its bytes: each costs more than they do."""
    with connected(server) as client:
        for count in (100, 101):
            client.sendall(GET + b"".join(b"%x:\r\n" % number for number in range(1, count)) + b"\r\n")
        found = replies(client)
    assert [reply.status for reply in found] == [200, 431]
    assert json.loads(found[1].body) == {"error": "the request's header has 101 fields: send 100 at most"}
    assert found[1].headers["connection"] == "close"


def test_a_header_below_the_limit(server: Server) -> None:
    assert server.ask("GET", "/v2/health/live", headers={"X-A": "a" * 19_000}).status == 200
    # What comes with it in one piece is none of it.
    with connected(server) as client:
        client.sendall((GET + b"X-A: " + b"a" * 15_000 + b"\r\n\r\n") * 4)
        assert [reply.status for reply in replies(client)] == [200] * 4


def test_many_requests_behind_one_another_are_no_large_header(server: Server) -> None:
    """Though the beginning of one more is always there with the end of the one before."""
    one = GET + b"X-A: " + b"a" * 15_000 + b"\r\n\r\n"
    count, cut = 30, 8_000
    with connected(server) as client:
        text = one * count
        client.sendall(text[:cut])
        for start in range(cut, len(text), len(one)):
            time.sleep(0.01)  # so that it comes in these pieces
            client.sendall(text[start : start + len(one)])
        assert [reply.status for reply in replies(client)] == [200] * count


def test_a_request_to_go_on_in_another_protocol(server: Server) -> None:
    """Is answered as it is (RFC 9110, 7.8), and leaves no lines in the log."""
    before = len(server.log)
    for protocol in ("websocket", "h2c"):
        with connected(server) as client:
            client.sendall(GET + f"Connection: Upgrade\r\nUpgrade: {protocol}\r\n\r\n".encode())
            (reply,) = replies(client)
            assert (reply.status, reply.body) == (200, b'{"live":true}')
    assert server.log[before:] == ""


def test_a_client_that_has_said_all_is_answered(server: Server) -> None:
    """It ends its side of the connection, and reads on."""
    for _ in range(20):
        with connected(server) as client:
            client.sendall(WHOLE)
            client.shutdown(socket.SHUT_WR)
            (reply,) = replies(client)
            assert (reply.status, json.loads(reply.body)["outputs"][0]["data"]) == (200, [1, 2, 3])


def test_more_connections_than_there_may_be(models: Path) -> None:
    with serving(models, MAX_CONNECTIONS="4", IDLE_TIMEOUT="60") as server:
        clients = [kept(server, address) for address in (HERE, HERE, THERE, THERE)]
        for _ in range(3):
            assert refusal(server, "127.0.0.3") == "the server has 4 connections already (MAX_CONNECTIONS); try later"
        clients[0].request("GET", "/v2/health/live")
        assert clients[0].getresponse().read()
        for client in clients:
            client.close()
        until(lambda: server.ask("GET", "/v2/health/live").status == 200)


def test_one_client_has_half_of_the_connections(models: Path) -> None:
    """However many it asks for, others get in."""
    with serving(models, MAX_CONNECTIONS="4", IDLE_TIMEOUT="60") as server:
        clients = [kept(server, THERE) for _ in range(2)]
        for _ in range(3):
            assert refusal(server, THERE) == (
                "this client has 2 connections already, half of MAX_CONNECTIONS; try later"
            )
        clients += [kept(server, HERE) for _ in range(2)]
        for client in clients:
            client.close()
        until(lambda: server.ask("GET", "/v2/health/live").status == 200)


def test_a_trusted_proxy_has_all_of_the_connections(models: Path) -> None:
    """Its are those of all clients."""
    with serving(models, MAX_CONNECTIONS="4", IDLE_TIMEOUT="60", TRUSTED_PROXIES=f"{THERE}/32") as server:
        clients = [kept(server, THERE) for _ in range(4)]
        assert refusal(server, THERE) == "the server has 4 connections already (MAX_CONNECTIONS); try later"
        for client in clients:
            client.close()
        until(lambda: server.ask("GET", "/v2/health/live").status == 200)


HERE, THERE = "127.0.0.1", "127.0.0.2"


def kept(server: Server, address: str) -> http.client.HTTPConnection:
    """A connection from this address that was answered once."""
    client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=SECONDS, source_address=(address, 0))
    client.request("GET", "/v2/health/live")
    response = client.getresponse()
    assert (response.status, response.read()) == (200, b'{"live":true}')
    return client


def refusal(server: Server, address: str) -> str:
    """Why there is no more connection for this address."""
    with socket.create_connection(("127.0.0.1", server.port), SECONDS, (address, 0)) as refused:
        refused.sendall(WHOLE)
        (reply,) = replies(refused)
    assert (reply.status, reply.headers["retry-after"], reply.headers["connection"]) == (503, "1", "close")
    error: str = json.loads(reply.body)["error"]
    return error


def test_responses_that_are_not_taken_have_a_bound(models: Path) -> None:
    """Those of any route, and of requests that were sent one behind the other."""
    limits = {"MAX_REQUEST_BYTES": "1000000", "MAX_BUFFERED_BYTES": "2000000"}
    large = "/docs/assets/swagger-ui-bundle.js"
    with serving(models, BODY_TIMEOUT="60", **limits) as server:
        assert server.ask("GET", large).status == 200
        with connected(server) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.sendall(
                f"GET {large} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode() * 40
            )  # more than the kernel takes
            until(lambda: server.ask("GET", large).status == 503)
            assert "(MAX_BUFFERED_BYTES): try later" in server.ask("GET", large).json["error"]
            assert server.ask("GET", "/v2/health/live").status == 200
        until(lambda: server.ask("GET", large).status == 200)


def failures(server: Server, model: str) -> dict[str, int]:
    text = server.ask("GET", "/metrics").body.decode()
    pattern = rf'inferry_request_failures_total{{model="{model}",version="1",reason="(\w+)"}} (\d+)'
    return {reason: int(count) for reason, count in re.findall(pattern, text) if int(count)}


def gauge(server: Server, name: str, model: str) -> int:
    text = server.ask("GET", "/metrics").body.decode()
    (value,) = re.findall(rf'{name}{{model="{model}",version="1"}} (\d+)', text) or ["0"]
    return int(value)


def asking(server: Server, path: str, body: Any) -> socket.socket:
    client = connected(server)
    content = json.dumps(body).encode()
    client.sendall(
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(content)}\r\n\r\n".encode() + content
    )
    return client


LEAVING = {
    "infer": ("slow", "/v2/models/slow/infer", {"inputs": [tensor("turns", "INT64", [1], [FOREVER])]}),
    # A body of this size comes in several pieces.
    "infer, a large body": (
        "slow",
        "/v2/models/slow/infer",
        {"inputs": [tensor("turns", "INT64", [1], [FOREVER])], "parameters": {"padding": "a" * 300_000}},
    ),
    "batched": ("batched", "/v2/models/batched/infer", {"inputs": [tensor("turns", "INT64", [1], [FOREVER])]}),
    "predict": ("slow", "/predict", {"model_name": "slow", "features": [FOREVER]}),
    "KServe v1": ("slow", "/v1/models/slow:predict", {"instances": [FOREVER]}),
}


@pytest.mark.parametrize("name", LEAVING)
def test_what_a_client_asked_for_ends_when_it_leaves(models: Path, name: str) -> None:
    model, path, body = LEAVING[name]
    with serving(models, MODEL_TIMEOUT="300") as server:
        clients = [asking(server, path, body) for _ in range(8)]
        until(lambda: gauge(server, "inferry_requests_in_flight", model) == 8)
        for client in clients:
            client.close()
        start = time.monotonic()
        until(lambda: failures(server, model) == {"canceled": 8})
        assert gauge(server, "inferry_requests_in_flight", model) == 0
        assert gauge(server, "inferry_requests_queued", model) == 0
        # Threads and batches are free for the next one.
        answer = server.infer(model, tensor("turns", "INT64", [1], [1]))
        assert (answer.status, answer.json["outputs"][0]["data"]) == (200, [1.0])
        assert time.monotonic() - start < SECONDS
    assert "Traceback" not in server.final_log
    assert "Exception" not in server.final_log


def test_a_client_that_leaves_in_the_middle_of_its_body(models: Path) -> None:
    with serving(models, LOG_FORMAT="json") as server:
        with connected(server) as client:
            client.sendall(INFER.format(1000).encode() + BODY)
            time.sleep(0.1)
        text = 'inferry_request_failures_total{model="",version="",reason="canceled"} 1'
        until(lambda: text in server.ask("GET", "/metrics").body.decode())
        until(lambda: '"status":499' in server.log)
        (line,) = [line for line in server.log.splitlines() if '"status":499' in line]
        assert json.loads(line)["outcome"] == "canceled"


def readiness(client: http.client.HTTPConnection) -> tuple[int, bytes, str | None]:
    """The status and body that a connection which stays open gets, and its Connection header."""
    client.request("GET", "/v2/health/ready")
    response = client.getresponse()
    return response.status, response.read(), response.getheader("connection")


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_server_that_ends_is_not_ready_and_answers_for_a_while(models: Path, workers: str) -> None:
    with serving(models, "--workers", workers, SHUTDOWN_GRACE="1.5") as server:
        with server.connected() as kept:
            kept.request("GET", "/v2/health/ready")
            response = kept.getresponse()
            assert (response.status, response.read()) == (200, b'{"live":true,"ready":true}')
            server.terminate()
            start = time.monotonic()
            while response.getheader("connection") != "close":
                assert response.status == 200
                kept.request("GET", "/v2/health/ready")
                response = kept.getresponse()
                body = response.read()
            assert (response.status, body) == (503, b'{"live":true,"ready":false}')
        # Workers hear of the end one after another, and connections are with any of them.
        until(lambda: {server.ask("GET", "/v2/health/ready").status for _ in range(4)} == {503})
        until(lambda: server.ask("GET", "/health").status == 503)
        health = server.ask("GET", "/health")
        assert (health.status, health.json["status"]) == (503, "draining")
        assert server.ask("GET", "/v2/health/live").status == 200
        answer = server.ask("POST", "/v2/models/quick/infer", BODY)
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert server.log.count("but answering for 1.5 s (SHUTDOWN_GRACE)\n") == int(workers)
        assert server.wait() == 0
        assert time.monotonic() - start > 0.5
        with pytest.raises(ConnectionRefusedError):
            server.ask("GET", "/v2/health/live")


def ask_until_refused(server: Server) -> dict[str, int]:
    """Asks again and again as a client with keep-alive does; how its requests went."""
    counts, connection = {"answered": 0, "lost": 0}, None
    while True:
        try:
            if connection is None:
                connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=SECONDS)
                connection.connect()
        except ConnectionRefusedError:
            return counts
        try:
            connection.request("POST", "/v2/models/quick/infer", BODY)
            response = connection.getresponse()
            response.read()
            counts["answered"] += response.status == 200
            ends = response.getheader("connection") == "close"
        except (OSError, http.client.HTTPException):
            counts["lost"] += 1
            ends = True
        if ends:
            connection.close()
            connection = None


@pytest.mark.parametrize("grace", ["0", "1"])
@pytest.mark.parametrize("workers", ["1", "2"])
def test_no_request_of_a_busy_client_is_lost_when_the_server_ends(models: Path, workers: str, grace: str) -> None:
    with (
        serving(models, "--workers", workers, SHUTDOWN_GRACE=grace) as server,
        ThreadPoolExecutor(8) as threads,
    ):
        counts = [threads.submit(ask_until_refused, server) for _ in range(8)]
        time.sleep(1)
        server.terminate()
        assert server.wait() == 0
        results = [count.result() for count in counts]
    assert all(result["answered"] for result in results)
    assert [result["lost"] for result in results] == [0] * 8


@pytest.mark.parametrize("workers", ["1", "2"])
def test_somebody_at_the_keyboard_does_not_wait(models: Path, workers: str) -> None:
    with serving(models, "--workers", workers, SHUTDOWN_GRACE="300") as server:
        server.process.send_signal(2)
        assert server.wait() == 0


def test_the_keyboard_ends_the_time_of_grace(models: Path) -> None:
    with serving(models, SHUTDOWN_GRACE="300") as server:
        server.terminate()
        until(lambda: server.ask("GET", "/v2/health/ready").status == 503)
        server.process.send_signal(2)
        assert server.wait() == 0


def test_uploads_that_a_server_ends_are_no_errors(models: Path) -> None:
    with serving(models, MODEL_TIMEOUT="0.1") as server, ExitStack() as stack:
        for _ in range(10):
            client = stack.enter_context(connected(server))
            client.sendall(INFER.format(1000).encode() + BODY)
        assert server.ask("GET", "/v2/health/live").status == 200
        server.terminate()
        assert server.wait() == 0
    assert "Cancel 10 running task(s)" in server.final_log
    assert "Traceback" not in server.final_log

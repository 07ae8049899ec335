"""The line of a request is the same whether a record is made for it or not, and arrives whole."""

import json
import logging
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from inferry import logs, requestline
from inferry.errors import InferenceTimeout
from inferry.logs import JsonFormatter, Lines
from inferry.observation import Observation
from inferry.stats import Timings

LOG = logging.getLogger("inferry")
PATH = "/v2/models/m/infer"
TOOK = 12_345_678
TIMINGS = Timings(1_000_400, 0, 2_000_500, 999)


def observation(request_id: str = "42", status: int = 200, **seen: Any) -> Observation:
    made = Observation(request_id, "4bf92f3577b34da6a3ce929d0e0e4736", [])
    for name, value in {"status": status, "received": 300, "sent": 205, **seen}.items():
        setattr(made, name, value)
    return made


PREDICTION = {"model": "m", "version": "2", "rows": 3, "timings": TIMINGS}
CASES: dict[str, tuple[str, Observation, dict[str, str]]] = {
    "a prediction": (PATH, observation(**PREDICTION), {}),
    "the first of a process": (PATH, observation(**PREDICTION, cold_start=True), {}),
    "no model": ("/v2", observation(), {}),
    "a probe": ("/health", observation(), {}),
    "a failed probe": ("/health", observation(status=503), {}),
    "of a batch": (PATH, observation(**PREDICTION | {"timings": Timings(1, 2, 3, 4, 8)}), {}),
    "after a load": (PATH, observation(**PREDICTION, loading=5_000_000, loaded=9_000_000), {}),
    "too late": (PATH, observation(status=504, **PREDICTION, error=InferenceTimeout("late")), {}),
    "the client left": (PATH, observation(status=0, **PREDICTION), {}),
    "with payloads": (PATH, observation(**PREDICTION), {"request_payload": "{", "response_payload": "}"}),
    "an id with quotes": (PATH, observation('"\\u0001"%d%', **PREDICTION), {}),
    "an id that is no text": (PATH, observation("\ud800", **PREDICTION), {}),
    "a path with quotes": ('/%d"\\u0003"/%s/infer', observation(**PREDICTION), {}),
    "a path with control characters": ("/\3/\1\n/infer", observation(**PREDICTION), {}),
    "a long path": ("/v2/" + "m" * 300, observation(**PREDICTION), {}),
}


@pytest.fixture
def log() -> Iterator[logging.Logger]:
    LOG.setLevel(logging.DEBUG)
    LOG.propagate = False
    yield LOG
    LOG.handlers = []


class Records(logging.Handler):
    """Formats them as `Lines` would if it was given one."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(JsonFormatter("s").format(record))


@pytest.mark.parametrize("case", CASES)
def test_one_line_either_way(log: logging.Logger, case: str) -> None:
    path, seen, payloads = CASES[case]
    records, stream = Records(), StringIO()
    for handler in (records, Lines(stream, JsonFormatter("s"))):
        log.handlers = [handler]
        requestline.write("POST", path, seen, TOOK, payloads)
    (expected,), (found,) = records.lines, stream.getvalue().splitlines()
    assert fields(found) == fields(expected)


def fields(line: str) -> list[tuple[str, Any]]:
    """In their order, with the shape of the timestamp."""
    found = json.loads(line)
    found["timestamp"] = re.sub(r"\d", "0", found["timestamp"])
    return list(found.items())


def test_levels(log: logging.Logger) -> None:
    stream = StringIO()
    log.handlers = [Lines(stream, JsonFormatter("s"))]
    log.setLevel(logging.INFO)
    for case in ("a prediction", "a probe", "a failed probe"):
        path, seen, payloads = CASES[case]
        requestline.write("GET", path, seen, TOOK, payloads)
    log.setLevel(logging.WARNING)
    requestline.write("GET", "/v2", observation(), TOOK, {})
    found = [(line["path"], line["status"]) for line in map(json.loads, stream.getvalue().splitlines())]
    assert found == [(PATH, 200), ("/health", 503)]


def as_it_is(_: JsonFormatter, line: bytes) -> bytes:
    return line


@pytest.mark.parametrize("blocking", [True, False])
def test_a_pipe_that_is_full(log: logging.Logger, blocking: bool) -> None:
    """Whoever reads it gets all of it, whether or not a write waits by itself."""
    reading, writing = os.pipe()
    os.set_blocking(writing, blocking)
    got: list[bytes] = []

    def read() -> None:
        while part := os.read(reading, 1000):
            got.append(part)

    reader = threading.Thread(target=read)
    with open(writing, "w") as stream:
        handler = Lines(stream, JsonFormatter("s"))
        lines = [b"%d" % number * 10_000 for number in range(30)]
        threading.Timer(0.05, reader.start).start()
        for line in lines:
            handler.add(logging.INFO, as_it_is, (line,))
    reader.join(10)
    os.close(reading)
    assert b"".join(got).splitlines() == lines


def test_a_log_that_is_gone_fails_nobody(log: logging.Logger, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    with open(writing, "w") as stream:
        os.close(reading)
        Lines(stream, JsonFormatter("s")).add(logging.INFO, as_it_is, (b"{}",))


KILLED = """
import logging, os, sys
from inferry.logs import JsonFormatter, Lines
Lines(sys.stdout, JsonFormatter("s")).add(logging.INFO, lambda _, line: line, (b'{"of":"the child"}',))
os.kill(os.getpid(), 9)
"""


def test_a_line_is_there_when_its_process_is_not() -> None:
    """Killed, not ended: nothing is kept back for later. Not a fork of this process, whose other threads hold locks."""
    ended = subprocess.run([sys.executable, "-c", KILLED], capture_output=True, timeout=60)
    assert (ended.returncode, ended.stdout) == (-9, b'{"of":"the child"}\n')


def test_lines_of_one_turn_come_by_one_write(monkeypatch: pytest.MonkeyPatch) -> None:
    """In their order, when the turn is over, or before a record if one comes."""
    writes: list[bytes] = []
    monkeypatch.setattr(os, "write", lambda _, line: writes.append(line) or len(line))
    put_off: list[Callable[[], None]] = []
    with open(os.devnull, "w") as stream:
        handler = Lines(stream, JsonFormatter("s"))
        handler.soon = put_off.append
        handler.add(logging.INFO, as_it_is, (b"1",))
        handler.add(logging.INFO, as_it_is, (b"2",))
        assert (writes, len(put_off)) == ([], 1)
        put_off.pop()()
        assert writes == [b"1\n2\n"]
        handler.add(logging.INFO, as_it_is, (b"3",))
        handler.emit(logging.makeLogRecord({"msg": "4"}))
        assert writes == [b"1\n2\n", b"3\n"]
        put_off.pop()()
        assert writes == [b"1\n2\n", b"3\n"]


def test_no_line_waits_for_more_than_64(log: logging.Logger) -> None:
    stream = StringIO()
    log.handlers = [Lines(stream, JsonFormatter("s"))]
    logs.together(lambda _: None)
    writer = logs.writer()
    assert writer
    for number in range(65):
        writer.add(logging.INFO, as_it_is, (b"%d" % number,))
    assert stream.getvalue().splitlines() == [str(number) for number in range(64)]


ENDED = """
import os, sys
from inferry import logs
from inferry.settings import Settings
logs.configure(Settings(log_format="json"))
logs.together(lambda _: None)
add = logs.writer().add
add(20, lambda _, line: line, (b"before the fork",))
if not os.fork():
    add(20, lambda _, line: line, (b"of the child",))
    sys.exit()
os.wait()
add(20, lambda _, line: line, (b"of the parent",))
"""


def test_what_waits_is_written_at_the_end_once() -> None:
    ended = subprocess.run([sys.executable, "-c", ENDED], capture_output=True, timeout=60)
    assert ended.stderr.decode().splitlines() == ["before the fork", "of the child", "of the parent"]


def test_lines_of_several_processes_do_not_mix() -> None:
    """What a pipe takes in one piece (PIPE_BUF) has whole lines, unless a line is longer."""
    sizes = (4095, 4096, 1000, 3094, 1000, 3095)
    lines = [bytes([letter]) * size for letter, size in zip(b"abcdef", sizes, strict=True)]
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    theirs.settimeout(10)
    with theirs, open(ours.detach(), "w") as stream:
        handler = Lines(stream, JsonFormatter("s"))
        handler.soon = lambda _: None
        for line in lines:
            handler.add(logging.INFO, as_it_is, (line,))
        handler.flush()
        parts = [theirs.recv(10_000) for _ in range(5)]
    a, b, c, d, e, f = (line + b"\n" for line in lines)
    assert parts == [a, b, c + d, e, f]


def test_lines_that_are_kept_come_before_a_record(log: logging.Logger) -> None:
    stream = StringIO()
    log.handlers = [Lines(stream, JsonFormatter("s"))]
    logs.together(lambda _: None)
    log.setLevel(logging.INFO)
    requestline.write("POST", PATH, observation(**PREDICTION), TOOK, {})
    assert stream.getvalue() == ""
    log.warning("the next")
    requestline.write("POST", PATH, observation(**PREDICTION), TOOK, {})
    logging.shutdown([lambda: log.handlers[0]])  # type: ignore[list-item]  what is done at the end of a process
    said = [json.loads(line)["message"] for line in stream.getvalue().splitlines()]
    predicted = f"POST {PATH} 200 in 12.346 ms"
    assert said == [predicted, "the next", predicted]


@pytest.mark.parametrize("add", [lambda log: log.addHandler(Records()), lambda log: log.addFilter(lambda _: True)])
def test_others_who_listen_get_records(log: logging.Logger, add: Callable[[logging.Logger], None]) -> None:
    stream = StringIO()
    log.handlers = [Lines(stream, JsonFormatter("s"))]
    add(log)
    seen: list[str] = []
    log.addFilter(lambda record: seen.append(record.getMessage()) is None)
    requestline.write("POST", PATH, observation(**PREDICTION), TOOK, {})
    log.filters = []
    assert seen == [f"POST {PATH} 200 in 12.346 ms"]
    assert json.loads(stream.getvalue())["message"] == seen[0]

"""The line of a request is the same whether a record is made for it or not, and arrives whole."""

import json
import logging
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from inferry.observability import logs
from inferry.observability.access_log import Request
from inferry.observability.logs import JsonFormatter, Lines

LOG = logging.getLogger("inferry")
PATH = "/v2/models/m/infer"
TOOK = 12_345_678
STARTED = 1_000_000_000


PARENT = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def request(name: str | bytes = b"42", path: str = PATH, status: int = 200, **seen: Any) -> Request:
    made = Request("POST", path, name, PARENT, STARTED)
    for field, value in {"status": status, "route": path, "received": 300, "sent": 205, **seen}.items():
        setattr(made, field, value)
    return made


class Bodies:
    def fields(self) -> dict[str, str]:
        return {"request_payload": "{", "response_payload": "}"}


PARTS: dict[str, Any] = {"decode": 1_000_400, "queue": 0, "infer": 2_000_500, "encode": 999}
PREDICTION: dict[str, Any] = {"model": "m", "version": "2", "rows": 3, "taken": 1, **PARTS}
CASES: dict[str, Request] = {
    "a prediction": request(**PREDICTION),
    "of another version": request(**PREDICTION | {"version": "3"}),
    "of another model": request(**PREDICTION | {"version": "3", "model": "n"}),
    "the first of a process": request(**PREDICTION, cold_start=True),
    "of a host's trace": request(**PREDICTION, trace="1-abc-def"),
    "a host's id": request("42", **PREDICTION),
    "of no trace": request(**PREDICTION, trace=b""),
    "a trace with quotes": request(**PREDICTION, trace='"\\'),
    "a trace that is no text": request(**PREDICTION, trace="\ud800"),
    "no model": request(path="/v2"),
    "a probe": request(path="/health"),
    "a failed probe": request(path="/health", status=503),
    "of a batch": request(**PREDICTION, batch=8),
    "after a load": request(**PREDICTION, loading=5_000_000, loaded=9_000_000),
    "too late": request(status=504, **PREDICTION, reason="timeout"),
    "the client left": request(status=0, **PREDICTION),
    "with payloads": request(**PREDICTION, payloads=Bodies()),
    "an id with quotes": request('"\\u0001"%d%', **PREDICTION),
    "a client's id with quotes": request(b'"%d%\\', **PREDICTION),
    "an id that is no text": request("\ud800", **PREDICTION),
    "a path with quotes": request(path='/%d"\\u0003"/%s/infer', **PREDICTION),
    "a path that is no text": request(path="/\ud800/infer", **PREDICTION),
    "a path with control characters": request(path="/\3/\1\n/infer", **PREDICTION),
    "a long path": request(path="/v2/" + "m" * 300, **PREDICTION),
}


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[logging.Logger]:
    """All requests end at one moment."""
    monkeypatch.setattr(time, "perf_counter_ns", lambda: STARTED + TOOK)
    LOG.setLevel(logging.DEBUG)
    LOG.propagate = False
    yield LOG
    logs.together(None)
    LOG.handlers = []


def test_times_in_a_line(log: logging.Logger) -> None:
    """In milliseconds to the nearest microsecond."""
    stream = StringIO()
    log.handlers = [Lines(stream, JsonFormatter("s"))]
    times = {0: 0.0, 499: 0.0, 500: 0.001, 1_000: 0.001, 12_345_678: 12.346, 3_600_000_000_000: 3_600_000.0}
    for took in times:
        request(**PREDICTION | {"infer": took}).write()
    assert [json.loads(line)["infer_ms"] for line in stream.getvalue().splitlines()] == list(times.values())


class Records(logging.Handler):
    """Formats them as `Lines` would if it was given one."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(JsonFormatter("s").format(record))


@pytest.mark.parametrize("case", CASES)
def test_one_line_either_way(log: logging.Logger, case: str) -> None:
    records, stream = Records(), StringIO()
    for handler in (records, Lines(stream, JsonFormatter("s"))):
        log.handlers = [handler]
        CASES[case].end()
    (expected,), (found,) = records.lines, stream.getvalue().splitlines()
    assert fields(found) == fields(expected)


@pytest.mark.parametrize(
    "names", [[*CASES], [name for name in CASES if "path" not in name], [*CASES][:3], ["no model"]]
)
def test_lines_together_are_as_those_alone(log: logging.Logger, names: list[str]) -> None:
    """In their order, whatever was before, and whether or not all can be made in the quick way."""
    alone, together = StringIO(), StringIO()
    cases = [CASES[name] for name in names if "probe" not in name for _ in range(2)]
    log.handlers = [Lines(alone, JsonFormatter("s"))]
    for case in cases:
        case.end()
    log.handlers = [Lines(together, JsonFormatter("s"))]
    logs.together(lambda _: None)
    for case in cases:
        case.end()
    assert together.getvalue() == ""
    logs.together(None)
    expected, found = ([fields(line) for line in stream.getvalue().splitlines()] for stream in (alone, together))
    assert found == expected
    assert len(found) == len(cases)


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
        CASES[case].end()
    log.setLevel(logging.WARNING)
    request(path="/v2").end()
    found = [(line["path"], line["status"]) for line in map(json.loads, stream.getvalue().splitlines())]
    assert found == [(PATH, 200), ("/health", 503)]


class Text(bytes):
    """A line that is made."""

    level = logging.INFO

    @staticmethod
    def text(events: JsonFormatter, some: "Sequence[Text]") -> bytes:
        return b"".join(line + b"\n" for line in some)


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
            handler.add(Text(line))
    reader.join(10)
    os.close(reading)
    assert b"".join(got).splitlines() == lines


def test_a_log_that_is_gone_fails_nobody(log: logging.Logger, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    with open(writing, "w") as stream:
        os.close(reading)
        Lines(stream, JsonFormatter("s")).add(Text(b"{}"))


TEXT = """
class Text(bytes):
    level = 20
    text = staticmethod(lambda _, some: b"".join(line + b"\\n" for line in some))
"""

KILLED = f"""
import os, sys
from inferry.observability.logs import JsonFormatter, Lines
{TEXT}
Lines(sys.stdout, JsonFormatter("s")).add(Text(b'{{"of":"the child"}}'))
os.kill(os.getpid(), 9)
"""


def test_a_line_is_there_when_its_process_is_not() -> None:
    """Killed, not ended: nothing is kept back for later. Not a fork of this process, whose other threads hold locks."""
    ended = subprocess.run([sys.executable, "-c", KILLED], capture_output=True, timeout=60)
    assert (ended.returncode, ended.stdout) == (-9, b'{"of":"the child"}\n')


def test_lines_of_one_turn_come_by_one_write(monkeypatch: pytest.MonkeyPatch) -> None:
    """In their order, when the turn is over, or before a record if one comes."""
    writes: list[bytes] = []
    monkeypatch.setattr(os, "write", lambda _, lines: writes.append(bytes(lines)) or len(lines))
    put_off: list[Callable[[], None]] = []
    with open(os.devnull, "w") as stream:
        handler = Lines(stream, JsonFormatter("s"))
        handler.soon = put_off.append
        handler.add(Text(b"1"))
        handler.add(Text(b"2"))
        assert (writes, len(put_off)) == ([], 1)
        put_off.pop()()
        assert writes == [b"1\n2\n"]
        handler.add(Text(b"3"))
        handler.emit(logging.makeLogRecord({"msg": "4"}))
        assert writes == [b"1\n2\n", b"3\n"]
        put_off.pop()()
        assert writes == [b"1\n2\n", b"3\n"]


def test_no_line_waits_for_more_than_100(log: logging.Logger) -> None:
    stream = StringIO()
    log.handlers = [Lines(stream, JsonFormatter("s"))]
    logs.together(lambda _: None)
    for number in range(101):
        request(b"%d" % number, **PREDICTION).end()
    said = [json.loads(line)["request_id"] for line in stream.getvalue().splitlines()]
    assert said == [str(number) for number in range(100)]


ENDED = f"""
import os, sys
from inferry.observability import logs
from inferry.settings import Settings
{TEXT}
logs.configure(Settings(log_format="json"))
logs.together(lambda _: None)
add = logs.writer().add
add(Text(b"before the fork"))
if not os.fork():
    add(Text(b"of the child"))
    sys.exit()
os.wait()
add(Text(b"of the parent"))
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
            handler.add(Text(line))
        handler.flush()
        parts = [theirs.recv(10_000) for _ in range(5)]
    a, b, c, d, e, f = (line + b"\n" for line in lines)
    assert parts == [a, b, c + d, e, f]


def test_lines_that_are_kept_come_before_a_record(log: logging.Logger) -> None:
    stream = StringIO()
    log.handlers = [Lines(stream, JsonFormatter("s"))]
    logs.together(lambda _: None)
    log.setLevel(logging.INFO)
    request(**PREDICTION).end()
    assert stream.getvalue() == ""
    log.warning("the next")
    request(**PREDICTION).end()
    # What is done at the end of a process.
    logging.shutdown([lambda: log.handlers[0]])
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
    request(**PREDICTION).end()
    log.filters = []
    assert seen == [f"POST {PATH} 200 in 12.346 ms"]
    assert json.loads(stream.getvalue())["message"] == seen[0]

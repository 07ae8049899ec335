"""Responses in a real Redis: kept for others, and what happens while it is away, slow, full or has others' bytes."""

import asyncio
import logging
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis_server
from inferry.errors import InvalidSettings
from inferry.observability.registry import Metrics
from inferry.response_cache import redis_store
from inferry.response_cache.redis_store import RedisStore
from inferry.settings import Settings
from loopback import free_port
from redis_server import RedisServer

KEY, OTHER = b"k" * 32, b"o" * 32
PATIENT = 10.0
# What a loaded machine may take beside what is asserted.
SLACK = 0.25


@pytest.fixture(scope="module")
def shared_redis() -> Iterator[RedisServer]:
    with redis_server.running() as server:
        yield server


@pytest.fixture
def redis(shared_redis: RedisServer) -> RedisServer:
    shared_redis.client.flushall()
    shared_redis.client.config_resetstat()
    return shared_redis


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """`clock(5)`: five seconds are over for the store."""
    ahead = [0.0]
    monotonic = time.monotonic

    class Clock:
        monotonic = staticmethod(lambda: monotonic() + ahead[0])

    monkeypatch.setattr(redis_store, "time", Clock)

    def move(seconds: float) -> None:
        ahead[0] += seconds

    return move


class Opened(RedisStore):
    """A store for one test: `failures` by reason."""

    def __init__(self, url: str, timeout: float = PATIENT, **settings: Any) -> None:
        self.counts = Metrics()
        super().__init__(Settings(response_cache_url=url, response_cache_timeout=timeout, **settings), self.counts)

    @property
    def failures(self) -> dict[str, float]:
        (found,) = [
            family.series
            for family in self.counts.collect()
            if family.metric.name == "inferry_response_cache_failures_total"
        ] or [{}]
        return {reason: count for (reason,), count in found.items()}  # type: ignore[misc]


def run(store: Opened, scenario: Callable[[Opened], Coroutine[Any, Any, None]]) -> None:
    async def whole() -> None:
        try:
            await scenario(store)
        finally:
            await store.close()

    asyncio.run(whole())


def test_what_one_process_keeps_others_find(redis: RedisServer) -> None:
    entry = bytes(range(256)) * 4000

    async def keep(store: Opened) -> None:
        assert await store.get(KEY, 1) is None
        await store.set(KEY, entry, 1)
        assert await store.get(KEY, 1) == entry
        assert await store.get(OTHER, 1) is None

    async def find(store: Opened) -> None:
        assert await store.get(KEY, 1) == entry

    for scenario in (keep, find):
        store = Opened(redis.url)
        run(store, scenario)
        assert store.failures == {}
    (name,) = redis.entries()
    assert name == b"inferry1:" + KEY.hex().encode()
    assert 0 < redis.client.pttl(name) <= 3_600_000


def test_entries_are_gone_after_their_time(redis: RedisServer) -> None:
    async def scenario(store: Opened) -> None:
        await store.set(KEY, b"entry", 1)
        deadline = time.monotonic() + 20
        while await store.get(KEY, 1) is not None:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)

    run(Opened(redis.url, response_cache_seconds=0.2), scenario)


def test_many_at_once_share_connections(redis: RedisServer) -> None:
    async def scenario(store: Opened) -> None:
        await asyncio.gather(*(store.set(number.to_bytes(32, "big"), b"%d" % number, 60) for number in range(200)))
        found = await asyncio.gather(*(store.get(number.to_bytes(32, "big"), 60) for number in range(200)))
        assert found == [b"%d" % number for number in range(200)]
        assert len(store._free) <= redis_store.CONNECTIONS

    before = redis.client.info("stats")["total_connections_received"]
    store = Opened(redis.url)
    # The first request connects, for which the others don't wait: with one connection standing they do.
    run(store, _after(b"first", scenario))
    assert store.failures == {}
    assert redis.client.info("stats")["total_connections_received"] - before <= redis_store.CONNECTIONS


def _after(
    entry: bytes, scenario: Callable[[Opened], Coroutine[Any, Any, None]]
) -> Callable[[Opened], Coroutine[Any, Any, None]]:
    """The scenario over a store that is connected."""

    async def whole(store: Opened) -> None:
        await store.set(KEY, entry, 60)
        assert await store.get(KEY, 60) == entry
        await scenario(store)

    return whole


FOREIGN: dict[str, Callable[[RedisServer, bytes, bytes], object]] = {
    "text": lambda redis, name, _: redis.client.set(name, b"hello"),
    "nothing": lambda redis, name, _: redis.client.set(name, b""),
    "another format": lambda redis, name, ours: redis.client.set(name, b"inferry0" + ours[8:]),
    "cut off": lambda redis, name, ours: redis.client.set(name, ours[:-1]),
    "longer": lambda redis, name, ours: redis.client.append(name, b"\0"),
    "changed": lambda redis, name, ours: redis.client.set(name, ours[:-1] + bytes([ours[-1] ^ 1])),
    "without an entry": lambda redis, name, ours: redis.client.set(name, ours[:24]),
    "the head alone": lambda redis, name, ours: redis.client.set(name, ours[:8]),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_foreign_bytes(redis: RedisServer, kind: str) -> None:
    """They are no entry, and the next one takes their place."""

    async def scenario(store: Opened) -> None:
        (name,), (ours,) = redis.entries().keys(), redis.entries().values()
        FOREIGN[kind](redis, name, ours)
        assert await store.get(KEY, 1) is None
        assert store.failures == {"foreign": 1}
        await store.set(KEY, b"again", 1)
        assert await store.get(KEY, 1) == b"again"

    run(Opened(redis.url), _after(b"entry", scenario))


def test_an_entry_at_another_s_place(redis: RedisServer) -> None:
    async def scenario(store: Opened) -> None:
        redis.client.copy("inferry1:" + KEY.hex(), "inferry1:" + OTHER.hex())
        assert await store.get(OTHER, 1) is None
        assert store.failures == {"foreign": 1}

    run(Opened(redis.url), _after(b"entry", scenario))


def test_another_type_at_the_place(redis: RedisServer) -> None:
    async def scenario(store: Opened) -> None:
        redis.client.rpush("inferry1:" + OTHER.hex(), "a", "b")
        assert await store.get(OTHER, 1) is None
        assert store.failures == {"refused": 1}
        await store.set(OTHER, b"entry", 1)
        assert await store.get(OTHER, 1) == b"entry"

    run(Opened(redis.url), _after(b"entry", scenario))


def test_a_full_one(caplog: pytest.LogCaptureFixture) -> None:
    """What it has is found; what it refuses is counted, and said once."""

    async def scenario(store: Opened) -> None:
        full.client.config_set("maxmemory", 1)
        for _ in range(3):
            await store.set(OTHER, b"x" * 100, 1)
        assert store.failures == {"refused": 3}
        assert await store.get(KEY, 1) == b"entry"
        assert await store.get(OTHER, 1) is None

    with redis_server.running("--maxmemory-policy", "noeviction") as full:
        run(Opened(full.url), _after(b"entry", scenario))
        lines = [record.message for record in caplog.records if record.levelno == logging.WARNING]
        assert len(lines) == 1
        assert lines[0].startswith(f"the response cache in Redis at 127.0.0.1:{full.port} is of no use now (refused): ")
        assert "maxmemory" in lines[0]


def test_a_stopped_one_costs_one_request_its_time_out(redis: RedisServer, clock: Callable[[float], None]) -> None:
    """Then it is left out, until one tries again."""
    timeout = 0.05

    async def scenario(store: Opened) -> None:
        store._timeout = timeout
        with redis.stopped():
            assert timeout <= await took(store.get(KEY, 60)) < timeout + SLACK
            assert store.failures == {"timeout": 1}
            assert max([await took(store.get(KEY, 60)) for _ in range(100)]) < timeout
            clock(redis_store.PAUSE)
            # One of these tries, and the others don't wait for it.
            each = await asyncio.gather(*(took(store.get(KEY, 60)) for _ in range(10)))
            assert sorted(seconds >= timeout for seconds in each) == [False] * 9 + [True]
            # It goes on connecting, for a second.
            await until(lambda: "unreachable" in store.failures)
        assert await store.get(KEY, 60) is None
        clock(redis_store.PAUSE)
        store._timeout = PATIENT
        assert await store.get(KEY, 60) == b"entry"
        assert await store.get(KEY, 60) == b"entry"
        assert store.failures == {"timeout": 1, "unreachable": 1}

    run(Opened(redis.url), _after(b"entry", scenario))


def test_of_many_one_tries_whether_it_is_back(redis: RedisServer, clock: Callable[[float], None]) -> None:
    """With connections that are free as well."""
    timeout = 0.05

    async def scenario(store: Opened) -> None:
        await asyncio.gather(*(store.get(KEY, 60) for _ in range(20)))
        assert len(store._free) > 2
        store._timeout = timeout
        with redis.stopped():
            await took(store.get(KEY, 60))
            for trial in (2, 3):
                clock(redis_store.PAUSE)
                each = await asyncio.gather(*(took(store.get(KEY, 60)) for _ in range(10)))
                assert sorted(seconds >= timeout for seconds in each) == [False] * 9 + [True]
                assert store.failures == {"timeout": trial}

    run(Opened(redis.url), _after(b"entry", scenario))


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


async def took(asking: Coroutine[Any, Any, Any]) -> float:
    start = time.perf_counter()
    assert await asking is None
    return time.perf_counter() - start


def test_a_time_out_of_two_milliseconds(redis: RedisServer) -> None:
    """The default, and 2 ms more: the best of some, as the machine may be busy."""
    best = []

    async def scenario(store: Opened) -> None:
        store._timeout = Settings().response_cache_timeout
        with redis.stopped():
            best.append(await took(store.get(KEY, 60)))

    for _ in range(10):
        run(Opened(redis.url), _after(b"entry", scenario))
        if best[-1] < 0.004:
            break
    assert min(best) < 0.004


def test_no_request_waits_longer_than_it_may(redis: RedisServer) -> None:
    async def scenario(store: Opened) -> None:
        with redis.stopped():
            assert await took(store.get(KEY, 0.01)) < PATIENT / 2

    run(Opened(redis.url), _after(b"entry", scenario))


def test_nobody_there(clock: Callable[[float], None], caplog: pytest.LogCaptureFixture) -> None:
    port = free_port()

    async def scenario(store: Opened) -> None:
        for _ in range(3):
            assert await took(store.get(KEY, 60)) < PATIENT / 2
        assert store.failures == {"unreachable": 1}
        with redis_server.running(port=port):
            assert await store.get(KEY, 60) is None
            clock(redis_store.PAUSE)
            await store.set(KEY, b"entry", 60)
            assert await store.get(KEY, 60) == b"entry"

    run(Opened(f"redis://user:secret@127.0.0.1:{port}/0"), _refused_without_password(port, scenario))
    assert "secret" not in caplog.text
    assert f"127.0.0.1:{port} is of no use now (unreachable)" in caplog.text


def _refused_without_password(
    port: int, scenario: Callable[[Opened], Coroutine[Any, Any, None]]
) -> Callable[[Opened], Coroutine[Any, Any, None]]:
    async def whole(store: Opened) -> None:
        # The server of this test has neither user nor password.
        store._pool.connection_kwargs.pop("username")
        store._pool.connection_kwargs.pop("password")
        await scenario(store)

    return whole


def test_one_that_starts_anew(redis: RedisServer) -> None:
    """Connections that it has closed cost nobody anything: new ones are made."""

    async def scenario(store: Opened) -> None:
        redis.client.client_kill_filter(_type="normal", skipme=True)
        assert await store.get(KEY, 60) == b"entry"
        assert store.failures == {}

    run(Opened(redis.url), _after(b"entry", scenario))


def test_a_request_that_is_given_up_leaves_no_answer_to_the_next(redis: RedisServer) -> None:
    async def scenario(store: Opened) -> None:
        await store.set(OTHER, b"other", 60)
        with redis.stopped():
            asking = asyncio.create_task(store.get(KEY, 60))
            await asyncio.sleep(0.05)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
        assert await store.get(OTHER, 60) == b"other"
        assert store.failures == {}

    run(Opened(redis.url), _after(b"entry", scenario))


@contextmanager
def talking(answer: Callable[[bytes], bytes], delay: float = 0) -> Iterator[int]:
    """Something that is no Redis, at a port: it answers every piece that it reads, a byte at a time after a delay."""
    ended = threading.Event()

    def serve(client: socket.socket) -> None:
        with client:
            while piece := client.recv(65536):
                said = answer(piece)
                for start in range(0, len(said), 1 if delay else len(said)):
                    if ended.wait(delay):
                        return
                    try:
                        client.sendall(said[start : start + 1] if delay else said)
                    except OSError:
                        return

    def listen() -> None:
        while not ended.is_set():
            try:
                client, _ = server.accept()
            except TimeoutError:
                continue
            threads.append(threading.Thread(target=serve, args=(client,)))
            threads[-1].start()

    threads: list[threading.Thread] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.05)
        threads.append(threading.Thread(target=listen))
        threads[0].start()
        try:
            yield server.getsockname()[1]
        finally:
            ended.set()
            for thread in threads:
                thread.join()


def pong(piece: bytes) -> bytes:
    return b"+PONG\r\n" if b"PING" in piece else b""


STRANGE: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "HTTP": (lambda _: b"HTTP/1.1 400 Bad Request\r\n\r\n", "unreachable"),
    "garbage": (lambda piece: pong(piece) or b"\xff\xfe\x00" * 100 + b"\r\n", "unreachable"),
    "a number": (lambda piece: pong(piece) or b":7\r\n", "foreign"),
    "a list": (lambda piece: pong(piece) or b"*2\r\n:1\r\n$-1\r\n", "foreign"),
    "moved": (lambda piece: pong(piece) or b"-MOVED 1 127.0.0.1:1\r\n", "refused"),
    "an endless string": (lambda piece: pong(piece) or b"$9999999999\r\nxxx", "timeout"),
    "a size that is none": (lambda piece: pong(piece) or b"$x\r\n", "unreachable"),
}


@pytest.mark.parametrize("kind", STRANGE)
def test_what_is_no_redis(kind: str) -> None:
    answer, reason = STRANGE[kind]

    async def scenario(store: Opened) -> None:
        for _ in range(2):
            assert await store.get(KEY, 60) is None
            await store.set(KEY, b"entry", 60)
        assert reason in store.failures

    with talking(answer) as port:
        run(Opened(f"redis://127.0.0.1:{port}", timeout=0.5), scenario)


def test_one_that_dribbles() -> None:
    """A byte in time again and again is no answer in time."""

    async def scenario(store: Opened) -> None:
        assert await took(store.get(KEY, 60)) < 5
        assert store.failures.keys() <= {"timeout", "unreachable"}
        assert store.failures

    with talking(lambda piece: b"+PONG\r\n" if b"PING" in piece else b"$1000\r\n" + b"x" * 1000, delay=0.02) as port:
        run(Opened(f"redis://127.0.0.1:{port}", timeout=0.3), scenario)


def test_a_slow_one_is_found_out_by_its_connection(clock: Callable[[float], None]) -> None:
    def slowly(piece: bytes) -> bytes:
        time.sleep(0.05)
        return pong(piece)

    async def scenario(store: Opened) -> None:
        await took(store.get(KEY, 60))
        await until(lambda: "timeout" in store.failures)
        assert store._standing == 0
        # Nobody has asked it for an entry.
        assert asked == []

    asked: list[bytes] = []

    def answer(piece: bytes) -> bytes:
        asked.extend([piece] if b"GET" in piece else [])
        return slowly(piece)

    with talking(answer) as port:
        run(Opened(f"redis://127.0.0.1:{port}", timeout=0.01), scenario)


@pytest.mark.parametrize("in_url", [True, False])
def test_a_password(in_url: bool, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(store: Opened) -> None:
        await store.set(KEY, b"entry", 60)
        assert await store.get(KEY, 60) == b"entry"

    async def refused(store: Opened) -> None:
        assert await store.get(KEY, 60) is None
        assert store.failures == {"unreachable": 1}

    with redis_server.running("--requirepass", "pass/word", password="pass/word") as server:
        plain = server.url
        url = plain.replace("//", "//:pass%2Fword@") if in_url else plain
        run(Opened(url, response_cache_password="" if in_url else "pass/word"), scenario)
        run(Opened(plain, response_cache_password="wr0ng"), refused)
        run(Opened(plain), refused)
    assert "wr0ng" not in caplog.text
    assert "pass" not in caplog.text.replace("username-password", "").replace("requirepass", "")
    assert repr(Settings(response_cache_url=url, response_cache_password="wr0ng")).count("pass/word") == 0


def certificate(folder: Path) -> tuple[Path, Path]:
    """A key, and a certificate for 127.0.0.1 that signs itself."""
    key, crt = folder / "tls.key", folder / "tls.crt"
    subject = ("-subj", "/CN=redis", "-addext", "subjectAltName=IP:127.0.0.1")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-keyout", str(key)]
    subprocess.run([*command, "-out", str(crt), *subject], check=True, capture_output=True)
    return key, crt


def test_tls(tmp_path: Path, clock: Callable[[float], None]) -> None:
    """With a time-out that no handshake keeps to: it goes on behind the request. Who is not known is not trusted."""
    key, crt = certificate(tmp_path)
    port = free_port()
    files = ("--tls-cert-file", str(crt), "--tls-key-file", str(key), "--tls-ca-cert-file", str(crt))
    options = ("--port", "0", "--tls-port", str(port), *files, "--tls-auth-clients", "no")

    async def scenario(store: Opened) -> None:
        assert await store.get(KEY, 0.0001) is None
        await until(lambda: store._standing > 0)
        await store.set(KEY, b"entry", 60)
        assert await store.get(KEY, 60) == b"entry"
        assert store.failures == {}

    async def refused(store: Opened) -> None:
        assert await store.get(KEY, 60) is None
        assert store.failures == {"unreachable": 1}

    with redis_server.running(*options, ssl=True, ssl_ca_certs=str(crt)):
        run(Opened(f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={crt}"), scenario)
        run(Opened(f"rediss://127.0.0.1:{port}/0"), refused)


@pytest.mark.parametrize("url", ["redis://:secret@127.0.0.1:secret/0", "secret://127.0.0.1", "redis://h?secret=1"])
def test_urls_that_are_none(url: str) -> None:
    with pytest.raises(InvalidSettings) as failed:
        Opened(url)
    assert "secret" not in str(failed.value)
    assert failed.value.__suppress_context__

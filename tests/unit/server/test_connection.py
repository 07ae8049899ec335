"""What a connection takes of its event loop, whatever its client sends at once."""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import pytest
import uvicorn
from inferry.http.asgi import Receive, Scope, Send
from inferry.server.connection import Connection, Limits
from inferry.settings import Settings
from uvicorn.server import ServerState

HEAD = b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
SECONDS = 60.0
Peer: TypeAlias = tuple[asyncio.StreamReader, asyncio.StreamWriter]
LIMITS = Limits.of(Settings())


class Application:
    """Answers with the number of bytes that came; `parts` are those of the bodies, as they were read."""

    def __init__(self) -> None:
        self.parts: list[int] = []
        self.let = asyncio.Event()
        self.let.set()

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        await self.let.wait()
        size, more = 0, True
        while more:
            message = await receive()
            self.parts.append(len(message["body"]))
            size, more = size + self.parts[-1], message["more_body"]
        body = b"%d" % size
        headers = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


Scenario = Callable[[Application, Connection, asyncio.StreamReader], Coroutine[Any, Any, None]]


def run(scenario: Scenario) -> None:
    """With a client that has read nothing yet. What it would send, the scenario gives to the connection at once."""

    async def connected() -> None:
        application, made = Application(), list[Connection]()
        config = uvicorn.Config(application, ws="none", lifespan="off", interface="asgi3", access_log=False)
        config.load()

        def make() -> Connection:
            made.append(Connection(config=config, server_state=ServerState(), app_state={}, limits=LIMITS))
            return made[-1]

        server = await asyncio.get_running_loop().create_server(make, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert await answered(reader) == b"0"
        application.parts.clear()
        await scenario(application, made[0], reader)
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()

    asyncio.run(asyncio.wait_for(connected(), SECONDS))


async def answered(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 "), head
    _, _, length = head.lower().partition(b"content-length: ")
    return await reader.readexactly(int(length.split()[0]))


def is_reading(connection: Connection) -> bool:
    reading: bool = connection.transport.is_reading()
    return reading


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which everything takes long."""
    monkeypatch.setattr("inferry.server.connection._LONG", -1.0)


COUNT = 40_000


@pytest.mark.usefixtures("slow")
def test_a_body_in_chunks_of_one_byte_comes_a_little_at_a_time() -> None:
    async def scenario(application: Application, connection: Connection, reader: asyncio.StreamReader) -> None:
        connection.data_received(HEAD + b"1\r\n \r\n" * COUNT + b"0\r\n\r\n")
        assert not is_reading(connection)
        assert await answered(reader) == b"%d" % COUNT
        assert max(application.parts) < COUNT / 10
        await until(lambda: is_reading(connection))

    run(scenario)


@pytest.mark.usefixtures("slow")
def test_who_rests_reads_nothing_though_its_application_asks() -> None:
    async def scenario(application: Application, connection: Connection, reader: asyncio.StreamReader) -> None:
        application.let.clear()
        connection.data_received(HEAD + b"1\r\n \r\n" * COUNT)
        connection.flow.pause_reading()
        connection.flow.resume_reading()
        assert not is_reading(connection)
        connection.flow.pause_reading()
        await until(lambda: not connection.transport.is_held)
        assert not is_reading(connection)
        connection.flow.resume_reading()
        assert is_reading(connection)
        application.let.set()
        connection.data_received(b"0\r\n\r\n")
        assert await answered(reader) == b"%d" % COUNT

    run(scenario)


def test_an_ordinary_body_is_taken_at_once() -> None:
    async def scenario(_application: Application, connection: Connection, reader: asyncio.StreamReader) -> None:
        connection.data_received(HEAD + b"c8000\r\n" + bytes(0xC8000) + b"\r\n0\r\n\r\n")
        assert connection.cycle.more_body is False
        assert await answered(reader) == b"%d" % 0xC8000

    run(scenario)


def test_of_pipelined_requests_no_more_are_read_than_are_answered() -> None:
    async def scenario(application: Application, connection: Connection, reader: asyncio.StreamReader) -> None:
        application.let.clear()
        head = b"GET / HTTP/1.1\r\n\r\n"
        connection.data_received(head * COUNT)
        assert len(connection.pipeline) < 1000
        assert not is_reading(connection)
        application.let.set()
        for _ in range(COUNT):
            assert await answered(reader) == b"0"
            assert len(connection.pipeline) < 1000
            assert is_reading(connection) <= (not connection.pipeline)
        assert not connection.pipeline
        await until(lambda: is_reading(connection))

    run(scenario)


@pytest.mark.usefixtures("slow")
def test_rests_of_one_address_follow_one_another() -> None:
    async def scenario(_application: Application, connection: Connection, _reader: asyncio.StreamReader) -> None:
        turn = connection._turn
        assert turn is not None
        first, second, other = turn.rest("a", 0.01), turn.rest("a", 0.01), turn.rest("b", 0.01)
        assert first + 0.005 < second
        assert other < second
        await until(lambda: not turn._rests)

    run(scenario)


@pytest.mark.usefixtures("slow")
def test_what_is_no_http_is_refused_once() -> None:
    async def scenario(_application: Application, connection: Connection, reader: asyncio.StreamReader) -> None:
        connection.data_received(b"nonsense\r\n" * 20_000)
        answer = await reader.read()
        assert answer.count(b"HTTP/1.1 400 ") == 1

    run(scenario)


MANY = 60
ASKING = b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: %b\r\n\r\n"


class Working:
    """Holds the event loop for two milliseconds with each request; `steps` are whose they were."""

    def __init__(self) -> None:
        self.steps: list[str] = []

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        self.steps.append(dict(scope["headers"])[b"x-api-key"].decode())
        time.sleep(0.002)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1")]})
        await send({"type": "http.response.body", "body": b"0"})


@asynccontextmanager
async def crowd(application: Working) -> AsyncIterator[Callable[[], Awaitable[Peer]]]:
    """What opens a connection to a server of the application; keys "one" and "other" are clients."""
    keys = tuple(hashlib.sha256(name.encode()).hexdigest() for name in ("one", "other"))
    config = uvicorn.Config(application, ws="none", lifespan="off", interface="asgi3", access_log=False)
    config.load()
    limits, state = Limits.of(Settings(api_keys=keys)), ServerState()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: Connection(config=config, server_state=state, app_state={}, limits=limits), "127.0.0.1", 0
    )
    peers: list[Peer] = []

    async def connected() -> Peer:
        peers.append(await asyncio.open_connection(*server.sockets[0].getsockname()))
        return peers[-1]

    yield connected
    server.close()
    for _, writer in peers:
        writer.close()


def test_many_connections_of_one_client_take_turns_with_another() -> None:
    async def scenario() -> None:
        application = Working()
        async with crowd(application) as connected:
            many = [await connected() for _ in range(MANY)]
            reader, writer = await connected()
            for _, sender in many:
                sender.write(ASKING % b"one")
            for _ in range(5):
                writer.write(ASKING % b"other")
                await answered(reader)
            assert application.steps.count("other") == 5
            assert application.steps.count("one") < MANY // 2
            for receiver, _ in many:
                await answered(receiver)
            assert application.steps.count("one") == MANY

    asyncio.run(asyncio.wait_for(scenario(), SECONDS))


def test_who_leaves_the_crowd_holds_up_nobody() -> None:
    async def scenario() -> None:
        application = Working()
        async with crowd(application) as connected:
            many = [await connected() for _ in range(MANY)]
            for _, sender in many:
                sender.write(ASKING % b"one")
            while not application.steps:
                await asyncio.sleep(0)
            for _, sender in many[MANY // 2 :]:
                sender.transport.abort()
            for receiver, _ in many[: MANY // 2]:
                await answered(receiver)
            assert application.steps.count("one") < MANY
            # The crowd is over: who comes now begins at once.
            reader, writer = await connected()
            writer.write(ASKING % b"other")
            await answered(reader)
            turn = Connection._turn
            assert turn is not None
            await until(lambda: not turn._is_crowded)
            assert len(turn._crowd) == 0

    asyncio.run(asyncio.wait_for(scenario(), SECONDS))

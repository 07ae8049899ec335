"""functions/gateway.py: any application behind Mangum, with an event loop only where it waits for something."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import lambda_events as events
import onnx_models
import pytest
from inferry.concurrency import on_loop
from wrappers.conftest import DEFAULTS, context

from functions.gateway import Gateway

ROOT = Path(__file__).parents[2]
START = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]}
App = Callable[..., Any]


@pytest.fixture
def invoked() -> Iterator[Callable[[App], Any]]:
    """`invoked(app)` is the answer of an application to an invocation."""
    gateways = []

    def invoke(app: App) -> Any:
        gateways.append(Gateway(app))
        return gateways[-1](events.load("http-api"), context())

    yield invoke
    for gateway in gateways:
        gateway.open_loop().close()


async def at_once(scope: Any, receive: Any, send: Any) -> None:
    await send(START)
    await send({"type": "http.response.body", "body": b"ready"})


async def in_parts(scope: Any, receive: Any, send: Any) -> None:
    await send(START)
    for part in (b"re", b"", b"ad"):
        await send({"type": "http.response.body", "body": part, "more_body": True})
        await on_loop()
    await send({"type": "http.response.body", "body": b"y"})


async def asking_twice(scope: Any, receive: Any, send: Any) -> None:
    messages = [await receive()]
    await at_once(scope, receive, send)
    messages.append(await receive())
    assert [message["type"] for message in messages] == ["http.request", "http.disconnect"]


async def until_the_client_is_gone(scope: Any, receive: Any, send: Any) -> None:
    """As Starlette's StreamingResponse does it."""
    import asyncio

    await receive()
    await on_loop()
    listening = asyncio.create_task(receive())
    await asyncio.sleep(0)
    assert not listening.done()
    await at_once(scope, receive, send)
    assert await listening == {"type": "http.disconnect"}


variable: ContextVar[str] = ContextVar("variable", default="")


async def with_a_variable(scope: Any, receive: Any, send: Any) -> None:
    token = variable.set("seen")
    await on_loop()
    assert variable.get() == "seen"
    variable.reset(token)
    await at_once(scope, receive, send)


APPS = (at_once, in_parts, asking_twice, until_the_client_is_gone, with_a_variable)


@pytest.mark.parametrize("app", APPS)
def test_any_application_is_answered(invoked: Callable[[App], Any], app: App) -> None:
    assert invoked(app) == {
        "statusCode": 200,
        "body": "ready",
        "headers": {"content-type": "text/plain"},
        "isBase64Encoded": False,
    }
    assert variable.get() == ""


@pytest.mark.parametrize("waits", [False, True])
def test_what_an_application_raises_is_lambdas(invoked: Callable[[App], Any], waits: bool) -> None:
    async def failing(scope: Any, receive: Any, send: Any) -> None:
        if waits:
            await on_loop()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        invoked(failing)


FIRST = """
import json, sys
from functions.api import handler
from wrappers.conftest import context
before = "asyncio" in sys.modules
answer = handler(json.loads(sys.argv[1]), context())
print(json.dumps([before, "asyncio" in sys.modules, answer["statusCode"]]))
"""
# Nobody listens there: that is a Redis, too.
REDIS = {"RESPONSE_CACHE_URL": "redis://127.0.0.1:1/0"}
VALUES = {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}]}
QUICK = {"response_cache": {"enable": True}, "example": VALUES, "warm_up": True}
FILES = {
    "unknown": {"unknown.onnx": onnx_models.identity()},
    "kept": {"kept/1/model.onnx": onnx_models.identity(), "kept/config.json": json.dumps(QUICK).encode()},
}
# The environment, and whether asyncio is there after the init, and after the first prediction.
LOOPS: dict[str, tuple[dict[str, str], bool, bool]] = {
    "a quick model": ({}, False, False),
    "a model that nobody knows to be quick": ({"DEFAULT_MODEL": "unknown"}, True, True),
    "responses that are kept in memory": ({"DEFAULT_MODEL": "kept"}, False, False),
    "responses that are kept in Redis": ({"DEFAULT_MODEL": "kept", **REDIS}, True, True),
    "a snapshot, whose init delays nobody": ({"AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start"}, True, True),
}


@pytest.mark.parametrize("name", LOOPS)
def test_asyncio_is_imported_where_something_waits(repository: Callable[..., str], name: str) -> None:
    env, after_init, after_prediction = LOOPS[name]
    model = env.get("DEFAULT_MODEL", "digits")
    if model in FILES:
        env = env | {"MODEL_PATH": repository(FILES[model])}
    body = json.dumps(VALUES).encode()
    event = events.load("http-api")
    if model != "digits":
        event = events.http_api("POST", f"/v2/models/{model}/infer", body, {"content-type": "application/json"})
    given = DEFAULTS | env | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}:{ROOT / 'tests' / 'helpers'}"}
    command = [sys.executable, "-c", FIRST, json.dumps(event)]
    # A busy machine can make any model look slow: one of five tries shows it as it is.
    tries = (subprocess.run(command, env=given, check=True, capture_output=True, text=True) for _ in range(5))
    assert [after_init, after_prediction, 200] in (json.loads(done.stdout) for done in tries)


def test_mangum_can_still_be_imported_whole() -> None:
    script = "import functions.sources; from mangum import Mangum; from mangum.handlers import ALB"
    subprocess.run([sys.executable, "-c", script], env=DEFAULTS, cwd=ROOT, check=True)


@pytest.mark.parametrize(("module", "later"), [("api", "inferry.app"), ("batch", "inferry.worker.worker")])
def test_numpy_is_not_imported_below_many_others(module: str, later: str) -> None:
    script = f"import sys, functions.{module}; print(*sys.modules)"
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=DEFAULTS, cwd=ROOT, check=True, capture_output=True, text=True)
    names = done.stdout.split()
    assert names.index("numpy") < names.index(later)

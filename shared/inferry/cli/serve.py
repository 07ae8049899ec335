"""`inferry serve`: the server's process or processes, from their start to their end."""

import asyncio
import dataclasses
import gc
import json
import logging
import os
import socket
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import TYPE_CHECKING, Any, TypeAlias

from inferry import __version__
from inferry.errors import InvalidSettings, extra
from inferry.http import asgi
from inferry.observability import logs
from inferry.process import importing
from inferry.settings import Settings

if TYPE_CHECKING:
    from inferry.http.asgi import ASGIApp
    from inferry.http.host import Host
    from inferry.service import Service

# What serves another port, until the second event: whether the server is about to end, and an event that it starts.
Beside: TypeAlias = Callable[[Callable[[], bool], asyncio.Event, asyncio.Event], Coroutine[Any, Any, None]]

log = logging.getLogger("inferry")

# Not a setting: the parent tells its workers.
_WORKERS = "INFERRY_WORKERS"


def run(settings: Settings) -> None:
    """Serves until SIGTERM or Ctrl-C. InvalidSettings when the address can't be had, or a package is missing."""
    try:
        with importing():
            from inferry.server import uvicorn_server
    except ImportError as exc:
        raise InvalidSettings(f"inferry serve needs uvicorn and httptools: {extra('server')} ({exc})") from exc
    listener = uvicorn_server.listen(settings)
    settings = dataclasses.replace(settings, port=listener.getsockname()[1])
    with _reserved(settings):
        _serve(listener, settings)


def _serve(listener: socket.socket, settings: Settings) -> None:
    from inferry.server import uvicorn_server

    if settings.workers == 1:
        app = _serving_app(settings, None)
        _greet(settings)
        uvicorn_server.run(app, listener, settings)
        return
    from inferry.capture import open_capture
    from inferry.observability.request_log import request_log
    from inferry.observability.sinks import sink
    from inferry.repository.repository import open_repository
    from inferry.server import metrics
    from inferry.server.workers import Workers

    # A worker that can't start would be started for ever: what is wrong with the path or a sink is said here.
    open_repository(settings.model_path, settings.model_name)
    if settings.response_cache_url:
        from inferry.response_cache import cache

        cache.check(settings)
    sink.open_sinks(settings, os.environ)
    request_log.open_store(settings)
    open_capture(settings)
    with TemporaryDirectory(prefix="inferry-") as folder:
        metrics.listen(settings, Workers(Path(folder)).text)
        _greet(settings)
        # The workers read the environment, where the command line's settings must win; those at their defaults are
        # absent.
        for field in dataclasses.fields(settings):
            os.environ.pop(field.name.upper(), None)
        os.environ.update(settings.to_env())
        os.environ[_WORKERS] = folder
        uvicorn_server.run("inferry.cli.serve:worker_app", listener, settings)


def _reserved(settings: Settings) -> AbstractContextManager[Any]:
    """Keeps GRPC_PORT for this process and its workers, where there is one."""
    if not settings.grpc_port:
        return nullcontext()
    from inferry.grpc import port

    return port.reserve(settings)


def worker_app() -> Any:
    """The application of one of several worker processes; their signals are uvicorn's already."""
    settings = Settings.from_env(os.environ)
    logs.configure(settings)
    return _serving_app(settings, Path(os.environ[_WORKERS]))


def _serving_app(settings: Settings, workers: Path | None) -> Any:
    """`workers`: the folder in which several processes behind one port find each other's metrics."""
    with importing():
        from inferry.app import create_app
        from inferry.capture import open_capture
        from inferry.concurrency import Threads
        from inferry.http.guard import guard
        from inferry.http.host import Host
        from inferry.http.intake import Intake
        from inferry.observability.request_log.request_log import open_request_log
        from inferry.observability.sinks.pusher import open_pusher
        from inferry.server import metrics
        from inferry.server.clients import Clients
        from inferry.server.helper import HelperProcess
        from inferry.service import Service

    # The port answers while models load: a probe tells a server that loads from one that hangs.
    clients = Clients(settings)
    helper = HelperProcess(clients)
    service = Service.from_settings(settings, preloaded=False, helper=helper, client=clients)
    pusher = open_pusher(settings, service.metrics, os.environ)
    open_capture(settings)  # says what is wrong with it
    requests = open_request_log(settings, service.metrics)
    host = Host(
        guard=guard(settings),
        scrape=metrics.share(service, workers),
        background=Threads(1, "inferry-deferred", clients),
        helper=helper,
        loading=HelperProcess(clients),
        intake=Intake(settings, clients, helper.waiting),
        client=clients,
        requests=requests,
        page=True,
    )
    for problem in service.repository.problems:
        log.warning("left out: %s", problem)
    if not service.repository.names():
        from inferry.cli.places import how_to_add

        log.warning("no models in %s: %s", settings.model_path, how_to_add(settings.model_path))
    app = create_app(service, host)
    Thread(target=_preload, args=(service,), name="inferry-preload").start()
    # What is left is written before metrics are pushed for the last time, which count it.
    ends = [one.close for one in (requests and requests.start(), pusher and pusher.start()) if one]
    if not ends and settings.log_format == "text" and not settings.grpc_port:
        return app
    return _with_lifespan(app, ends, _grpc(service, host))


def _grpc(service: "Service", host: "Host") -> "Beside | None":
    """What serves GRPC_PORT beside the application, where there is one."""
    if not service.settings.grpc_port:
        return None
    from inferry.grpc import server

    return partial(server.serve, service, host)


def _preload(service: "Service") -> None:
    try:
        service.preload()
    except Exception:
        log.exception("not every model could be loaded")
    # What is loaded now stays: the collector need not look at it again and again.
    gc.collect()
    gc.freeze()


def _with_lifespan(app: "ASGIApp", ends: Sequence[Callable[[], None]], beside: "Beside | None") -> "ASGIApp":
    """`app`, with what runs `beside` it, behind whose end the `ends` are called, and all is written.

    uvicorn ends by a signal: nothing comes behind its lifespan.
    """

    def close() -> None:
        for end in ends:
            end()
        logs.together(None)

    async def lifespan(scope: Any, receive: Any, send: Any) -> None:
        serving: asyncio.Task[None] | None = None

        async def watched() -> Any:
            nonlocal serving
            message = await receive()
            if message["type"] == "lifespan.startup" and beside is not None:
                serving = await _begun(beside, scope["state"])
            if message["type"] == "lifespan.shutdown":
                if serving is not None:
                    await serving
                await asyncio.get_running_loop().run_in_executor(None, close)
            return message

        await app(scope, watched, send)

    # No coroutine of its own: every request comes by.
    def ending(scope: Any, receive: Any, send: Any) -> Any:
        return (lifespan if scope["type"] == "lifespan" else app)(scope, receive, send)

    return ending


async def _begun(beside: "Beside", state: dict[str, Any]) -> "asyncio.Task[None]":
    """The task of what runs beside the application, once it does. It ends with the server whose state this is."""
    started, state[asgi.ENDING] = asyncio.Event(), asyncio.Event()
    task = asyncio.create_task(beside(lambda: asgi.DRAINING in state, started, state[asgi.ENDING]))
    waiting = asyncio.create_task(started.wait())
    await asyncio.wait((task, waiting), return_when=asyncio.FIRST_COMPLETED)
    if not started.is_set():
        waiting.cancel()
        await task
    return task


def _greet(settings: Settings) -> None:
    """The addresses to open, and a request to paste; where the log is JSON, the address in a line like the log's."""
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    url = f"http://{host}:{settings.port}{settings.base_path.rstrip('/')}"
    greeting = f"inferry {__version__} serves {settings.model_path} at {url}"
    grpc = {"grpc": f"{host}:{settings.grpc_port}"} if settings.grpc_port else {}
    if settings.log_format == "json":
        formatter = logs.JsonFormatter(settings.app_name)
        print(formatter.event(logging.INFO, "serve:0", greeting, {"url": url, **grpc}, time.time_ns()).decode())
    else:
        print(greeting)
        if settings.has_page(default=True):
            print(f"  page     {url}/")
        print(f"  docs     {url}/docs")
        print(f"  models   curl {url}/v2/models")
        for address in grpc.values():
            print(f"  gRPC     {address}")
        if features := _digit(settings.model_path):
            print(f'  predict  curl {url}/predict -d \'{{"model_name":"digits","features":{features}}}\'')
    sys.stdout.flush()


def _digit(model_path: str) -> str:
    """The pixels of our example model `digits`; empty for other repositories and for models of the same name."""
    try:
        config = json.loads(Path(model_path, "digits", "config.json").read_text())
        pixels = [int(value) for value in config["example"]["inputs"][0]["data"]]
    except (OSError, ValueError, LookupError, TypeError):
        return ""
    return json.dumps(pixels, separators=(",", ":"))

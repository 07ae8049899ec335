"""Every route that is not the data plane, in FastAPI, and the OpenAPI document of them all."""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from types import MethodType
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, TypeVar

from fastapi import Depends, FastAPI, Path
from fastapi import Request as HTTPRequest
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response as HTTPResponse

from inferry.concurrency import Helper, Lease, Pause, Shares, Threads, call_on_loop
from inferry.errors import InferenceTimeout, InferryError, NotSupported, QueueFull, StoreError
from inferry.http import bodies, content, openapi, row_bodies, uploads
from inferry.http.asgi import HELD, OWNER, ASGIApp, Receive, Response, Scope, Send, link
from inferry.http.bodies import Document
from inferry.http.content import Body, Large, read_body
from inferry.http.docs import Documentation
from inferry.http.errors import error_response, json_response
from inferry.http.home import Home
from inferry.http.host import Host
from inferry.http.routes import DATA_PLANE, HOME, PAGES, ROUTES, RouteNotFound
from inferry.http.row_bodies import RowModel
from inferry.observability import context
from inferry.observability.record import current_record
from inferry.protocol import types
from inferry.protocol.types import InferRequest, InferResponse
from inferry.repository import metadata
from inferry.runtime.model import Model
from inferry.service import Account, Service, check_takes_rows

if TYPE_CHECKING:
    from inferry.http.intake import Intake
    from inferry.jobs.deferred import Deferred
    from inferry.jobs.runner import Job

log = logging.getLogger("inferry")

# Bytes of a body, and rows of a response, up to which they are read and written as they come, and others in turns: rows
# cost more by the byte than tensors.
_SMALL, _FEW_ROWS = 512, 64
# Requests that may have a store at a time.
_STORES = 8

T = TypeVar("T")


def _version(request: HTTPRequest) -> str | None:
    version: str | None = request.path_params.get("version")
    return version


Version: TypeAlias = Annotated[str | None, Depends(_version)]
# A part of the path: openapi.operation describes it, for the routes that FastAPI sees nothing of as well.
Part: TypeAlias = Annotated[str, Path(include_in_schema=False)]


def create_management(service: Service, host: Host) -> FastAPI:
    """The FastAPI application with every route of the table; those of the data plane are there to be described."""
    app = FastAPI(
        title="inferry",
        version=service.settings.app_version,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
    )
    app.add_middleware(_Failures)
    app.add_exception_handler(InferryError, _error)
    app.add_exception_handler(HTTPException, _error)
    management, documentation, home = Management(service, host), Documentation(service, app), Home(service, host)
    endpoints = dict.fromkeys(DATA_PLANE, _of_the_data_plane)
    endpoints |= {name: MethodType(function, management) for name, function in _MANAGEMENT.items()}
    endpoints |= {name: MethodType(function, documentation) for name, function in _DOCUMENTATION.items()}
    endpoints |= {name: MethodType(function, home) for name, function in _HOME.items()}
    for route in ROUTES:
        app.add_api_route(
            route.path,
            endpoints[route.operation],
            methods=[route.method],
            summary=route.summary,
            tags=[route.tag],
            operation_id=route.name,
            status_code=openapi.status(route),
            responses=openapi.responses(route),
            response_model=None,
            response_class=HTTPResponse,
            openapi_extra=openapi.operation(route),
        )
    return app


def cors(app: ASGIApp, origins: Sequence[str], request: Sequence[str], response: Sequence[str]) -> ASGIApp:
    """`app` for pages of `origins`: which headers their scripts may send (`request`) and read (`response`)."""
    return CORSMiddleware(
        app,
        allow_origins=origins,
        allow_methods=("GET", "POST"),
        allow_headers=request,
        expose_headers=response,
    )


class _Failures:
    """Answers what nothing else does: where an exception handler does, Starlette raises the exception once more."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._app(scope, receive, send)
        except Exception as exc:  # noqa: BLE001  every failure becomes a response
            await _http(error_response(exc, scope, current_record.get()))(scope, receive, send)


class Management:
    """The endpoints, one method per operation of the route table."""

    def __init__(self, service: Service, host: Host) -> None:
        self._service = service
        self._repository = service.repository
        self._background = host.background
        self._helper = host.helper
        limit = service.settings.max_request_bytes
        self._large = limit if host.helper is None else min(content.LARGE, limit)
        self._intake = host.intake
        self._loading = host.loading
        self._client = host.client
        self._waiting = Shares(service.settings.max_deferred, host.client)
        self._stores = Threads(_STORES, "inferry-store", host.client)
        # A small file may hold an image that takes hundreds of megabytes while it is decoded.
        self._images = Threads(2, "inferry-images", host.client)

    async def server_metadata(self) -> HTTPResponse:
        return _json(metadata.server(self._service.settings))

    async def models(self) -> HTTPResponse:
        return _json({"models": self._repository.names()})

    async def v1_models(self) -> HTTPResponse:
        return _json({"models": self._repository.names()})

    async def v1_model(self, model: Part) -> HTTPResponse:
        return _json({"name": (await self._service.model(model)).name, "ready": True})

    async def model_metadata(self, model: Part, version: Version) -> HTTPResponse:
        loaded = await self._service.model(model, version)
        return _json(metadata.metadata(loaded, self._rising(model) if version is None else [version]))

    async def model_config(self, model: Part, version: Version) -> HTTPResponse:
        return _json(metadata.config(await self._service.model(model, version)))

    async def model_stats(self, model: Part, version: Version) -> HTTPResponse:
        loaded = await self._service.model(model, version)
        return self._statistics((model, v) for v in (self._rising(model) if version is None else [loaded.version]))

    async def stats(self) -> HTTPResponse:
        return self._statistics((model.name, model.version) for model in self._repository.loaded())

    async def index(self, request: HTTPRequest) -> HTTPResponse:
        ready = await self._made(bodies.only_ready, await self._document(request))
        return _json(metadata.index(self._repository, ready))

    async def load(self, model: Part, request: HTTPRequest) -> HTTPResponse:
        self._service.check_control()
        document = await self._document(request, self._intake and self._intake.for_models())
        config, files = await self._made(uploads.read, document, model, helper=self._loading or self._helper)
        await self._service.load(model, config, files)
        return _json({"name": model, "load": True})

    async def unload(self, model: Part, request: HTTPRequest) -> HTTPResponse:
        self._service.check_control()
        await self._made(bodies.document, await self._document(request))
        await self._service.unload(model)
        return _json({"name": model, "unload": True})

    async def predict(self, request: HTTPRequest) -> HTTPResponse:
        deadline = self._deadline(request)
        with self._refusals():
            document = await self._document(request)
            start = time.monotonic()
            name = await self._made(row_bodies.wanted_model, document, deadline=deadline)
            spent = time.monotonic() - start
            model = await self._service.model(self._service.default_model(name), None, deadline)
        write = (row_bodies.features, row_bodies.predictions)
        return await self._predict(model, document, *write, deadline, spent, request.scope.get(OWNER))

    async def v1_predict(self, model: Part, request: HTTPRequest) -> HTTPResponse:
        deadline = self._deadline(request)
        with self._refusals():
            loaded = await self._service.model(model, None, deadline)
            document = await self._document(request)
            start = time.monotonic()
            await self._made(row_bodies.has_instances, document, deadline=deadline)
            spent = time.monotonic() - start
        write = (row_bodies.instances, row_bodies.v1_predictions)
        return await self._predict(loaded, document, *write, deadline, spent, request.scope.get(OWNER))

    async def defer(self, model: Part, request: HTTPRequest) -> HTTPResponse:
        with self._refusals():
            deferred = self._deferred()
            loaded = await self._service.model(model, None, context.deadline(request.scope))
            place = self._place()
            try:
                body, headers = await self._body(request), dict(request.scope["headers"])
                line = await self._made(bodies.line, body, headers.get(types.HEADER_LENGTH), loaded.signature)
                found = await self._stores.run(self._client(), deferred.keep, model, bytes(line))
            except BaseException:
                place.end()
                raise
        if self._background is not None:
            loop = asyncio.get_running_loop()
            work = self._background.submit(self._client(), _work, deferred, deferred.job(model, found), self._service)
            work.add_done_callback(lambda _: call_on_loop(loop, place.end))
        return self._pending(request, model, found)

    async def deferred(self, model: Part, request: HTTPRequest) -> HTTPResponse:
        found = request.path_params["request"]
        response = await self._stores.run(self._client(), self._deferred().response, model, found)
        if response is None:
            return self._pending(request, model, found)
        return _http((500 if response.failed else 200, response.content, response.headers))

    async def unsupported(self, request: HTTPRequest) -> HTTPResponse:
        raise NotSupported(f"{request.url.path} is a part of the protocol that inferry doesn't offer")

    def _rising(self, model: str) -> list[str]:
        """The versions that can be asked for, numbers behind other names."""
        return self._repository.offered(model)[::-1]

    def _statistics(self, versions: Iterable[tuple[str, str]]) -> HTTPResponse:
        return _json({"model_stats": [metadata.statistics(self._repository, *version) for version in versions]})

    def _deferred(self) -> "Deferred":
        from inferry.jobs.deferred import Deferred

        return Deferred(self._service.settings)

    def _place(self) -> Lease:
        """Of one request among those that wait for the server to answer them later. QueueFull."""
        place = self._waiting.lease()
        if self._background is not None and not place.grow(1):
            waiting = self._waiting
            raise QueueFull(
                f"{waiting.taken} requests wait for their responses, of {waiting.most} that may, half of them of one "
                "client (MAX_DEFERRED): try later, or without 'Prefer: respond-async'"
            )
        return place

    def _pending(self, request: HTTPRequest, model: str, found: str) -> HTTPResponse:
        url = link(request.scope, f"/v2/models/{model}/requests/{found}")
        status, body, headers = json_response({"id": found, "model_name": model, "status": "pending", "url": url}, 202)
        return _http((status, body, [*headers, (b"location", url.encode()), (b"retry-after", b"1")]))

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        """Counts what ends a request for a prediction before its model is asked."""
        try:
            yield
        except BaseException as exc:
            self._service.metrics.refused(exc)
            raise

    async def _predict(
        self,
        model: Model,
        document: Document,
        read: Callable[[Document, RowModel], tuple[InferRequest, int]],
        write: Callable[[Sequence[InferResponse], int, RowModel], bytes],
        deadline: float,
        spent: float,
        owner: str | None,
    ) -> HTTPResponse:
        """`spent`: the seconds of MODEL_TIMEOUT that are over already."""
        with Account(model, current_record.get()) as account:
            check_takes_rows(model)
            deadline = min(deadline, account.until(self._service.settings.model_timeout - spent))
            if model.preprocess and (self._helper is None or not isinstance(document, Large)):
                request, count = await self._decoded(read, document, _rows(model), deadline=deadline)
            else:
                request, count = await self._made(read, document, _rows(model), deadline=deadline)
            account.decoded(request)
            pause = Pause() if self._helper is not None else None
            responses = await self._service.infer_rows(model, request, count, account, deadline, pause, owner)
            account.inferred(*responses)
            arguments = (responses, count, _rows(model))
            if self._helper is not None and count * len(responses[0].outputs) > bodies.LARGE_ROWS:
                body = await self._helper(write, *arguments, deadline=deadline)
            else:
                if self._intake is not None and count > _FEW_ROWS:
                    await self._intake.turn()
                body = write(*arguments)
            if self._intake is not None and len(body) > HELD:
                self._intake.hold_response(len(body))
            account.answered(count)
        if isinstance(document, Large):
            await bodies.let_go(request, responses)
        return _http((200, body, [types.JSON]))

    async def _decoded(self, function: Callable[..., T], document: Document, *arguments: Any, deadline: float) -> T:
        """What a function makes of a document that may hold images, in one of few threads. InferenceTimeout."""
        work = self._images.run(self._client(), function, document, *arguments)
        try:
            return await asyncio.wait_for(work, deadline - time.monotonic())
        except TimeoutError as exc:
            raise InferenceTimeout(
                "no time was left to decode the request's images: send fewer or smaller ones"
            ) from exc

    def _deadline(self, request: HTTPRequest) -> float:
        return context.deadline(request.scope)

    async def _document(self, request: HTTPRequest, intake: "Intake | None" = None) -> Document:
        """The JSON object in the body, unless that is a large one."""
        body = await self._body(request, intake)
        if request.headers.get("content-type", "").lower().startswith("image/"):
            image = partial(row_bodies.image, body, request.query_params.get("model_name"))
            return await self._images.run(self._client(), image) if isinstance(body, Large) else image()
        return body if isinstance(body, Large) else bodies.document(body)

    async def _made(
        self,
        function: Callable[..., T],
        document: Document | Body,
        *arguments: Any,
        deadline: float = math.inf,
        helper: Helper | None = None,
    ) -> T:
        """What a function makes of a document, in another process of a large one."""
        helper = helper or self._helper
        if helper is None or not isinstance(document, Large):
            return function(document, *arguments)
        deadline = min(deadline, time.monotonic() + self._service.settings.model_timeout)
        return await helper(function, document, *arguments, deadline=deadline)

    async def _body(self, request: HTTPRequest, intake: "Intake | None" = None) -> Body:
        limit = self._service.settings.max_request_bytes
        headers, record = dict(request.scope["headers"]), current_record.get()
        return await read_body(headers, request.receive, limit, record, self._large, intake or self._intake, _SMALL)


async def _of_the_data_plane() -> HTTPResponse:
    # Not a docstring: FastAPI would publish it. `App` answers these itself; here they are described.
    raise AssertionError


# By operation. One that is missing ends the import, and not a request some day.
_DOCUMENTATION = {name: getattr(Documentation, name) for name in PAGES}
_HOME = {name: getattr(Home, name) for name in HOME}
_MANAGEMENT = {
    route.operation: getattr(Management, route.operation)
    for route in ROUTES
    if route.operation not in DATA_PLANE | PAGES | HOME
}


def _rows(model: Model) -> RowModel:
    labels = {name: model.labels(name) for name in model.signature.outputs}
    outputs = model.row_proof.verdict.outputs
    return RowModel(model.name, model.version, model.signature, model.columns, model.preprocess, labels, outputs)


def _work(deferred: "Deferred", job: "Job", service: Service) -> None:
    """Answers a request that was put off; whatever goes wrong is its response."""
    from inferry.jobs import runner

    try:
        runner.run(job, service)
    except Exception as exc:
        known = isinstance(exc, InferryError)
        log.log(
            logging.WARNING if known else logging.ERROR, "no prediction for %s: %s", job.input, exc, exc_info=not known
        )
        try:
            deferred.fail(job, exc)
        except StoreError:
            log.exception("the request in %s has no response", job.input)


def _json(value: Any) -> HTTPResponse:
    return _http(json_response(value))


def _http(response: Response) -> HTTPResponse:
    status, body, headers = response
    sent = HTTPResponse(body, status)
    sent.raw_headers = [*headers, (b"content-length", b"%d" % len(body))]
    return sent


async def _error(request: HTTPRequest, exc: Exception) -> HTTPResponse:
    if isinstance(exc, HTTPException):
        exc = RouteNotFound(f"there is nothing at {request.url.path!r}")
    return _http(error_response(exc, request.scope, current_record.get()))

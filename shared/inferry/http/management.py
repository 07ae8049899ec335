"""Every route that is not the data plane, in FastAPI, and the OpenAPI document of them all."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MethodType
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from fastapi import Depends, FastAPI, Path
from fastapi import Request as HTTPRequest
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response as HTTPResponse

from inferry.errors import InferryError, InvalidRequest, ModelControlDisabled, NotSupported, StoreError
from inferry.http import openapi, uploads
from inferry.http.asgi import ASGIApp, Receive, Response, Scope, Send, link
from inferry.http.content import read_body
from inferry.http.docs import Documentation
from inferry.http.errors import error_response, json_response
from inferry.http.routes import DATA_PLANE, PAGES, ROUTES, RouteNotFound
from inferry.observability import context
from inferry.observability.record import observed
from inferry.protocol import class_names, types
from inferry.protocol.json_documents import load
from inferry.protocol.types import InferResponse
from inferry.repository import metadata
from inferry.runtime import rows
from inferry.runtime.model import Model
from inferry.service import Account, Service

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from inferry.jobs.deferred import Deferred
    from inferry.jobs.runner import Job

log = logging.getLogger("inferry")


def _version(request: HTTPRequest) -> str | None:
    version: str | None = request.path_params.get("version")
    return version


Version: TypeAlias = Annotated[str | None, Depends(_version)]
# A part of the path: openapi.operation describes it, for the routes that FastAPI sees nothing of as well.
Part: TypeAlias = Annotated[str, Path(include_in_schema=False)]


def create_management(service: Service, background: "Executor | None" = None) -> FastAPI:
    """The FastAPI application with every route of the table; those of the data plane are there to be described.

    `background` answers requests that are put off.
    """
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
    management, documentation = Management(service, background), Documentation(service, app)
    endpoints = dict.fromkeys(DATA_PLANE, _of_the_data_plane)
    endpoints |= {name: MethodType(function, management) for name, function in _MANAGEMENT.items()}
    endpoints |= {name: MethodType(function, documentation) for name, function in _DOCUMENTATION.items()}
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
        except Exception as exc:  # noqa: BLE001  every failure becomes an answer
            await _http(error_response(exc, scope, observed.get()))(scope, receive, send)


class Management:
    """The endpoints, one method per operation of the route table."""

    def __init__(self, service: Service, background: "Executor | None") -> None:
        self._service = service
        self._repository = service.repository
        self._background = background

    async def server_metadata(self) -> HTTPResponse:
        settings = self._service.settings
        extensions = [
            name for name in metadata.EXTENSIONS if settings.model_control or not name.startswith("model_rep")
        ]
        return _json({"name": settings.app_name, "version": settings.app_version, "extensions": extensions})

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
        body = await self._object(request)
        ready = body.get("ready", False)
        if not isinstance(ready, bool):
            raise InvalidRequest(f"'ready' must be true or false, got {ready!r}")
        return _json(metadata.index(self._repository, ready))

    async def load(self, model: Part, request: HTTPRequest) -> HTTPResponse:
        self._check_control()
        parameters = (await self._object(request)).get("parameters") or {}
        config, files = uploads.read(parameters, model)
        await self._in_thread(self._repository.load, model, config, files)
        return _json({"name": model, "load": True})

    async def unload(self, model: Part, request: HTTPRequest) -> HTTPResponse:
        self._check_control()
        await self._object(request)
        await self._in_thread(self._repository.unload, model)
        return _json({"name": model, "unload": True})

    async def predict(self, request: HTTPRequest) -> HTTPResponse:
        deadline = context.deadline(request.scope)
        with self._refusals():
            body = await self._object(request)
            if "features" not in body:
                raise InvalidRequest("'features' is missing: give a row of values, or a list of rows")
            name = body.get("model_name")
            if name is not None and not isinstance(name, str):
                raise InvalidRequest(f"'model_name' must be a string, got {name!r}")
            model = await self._service.model(self._service.default_model(name), None, deadline)
        predictions, classes = await self._predict(model, rows.as_rows(body["features"], model), deadline)
        answer = {"model_name": model.name, "model_version": model.version, "predictions": predictions}
        return _json({**answer, **_named(classes)})

    async def v1_predict(self, model: Part, request: HTTPRequest) -> HTTPResponse:
        deadline = context.deadline(request.scope)
        with self._refusals():
            loaded = await self._service.model(model, None, deadline)
            instances = _instances(await self._object(request))
        predictions, classes = await self._predict(loaded, instances, deadline)
        if len(loaded.session.signature.outputs) == 1:
            predictions = [value for row in predictions for value in row.values()]
        return _json({"predictions": predictions, **_named(classes)})

    async def defer(self, model: Part, request: HTTPRequest) -> HTTPResponse:
        loaded = await self._service.model(model, None, context.deadline(request.scope))
        headers = dict(request.scope["headers"])
        body = await self._body(request)
        deferred = self._deferred()
        found = await self._in_thread(deferred.submit, loaded, body, headers.get(types.HEADER_LENGTH))
        if self._background is not None:
            self._background.submit(_work, deferred, deferred.job(model, found), self._service)
        return self._pending(request, model, found)

    async def deferred(self, model: Part, request: HTTPRequest) -> HTTPResponse:
        found = request.path_params["request"]
        answer = await self._in_thread(self._deferred().answer, model, found)
        if answer is None:
            return self._pending(request, model, found)
        return _http((500 if answer.failed else 200, answer.content, answer.headers))

    async def unsupported(self, request: HTTPRequest) -> HTTPResponse:
        raise NotSupported(f"{request.url.path} is a part of the protocol that inferry doesn't offer")

    async def home(self, request: HTTPRequest) -> HTTPResponse:
        return _json({"status": "alive", "docs": link(request.scope, "/docs")})

    def _rising(self, model: str) -> list[str]:
        """The versions that can be asked for, numbers behind other names."""
        return self._repository.offered(model)[::-1]

    def _statistics(self, versions: Iterable[tuple[str, str]]) -> HTTPResponse:
        return _json({"model_stats": [metadata.statistics(self._repository, *version) for version in versions]})

    def _deferred(self) -> "Deferred":
        from inferry.jobs.deferred import Deferred

        return Deferred(self._service.settings)

    def _pending(self, request: HTTPRequest, model: str, found: str) -> HTTPResponse:
        url = link(request.scope, f"/v2/models/{model}/requests/{found}")
        status, body, headers = json_response({"id": found, "model_name": model, "status": "pending", "url": url}, 202)
        return _http((status, body, [*headers, (b"location", url.encode()), (b"retry-after", b"1")]))

    def _check_control(self) -> None:
        if not self._service.settings.model_control:
            raise ModelControlDisabled(
                "model control is disabled: start the server with MODEL_CONTROL=true to load and unload models by "
                "request, or with MODEL_REFRESH to have changed models noticed"
            )

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        """Counts what ends a request for a prediction before its model is asked."""
        try:
            yield
        except BaseException as exc:
            self._service.metrics.refused(exc)
            raise

    async def _predict(
        self, model: Model, instances: Sequence[Any], deadline: float
    ) -> tuple[list[Any], class_names.Classes | None]:
        count = len(instances)
        with Account(model, observed.get()) as account:
            request = rows.to_request(instances, model)
            account.decoded()
            responses = await self._service.infer_rows(model, request, count, account.timings, deadline)
            account.inferred()
            predictions = rows.from_responses(responses, count, model.row_proof.verdict.outputs)
            classes = _classes(model, responses, count)
            account.answered(count)
        return predictions, classes

    async def _object(self, request: HTTPRequest) -> Mapping[str, Any]:
        """The body as a JSON object; an empty one when there is none. Clients send it with any Content-Type."""
        body = await self._body(request)
        value = load(body) if body.strip() else {}
        if not isinstance(value, dict):
            raise InvalidRequest("the request must be a JSON object")
        return value

    async def _body(self, request: HTTPRequest) -> bytes:
        limit = self._service.settings.max_request_bytes
        return await read_body(dict(request.scope["headers"]), request.receive, limit, observed.get())

    async def _in_thread(self, function: Callable[..., Any], *arguments: Any) -> Any:
        from starlette.concurrency import run_in_threadpool

        return await run_in_threadpool(function, *arguments)


async def _of_the_data_plane() -> HTTPResponse:
    # Not a docstring: FastAPI would publish it. `App` answers these itself; here they are described.
    raise AssertionError


# By operation. One that is missing ends the import, and not a request some day.
_DOCUMENTATION = {name: getattr(Documentation, name) for name in PAGES}
_MANAGEMENT = {
    route.operation: getattr(Management, route.operation)
    for route in ROUTES
    if route.operation not in DATA_PLANE | PAGES
}


def _instances(body: Mapping[str, Any]) -> list[Any]:
    """The rows of a KServe v1 request; its servers take them by either name."""
    names = [name for name in ("instances", "inputs") if name in body]
    if len(names) > 1:
        raise InvalidRequest("'instances' and 'inputs' are two names for the same: give one of them")
    name = names[0] if names else "instances"
    instances = body.get(name)
    if not isinstance(instances, list):
        columns = ", not an object of columns" if isinstance(instances, dict) else ""
        raise InvalidRequest(f"'{name}' must be an array with one item per prediction{columns}")
    return instances


def _work(deferred: "Deferred", job: "Job", service: Service) -> None:
    """Answers a request that was put off; whatever goes wrong is its answer."""
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
            log.exception("the request in %s has no answer", job.input)


def _classes(model: Model, responses: Sequence[InferResponse], count: int) -> class_names.Classes | None:
    """The classes of `count` rows, of one response to all of them or of one to each."""
    rows_of_each = count // len(responses)
    found = [model.classes(response.outputs, rows_of_each) for response in responses]
    known = [classes for classes in found if classes is not None]
    if len(known) != len(responses):
        return None
    return class_names.Classes(known[0].labels, [best for classes in known for best in classes.best])


def _named(classes: class_names.Classes | None) -> dict[str, Any]:
    """The members of an answer that name its classes."""
    if classes is None:
        return {}
    return {**({"labels": classes.labels} if classes.labels else {}), "classes": classes.best}


def _json(value: Any) -> HTTPResponse:
    return _http(json_response(value))


def _http(response: Response) -> HTTPResponse:
    status, body, headers = response
    answer = HTTPResponse(body, status)
    answer.raw_headers = [*headers, (b"content-length", b"%d" % len(body))]
    return answer


async def _error(request: HTTPRequest, exc: Exception) -> HTTPResponse:
    if isinstance(exc, HTTPException):
        exc = RouteNotFound(f"there is nothing at {request.url.path!r}")
    return _http(error_response(exc, request.scope, observed.get()))

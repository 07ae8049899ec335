"""The data plane's routes as plain ASGI; the others are handed to `management`, which is imported when asked for."""

import math
import threading
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from inferry import errors
from inferry.concurrency import on_loop
from inferry.errors import InferryError, NotSupported, ResponseTooLarge
from inferry.http import asgi, bodies, content, routes
from inferry.http.asgi import ASGIApp, Message, Receive, Response, Scope, Send
from inferry.http.content import Body, Large, read_body
from inferry.http.errors import error_response, json_response
from inferry.http.host import Host
from inferry.observability import context
from inferry.observability.catalogue import known_method
from inferry.observability.record import RequestRecord, recording
from inferry.observability.stats import reason_of
from inferry.protocol import decoder, types
from inferry.protocol.signature import Signature
from inferry.protocol.types import InferRequest
from inferry.service import Account, Service

if TYPE_CHECKING:
    from inferry.http.api_keys import ApiKeys
    from inferry.http.observer import Observer
    from inferry.observability.sinks.prometheus import Format


# RFC 7240, 4.1: the client will fetch its response elsewhere.
_RESPOND_ASYNC = b"respond-async"


# What a data-plane handler makes of path parameters, headers, body and scope; it fills in the record.
Handler: TypeAlias = Callable[
    [Mapping[str, str], Mapping[bytes, bytes], Body, Scope, RequestRecord | None], Awaitable[Response]
]


class App:
    """Answers the data plane's routes itself and hands the others to `management`."""

    def __init__(
        self,
        service: Service,
        keys: tuple[str, ...],
        observer: "Observer | None" = None,
        host: Host | None = None,
    ) -> None:
        """`keys`: the digests of those that requests must bring one of; empty: they need none."""
        self._service = service
        self._responses = service.metrics.responses
        self._host = host = host or Host()
        self._helper = host.helper
        self._guard = host.guard
        self._observer = observer
        self._limit = service.settings.max_request_bytes
        self._large = self._limit if host.helper is None else min(content.LARGE, self._limit)
        self._intake = host.intake
        self._max_response = service.settings.max_response_bytes
        self._references = bool(service.settings.data_prefixes)
        self._keys = _keys(keys)
        self._owners = None if service.settings.response_cache_shared else self._keys
        # "" at the root; None where the platform says it.
        base = service.settings.base_path
        self._base = base.rstrip("/") if base else None
        self._management: ASGIApp | None = None
        self._making = threading.Lock()
        self._handlers: dict[str, Handler] = {name: getattr(self, name) for name in routes.DATA_PLANE}

    async def __call__(  # noqa: C901  one coroutine more is 0.3 us of a request's 20 (Python 3.11, row `overhead`)
        self, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """One ASGI connection. Nothing raised reaches the server: some lose the body of a response then."""
        if scope["type"] != "http":
            await asgi.not_http(scope["type"], receive, send)
            return
        record: RequestRecord | None = None
        handler: Handler | None = None
        method, place, status = "", "", 0
        headers = dict(scope["headers"])
        if self._observer is None:
            added = _added(scope, headers) if context.REQUEST_ID in headers or context.KEY in scope else []
        else:
            record, added, receive, send = self._observer.begin(scope, headers, receive, send)
        try:
            if scope["method"] == "HEAD":
                send = asgi.without_body(send)
            try:
                if self._guard is not None:
                    self._check(self._guard.check, scope["method"], headers)
                root, path = scope.get("root_path", ""), scope["path"]
                if self._base is not None:
                    root, path = self._base, asgi.below_base(self._base, root, path)
                elif root:
                    path = asgi.below(root, path)
                route, parameters = routes.match(scope["method"], path or "/")
                method, place = route.method, route.path
                if b"prefer" in headers and route.operation == "infer" and _RESPOND_ASYNC in headers[b"prefer"].lower():
                    path = _deferring(parameters)
                    route, parameters = routes.match("POST", path)
                    place = route.path
                if self._keys and not route.public:
                    self._check(self._keys.check, headers)
                handler = self._handlers.get(route.operation)
                if handler is None:
                    # Whole, as ASGI has it: below a root "/v2", "/v2/models" would else lose what looks like the root.
                    rest = {
                        "method": route.method,
                        "path": f"{root}{path.rstrip('/') or '/'}",
                        "root_path": root,
                        asgi.OWNER: self._owner(headers),
                    }
                    if record is not None:
                        record.route = place
                    send = self._counting(asgi.with_headers(send, added, record), route)
                    await self._hand_over({**scope, **rest}, receive, send, record)
                    return
                body: Body = b""  # of what GET has none
                try:
                    if method == "POST":
                        body = await read_body(headers, receive, self._limit, record, self._large, self._intake)
                except BaseException as exc:
                    self._service.metrics.refused(exc)
                    raise
                status, body, response_headers = await handler(parameters, headers, body, scope, record)
            except Exception as exc:  # noqa: BLE001  the last resort: every failure becomes a response
                status, body, response_headers = error_response(exc, scope, record)
            self._responses[method or known_method(scope["method"]), place, status] += 1
            if record is not None:
                record.status, record.sent, record.route = status, len(body), place
            response_headers.append((b"content-length", b"%d" % len(body)))
            response_headers += added
            if len(body) > asgi.HELD and self._helper is not None:
                send = asgi.in_parts(send)
            await send({"type": "http.response.start", "status": status, "headers": response_headers})
            await send({"type": "http.response.body", "body": body})
        except BaseException as exc:
            if record is not None:
                # Nobody is there to answer; nginx has a status for that.
                record.status, record.reason, record.route = record.status or 499, reason_of(exc), place
            if handler is not None and not status:
                self._responses[method, place, 499] += 1
            raise
        finally:
            if record is not None:
                record.end()

    async def _hand_over(self, scope: Scope, receive: Receive, send: Send, record: RequestRecord | None) -> None:
        await on_loop()
        management = await self._manage()
        if self._max_response or context.max_response(scope)[0] or self._intake is not None:
            send = asgi.limited(send, partial(self._check_size, scope), lambda exc: error_response(exc, scope, record))
        if self._helper is not None:
            send = asgi.in_parts(send)
        with recording(record):
            await management(scope, receive, send)

    def _counting(self, send: Send, route: routes.Route) -> Send:
        """`send` for a response of `management`, which counts it by its status."""

        def counting(message: Message) -> Awaitable[None]:
            if message["type"] == "http.response.start":
                self._responses[route.method, route.path, message["status"]] += 1
            return send(message)

        return counting

    def _check(self, check: Callable[..., None], *arguments: Any) -> None:
        """Runs a check of a request (its key, its Host), and counts the request as refused when that fails."""
        try:
            check(*arguments)
        except InferryError as exc:
            self._service.metrics.refused(exc)
            raise

    def _owner(self, headers: Mapping[bytes, bytes]) -> str:
        """Whose the response to a request is, where responses are kept."""
        return self._owners.client(headers) if self._owners else ""

    async def infer(
        self,
        parameters: Mapping[str, str],
        headers: Mapping[bytes, bytes],
        body: Body,
        scope: Scope,
        record: RequestRecord | None = None,
    ) -> Response:
        """The response to a request of the protocol, with the parameters of its route; its errors are raised."""
        service = self._service
        deadline = context.deadline(scope) if context.KEY in scope else math.inf
        name, version = parameters["model"], parameters.get("version")
        model = service.loaded(name, version)
        if model is None:
            try:
                with recording(record):
                    model = await service.model(name, version, deadline)
            except BaseException as exc:
                service.metrics.refused(exc)
                raise
        signature = model.session.signature
        with Account(model, record) as account:
            length = headers.get(types.HEADER_LENGTH)
            if large := isinstance(body, Large):
                deadline = min(deadline, account.until(service.settings.model_timeout))
                request, received = await self._large_request(body, length, signature, deadline)
            else:
                request, received = decoder.decode(body, length, signature.known[self._references]), len(body)
            account.decoded(request)
            if request.by_reference and self._intake is not None:
                self._intake.hold(await service.bytes_by_reference(request, deadline))
            owner = self._owner(headers) if model.keeps_responses else None
            response = await service.infer(model, request, account, deadline, owner)
            account.inferred(response)
            accept = headers.get(b"accept-encoding")
            if self._helper is not None and bodies.is_large(response):
                deadline = min(deadline, account.until(service.settings.model_timeout))
                encoded, response_headers = await self._helper(bodies.of_response, response, accept, deadline=deadline)
            else:
                encoded, response_headers = bodies.of_response(response, accept)
            self._check_size(scope, len(encoded))
            account.answered(signature.rows(request), received, len(encoded))
        if large:
            await bodies.let_go(request, [response])
        return 200, encoded, response_headers

    async def _large_request(
        self, body: Large, length: bytes | None, signature: Signature, deadline: float
    ) -> tuple[InferRequest, int]:
        numbers = body.of_numbers(length)
        if self._helper is None or numbers is not None:
            return bodies.request(numbers or body, length, signature, self._references)
        return await self._helper(bodies.request, body, length, signature, self._references, deadline=deadline)

    async def model_ready(
        self, parameters: Mapping[str, str], _headers: Any, _body: Body, _scope: Scope, record: RequestRecord | None
    ) -> Response:
        with recording(record):
            model = await self._service.model(parameters["model"], parameters.get("version"))
        return json_response({"name": model.name, "ready": True})

    async def live(self, *_: Any) -> Response:
        return json_response({"live": True})

    async def ready(self, _parameters: Any, _headers: Any, _body: bytes, scope: Scope, _record: Any) -> Response:
        if asgi.is_draining(scope):
            return json_response({"live": True, "ready": False}, 503)
        if reason := self._service.not_ready():
            raise errors.ModelUnavailable(f"not ready: {reason}; POST /v2/repository/index says more")
        return json_response({"live": True, "ready": True})

    async def health(self, _parameters: Any, _headers: Any, _body: bytes, scope: Scope, _record: Any) -> Response:
        settings, draining = self._service.settings, asgi.is_draining(scope)
        health = {
            "status": "draining" if draining else "ok",
            "name": settings.app_name,
            "version": settings.app_version,
            "environment": settings.environment,
            # Who has no key learns no names.
            **({} if settings.api_keys else {"models": self._service.repository.names()}),
        }
        return json_response(health, 503 if draining else 200)

    async def metrics(
        self, _parameters: Any, headers: Mapping[bytes, bytes], _body: bytes, scope: Scope, _record: Any
    ) -> Response:
        from inferry.observability.sinks import prometheus, sink

        if not sink.is_served(self._service.settings):
            raise routes.RouteNotFound("metrics are off (ENABLE_METRICS, METRICS_SINKS)")
        form = prometheus.accepted(headers.get(b"accept", b"").decode("latin-1"))
        accept = headers.get(b"accept-encoding", b"").decode("latin-1")
        await on_loop()
        # Those of hundreds of models take longer than any request may wait.
        body, encoded = await (self._host.scrape or self._scrape)(form, accept)
        self._check_size(scope, len(body))
        return 200, body, [(b"content-type", form.content_type.encode()), *encoded]

    async def _scrape(self, form: "Format", accept: str) -> tuple[bytes, asgi.Headers]:
        import asyncio

        from inferry.observability.sinks import prometheus

        def page() -> tuple[bytes, asgi.Headers]:
            return content.encoded(prometheus.text(self._service.metrics, form).encode(), accept)

        return await asyncio.get_running_loop().run_in_executor(None, page)

    def _check_size(self, scope: Scope, size: int) -> None:
        """ResponseTooLarge over the smaller of the settings' limit and the platform's; Overloaded without room."""
        limit, whose = self._max_response, "MAX_RESPONSE_BYTES"
        passed_on, name = context.max_response(scope)
        if passed_on and (not limit or passed_on < limit):
            limit, whose = passed_on, name
        if limit and size > limit:
            raise ResponseTooLarge(
                f"the response has {size} bytes, over {limit} ({whose}): ask for fewer rows or outputs, or for outputs "
                "by reference ('uri'); by HTTP also for binary ones ('binary_data_output') or gzip (Accept-Encoding)"
            )
        if self._intake is not None and size > asgi.HELD:
            self._intake.hold_response(size)

    async def _manage(self) -> ASGIApp:
        if self._management is None:
            import asyncio

            return await asyncio.get_running_loop().run_in_executor(None, self._made)
        return self._management

    def _made(self) -> ASGIApp:
        # One for all of the first requests: each takes 60 ms and a megabyte.
        with self._making:
            if self._management is None:
                self._management = _management(self._service, self._host)
            return self._management


def _deferring(parameters: Mapping[str, str]) -> str:
    """The path of the route that puts off what the infer route with these parameters would answer now."""
    if "version" in parameters:
        raise NotSupported("only requests to a model's default version can be answered later: leave the version out")
    return f"/v2/models/{parameters['model']}/requests"


def _added(scope: Scope, headers: Mapping[bytes, bytes]) -> asgi.Headers:
    """The headers of a response that are not its own: of a request that has a name."""
    request_id = context.request_id(scope.get(context.KEY), headers)
    return [context.id_header(request_id)] if request_id else []


def _keys(digests: tuple[str, ...]) -> "ApiKeys | None":
    if not digests:
        return None
    from inferry.http.api_keys import ApiKeys

    return ApiKeys(digests)


def _management(service: Service, host: Host) -> ASGIApp:
    from inferry.http.management import create_management

    return create_management(service, host)

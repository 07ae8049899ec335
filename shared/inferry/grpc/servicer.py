"""Answers calls: keys, limits, the record of each, predictions; what else there is to answer has `methods`."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import grpc
from grpc.aio import EOF

from inferry.app import observer
from inferry.errors import (
    InferryError,
    InvalidRequest,
    NotSupported,
    Overloaded,
    RequestTimeout,
    ResponseTooLarge,
)
from inferry.grpc import codec
from inferry.grpc.errors import status
from inferry.grpc.exchange import CallScope, Exchange
from inferry.grpc.glance import glance
from inferry.grpc.messages import (
    MESSAGES,
    METHODS,
    SERVICE,
    ModelInferRequest,
    ModelStreamInferResponse,
    of_json,
    parsed,
)
from inferry.grpc.methods import Methods
from inferry.http import asgi, bodies, content
from inferry.http.api_keys import ApiKeys
from inferry.http.host import Host
from inferry.http.intake import Intake
from inferry.observability import context
from inferry.observability.record import RequestRecord, recording
from inferry.runtime import protobuf
from inferry.runtime.model import Model
from inferry.server import clients
from inferry.service import Account, Service

# What a call's message becomes: the response's bytes.
Answer: TypeAlias = Callable[[bytes, float, RequestRecord | None], Awaitable[bytes]]
Context: TypeAlias = Any  # grpc.aio's ServicerContext, whose metadata and messages are of no one type

# As over HTTP, probes need no key.
_PUBLIC = ("ServerLive", "ServerReady")
_INFER, _STREAM = "ModelInfer", "ModelStreamInfer"
# A client that is told why its time is over is told a moment before it hangs up.
_MARGIN = 0.01
_REQUEST_ID = context.REQUEST_ID.decode()
# Of a stream's messages each has one response, which says so to clients that ask for it (Triton's extension).
_FINAL = codec.final()
_INFER_RESPONSE = ModelStreamInferResponse.DESCRIPTOR.fields_by_name["infer_response"].number


class Servicer(grpc.GenericRpcHandler):  # type: ignore[misc]
    """The service of the protocol."""

    def __init__(self, service: Service, host: Host, is_draining: Callable[[], bool]) -> None:
        settings = service.settings
        self._service = service
        self._helper = host.helper
        self._intake = host.intake
        self._methods = Methods(service, is_draining)
        self._observer = observer(service, host.requests)
        self._responses = service.metrics.responses
        self._keys = ApiKeys(settings.api_keys) if settings.api_keys else None
        self._owners = None if settings.response_cache_shared else self._keys
        self._body_timeout = settings.body_timeout
        self._max_response = settings.max_response_bytes
        self._references = bool(settings.data_prefixes)
        self._most = settings.max_connections
        self._clients = clients.Clients(settings)
        self._open: dict[Context, CallScope] = {}
        self._handlers = {f"/{SERVICE}/{name}": self._handler(name) for name in METHODS}

    def service(self, handler_call_details: Any) -> Any:
        """gRPC's handler of a call, by its path; None for another service's."""
        path = handler_call_details.method
        handler = self._handlers.get(path)
        if handler is None and path.startswith(f"/{SERVICE}/"):
            return grpc.stream_unary_rpc_method_handler(self._unsupported(path))
        return handler

    def is_ready(self) -> bool:
        """Whether the server takes requests."""
        return self._methods.is_ready()

    def is_idle(self) -> bool:
        """Whether no request is being answered; streams may be open."""
        return all(scope.is_idle for scope in self._open.values())

    def _handler(self, name: str) -> Any:
        path = f"/{SERVICE}/{name}"
        if name == _STREAM:
            return grpc.stream_stream_rpc_method_handler(self._stream(path))
        # As a stream, whose message is read when it may be: without a key as well, gRPC would take in that of another.
        return grpc.stream_unary_rpc_method_handler(
            self._unary(path, self.infer if name == _INFER else self._managed(name), name in _PUBLIC)
        )

    def _managed(self, name: str) -> Answer:
        method = METHODS[name]
        request, response = MESSAGES[method.input_type.name], MESSAGES[method.output_type.name]
        answer = getattr(self._methods, name)

        async def managed(data: bytes, deadline: float, record: RequestRecord | None) -> bytes:
            with recording(record):
                value = await answer(parsed(request, data), deadline)
            body: bytes = of_json(response, value).SerializeToString()
            return body

        return managed

    def _unary(self, path: str, answer: Answer, public: bool) -> Any:
        async def unary(_messages: Any, call: Context) -> bytes:
            scope = self._begun(path, call)
            record = self._record(scope, call)
            try:
                with Exchange(path, scope, record, self._responses) as exchange:
                    data = await self._taken_in(call, scope, public)
                    if record is not None:
                        record.received = len(data)
                    exchange.body = await answer(data, _deadline(call), record)
            finally:
                self._open.pop(call)
                scope.end()
            if exchange.failed is not None:
                await call.abort(*exchange.failed)
            return exchange.body

        return unary

    def _stream(self, path: str) -> Any:
        async def stream(_messages: Any, call: Context) -> None:
            scope = self._begun(path, call)
            try:
                self._check(scope, False)
                while (data := await self._next(call, scope)) is not EOF:
                    await call.write(await self._message(path, scope, call, data))
                    if self._intake is not None:
                        self._intake.hold_response(0)  # nothing of this message is held any more
            except InferryError as exc:
                self._service.metrics.refused(exc)
                refused = status(exc), str(exc)
            else:
                return
            finally:
                self._open.pop(call)
                scope.end()
            await call.abort(*refused)

        return stream

    async def _next(self, call: Context, scope: CallScope) -> Any:
        scope.is_idle = True
        data = await call.read()
        scope.is_idle = False
        return data

    async def _message(self, path: str, scope: CallScope, call: Context, data: bytes) -> bytes:
        """What a stream has for one of its messages: the response, or an error, behind which it goes on."""
        record = self._record(scope, None)
        with Exchange(path, scope, record, self._responses) as exchange:
            if record is not None:
                record.received = len(data)
            exchange.body = await self.infer(data, _deadline(call), record)
        if exchange.failed is None:
            return protobuf.encoded(_INFER_RESPONSE, exchange.body + _FINAL)
        message = ModelStreamInferResponse(error_message=exchange.failed[1])
        message.infer_response.id = codec.request_id(data)
        response: bytes = message.SerializeToString()
        return response

    def _begun(self, path: str, call: Context) -> CallScope:
        scope = self._open[call] = CallScope(path, call)
        clients.scope.set(scope)
        return scope

    async def _taken_in(self, call: Context, scope: CallScope, public: bool) -> bytes:
        """The message of a call that may send one. Overloaded, KeyMissing, KeyRefused, RequestTimeout."""
        try:
            self._check(scope, public)
            scope.task, scope.until = asyncio.current_task(), time.monotonic() + self._body_timeout
            try:
                data = await call.read()
            except asyncio.CancelledError as exc:
                if scope.until:
                    raise
                scope.task.uncancel()  # type: ignore[union-attr]
                raise RequestTimeout(
                    f"the message was not there after {self._body_timeout:g} s (BODY_TIMEOUT): send it again"
                ) from exc
            scope.until = math.inf
            if data is EOF:
                raise InvalidRequest("the call has no message")
        except BaseException as exc:
            self._service.metrics.refused(exc)
            raise
        message: bytes = data
        return message

    def look(self) -> None:
        """Ends calls whose messages are late; called twice a second."""
        now = time.monotonic()
        for scope in self._open.values():
            if 0 < scope.until <= now and scope.task is not None:
                scope.until = 0
                scope.task.cancel()

    def _check(self, scope: CallScope, public: bool) -> None:
        """Before anything of a call is read. Overloaded, KeyMissing, KeyRefused."""
        most, taken = self._most, len(self._open)
        if taken > most // 2 and (taken > most or self._of_client(scope) > most // 2):
            raise Overloaded(
                f"{taken} calls are answered, of {most} that may be, half of them of one client (MAX_CONNECTIONS): try "
                "later"
            )
        if self._keys is not None and not public:
            self._keys.check(dict(scope["headers"]))

    def _of_client(self, scope: CallScope) -> int:
        """How many calls are those of the client of this one."""
        who = self._who(scope)
        return sum(self._who(other) == who for other in self._open.values())

    def _who(self, scope: CallScope) -> str:
        if scope.who is None:
            scope.who = self._clients.of(scope)
        return scope.who

    def _record(self, scope: CallScope, call: Context) -> RequestRecord | None:
        """The record of a request, where one is kept; a call has its id in what comes behind the response."""
        if self._observer is None:
            if call is None or _REQUEST_ID not in [name for name, _ in call.invocation_metadata()]:
                return None
            record, added = None, [context.id_header(context.request_id(None, dict(scope["headers"])))]
        else:
            record, added = self._observer.record(scope, dict(scope["headers"]))
        if call is not None:
            call.set_trailing_metadata(tuple((name.decode(), value.decode("latin-1")) for name, value in added))
        return record

    async def infer(self, data: bytes, deadline: float, record: RequestRecord | None) -> bytes:
        """The response to a ModelInferRequest; its errors are raised."""
        service, message = self._service, None
        large = len(data) > content.LARGE
        if self._intake is not None and len(data) > content.SMALL:
            await self._take_in(self._intake, len(data))
        if large:
            name, version, is_raw = glance(data)
            large = self._helper is not None and not (is_raw and len(data) <= content.LARGE_NUMBERS)
        if not large:
            message = parsed(ModelInferRequest, data)
            name, version = message.model_name, message.model_version
        model = service.loaded(name, version or None)
        if model is None:
            model = await self._loaded(name, version, deadline, record)
        signature = model.session.signature
        with Account(model, record) as account:
            if message is None:
                assert self._helper is not None
                deadline = min(deadline, account.until(service.settings.model_timeout))
                request = await self._helper(codec.decode_whole, data, signature, self._references, deadline=deadline)
            else:
                request = codec.decode(message, signature.known[self._references])
            account.decoded(request)
            if request.by_reference and self._intake is not None:
                self._intake.hold(await service.bytes_by_reference(request, deadline))
            owner = self._owner() if model.keeps_responses else None
            response = await service.infer(model, request, account, deadline, owner)
            account.inferred(response)
            if self._helper is not None and bodies.is_large(response):
                deadline = min(deadline, account.until(service.settings.model_timeout))
                body = bytes(await self._helper(codec.encode, response, deadline=deadline))
            else:
                body = codec.encode(response)
            self._check_size(len(body))
            account.answered(signature.rows(request), len(data), len(body))
        if large:
            await bodies.let_go(request, [response])
        return body

    def _owner(self) -> str:
        """Whose the response to this request is, where responses are kept."""
        scope = clients.scope.get()
        return self._owners.client(dict(scope["headers"])) if self._owners and scope else ""

    async def _loaded(self, name: str, version: str, deadline: float, record: RequestRecord | None) -> Model:
        try:
            with recording(record):
                return await self._service.model(name, version or None, deadline)
        except BaseException as exc:
            self._service.metrics.refused(exc)
            raise

    async def _take_in(self, intake: Intake, size: int) -> None:
        """Takes in a message of so many bytes. Overloaded, QueueFull, InferenceTimeout."""
        try:
            if size > asgi.HELD:
                intake.hold(size)
                intake.check(0)
            await intake.turn()
        except BaseException as exc:
            self._service.metrics.refused(exc)
            raise

    def _check_size(self, size: int) -> None:
        """ResponseTooLarge over the limit; Overloaded without room."""
        if self._max_response and size > self._max_response:
            raise ResponseTooLarge(
                f"the response has {size} bytes, over {self._max_response} (MAX_RESPONSE_BYTES): ask for fewer rows or "
                "outputs, or for outputs by reference ('uri')"
            )
        if self._intake is not None and size > asgi.HELD:
            self._intake.hold_response(size)

    @staticmethod
    def _unsupported(path: str) -> Any:
        async def unsupported(_messages: Any, call: Context) -> None:
            exc = NotSupported(f"{path} is a part of the protocol that inferry doesn't offer")
            await call.abort(status(exc), str(exc))

        return unsupported


def _deadline(call: Context) -> float:
    """Until when the client waits, on time.monotonic, less a moment to tell it."""
    remaining = call.time_remaining()
    return math.inf if remaining is None else time.monotonic() + remaining - _MARGIN

"""The port of gRPC: a server of grpcio's on the event loop of the application, with health and reflection beside it."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import grpc
from google.protobuf import descriptor_pool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health
from grpc_reflection.v1alpha import reflection, reflection_pb2, reflection_pb2_grpc

from inferry.grpc.messages import POOL, SERVICE
from inferry.grpc.servicer import Servicer
from inferry.http.host import Host
from inferry.service import Service
from inferry.settings import Settings

# How often calls are looked at, and how soon those who watch the health service hear of a change.
_LOOK_SECONDS = 0.5
# What clients had sent before they could know of the end is there by then; and how often it is seen what is answered.
_LAST_SECONDS, _ANSWERED_SECONDS = 0.2, 0.05
_HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
_SERVING, _NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


async def serve(
    service: Service, host: Host, is_draining: Callable[[], bool], started: asyncio.Event, ended: asyncio.Event
) -> None:
    """Serves GRPC_PORT until the server ends; what is in flight then is answered first."""
    settings = service.settings
    servicer = Servicer(service, host, is_draining)
    server = grpc.aio.server(options=_options(settings))
    checks = health.HealthServicer()
    server.add_generic_rpc_handlers((servicer,))
    beside: Any = _Generic(server)
    health_pb2_grpc.add_HealthServicer_to_server(checks, beside)
    names = (SERVICE, _HEALTH, reflection.SERVICE_NAME)
    described = reflection.aio.ReflectionServicer(names, _described())
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(described, beside)
    name = f"[{settings.host}]" if ":" in settings.host else settings.host
    server.add_insecure_port(f"{name}:{settings.grpc_port}")
    await server.start()
    started.set()
    try:
        while not ended.is_set():
            servicer.look()
            serving = _SERVING if servicer.is_ready() else _NOT_SERVING
            for one in ("", SERVICE):
                await checks.set(one, serving)
            with suppress(TimeoutError):
                await asyncio.wait_for(ended.wait(), _LOOK_SECONDS)
        await checks.enter_graceful_shutdown()
    finally:
        await _stop(server, servicer, settings.model_timeout + 5)


async def _stop(server: grpc.aio.Server, servicer: Servicer, seconds: float) -> None:
    """Takes no more calls, and ends when what was asked is answered; streams, and those that watch, may be open."""
    stopping = asyncio.create_task(server.stop(seconds))
    await asyncio.wait([stopping], timeout=_LAST_SECONDS)
    while not (stopping.done() or servicer.is_idle()):
        await asyncio.wait([stopping], timeout=_ANSWERED_SECONDS)
    await server.stop(None)
    await stopping


class _Generic:
    """A server whose methods have no queues of their own: for each that has, grpc.aio waits for a future more per call.

    Those of health and reflection made a call of ours 5 % longer (Python 3.11; the row `grpc`).
    """

    def __init__(self, server: grpc.aio.Server) -> None:
        self.add_generic_rpc_handlers = server.add_generic_rpc_handlers

    def add_registered_method_handlers(self, _service: str, _handlers: object) -> None:
        """Does nothing: they are found by `add_generic_rpc_handlers`."""


def _options(settings: Settings) -> list[tuple[str, int]]:
    return [
        ("grpc.so_reuseport", 1),
        # Before and after decompression.
        ("grpc.max_receive_message_length", settings.max_request_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_metadata_size", settings.max_header_bytes),
        ("grpc.absolute_max_metadata_size", settings.max_header_bytes),
        ("grpc.max_allowed_incoming_connections", settings.max_connections),
        ("grpc.server_handshake_timeout_ms", round(settings.header_timeout * 1000)),
    ]


def _described() -> descriptor_pool.DescriptorPool:
    """What reflection tells of: the protocol, health, and itself."""
    pool = descriptor_pool.DescriptorPool()
    for file in (POOL.FindServiceByName(SERVICE).file, health_pb2.DESCRIPTOR, reflection_pb2.DESCRIPTOR):
        pool.AddSerializedFile(file.serialized_pb)
    return pool

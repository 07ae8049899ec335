"""The Python worker: Microsoft's library indexes the app and invokes its functions; here are its messages' classes."""

import json
import sys
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from azure_functions_runtime import handle_event
from azure_functions_runtime.bindings.datumdef import Datum
from azure_functions_runtime.native_invocation import invocation_request_native
from azure_functions_runtime.utils.threadpool import start_threadpool_executor

TRACE_FLAGS = "01"


class IndexingFailed(Exception):
    """The host starts such an app with no functions at all."""


class _Message(SimpleNamespace):
    """Stands in for a protobuf class, which takes its fields as keywords."""


def _message(name: str, **constants: Any) -> Any:
    return type(name, (_Message,), constants)


PROTOS = SimpleNamespace(
    # The numbers are those of FunctionRpc.proto.
    BindingInfo=_message("BindingInfo", out=1, inout=2, undefined=0, **{"in": 0}),
    StatusResult=_message("StatusResult", Failure=0, Success=1),
    **{
        name: _message(name)
        for name in (
            "FunctionMetadataResponse",
            "RpcException",
            "RpcFunctionMetadata",
            "RpcRetryOptions",
            "WorkerInitResponse",
            "WorkerMetadata",
        )
    },
)


@dataclass(frozen=True)
class Function:
    """An indexed function; `bindings` as the app declares them, the trigger among them."""

    name: str
    id: str
    bindings: list[dict[str, Any]]

    @property
    def trigger(self) -> dict[str, Any]:
        return next(binding for binding in self.bindings if binding["type"].endswith("Trigger"))


@dataclass
class Outcome:
    """How an invocation ended; `error` is what the host logs, `traceparent` its own span."""

    value: Datum | None = None
    error: str = ""
    outputs: dict[str, Datum] = field(default_factory=dict)
    traceparent: str = ""


def _traceparent() -> str:
    return f"00-{uuid.uuid4().hex}-{uuid.uuid4().hex[:16]}-{TRACE_FLAGS}"


async def index(folder: Path) -> list[Function]:
    """The functions of the app in `folder`. IndexingFailed with the runtime's words when there are none."""
    sys.path.insert(0, str(folder))
    start_threadpool_executor()
    init = SimpleNamespace(capabilities={}, function_app_directory=str(folder))
    properties = {"host": "127.0.0.1", "protos": PROTOS}
    answer = await handle_event.worker_init_request(
        SimpleNamespace(request=SimpleNamespace(worker_init_request=init), properties=properties)
    )
    if answer.result.status == PROTOS.StatusResult.Failure:
        raise IndexingFailed(f"{answer.result.exception.message}\n{answer.result.exception.stack_trace}")
    found = (await handle_event.functions_metadata_request(None)).function_metadata_results
    if not found:
        raise IndexingFailed(f"no functions in {folder}")
    return [Function(f.name, f.function_id, [json.loads(raw) for raw in f.raw_bindings]) for f in found]


async def invoke(
    function: Function,
    value: Datum,
    metadata: dict[str, Datum] | None = None,
    traceparent: str = "",
    invocation_id: str = "",
) -> Outcome:
    """One invocation: `value` is the trigger's."""
    traceparent = traceparent or _traceparent()
    ok, returned, outputs, error, trace = await invocation_request_native(
        invocation_id or str(uuid.uuid4()),
        function.id,
        [(function.trigger["name"], value)],
        metadata or {},
        trace_parent=traceparent,
    )
    outputs, error = (dict(outputs), "") if ok else ({}, trace or error or "failed")
    return Outcome(returned, error, outputs, traceparent)

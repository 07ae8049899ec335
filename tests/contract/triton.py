"""NVIDIA's four clients with one set of methods: those of tritonclient.http, whose answers are JSON."""

import asyncio
from typing import Any, NamedTuple

import numpy as np
import tritonclient.grpc
import tritonclient.grpc.aio
import tritonclient.http
import tritonclient.http.aio
import tritonclient.utils
from servers import Server


class Input(NamedTuple):
    """An input, and over HTTP whether it is sent as bytes or as JSON; `region`: its name and size in shared memory."""

    name: str
    array: np.ndarray
    binary: bool = True
    datatype: str = ""
    region: tuple[str, int] | None = None


class Output(NamedTuple):
    """An output to be sent, and over HTTP how; with `class_count` as that many classes."""

    name: str
    binary: bool = True
    class_count: int = 0


class Http:
    """tritonclient.http."""

    wire = "http"
    module: Any = tritonclient.http

    def __init__(self, server: Server) -> None:
        self._client = self._connected(server)

    def _connected(self, server: Server) -> Any:
        return self.module.InferenceServerClient(server.address)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def infer(self, model: str, inputs: list[Input], outputs: list[Output] | None = None, **options: Any) -> Any:
        wanted = None if outputs is None else [self._output(output) for output in outputs]
        return self.__getattr__("infer")(model, [self._input(given) for given in inputs], outputs=wanted, **options)

    def _input(self, given: Input) -> Any:
        made = self._named(given)
        if given.region:
            made.set_shared_memory(*given.region)
            return made
        return made.set_data_from_numpy(given.array, given.binary)

    def _named(self, given: Input) -> Any:
        datatype = given.datatype or tritonclient.utils.np_to_triton_dtype(given.array.dtype)
        return self.module.InferInput(given.name, list(given.array.shape), datatype)

    def _output(self, output: Output) -> Any:
        return self.module.InferRequestedOutput(output.name, binary_data=output.binary, class_count=output.class_count)


class Grpc(Http):
    """tritonclient.grpc, whose answers are messages and whose tensors are always bytes."""

    wire = "grpc"
    module = tritonclient.grpc

    def _connected(self, server: Server) -> Any:
        return self.module.InferenceServerClient(server.grpc)

    def __getattr__(self, name: str) -> Any:
        method = super().__getattr__(name)
        return lambda *args, **kwargs: as_json(method(*args, **kwargs))

    def infer(self, model: str, inputs: list[Input], outputs: list[Output] | None = None, **options: Any) -> Any:
        options.pop("response_compression_algorithm", None)
        algorithm = options.pop("request_compression_algorithm", None)
        return Result(super().infer(model, inputs, outputs, compression_algorithm=algorithm, **options))

    def get_model_config(self, *arguments: Any) -> Any:
        return self.__getattr__("get_model_config")(*arguments)["config"]

    def get_model_repository_index(self) -> Any:
        models = self.__getattr__("get_model_repository_index")()["models"]
        return [{name: value for name, value in item.items() if value} for item in models]

    def _input(self, given: Input) -> Any:
        made = self._named(given)
        if given.region:
            made.set_shared_memory(*given.region)
            return made
        return made.set_data_from_numpy(given.array)

    def _output(self, output: Output) -> Any:
        return self.module.InferRequestedOutput(output.name, class_count=output.class_count)


class _Waiting:
    """A client's methods that end when their coroutines do."""

    def __init__(self, module: Any, address: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._client = self._loop.run_until_complete(self._connect(module, address))

    async def _connect(self, module: Any, address: str) -> Any:
        return module.InferenceServerClient(address)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        return lambda *args, **kwargs: self._loop.run_until_complete(method(*args, **kwargs))

    def close(self) -> None:
        self._loop.run_until_complete(self._client.close())
        self._loop.close()


class HttpAio(Http):
    """tritonclient.http.aio."""

    def _connected(self, server: Server) -> Any:
        return _Waiting(tritonclient.http.aio, server.address)


class GrpcAio(Grpc):
    """tritonclient.grpc.aio."""

    def _connected(self, server: Server) -> Any:
        return _Waiting(tritonclient.grpc.aio, server.grpc)


class Result:
    """What an inference over gRPC gave, as one over HTTP says it."""

    def __init__(self, result: Any) -> None:
        self._result = result
        self.as_numpy = result.as_numpy

    def get_response(self) -> dict[str, Any]:
        response = as_json(self._result.get_response())
        raws = response.pop("raw_output_contents")
        assert len(raws) == len(response["outputs"])
        for output, raw in zip(response["outputs"], raws, strict=True):
            assert not output.pop("contents")
            output["parameters"]["binary_data_size"] = len(raw)
        return {name: value for name, value in response.items() if value}

    def get_output(self, name: str) -> dict[str, Any]:
        return next(output for output in self.get_response()["outputs"] if output["name"] == name)


def as_json(value: Any) -> Any:
    """A message with all of its fields, defaults as well; other values as they are."""
    if not hasattr(value, "DESCRIPTOR"):
        return value
    fields: dict[str, Any] = {}
    for field in value.DESCRIPTOR.fields:
        if field.containing_oneof and not value.HasField(field.name):
            continue
        fields[field.name] = _as_json(field, getattr(value, field.name), value)
    return fields


def _as_json(field: Any, value: Any, message: Any) -> Any:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return {key: as_json(item) for key, item in value.items()}
    if field.enum_type is not None:
        return field.enum_type.values_by_number[value].name
    if field.is_repeated:
        return [as_json(item) for item in value]
    if field.message_type is not None and not message.HasField(field.name):
        return {}
    return as_json(value)

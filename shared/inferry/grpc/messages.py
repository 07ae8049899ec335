"""The protocol's messages, made of inference.binpb, which protoc writes from inference.proto."""

from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from google.protobuf.message import DecodeError

from inferry.errors import InvalidRequest

_FILE = "inference.proto"
SERVICE = "inference.GRPCInferenceService"

# Not the default one: generated modules of clients have messages of the same names there.
POOL = descriptor_pool.DescriptorPool()
for _file in descriptor_pb2.FileDescriptorSet.FromString(Path(__file__).with_name("inference.binpb").read_bytes()).file:
    POOL.Add(_file)
_CLASSES = message_factory.GetMessageClassesForFiles([_FILE], POOL)

# By their names without the package.
MESSAGES: dict[str, Any] = {name.removeprefix("inference."): message for name, message in _CLASSES.items()}
METHODS = POOL.FindServiceByName(SERVICE).methods_by_name

ModelInferRequest = MESSAGES["ModelInferRequest"]
ModelInferResponse = MESSAGES["ModelInferResponse"]
ModelStreamInferResponse = MESSAGES["ModelStreamInferResponse"]


def parsed(message: Any, data: bytes) -> Any:
    """The message of a class in these bytes. InvalidRequest when there is none."""
    try:
        return message.FromString(data)
    except DecodeError as exc:
        raise no_message(message) from exc


def of_json(message: Any, value: Any) -> Any:
    """The message of a class that is this JSON object."""
    return json_format.ParseDict(value, message())


def no_message(message: Any) -> InvalidRequest:
    """What bytes are refused with that are no message of a class."""
    return InvalidRequest(f"these bytes are no {message.DESCRIPTOR.full_name} message of protobuf")

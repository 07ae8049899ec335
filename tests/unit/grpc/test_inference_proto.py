"""The protocol's messages: what protoc makes of inference.proto, and what other implementations have."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import inferry
import pytest
from google.protobuf import descriptor_pb2
from inferry.grpc.messages import MESSAGES, METHODS, SERVICE
from tritonclient.grpc import model_config_pb2, service_pb2

FOLDER = Path(inferry.__file__).parent / "grpc"


def test_the_descriptor_is_what_protoc_writes(tmp_path: Path) -> None:
    written = tmp_path / "inference.binpb"
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{FOLDER}", f"--descriptor_set_out={written}"]
    subprocess.run([*command, "inference.proto"], check=True)
    expected = descriptor_pb2.FileDescriptorSet.FromString(written.read_bytes())
    got = descriptor_pb2.FileDescriptorSet.FromString((FOLDER / "inference.binpb").read_bytes())
    assert got == expected, "make proto"


THEIRS = {**service_pb2.DESCRIPTOR.message_types_by_name, **model_config_pb2.DESCRIPTOR.message_types_by_name}
# KServe's answer of a load or an unload, which is empty in Triton's.
OWN = {
    "RepositoryModelLoadResponse": {"model_name", "isLoaded"},
    "RepositoryModelUnloadResponse": {"model_name", "isUnloaded"},
}


def fields(message: Any) -> Iterator[tuple[Any, ...]]:
    """Each field as it is on the wire: name, number, type, whether there may be several, and what it holds."""
    for field in message.fields:
        inner = field.message_type or field.enum_type
        oneof = field.containing_oneof.name if field.containing_oneof else ""
        yield field.name, field.number, field.type, field.is_repeated, inner.full_name if inner else "", oneof


def nested(message: Any) -> Iterator[Any]:
    yield message
    for inner in message.nested_types:
        yield from nested(inner)


@pytest.mark.parametrize("name", sorted(name for name in MESSAGES if "." not in name))
def test_messages_are_those_of_triton(name: str) -> None:
    theirs = {message.full_name: set(fields(message)) for message in nested(THEIRS[name])}
    for message in nested(MESSAGES[name].DESCRIPTOR):
        own = {field for field in fields(message) if field[0] in OWN.get(name, ())}
        assert set(fields(message)) - own <= theirs[message.full_name]


def test_methods_are_those_of_triton() -> None:
    theirs = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
    assert theirs.full_name == SERVICE
    for name, method in METHODS.items():
        other = theirs.methods_by_name[name]
        assert (method.input_type.full_name, method.output_type.full_name) == (
            other.input_type.full_name,
            other.output_type.full_name,
        )
        assert (method.client_streaming, method.server_streaming) == (other.client_streaming, other.server_streaming)


def test_enums_are_those_of_triton() -> None:
    found = {field.enum_type for item in MESSAGES.values() for field in item.DESCRIPTOR.fields if field.enum_type}
    theirs = {
        enum.full_name: enum
        for enum in (
            *model_config_pb2.DESCRIPTOR.enum_types_by_name.values(),
            *(enum for item in model_config_pb2.DESCRIPTOR.message_types_by_name.values() for enum in item.enum_types),
        )
    }
    assert {enum.name for enum in found} == {"DataType", "Format", "Kind"}
    for enum in found:
        values = {value.name: value.number for value in theirs[enum.full_name].values}
        assert {value.name: value.number for value in enum.values} == values

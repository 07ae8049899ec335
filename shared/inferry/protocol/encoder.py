"""The Open Inference Protocol v2 on the wire: `InferResponse` to bytes."""

from typing import Any

import orjson

from inferry.protocol.tensors import Tensor, to_bytes, to_list
from inferry.protocol.types import HEADER_LENGTH, JSON, OCTETS, URI, InferResponse


def encode(response: InferResponse) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """The body and the headers of a response: JSON, with the binary outputs behind it when there are any."""
    outputs, tail = [], []
    binary, stored = response.binary, response.stored or ()
    for tensor in _classified(response) if response.classes else response.outputs:
        name = tensor.name
        output: dict[str, Any] = {"name": name, "datatype": tensor.datatype.name, "shape": tensor.array.shape}
        if name in binary:
            raw = to_bytes(tensor)
            output["parameters"] = {"binary_data_size": len(raw)}
            tail.append(raw)
        elif name not in stored:
            # What `to_list` does of numbers, without the call.
            output["data"] = tensor.array.ravel() if tensor.datatype.code else to_list(tensor)
        outputs.append(output)
    document: dict[str, Any] = {
        "model_name": response.model_name,
        "model_version": response.model_version,
        "outputs": outputs,
    }
    if response.stored:
        # Not at the outputs: C++ clients take those that have parameters for binary ones.
        document["parameters"] = {f"{URI}:{name}": uri for name, uri in response.stored.items()}
    if response.id is not None:
        document["id"] = response.id
    text = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
    if not tail:
        return text, [JSON]
    return b"".join((text, *tail)), [OCTETS, (HEADER_LENGTH, b"%d" % len(text))]


def _classified(response: InferResponse) -> list[Tensor]:
    from inferry.protocol import classification

    return classification.applied(response)

"""A hand-written ASGI function around the session: no routes, no checks, so about the least Python can do."""

from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnxruntime as ort
import orjson

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]

MODEL = Path(__file__).parents[2] / "models/digits/2/model.onnx"
DTYPES = {"FP32": np.float32, "INT64": np.int64}
DATATYPES = {np.dtype(dtype): datatype for datatype, dtype in DTYPES.items()}

options = ort.SessionOptions()
options.intra_op_num_threads = 1
session = ort.InferenceSession(MODEL, options, providers=["CPUExecutionProvider"])
names = [output.name for output in session.get_outputs()]


async def app(scope: Message, receive: Receive, send: Send) -> None:
    """Answer any request as an Open Inference Protocol JSON infer request."""
    body = infer(await read(receive))
    length = str(len(body)).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", length)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def read(receive: Receive) -> bytes:
    """The request's whole body."""
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


def infer(body: bytes) -> bytes:
    """An infer request's JSON to its response's JSON."""
    feed = {
        tensor["name"]: np.array(tensor["data"], DTYPES[tensor["datatype"]]).reshape(tensor["shape"])
        for tensor in orjson.loads(body)["inputs"]
    }
    outputs = [
        {"name": name, "shape": array.shape, "datatype": DATATYPES[array.dtype], "data": array.ravel()}
        for name, array in zip(names, session.run(None, feed), strict=True)
    ]
    answer = {"model_name": "digits", "model_version": "2", "outputs": outputs}
    return orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)

"""Calls ModelInfer of an identity model over and over: calls.py PORT FLOATS IN_FLIGHT SECONDS.

Waits for the server, and then a second. Prints `{"rate": [calls a second]}`.
"""

import asyncio
import json
import sys
import time
from typing import Any

import grpc
import numpy as np
import uvloop
from inferry.grpc.messages import SERVICE, ModelInferRequest, ModelInferResponse

READY_WITHIN, WARM_UP = 90.0, 1.0


def request(floats: int) -> Any:
    """The message: so many numbers, raw."""
    message = ModelInferRequest(model_name="identity")
    message.inputs.add(name="x", datatype="FP32", shape=[floats])
    message.raw_input_contents.append(np.arange(floats, dtype=np.float32).tobytes())
    return message


async def ready(infer: Any, message: Any) -> None:
    """Returns when the server gives the numbers back."""
    response = await infer(message, wait_for_ready=True, timeout=READY_WITHIN)
    assert response.raw_output_contents[0] == message.raw_input_contents[0]


async def called(infer: Any, message: Any, in_flight: int, seconds: float) -> float:
    """Calls a second."""
    count, end = 0, time.perf_counter() + seconds

    async def one() -> None:
        nonlocal count
        while time.perf_counter() < end:
            await infer(message)
            count += 1

    began = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(in_flight)))
    return count / (time.perf_counter() - began)


async def main(port: int, floats: int, in_flight: int, seconds: float) -> None:
    """Measures, and prints what it found."""
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options) as channel:
        infer = channel.unary_unary(
            f"/{SERVICE}/ModelInfer", ModelInferRequest.SerializeToString, ModelInferResponse.FromString
        )
        message = request(floats)
        await ready(infer, message)
        await called(infer, message, in_flight, WARM_UP)
        print(json.dumps({"rate": [await called(infer, message, in_flight, seconds)]}))


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])))

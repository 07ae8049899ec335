"""A bare grpc.aio server of the protocol's messages around a session of an identity model: grpc_echo.py PORT MODEL."""

import sys
from typing import Any

import grpc
import numpy as np
import onnxruntime as ort
import uvloop
from inferry.grpc.messages import SERVICE, ModelInferRequest, ModelInferResponse


def answering(session: ort.InferenceSession) -> Any:
    """The handler: as little as can be done by hand, for messages that nothing is wrong with."""

    async def infer(request: Any, _context: Any) -> Any:
        (given,) = request.inputs
        numbers = np.frombuffer(request.raw_input_contents[0], np.float32).reshape(given.shape)
        (numbers,) = session.run(None, {given.name: numbers})
        response = ModelInferResponse(model_name=request.model_name, model_version="1")
        response.outputs.add(name="y", datatype="FP32", shape=numbers.shape)
        response.raw_output_contents.append(numbers.tobytes())
        return response

    return infer


async def serve(port: int, model: str) -> None:
    """Serves until the process ends."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    infer = answering(ort.InferenceSession(model, options, providers=["CPUExecutionProvider"]))
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", 2**26), ("grpc.max_send_message_length", -1)])
    method = grpc.unary_unary_rpc_method_handler(
        infer, ModelInferRequest.FromString, ModelInferResponse.SerializeToString
    )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"ModelInfer": method}),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), sys.argv[2]))

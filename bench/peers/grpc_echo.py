"""A bare grpc.aio server of the protocol's messages, which gives inputs as outputs: grpc_echo.py PORT."""

import sys
from typing import Any

import grpc
import uvloop
from inferry.grpc.messages import SERVICE, ModelInferRequest, ModelInferResponse


async def infer(request: Any, _context: Any) -> Any:
    """The message for the message."""
    response = ModelInferResponse(model_name=request.model_name, model_version="1")
    (given,) = request.inputs
    response.outputs.add(name="y", datatype=given.datatype, shape=given.shape)
    response.raw_output_contents.append(request.raw_input_contents[0])
    return response


async def serve(port: int) -> None:
    """Serves until the process ends."""
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", 2**26), ("grpc.max_send_message_length", -1)])
    method = grpc.unary_unary_rpc_method_handler(
        infer, ModelInferRequest.FromString, ModelInferResponse.SerializeToString
    )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"ModelInfer": method}),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))

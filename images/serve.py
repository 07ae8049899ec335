"""Starts `inferry serve`, has it predict, and ends it: serve.py HEALTH_CHECK; the models are MODEL_PATH's.

Fails unless the health check becomes content, the model `twice` doubles its numbers, the metrics on their own port have
counted that, the server is live over gRPC, and it ends with status 0 when it is told to.
"""

import json
import os
import socket
import subprocess
import sys
import time
from urllib.request import Request, urlopen

import grpc

SECONDS = 60.0
BODY = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1, 2.5, -3]}]}
DOUBLED = [2.0, 5.0, -6.0]
# Field 1 of the response is true.
LIVE = b"\x08\x01"
COUNTED = 'inferry_requests_total{model="twice"'


def main(health_check: str) -> None:
    """Prints that it works; SystemExit with what does not."""
    port, metrics_port, grpc_port = free_port(), free_port(), free_port()
    env = {
        **os.environ,
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "METRICS_PORT": str(metrics_port),
        "GRPC_PORT": str(grpc_port),
        "SHUTDOWN_GRACE": "0",
    }
    server = subprocess.Popen([sys.executable, "-m", "inferry", "serve"], env=env)
    try:
        wait(server, [sys.executable, "-IS", health_check], env)
        answer = json.loads(ask(port, "/v2/models/twice/infer", BODY))
        if answer["outputs"][0]["data"] != DOUBLED:
            raise SystemExit(f"twice {BODY} is {answer}")
        if COUNTED not in ask(metrics_port, "/metrics"):
            raise SystemExit("the prediction is not among the metrics")
        if call(grpc_port) != LIVE:
            raise SystemExit("the server is not live over gRPC")
        server.terminate()
        if status := server.wait(SECONDS):
            raise SystemExit(f"the server ended with status {status}")
    finally:
        server.kill()
    print("inferry serve predicts over HTTP, and speaks gRPC")


def call(port: int) -> bytes:
    """What the server says of itself, as the bytes of a message."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        answer: bytes = channel.unary_unary("/inference.GRPCInferenceService/ServerLive")(b"", timeout=SECONDS)
        return answer


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def wait(server: "subprocess.Popen[bytes]", check: list[str], env: dict[str, str]) -> None:
    """Until the check's status is 0; SystemExit when the server has ended, or after a minute."""
    deadline = time.monotonic() + SECONDS
    while subprocess.run(check, env=env, stderr=subprocess.DEVNULL, check=False).returncode:
        if server.poll() is not None or time.monotonic() > deadline:
            raise SystemExit("the server was not ready within a minute")
        time.sleep(0.1)


def ask(port: int, path: str, body: object = None) -> str:
    """The answer to a GET, or to a POST of the body as JSON."""
    request = Request(f"http://127.0.0.1:{port}{path}", json.dumps(body).encode() if body else None)
    with urlopen(request, timeout=SECONDS) as answer:
        text: str = answer.read().decode()
        return text


if __name__ == "__main__":
    main(sys.argv[1])

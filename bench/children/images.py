"""Images of changing sizes through a model of PP-OCR's kind, and what they leave behind.

    images.py alone MODEL_FILE COUNT arena|shrinking|none    ONNX Runtime in this process
    images.py served REPOSITORY COUNT                        `inferry serve`, asked in binary

Prints `{"rss": [resident megabytes afterwards], "peak": [the most meanwhile]}`.
"""

import http.client
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from bench.peers.servers import READY_WITHIN, free_port

Image: TypeAlias = np.ndarray[Any, np.dtype[Any]]

SMALLEST, LARGEST, STEP = 320, 960, 32
STAGES = (16, 32, 64, 96)  # channels at a half, a quarter... of the image's size, and back


def detection() -> bytes:
    """A network of convolutions down to a sixteenth of the image's size and up again: `[1, 1, height, width]`."""
    from onnx import TensorProto, helper, numpy_helper

    rng, weights, nodes, last, before = np.random.default_rng(0), [], [], "x", 3
    for at, channels in enumerate((*STAGES, *STAGES[::-1])):
        kernel = rng.normal(0, 0.1, (channels, before, 3, 3)).astype(np.float32)
        weights.append(numpy_helper.from_array(kernel, f"w{at}"))
        if at >= len(STAGES):
            nodes.append(helper.make_node("Resize", [last, "", "twice"], [f"large{at}"], mode="nearest"))
            last = f"large{at}"
        strides = [2, 2] if at < len(STAGES) else [1, 1]
        nodes.append(helper.make_node("Conv", [last, f"w{at}"], [f"conv{at}"], pads=[1, 1, 1, 1], strides=strides))
        nodes.append(helper.make_node("Relu", [f"conv{at}"], [f"relu{at}"]))
        last, before = f"relu{at}", channels
    weights.append(numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "twice"))
    nodes.append(helper.make_node("ReduceMean", [last], ["mean"], axes=[1], keepdims=1))
    nodes.append(helper.make_node("Sigmoid", ["mean"], ["y"]))
    x, y = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, channels, "height", "width"])
        for name, channels in (("x", 3), ("y", 1))
    )
    graph = helper.make_graph(nodes, "detection", [x], [y], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    content: bytes = model.SerializeToString()
    return content


def images(count: int) -> Iterator[Image]:
    """The same images for every side, the largest in the middle."""
    rng, largest = random.Random(0), np.random.default_rng(0).random((1, 3, LARGEST, LARGEST), np.float32)
    for at in range(count):
        height, width = (rng.randrange(SMALLEST, LARGEST + 1, STEP) for _ in range(2))
        if at == count // 2:
            height, width = LARGEST, LARGEST
        yield np.ascontiguousarray(largest[:, :, :height, :width])


def held(pid: int) -> dict[str, list[float]]:
    """Megabytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    names = {"rss": "VmRSS:", "peak": "VmHWM:"}
    return {key: [int(status.partition(name)[2].split()[0]) / 1024] for key, name in names.items()}


def alone(path: str, count: int, way: str) -> dict[str, list[float]]:
    """What ONNX Runtime holds, whose options are its defaults but for threads that don't spin, as inferry's."""
    import onnxruntime as ort

    options, run = ort.SessionOptions(), ort.RunOptions()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.enable_cpu_mem_arena = way != "none"
    if way == "shrinking":
        options.enable_mem_pattern = False  # its blocks would stay
        run.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    for image in images(count):
        session.run(None, {"x": image}, run)
    return held(os.getpid())


def served(repository: str, count: int) -> dict[str, list[float]]:
    """What the server holds. SystemExit when it does not answer."""
    port = free_port()
    command = (sys.executable, "-m", "inferry", "serve", repository, "--port", str(port))
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until_ready(port, server)
        connection = http.client.HTTPConnection("127.0.0.1", port)
        for image in images(count):
            ask(connection, image)
        connection.close()
        return held(server.pid)
    finally:
        server.terminate()
        server.wait()


def wait_until_ready(port: int, server: subprocess.Popen[bytes]) -> None:
    """Return once the model is loaded. SystemExit when the server ended, or is not ready in READY_WITHIN seconds."""
    deadline = time.monotonic() + READY_WITHIN
    while server.poll() is None and time.monotonic() < deadline:
        with suppress(OSError):
            connection = http.client.HTTPConnection("127.0.0.1", port)
            connection.request("GET", "/v2/models/m/ready")
            if connection.getresponse().status == 200:
                return
        time.sleep(0.1)
    raise SystemExit("the server is not ready")


def ask(connection: http.client.HTTPConnection, image: Image) -> None:
    """Send the image and take its answer, both in binary. SystemExit unless it is answered."""
    body = image.tobytes()
    tensor = {
        "name": "x",
        "shape": list(image.shape),
        "datatype": "FP32",
        "parameters": {"binary_data_size": len(body)},
    }
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head)), "Content-Type": "application/octet-stream"}
    connection.request("POST", "/v2/models/m/infer", head + body, headers)
    answer = connection.getresponse()
    text = answer.read()
    if answer.status != 200:
        raise SystemExit(f"the answer's status is {answer.status}: {text[:200]!r}")


if __name__ == "__main__":
    side, path, number, *way = sys.argv[1:]
    print(json.dumps(alone(path, int(number), *way) if side == "alone" else served(path, int(number))))

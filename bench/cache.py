"""The response cache: a response that is kept, in process and in Redis, beside one that a model of 10 ms gives."""

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from .measure import ChildFailed, milliseconds, ratio, sample, say
from .peers.example import compact
from .peers.servers import Peer, free_port, serve
from .table import Row, Target

MILLISECONDS = 10.0
TARGETS = {"in process": Target(0.05), "in Redis": Target(0.12)}
WIDTH, TRIED = 256, 64
CONFIG = b'{"response_cache": {"enable": true}}'


def cache(quick: bool) -> Iterator[Row]:
    """A row for each place where responses are kept. Server and client have a core each; Redis has the client's."""
    count = 50 if quick else 500
    with TemporaryDirectory() as folder:
        place = Path(folder, "slow", "1")
        place.mkdir(parents=True)
        (place / "model.onnx").write_bytes(slow())
        (place.parent / "config.json").write_bytes(CONFIG)
        for name, target in TARGETS.items():
            say(f"cache: {count} requests, kept {name}")
            port = free_port()
            with (
                redis() if "Redis" in name else nullcontext("") as url,
                serve(server(Path(folder), url), port, 0),
            ):
                found = sample("cache", port, count, WIDTH)
            yield Row(
                f"a response that is kept {name}, of a model of {MILLISECONDS:g} ms",
                milliseconds(found["hit"]),
                f"{milliseconds(found['miss'])} for one that is not",
                ratio(found["hit"], found["miss"]),
                target,
            )


def server(folder: Path, url: str) -> Peer:
    """`inferry serve` over the repository, with a Redis if there is one."""
    command = ("{python}", "-m", "inferry", "serve", str(folder), "--port", "{port}")
    tensor = {"name": "x", "shape": [1, WIDTH], "datatype": "FP32", "data": [0] * WIDTH}
    # Whatever else this machine does, no request is to do without Redis.
    environment = {"RESPONSE_CACHE_URL": url, "RESPONSE_CACHE_TIMEOUT": "1"} if url else {}
    return Peer(
        "slow", command, "/v2/models/slow/infer", lambda: compact({"inputs": [tensor]}), environment=environment
    )


@contextmanager
def redis() -> Iterator[str]:
    """The URL of a Redis of its own. ChildFailed without one."""
    if shutil.which("redis-server") is None:
        raise ChildFailed("redis-server is missing: .ci/install installs it")
    port = free_port()
    command = ("taskset", "-c", "1", "redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "")
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.terminate()
        process.wait()


def slow() -> bytes:
    """A model of so many products that a run takes MILLISECONDS on one core of this machine."""
    took = min(run_time(products(TRIED)) for _ in range(3))
    return products(max(1, round(TRIED * MILLISECONDS / 1e3 / took)))


def products(layers: int) -> bytes:
    """FP32 `y` [batch, WIDTH] is `x`, by way of so many products."""
    names = ["x", *(f"layer{number}" for number in range(layers - 1)), "y"]
    nodes = [helper.make_node("MatMul", [a, "identity"], [b]) for a, b in pairwise(names)]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ("batch", WIDTH)) for name in "xy")
    identity = numpy_helper.from_array(np.eye(WIDTH, dtype=np.float32), "identity")
    graph = helper.make_graph(nodes, "products", [x], [y], [identity])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def run_time(model: bytes) -> float:
    """Seconds of a run, on one thread."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    feed = {"x": np.ones((1, WIDTH), np.float32)}
    session.run(None, feed)
    start = time.perf_counter()
    for _ in range(10):
        session.run(None, feed)
    return (time.perf_counter() - start) / 10

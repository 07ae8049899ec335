"""Health probes and small predictions while somebody else's request is answered or refused: stall.py SHAPE BYTES.

Prints `{"probe": [the worst], "rate": [predictions a second], "burnt": [...], "quiet": [...], "count": [probes],
"status": [of the request]}`: `burnt` and `quiet` are `probe` and `rate` beside a process that burns a CPU instead.
"""

import gzip
import http.client
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from onnx import TensorProto, helper

PROBES = 200
# A probe each so many seconds, and as long as the request takes.
EVERY = 0.01


class Shape(NamedTuple):
    """A request: its path, its headers and its body."""

    path: str
    headers: dict[str, str]
    body: bytes


def identity(datatype: str, shape: tuple[str | int, ...] = ("n",)) -> bytes:
    """A model that gives what it takes."""
    number = {"FP32": TensorProto.FLOAT, "BYTES": TensorProto.STRING, "INT32": TensorProto.INT32}[datatype]
    x, y = (helper.make_tensor_value_info(name, number, shape) for name in "xy")
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "identity", [x], [y])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(proto.SerializeToString())


MODELS = {"floats": identity("FP32"), "texts": identity("BYTES"), "column": identity("FP32", ("n", 1))}


def tensor(datatype: str, count: int, **members: object) -> dict[str, object]:
    return {"name": "x", "shape": [count], "datatype": datatype, **members}


def infer(model: str, value: object, *, zipped: bool = False) -> Shape:
    body = json.dumps(value).encode()
    headers = {"Content-Encoding": "gzip"} if zipped else {}
    return Shape(f"/v2/models/{model}/infer", headers, gzip.compress(body) if zipped else body)


def binary(model: str, datatype: str, count: int, raw: bytes, zipped: bool = False, **members: object) -> Shape:
    head = json.dumps(
        {"inputs": [tensor(datatype, count, parameters={"binary_data_size": len(raw)})], **members}
    ).encode()
    body = head + raw
    headers = {"Inference-Header-Content-Length": str(len(head))}
    if zipped:
        headers["Content-Encoding"], body = "gzip", gzip.compress(body)
    return Shape(f"/v2/models/{model}/infer", headers, body)


def json_floats(size: int) -> Shape:
    """JSON of floats, of `size` bytes."""
    count = size // 9 - 20
    text = b'{"inputs":[{"name":"x","shape":[%d],"datatype":"FP32","data":[%b]}]}' % (
        count,
        b",".join([b"0.123456"] * count),
    )
    return Shape("/v2/models/floats/infer", {}, text)


def refused(size: int) -> Shape:
    """The same with a text in the end."""
    path, headers, body = json_floats(size)
    return Shape(path, headers, body[:-6] + b',"a"]}]}')


def rows(size: int) -> Shape:
    """Rows of one number for /predict, which gzip makes a thousandth of."""
    text = b'{"model_name":"column","features":[%b]}' % b",".join([b"[1]"] * (min(size // 4 - 20, 4_000_000)))
    return Shape("/predict", {"Content-Encoding": "gzip"}, gzip.compress(text))


def classes(size: int) -> Shape:
    """A million classes."""
    count = min(1_000_000, size // 4 - 100)
    outputs = [{"name": "y", "parameters": {"classification": count}}]
    return binary("floats", "FP32", count, bytes(4 * count), zipped=True, outputs=outputs)


def empty_texts(size: int) -> Shape:
    """Empty strings in binary."""
    count = size // 4 - 100
    return binary("texts", "BYTES", count, bytes(4 * count), zipped=True)


def texts(size: int) -> Shape:
    """Short strings in JSON."""
    count = size // 5 - 100
    return infer("texts", {"inputs": [tensor("BYTES", count, data=["ab"] * count)]}, zipped=True)


def numbers(size: int) -> Shape:
    """Numbers in binary, whose answer is binary as well."""
    count = size // 4 - 100
    return binary("floats", "FP32", count, bytes(4 * count), parameters={"binary_data_output": True})


def converted(size: int) -> Shape:
    """Numbers in binary of another datatype than the model's, whose answer is JSON under gzip."""
    count = size // 4 - 100
    path, headers, body = binary("floats", "INT32", count, bytes(4 * count))
    return Shape(path, {**headers, "Accept-Encoding": "gzip"}, body)


SHAPES: dict[str, Callable[[int], Shape]] = {
    function.__name__: function
    for function in (json_floats, refused, rows, classes, empty_texts, texts, numbers, converted)
}


@contextmanager
def serving(folder: Path) -> Iterator[int]:
    """The port of a server over MODELS."""
    for name, content in MODELS.items():
        path = folder / name / "1" / "model.onnx"
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "inferry", "serve", str(folder), "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
        try:
            until = time.monotonic() + 60
            while probe(port) is None and time.monotonic() < until:
                time.sleep(0.05)
            yield port
        finally:
            server.terminate()


def probe(port: int) -> float | None:
    """Seconds that a health probe takes."""
    start = time.perf_counter()
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("GET", "/v2/health/ready")
        done = connection.getresponse().status == 200
        connection.close()
    except OSError:
        return None
    return time.perf_counter() - start if done else None


SMALL = json.dumps({"inputs": [tensor("FP32", 8, data=[0.5] * 8)]}).encode()


class Load:
    """A client that sends small predictions one behind the other."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self.count = 0
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._ends.is_set():
            self._connection.request("POST", "/v2/models/floats/infer", SMALL)
            self._connection.getresponse().read()
            self.count += 1

    def end(self) -> None:
        self._ends.set()
        self._thread.join()


def watched(port: int, running: Callable[[], bool]) -> tuple[float, float, int]:
    """The worst of at least PROBES probes while something runs, the rate of small predictions, and the probes."""
    load, start, taken = Load(port), time.perf_counter(), list[float]()
    while len(taken) < PROBES or running():
        taken.append(probe(port) or 60.0)
        time.sleep(EVERY)
    rate = load.count / (time.perf_counter() - start)
    load.end()
    return max(taken), rate, len(taken)


BURN = "while True: sum(range(10000))"


def burning(port: int) -> tuple[float, float, int]:
    """The same while another process burns a CPU."""
    with subprocess.Popen([sys.executable, "-c", BURN]) as burner:
        try:
            return watched(port, lambda: False)
        finally:
            burner.kill()


def send(name: str, size: int, port: int) -> None:
    """Sends a request of this shape again and again; prints the status of each."""
    shape = SHAPES[name](size)
    print("ready", flush=True)
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        connection.request("POST", shape.path, shape.body, shape.headers)
        answer = connection.getresponse()
        while answer.read(1 << 20):
            pass
        print(answer.status, flush=True)
        connection.close()


def stalled(port: int, name: str, size: int) -> tuple[float, float, int, int]:
    """The same while a request of this shape is sent again and again, by another process; and its status."""
    command = [sys.executable, "-m", "bench.children.stall", name, str(size), str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as sender:
        try:
            output = sender.stdout
            assert output is not None
            output.readline()
            statuses: list[str] = []
            thread = threading.Thread(target=lambda: statuses.append(output.readline()))
            thread.start()
            worst, rate, count = watched(port, lambda: not statuses)
            thread.join()
        finally:
            sender.kill()
    return worst, rate, count, int(statuses[0] or 0)


def main(name: str, size: int) -> dict[str, list[float]]:
    """Both, at one server."""
    with TemporaryDirectory() as folder, serving(Path(folder)) as port:
        burnt, quiet, _ = burning(port)
        worst, rate, count, status = stalled(port, name, size)
    return {"probe": [worst], "rate": [rate], "burnt": [burnt], "quiet": [quiet], "count": [count], "status": [status]}


if __name__ == "__main__":
    if len(sys.argv) > 3:
        send(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
    print(json.dumps(main(sys.argv[1], int(sys.argv[2]))))

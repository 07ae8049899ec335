"""After images of changing sizes a server holds about what it held before, and a bounded part more for the next."""

import json
from pathlib import Path

import numpy as np
import onnx_models
import pytest
from inferry.runtime.arena import KEPT
from onnx import helper, numpy_helper
from servers import HEADER_LENGTH, OCTETS, Server, serving

SIDES = (320, 960, 640, 896, 352, 800, 960, 480, 704)
CHANNELS = 16


def layers() -> bytes:
    """`y` is the mean over all channels of three layers; each layer takes 59 MB at 960 px."""
    weights = [np.full((CHANNELS, depth, 3, 3), 1 / (9 * depth), np.float32) for depth in (3, CHANNELS, CHANNELS)]
    nodes = [
        helper.make_node("Conv", [before, f"w{at}"], [after], pads=[1, 1, 1, 1])
        for at, (before, after) in enumerate((("x", "a"), ("a", "b"), ("b", "c")))
    ]
    joined = helper.make_node("Concat", ["a", "b", "c"], ["all"], axis=1)
    mean = helper.make_node("ReduceMean", ["all", "axes"], ["y"], keepdims=1)
    return onnx_models.model(
        [*nodes, joined, mean],
        [onnx_models.tensor("x", "FP32", (1, 3, "height", "width"))],
        [onnx_models.tensor("y", "FP32", (1, 1, "height", "width"))],
        [
            numpy_helper.from_array(np.array([1]), "axes"),
            *(numpy_helper.from_array(weight, f"w{at}") for at, weight in enumerate(weights)),
        ],
    )


def ask(server: Server, side: int) -> None:
    """A square image of ones, whose means are ones inside."""
    image = np.ones((1, 3, side, side), np.float32).tobytes()
    tensor = {
        "name": "x",
        "shape": [1, 3, side, side],
        "datatype": "FP32",
        "parameters": {"binary_data_size": len(image)},
    }
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    headers = {HEADER_LENGTH: str(len(head)), "content-type": OCTETS}
    answer = server.ask("POST", "/v2/models/m/infer", head + image, headers)
    assert answer.status == 200, answer.body
    found = np.frombuffer(answer.tail, np.float32).reshape(side, side)
    np.testing.assert_allclose(found[4:-4, 4:-4], 1.0, rtol=1e-5)


def resident(server: Server) -> int:
    """Bytes."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024


@pytest.mark.local
def test_memory_goes_back_after_images_of_changing_sizes(tmp_path: Path) -> None:
    """1.15 times, and what may be kept: without giving back it is three times as much."""
    with serving(onnx_models.write(tmp_path, {"m/1/model.onnx": layers()})) as server:
        ask(server, 64)
        before = resident(server)
        for side in SIDES:
            ask(server, side)
        assert resident(server) <= 1.15 * before + KEPT

"""An image of 1x3x224x224 from request bytes to an array, and the usual ways to do it, in turns: decoding.py KIND N.

KIND is json or binary. Prints samples in seconds by way.
"""

import json
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import orjson
from inferry.protocol import decoder
from inferry.protocol.signature import Known

SHAPE = (1, 3, 224, 224)
KNOWN = Known("m", ("image",), ())


def json_ways() -> Mapping[str, Callable[[], Any]]:
    """The image as JSON, doubles written in full."""
    values = np.random.default_rng(0).random(SHAPE)
    tensor = {"name": "image", "shape": SHAPE, "datatype": "FP32", "data": values.ravel().tolist()}
    body = orjson.dumps({"inputs": [tensor]})
    return {
        "inferry": lambda: decoder.decode(body, None, KNOWN).inputs["image"].array,
        "orjson": lambda: np.array(orjson.loads(body)["inputs"][0]["data"], "f4"),
    }


def binary_ways() -> Mapping[str, Callable[[], Any]]:
    """The image as a binary tensor."""
    values = np.random.default_rng(0).random(SHAPE, np.float32)
    parameters = {"binary_data_size": values.nbytes}
    tensor = {"name": "image", "shape": SHAPE, "datatype": "FP32", "parameters": parameters}
    header = orjson.dumps({"inputs": [tensor]})
    body, length = header + values.tobytes(), str(len(header)).encode()
    target = np.empty_like(values)
    return {
        "inferry": lambda: decoder.decode(body, length, KNOWN).inputs["image"].array,
        "memcpy": lambda: np.copyto(target, values),
        "fresh": lambda: values.copy(),
    }


def measure(ways: Mapping[str, Callable[[], Any]], count: int) -> dict[str, list[float]]:
    """Samples of each way, after one turn to warm up."""
    samples: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(1 + count):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            samples[name].append(time.perf_counter() - start)
    return {name: values[1:] for name, values in samples.items()}


if __name__ == "__main__":
    ways = {"json": json_ways, "binary": binary_ways}[sys.argv[1]]()
    print(json.dumps(measure(ways, int(sys.argv[2]))))

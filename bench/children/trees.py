"""A forest with one thread and with two: seconds of runs of so many rows, in turns."""

import json
import sys
import time

import numpy as np
from inferry.runtime.onnx_file import parse
from inferry.runtime.session import Session, SessionOptions
from skl2onnx import to_onnx
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier

TREES = 200


def main(rows: int, repetitions: int) -> None:
    pixels, labels = load_digits(return_X_y=True)
    pixels = pixels.astype(np.float32)
    forest = RandomForestClassifier(TREES, random_state=7).fit(pixels, labels)
    feed = {"X": np.resize(pixels, (rows, pixels.shape[1]))}
    onnx = to_onnx(forest, pixels[:1], options={"zipmap": False}).SerializeToString()
    file = parse(onnx, "model.onnx")
    sessions = {threads: Session(onnx, file, "forest", SessionOptions(threads, 0, threads)) for threads in (1, 2)}
    samples: dict[str, list[float]] = {"1": [], "2": []}
    for _ in range(repetitions):
        for threads, session in sessions.items():
            start = time.perf_counter()
            session.run(feed, list(session.signature.outputs), time.monotonic() + 60)
            samples[str(threads)].append(time.perf_counter() - start)
    json.dump(samples, sys.stdout)


main(int(sys.argv[1]), int(sys.argv[2]))

"""A batch job over JSON Lines with texts, and the loop that people write, in turns: lines.py KIND FOLDER N.

FOLDER holds the model in `models` and is there to write to. Prints seconds per row: of jobs as "inferry", of the loop
as "loop".
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from shutil import rmtree
from typing import Any

import numpy as np
import onnxruntime as ort
from inferry.jobs.runner import Job, run
from inferry.service import Service
from inferry.settings import Settings

ROWS = {"texts": 1_000_000, "newsline": 200_000, "mixed": 500_000}
AT_ONCE = 1000
WORDS = ("storm", "rain", "flood", "coast", "markets", "rise", "team", "wins", "final", "finds", "new", "planet", "to")


def lines(kind: str, count: int) -> Iterator[str]:
    """Texts of six words; mixed lines have three numbers too."""
    rng = np.random.default_rng(0)
    for _ in range(count):
        row: dict[str, Any] = {"text": " ".join(WORDS[at] for at in rng.integers(0, len(WORDS), 6))}
        if kind == "mixed":
            row |= {"a": round(rng.normal(), 3), "b": int(rng.integers(100)), "c": round(rng.random(), 4)}
        yield json.dumps(row) + "\n"


def loop(session: ort.InferenceSession, source: Path, target: Path) -> None:
    """json.loads of each line, session.run of some at a time, json.dumps of each row."""
    inputs = {node.name: object if "string" in node.type else np.float32 for node in session.get_inputs()}
    outputs = [node.name for node in session.get_outputs()]
    with source.open() as file, target.open("w") as results:

        def predict(rows: list[dict[str, Any]]) -> None:
            feed = {name: np.array([[row[name]] for row in rows], dtype) for name, dtype in inputs.items()}
            arrays = session.run(outputs, feed)
            for values in zip(*(array.tolist() for array in arrays), strict=True):
                results.write(json.dumps(dict(zip(outputs, values, strict=True))) + "\n")

        rows: list[dict[str, Any]] = []
        for line in file:
            rows.append(json.loads(line))
            if len(rows) == AT_ONCE:
                predict(rows)
                rows = []
        if rows:
            predict(rows)


def measure(kind: str, folder: Path, turns: int) -> dict[str, list[float]]:
    """Samples of both, after a turn to warm up. SystemExit when a row has no result."""
    count = ROWS[kind]
    service = Service.from_settings(Settings(model_path=str(folder / "models")))
    (name,) = service.repository.names()
    service.repository.get(name)
    session = ort.InferenceSession(next((folder / "models").glob("*/1/model.onnx")))
    source = folder / "rows.jsonl"
    with source.open("w") as file:
        file.writelines(lines(kind, count))

    def job() -> None:
        report = run(Job(input=str(source), output=f"{folder}/out/", model=name), service)
        if report.rows != count:
            raise SystemExit(f"{report.rows} of {count} rows have a result")

    ways: dict[str, Callable[[], object]] = {
        "inferry": job,
        "loop": lambda: loop(session, source, folder / "loop.jsonl"),
    }
    samples: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(1 + turns):
        rmtree(folder / "out", ignore_errors=True)
        for way, act in ways.items():
            start = time.perf_counter()
            act()
            samples[way].append((time.perf_counter() - start) / count)
    service.close()
    return {way: seconds[1:] for way, seconds in samples.items()}


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))))

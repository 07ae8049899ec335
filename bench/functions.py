"""The Functions app: a request through Microsoft's runtime library, and a start."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from .measure import MODELS, ROOT, microseconds, milliseconds, ratio, repository, run, say
from .peers.example import example, infer_body
from .start import CHILDREN, spend
from .table import Row, Target, unavailable

RUNTIME = ROOT / ".tools" / "azure"
STANDIN = ROOT / "tests" / "azure"
REQUEST, START = Target(1.25), Target(1.5)


def functions(quick: bool) -> Iterator[Row]:
    """The rows of p50 and of a start."""
    with repository("digits") as folder:
        environment = {**os.environ, "MODEL_PATH": str(folder), "INTRA_OP_THREADS": "1", "METRICS_SINKS": "prometheus"}
        yield from _request(80 if quick else 800, environment)
        yield from _start(5 if quick else 25, environment)


def _request(turns: int, environment: dict[str, str]) -> Iterator[Row]:
    name = "Functions app, 64 floats, p50"
    if not RUNTIME.exists():
        yield unavailable(name, "make .tools/azure/installed brings the runtime library", REQUEST)
        return
    say(f"functions: {turns} turns of requests, twice")
    path = {"PYTHONPATH": os.pathsep.join(map(str, (STANDIN, RUNTIME, ROOT)))}
    samples = json.loads(run((sys.executable, "-m", "bench.children.functions", str(turns)), environment | path))
    for what, way in ((name, ""), ("with 12 headers of a front end", "far ")):
        app, constant = samples[f"{way}app"], samples[f"{way}constant"]
        against = f"{microseconds(constant)} AsgiFunctionApp, constant answer"
        yield Row(what, microseconds(app), against, ratio(app, constant), REQUEST)


def _start(turns: int, environment: dict[str, str]) -> Iterator[Row]:
    say(f"functions: {turns} times two starts")
    values = ",".join(map(str, example()["inputs"][0]["data"]))
    alone = (sys.executable, str(CHILDREN / "functions_alone.py"), str(MODELS / "digits/2/model.onnx"), values)
    ours = (sys.executable, str(CHILDREN / "functions_first.py"), infer_body().decode())
    with TemporaryDirectory() as bytecode:
        environment = environment | {
            "PYTHONPATH": str(Path(ROOT)),
            "PYTHONPYCACHEPREFIX": bytecode,
            "OPENBLAS_NUM_THREADS": "1",
        }
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        for command in (ours, alone):
            spend(command, environment)  # compiles what it imports
        first, least = zip(*((spend(ours, environment), spend(alone, environment)) for _ in range(turns)), strict=True)
    for kind in ("cpu", "wall"):
        mine, theirs = ([getattr(start, kind) for start in starts] for starts in (first, least))
        against = f"{milliseconds(theirs)} azure.functions, numpy, onnxruntime"
        yield Row(f"Functions app, start, {kind}", milliseconds(mine), against, ratio(mine, theirs), START)

"""The Lambda function under AWS's runtime emulator: its init, and a warm invocation."""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from tests.helpers.emulator import EMULATOR, Emulator, emulated

from .measure import ROOT, ChildFailed, microseconds, milliseconds, ratio, repository, say
from .table import Row, Target

OURS, AWS = "functions", "awslambdaric"
# The handler, and the module that runs it: our image starts ours, all others start AWS's.
FUNCTIONS = {
    "ours": ("functions.api.handler", OURS),
    "bare": ("bench.peers.lambdas.bare.handler", AWS),
    "constant": ("bench.peers.lambdas.constant.handler", AWS),
    "constant over our client": ("bench.peers.lambdas.constant.handler", OURS),
    "least": ("bench.peers.lambdas.least.handler", AWS),
    "tutorial": ("bench.peers.lambdas.tutorial.handler", AWS),
}
# As much as buys one CPU.
MEMORY = 1769
INIT, WARM = Target(1.5), Target(1.15)
# Functions take turns of so many invocations: often enough to be slowed by the same things, and seldom enough to run in
# caches of their own, as they do where each has a machine for itself.
TURN = 25
EVENT = (ROOT / "events/http-api.json").read_bytes()


def init(quick: bool) -> Iterator[Row]:
    """Rows of what the emulator reports of the init."""
    pairs = 3 if quick else 15
    with prepared() as environment:
        say(f"init: {pairs} times three inits")
        names = ("ours", "bare", "tutorial")
        for name in names:
            started(name, environment)  # compiles what it imports
        samples = [[started(name, environment) for name in names] for _ in range(pairs)]
    ours, bare, tutorial = (list(column) for column in zip(*samples, strict=True))
    against = f"{milliseconds(bare)} numpy + onnxruntime, loaded and run"
    yield Row("Lambda init, digits", milliseconds(ours), against, ratio(ours, bare), INIT)
    yield Row("", milliseconds(ours), f"{milliseconds(tutorial)} FastAPI, pydantic, Mangum", ratio(ours, tutorial))


def warm(quick: bool) -> Iterator[Row]:
    """Rows of one request of 64 numbers in JSON, through the emulator."""
    turns = 12 if quick else 120
    names = ("ours", "constant", "constant over our client", "least", "tutorial")
    with prepared() as environment, ExitStack() as running:
        say(f"warm: {turns} times {TURN} invocations of five functions")
        functions = [running.enter_context(function(name, environment)) for name in names]
        for emulator in functions:
            turn(emulator)
        samples = [[turn(emulator) for emulator in functions] for _ in range(turns)]
    ours, constant, constant_over_ours, least, tutorial = (list(column) for column in zip(*samples, strict=True))
    against = f"{microseconds(constant)} a constant"
    yield Row("warm Lambda invocation, p50", microseconds(ours), against, ratio(ours, constant), WARM)
    yield Row("the least prediction, p50", microseconds(least), against, ratio(least, constant))
    against = f"{microseconds(constant_over_ours)} a constant over our client"
    yield Row("warm Lambda invocation, p50", microseconds(ours), against, ratio(ours, constant_over_ours))
    against = f"{microseconds(tutorial)} FastAPI, pydantic, Mangum"
    yield Row("warm Lambda invocation, p50", microseconds(ours), against, ratio(ours, tutorial))


def turn(emulator: Emulator) -> float:
    """Seconds of an invocation, the median of a turn."""
    return median(answered(emulator) for _ in range(TURN))


@contextmanager
def prepared() -> Iterator[dict[str, str]]:
    """The environment of all functions: the model, and a folder of its own for bytecode, as an image has it."""
    if not EMULATOR.exists():
        raise ChildFailed(f"{EMULATOR} is missing: make bench installs it")
    with repository("digits") as folder, TemporaryDirectory() as bytecode:
        yield {
            "MODEL_PATH": str(folder),
            "DEFAULT_MODEL": "digits",
            "PYTHONPYCACHEPREFIX": bytecode,
            "OPENBLAS_NUM_THREADS": "1",
        }


def function(name: str, environment: dict[str, str]) -> AbstractContextManager[Emulator]:
    """One of FUNCTIONS under the emulator."""
    handler, runtime = FUNCTIONS[name]
    return emulated(handler, Path(sys.executable), 30, MEMORY, runtime, **environment)


def started(name: str, environment: dict[str, str]) -> float:
    """Seconds of the init. ChildFailed when the first answer is none."""
    with function(name, environment) as emulator:
        answered(emulator)
        return emulator.init_ms / 1e3


def answered(emulator: Emulator) -> float:
    """Seconds of one invocation. ChildFailed unless its status is that of a success."""
    start = time.perf_counter()
    answer = emulator.invoke_raw(EVENT)
    took = time.perf_counter() - start
    if json.loads(answer).get("statusCode") not in (200, 204):
        raise ChildFailed(f"the function says {answer[:300].decode(errors='replace')}")
    return took

"""Prepared models beside plain ones: `inferry serve` from its start to a first prediction, its memory, its files."""

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import orjson

from .measure import ROOT, ChildFailed, ratio, run, say
from .table import Row, Target

FOLDER = ROOT / ".bench/prepared"
# Seconds that a start may take at most, whatever else runs, and between two looks.
LONGEST, SOON = 120.0, 0.002
TICKS = os.sysconf("SC_CLK_TCK")
MEGABYTE = 1e6


@dataclass(frozen=True)
class Spent:
    """Of a server's processes until their first prediction: seconds of CPU and of wall time; bytes then."""

    cpu: float
    wall: float
    private: float
    proportional: float


def prepared(quick: bool) -> Iterator[Row]:
    """All rows: the encoder, the convolutions, small models; memory of four workers; files; what is read first."""
    plain, ready = repositories()
    pairs = 3 if quick else 10
    for name, request in (("encoder", tokens(1, 8)), ("encoder", tokens(4, 32))):
        yield from starts(name, request, plain, ready, pairs)
    for name in ("encoder", "resnet"):
        yield four_workers(name, plain, ready, 1 if quick else 5)
    yield from sessions(plain, ready, pairs)
    for name in ("small", "forest", "lstm"):
        yield from small(name, plain, ready, 5 if quick else 30)
    yield from read_first(plain, ready)


def repositories() -> tuple[Path, dict[str, Path]]:
    """The plain models, and what was prepared of them for one process and for many; made once, into .bench."""
    say("prepared: models of 435 MB and less, made once")
    plain = FOLDER / "plain"
    plain.mkdir(parents=True, exist_ok=True)
    run((sys.executable, "-m", "bench.children.prepared_models", str(plain)), environment())
    ready = {"portable": FOLDER / "one", "native": FOLDER / "many"}
    for host, out in zip(("one", "many"), ready.values(), strict=True):
        command = (sys.executable, "-m", "inferry", "prepare", str(plain), str(out), "--for", host)
        say(run(command, environment()))
    return plain, ready


def environment() -> dict[str, str]:
    """One thread, and a cache that is kept from start to start."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    values = {"MODEL_CACHE_DIR": str(FOLDER / "cache"), "INTRA_OP_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    return {**kept, **values, "PYTHONPYCACHEPREFIX": str(FOLDER / "bytecode"), "PYTHONPATH": str(ROOT)}


@contextmanager
def alone(folder: Path, name: str) -> Iterator[Path]:
    """A repository that shows one model of another: a server loads all that it finds."""
    shown = FOLDER / "shown" / f"{folder.name}-{name}"
    shown.mkdir(parents=True, exist_ok=True)
    (shown / name).mkdir(exist_ok=True)
    for path in (folder / name).rglob("*"):
        target = shown / name / path.relative_to(folder / name)
        if path.is_dir():
            target.mkdir(exist_ok=True)
        elif not target.exists():
            target.hardlink_to(path)
    yield shown


def tokens(rows: int, length: int) -> bytes:
    """A request to the encoder."""
    values = [(number * 131) % 3000 + 1 for number in range(rows * length)]
    tensor = {"name": "input_ids", "shape": [rows, length], "datatype": "INT64", "data": values}
    return orjson.dumps({"inputs": [tensor]})


def numbers(*shape: int) -> bytes:
    """A request to one of the others."""
    count = 1
    for length in shape:
        count *= length
    tensor = {"name": "x", "shape": shape, "datatype": "FP32", "data": [number % 17 / 16 for number in range(count)]}
    return orjson.dumps({"inputs": [tensor]})


REQUESTS = {
    "resnet": numbers(1, 3, 224, 224),
    "small": numbers(1, 64),
    "forest": numbers(1, 64).replace(b'"x"', b'"X"'),
    "lstm": numbers(8, 1, 256),
}


def serve(folder: Path, name: str, request: bytes, workers: int = 1) -> Spent:
    """Starts a server, predicts once, and ends it."""
    with alone(folder, name) as shown:
        command = [sys.executable, "-m", "inferry", "serve", str(shown), "--port", "0", "--workers", str(workers)]
        start = time.perf_counter()
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
        process = subprocess.Popen(command, cwd=ROOT, env=environment(), **pipes)  # type: ignore[call-overload]
        try:
            line = process.stdout.readline()
            found = re.search(r"at http://127\.0\.0\.1:(\d+)", line)
            if not found:
                raise ChildFailed(f"inferry serve {shown} said {line!r}")
            port = int(found[1])
            predict(port, name, request)
            wall = time.perf_counter() - start
            if workers > 1:
                wait_for_loads(port, workers, name, request)
            return spent(processes(process.pid), wall)
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(LONGEST)
            process.stdout.close()


def predict(port: int, name: str, request: bytes) -> None:
    """ChildFailed when it is not answered."""
    deadline = time.monotonic() + LONGEST
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LONGEST)
        try:
            connection.request("POST", f"/v2/models/{name}/infer", request, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            body = answer.read()
            if answer.status != 200:
                raise ChildFailed(f"{name}: {answer.status} {body[:300]!r}")
            return
        except ConnectionError as exc:
            if time.monotonic() > deadline:
                raise ChildFailed(f"{name}: no answer on port {port}") from exc
            time.sleep(SOON)
        finally:
            connection.close()


def wait_for_loads(port: int, workers: int, name: str, request: bytes) -> None:
    """Until each of several processes has the model, and has run it."""
    deadline = time.monotonic() + LONGEST
    while time.monotonic() < deadline:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LONGEST)
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        connection.close()
        loads = re.findall(
            rf'^inferry_model_loads_total{{model="{name}",version="1",outcome="success".*}} 1$', text, re.M
        )
        if len(loads) >= workers:
            for _ in range(8 * workers):
                predict(port, name, request)
            return
        time.sleep(0.1)
    raise ChildFailed(f"not all of {workers} workers loaded {name}")


def processes(parent: int) -> list[int]:
    """A process and those that it started."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [parent, *(found for child in children for found in processes(int(child)))]


def spent(pids: Sequence[int], wall: float) -> Spent:
    """What the processes have spent and hold now."""
    cpu = private = proportional = 0.0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        cpu += (int(fields[11]) + int(fields[12])) / TICKS
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            key, _, value = line.partition(":")
            if key == "Private_Dirty":
                private += int(value.split()[0]) * 1024
            elif key == "Pss":
                proportional += int(value.split()[0]) * 1024
    return Spent(cpu, wall, private, proportional)


def starts(name: str, request: bytes, plain: Path, ready: dict[str, Path], pairs: int) -> Iterator[Row]:
    """Process start to first prediction, in turns."""
    value = json.loads(request)["inputs"][0]["shape"]
    say(f"prepared: {pairs} times three starts with {name}, {value}")
    ways = {"plain": plain, **ready}
    found: dict[str, list[Spent]] = {way: [] for way in ways}
    for turn in range(pairs + 1):
        for way, folder in ways.items():
            server = serve(folder, name, request)
            if turn:  # the first fills the caches
                found[way].append(server)
    targets = {
        ("portable", "cpu"): Target(0.60),
        ("native", "cpu"): Target(0.42),
        ("native", "private"): Target(0.14),
    }
    for way in ready:
        for kind in ("cpu", "wall", "private"):
            ours, theirs = ([getattr(each, kind) for each in found[side]] for side in (way, "plain"))
            target = targets.get((way, kind)) if value == [1, 8] else None
            what = f"{name} {value[0]}x{value[1]}, {way}, {LABELS[kind]}"
            yield Row(what, shown(kind, ours), f"{shown(kind, theirs)} plain", ratio(ours, theirs), target)


LABELS = {"cpu": "start to answer, CPU", "wall": "start to answer, wall", "private": "private memory"}


def shown(kind: str, values: Sequence[float]) -> str:
    """The median."""
    return f"{median(values) / MEGABYTE:.0f} MB" if kind == "private" else f"{median(values):.2f} s"


def four_workers(name: str, plain: Path, ready: dict[str, Path], pairs: int) -> Row:
    """Memory of four processes over one model, each page divided among those that have it."""
    say(f"prepared: {pairs} times four workers over {name}, two ways")
    request = tokens(1, 8) if name == "encoder" else REQUESTS[name]
    ours, theirs = [], []
    for _ in range(pairs):
        theirs.append(serve(plain, name, request, 4).proportional)
        ours.append(serve(ready["native"], name, request, 4).proportional)
    against = f"{median(theirs) / MEGABYTE:.0f} MB plain"
    what = f"{name}, native, four workers, proportional memory"
    return Row(what, f"{median(ours) / MEGABYTE:.0f} MB", against, ratio(ours, theirs), Target(0.26))


def form_of(repository: Path, name: str, kind: str) -> Path | None:
    """The ONNX file of a form, None where it was not kept."""
    return next((repository / name / "1").glob(f"{kind}-*/model.onnx"), None)


def session(onnx: Path, level: str, *more: str) -> dict[str, float]:
    """What ONNX Runtime alone takes."""
    said: dict[str, float] = json.loads(
        run((sys.executable, "-m", "bench.children.prepared", str(onnx), level, *more), environment())
    )
    return said


def sessions(plain: Path, ready: dict[str, Path], pairs: int) -> Iterator[Row]:
    """Sessions of ONNX Runtime alone over the same files, and how large these are."""
    for name in ("encoder", "resnet", "perceptron"):
        original = plain / name / "1/model.onnx"
        forms = {kind: onnx for kind in ready if (onnx := form_of(ready["native"], name, kind))}
        say(f"prepared: {pairs} times {len(forms) + 1} sessions over {name}")
        found: dict[str, list[dict[str, float]]] = {kind: [] for kind in ("plain", *forms)}
        for _ in range(pairs):
            found["plain"].append(session(original, "all"))
            for kind, onnx in forms.items():
                found[kind].append(session(onnx, "none" if kind == "native" else "all"))
        for kind, onnx in forms.items():
            for what in ("cpu", "wall", "private"):
                ours, theirs = ([each[what] for each in found[side]] for side in (kind, "plain"))
                target = SESSION_TARGETS.get((name, kind, what))
                label = f"{name}, {kind}, ONNX Runtime alone, {SESSION[what]}"
                yield Row(label, shown(what, ours), f"{shown(what, theirs)} plain", ratio(ours, theirs), target)
            size = sum(path.stat().st_size for path in onnx.parent.iterdir())
            whole = original.stat().st_size
            most = Target(1.10) if name == "resnet" else Target(2.1)
            bytes_of = f"{size / MEGABYTE:.0f} MB", f"{whole / MEGABYTE:.0f} MB plain"
            yield Row(f"{name}, {kind}, files", *bytes_of, size / whole, most if kind == "native" else None)


SESSION_TARGETS = {("resnet", "native", "cpu"): Target(0.10), ("encoder", "native", "wall"): Target(0.35)}
SESSION = {"cpu": "load, CPU", "wall": "load and first run, wall", "private": "private memory"}


def small(name: str, plain: Path, ready: dict[str, Path], pairs: int) -> Iterator[Row]:
    """What there is nothing to win for: it must not lose."""
    say(f"prepared: {pairs} times two starts with {name}")
    ours, theirs = [], []
    for turn in range(pairs + 1):
        pair = [serve(folder, name, REQUESTS[name]) for folder in (ready["native"], plain)]
        if turn:
            ours.append(pair[0].cpu)
            theirs.append(pair[1].cpu)
    value = median(ours) / median(theirs)
    yield Row(f"{name}, start to answer, CPU", shown("cpu", ours), f"{shown('cpu', theirs)} plain", value, Target(1.05))
    sizes = [sum(path.stat().st_size for path in served(folder, name)) for folder in (ready["native"], plain)]
    texts = f"{sizes[0] / MEGABYTE:.2f} MB", f"{sizes[1] / MEGABYTE:.2f} MB plain"
    yield Row(f"{name}, files that are loaded", *texts, sizes[0] / sizes[1], Target(1.02))


def served(repository: Path, name: str) -> list[Path]:
    """The files of what is loaded here."""
    for kind in ("native", "portable", "original"):
        if onnx := form_of(repository, name, kind):
            return list(onnx.parent.iterdir())
    return [repository / name / "1/model.onnx"]


def read_first(plain: Path, ready: dict[str, Path]) -> Iterator[Row]:
    """Bytes that come from a disk before the first answer, when the system holds none."""
    for name in ("encoder", "resnet"):
        original = plain / name / "1/model.onnx"
        before: Any = session(original, "all", "cold")["read"]
        for kind in ready:
            if onnx := form_of(ready["native"], name, kind):
                read = session(onnx, "none" if kind == "native" else "all", "cold")["read"]
                texts = f"{read / MEGABYTE:.0f} MB", f"{before / MEGABYTE:.0f} MB plain"
                yield Row(f"{name}, {kind}, read before the first answer", *texts, read / before)

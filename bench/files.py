"""Rows a second of batch jobs, by format, against the least work; and of `mlserver infer` over the same requests."""

import subprocess
import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from inferry.jobs.runner import Job, run
from inferry.service import Service
from inferry.settings import Settings

from .measure import MODELS, ratio, repository, sample, say
from .peers.errors import PeerError, Unavailable, tail
from .peers.example import infer_body
from .peers.servers import PEERS, free_port, serve
from .rps import versions
from .table import Row, Target, unavailable

DIGITS = Target(0.9, at_least=True)
ENCODER = {
    ".npy": Target(0.8, at_least=True),
    ".parquet": Target(0.8, at_least=True),
    ".csv": Target(0.6, at_least=True),
    ".jsonl": Target(0.6, at_least=True),
}
AGAINST = {"plain": "read at once, run at once", "session": "runs over arrays in memory"}
MLSERVER = Target(5, at_least=True)
# A process keeps its luck with memory and threads as long as it lives: a job over digits takes up to 7 % more in some.
PROCESSES = {"digits": 10, "encoder": 1}
TURNS = {"digits": 9, "encoder": 5}


def files(quick: bool) -> Iterator[Row]:
    """A row for each model and format, and the one of MLServer."""
    for model, other in (("digits", "plain"), ("encoder", "session")):
        for suffix, target in ENCODER.items():
            say(f"files: {model}, {suffix}")
            with repository(model) as models, TemporaryDirectory() as folder:
                many = range(1 if quick else PROCESSES[model])
                samples = [sample("files", models, folder, suffix, 3 if quick else TURNS[model]) for _ in many]
            ours, theirs = (list(chain.from_iterable(some[way] for some in samples)) for way in ("inferry", other))
            against = f"{1 / median(theirs):,.0f} /s {AGAINST[other]}"
            what = f"rows/s of {model} from {suffix}"
            yield Row(
                what,
                f"{1 / median(ours):,.0f} /s",
                against,
                ratio(theirs, ours),
                DIGITS if other == "plain" else target,
            )
    yield from requests(1_000 if quick else 3_000, 1 if quick else 3)


def requests(count: int, rounds: int) -> Iterator[Row]:
    """A file of requests of the protocol, one image each."""
    what = f"{count} requests of the protocol in JSONL"
    with TemporaryDirectory() as folder:
        path = Path(folder, "requests.jsonl")
        path.write_bytes((infer_body() + b"\n") * count)
        try:
            samples = [(ours(path, number), theirs(path)) for number in range(rounds)]
        except PeerError as exc:
            yield unavailable(what, str(exc), MLSERVER)
            return
    us, them = zip(*samples, strict=True)
    against = f"{count / median(them):,.0f} /s {versions(PEERS['mlserver'])}, mlserver infer"
    yield Row(what, f"{count / median(us):,.0f} /s", against, ratio(them, us), MLSERVER)


def ours(path: Path, number: int) -> float:
    """Seconds of a job, its model loaded as the server's is."""
    service = Service.from_settings(Settings(model_path=str(MODELS), intra_op_threads=1))
    service.repository.get("digits")
    start = time.perf_counter()
    report = run(Job(input=str(path), output=f"{path.parent}/ours-{number}/", model="digits"), service)
    seconds = time.perf_counter() - start
    service.close()
    if report.errors:
        raise Unavailable(f"{report.errors} errors of ours")
    return seconds


def theirs(path: Path) -> float:
    """Seconds that MLServer's client says it took against MLServer's server, both ready."""
    peer, port = PEERS["mlserver"], free_port()
    out = path.with_name("theirs.jsonl")
    with serve(peer, port, 0):
        say("files: mlserver infer")
        command = (str(peer.venv / "bin/mlserver"), "infer", "-u", f"127.0.0.1:{port}", "-m", "digits")
        start = time.perf_counter()
        done = subprocess.run((*command, "-i", str(path), "-o", str(out)), capture_output=True, text=True)
        seconds = time.perf_counter() - start
    if done.returncode or not out.exists():
        raise Unavailable(f"mlserver infer failed: {tail(done.stdout + done.stderr, 1)}")
    answered, asked = (sum(1 for _ in file.open()) for file in (out, path))
    if answered != asked:
        raise Unavailable(f"mlserver infer answered {answered} of {asked} requests")
    return seconds

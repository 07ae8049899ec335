"""The first job of a process, over 10,000 rows, and the proof of its model's rows in it: rows.py MODELS.

Prints seconds of both. The start of the process belongs to the job: a model has to prove its rows once in a process at
most, and in none that finds the verdict of another.
"""

import time

STARTED = time.perf_counter()

# ruff: noqa: E402
import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from inferry.jobs.runner import Job, run
from inferry.protocol.signature import Feed
from inferry.runtime.row_proof import RowProof
from inferry.service import Service
from inferry.settings import Settings

COUNT = 10_000
TOKENS = 16


class TimedProof(RowProof):
    """Keeps the seconds of the call that asks the model."""

    seconds = 0.0

    def joins(self, feed: Feed, deadline: float) -> bool:
        start = time.perf_counter()
        joins = super().joins(feed, deadline)
        self.seconds = self.seconds or time.perf_counter() - start
        return joins


def measure(models: str) -> dict[str, list[float]]:
    """One sample of each."""
    service = Service.from_settings(Settings(model_path=models))
    (name,) = service.repository.names()
    model = service.repository.get(name)
    model.row_proof = proof = TimedProof(model.session, model.digest, joined=False)
    (spec,) = model.session.signature.inputs.values()
    width = spec.stated[-1] if spec.is_fixed else TOKENS
    values = np.random.default_rng(0).integers(1, 17, (COUNT, width)).astype(spec.datatype.dtype)
    with TemporaryDirectory() as folder:
        np.save(Path(folder, "x.npy"), values)
        run(Job(input=f"{folder}/x.npy", output=f"{folder}/out/", model=name), service)
        job = time.perf_counter() - STARTED
    service.close()
    return {"proof": [proof.seconds], "job": [job]}


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1])))

"""Proofs of a model's rows and jobs over 10,000 of them, in turns: rows.py MODELS N. Prints seconds of each."""

import json
import sys
import time
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory

import numpy as np
from inferry.jobs.runner import Job, run
from inferry.runtime.row_proof import RowProof
from inferry.service import Service
from inferry.settings import Settings

COUNT = 10_000
# Rows of a job's first block.
FIRST = 64
TOKENS = 16


def measure(models: str, turns: int) -> dict[str, list[float]]:
    """Samples of both, after a turn to warm up."""
    service = Service.from_settings(Settings(model_path=models))
    (name,) = service.repository.names()
    model = service.repository.get(name)
    ((input_name, spec),) = model.session.signature.inputs.items()
    width = spec.stated[-1] if spec.is_fixed else TOKENS
    values = np.random.default_rng(0).integers(1, 17, (COUNT, width)).astype(spec.datatype.dtype)
    samples: dict[str, list[float]] = {"proof": [], "job": []}
    with TemporaryDirectory() as folder:
        np.save(Path(folder, "x.npy"), values)
        job = Job(input=f"{folder}/x.npy", output=f"{folder}/out/", model=name)
        for _ in range(1 + turns):
            rmtree(Path(folder, "out"), ignore_errors=True)
            proof = RowProof(model.session, model.digest, joined=False)
            start = time.perf_counter()
            proof.joins({input_name: values[:FIRST]}, time.monotonic() + 60)
            proven = time.perf_counter()
            run(job, service)
            samples["proof"].append(proven - start)
            samples["job"].append(time.perf_counter() - proven)
    service.close()
    return {what: seconds[1:] for what, seconds in samples.items()}


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], int(sys.argv[2]))))

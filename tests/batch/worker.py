"""A process that does the jobs it is told, one by one, until it is killed."""

import os
from collections.abc import Mapping
from multiprocessing.connection import Connection

from inferry.errors import InferryError
from inferry.jobs import part_writer
from inferry.jobs.runner import Job, run
from inferry.service import Service
from inferry.settings import Settings
from inferry.storage import bucket  # noqa: F401


def work(pipe: Connection, models: str, environment: Mapping[str, str]) -> None:
    """Answers each job with "" or with why it failed."""
    os.environ.update(environment)
    # Files so small have more than one part only then.
    part_writer.PART_BYTES = 400
    service = Service.from_settings(Settings(model_path=models, intra_op_threads=1))
    service.preload()
    while True:
        source, target = pipe.recv()
        try:
            run(Job(input=source, output=target, model="row", keep=("id",)), service)
        except InferryError as exc:
            pipe.send(f"{type(exc).__name__}: {exc}")
        else:
            pipe.send("")

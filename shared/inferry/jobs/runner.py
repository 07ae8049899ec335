"""Batch jobs: a file in, its results out, every row once; what was done is not done again."""

import logging
import math
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from itertools import takewhile

from inferry.errors import InvalidFile
from inferry.jobs import constants, file_names, image_files, kept_names
from inferry.jobs.formats.blocks import Cursor, Pace
from inferry.jobs.job import Job, Slice, check_columns, target
from inferry.jobs.job_run import JobRun, expected
from inferry.jobs.part_writer import Progress
from inferry.jobs.report import Report
from inferry.runtime.model import Model
from inferry.service import Service
from inferry.settings import Settings

__all__ = ["Job", "Slice", "borders", "check", "cut", "run", "target"]

log = logging.getLogger("inferry")

# Rows by which the size of all others is estimated.
FEW = 64


def run(
    job: Job,
    service: Service,
    *,
    until: float | None = None,
    progress: Callable[[Progress], None] | None = None,
    attempt: int = 1,
) -> Report:
    """The report of the job, done now or before. With `until` (time.monotonic) an unfinished one when time is short.

    `attempt`: which one this is; those before it were ended by whoever runs the job, perhaps in the middle of a block.
    From the second on blocks are small, and what was done is kept every second.

    InvalidFile, TooManyErrors, NotSupported, ModelNotFound, ModelUnavailable, StoreError and others of ours; JobFailed
    for what nobody expected. What a run that was killed had done is not done again, and of two runs at a time both
    give the same results.
    """
    with expected(job):
        try:
            file_names.check_input(job.input)
            model = service.repository.get(service.default_model(job.model), job.version)
        except InvalidFile:  # a folder, which may be one of images
            model = service.repository.get(service.default_model(job.model), job.version)
            if not image_files.are_meant(job.input, model):
                raise
        with model.in_use(), _traced(job, model, service.settings) as ended:
            work = JobRun(job, model, service)
            report = work.earlier() or work.run(until, progress or (lambda _: None), attempt)
            ended(report.state, report.rows, report.errors)
            return report


def check(job: Job, service: Service) -> None:
    """InvalidRequest for what is wrong with a job whatever its file holds."""
    if job.keep or job.columns or job.constants:
        model = service.repository.get(service.default_model(job.model), job.version)
        model = constants.bind(model, job.constants)
        kept_names.columns(job.keep, model)
        check_columns(job, model)


def borders(job: Job, service: Service, rows: int) -> list[Slice]:
    """The file in slices of about `rows` rows, for jobs that share it."""
    model = service.repository.get(service.default_model(job.model), job.version)
    work = JobRun(job, model, service)
    with work.opened() as file:
        return _slices(work.reader(file, Pace(rows)).borders(rows))


def cut(job: Job, service: Service, size: int, until: float = math.inf) -> list[Slice]:
    """The file in slices of about `size` bytes; none where it is smaller, done, or can't be read from its middle.

    At `until` (time.monotonic) what is left of it becomes one slice.
    """
    with expected(job):
        file_names.check_input(job.input)
        model = service.repository.get(service.default_model(job.model), job.version)
        work = JobRun(job, model, service)
        if not work.is_worth_cutting(size) or work.earlier():
            return []
        with work.opened() as file:
            reader = work.reader(file, Pace(FEW))
            first = next(reader.borders(FEW), None)
            if first is None:
                return []
            rows = max((reader.total or first.row) * size // (work.size if reader.total else first.offset), 1)
            return _slices(takewhile(lambda _: time.monotonic() < until, reader.borders(rows)))


def _slices(borders: Iterable[Cursor]) -> list[Slice]:
    found = [Cursor(), *borders]
    return [Slice(start, stop.row if stop else None) for start, stop in zip(found, [*found[1:], None], strict=True)]


def _traced(job: Job, model: Model, settings: Settings) -> AbstractContextManager[Callable[[str, int, int], None]]:
    """With TRACES, a span for the block, which says what came of the job."""
    if not settings.traces:
        return nullcontext(lambda state, rows, errors: None)
    from inferry.observability.traces import tracer

    return tracer(settings).job(job.input, model.name, model.version)

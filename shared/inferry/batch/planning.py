"""What `inferry batch` and runs of many files do: which files, each with its results' place, and which are cut."""

import math
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from inferry import jobs
from inferry.batch import formats
from inferry.batch.files import keep_apart, open_files, split
from inferry.batch.runs import Plan, Run
from inferry.errors import InferryError, InvalidRequest
from inferry.jobs import Job, Slice
from inferry.service import Service

SLICE_BYTES = 64 << 20


def files(job: Job) -> Iterator[Job]:
    """A job for each file of one whose input and output may be folders.

    InvalidRequest when there are none, or when the results would be read as input again.
    """
    if not _is_folder(job.input):
        target = f"{job.output}/" if _is_folder(job.output) and not job.output.endswith("/") else job.output
        yield replace(job, output=target)
        return
    keep_apart(job.input, job.output)
    source = f"{job.input.rstrip('/')}/"
    paths = [file.path for file in open_files(source).list()]
    chosen = [path for path in paths if job.format or formats.of_file(path)]
    if not chosen:
        raise InvalidRequest(f"no files to predict in {job.input}: {len(paths)} files, none with a known extension")
    for path in chosen:
        folder, _ = split(path)
        yield replace(job, input=f"{source}{path}", output=f"{job.output.rstrip('/')}/{folder}")


def plan(
    job: Job,
    service: Service,
    run: Run,
    *,
    slice_bytes: int = SLICE_BYTES,
    until: float = math.inf,
    check: Callable[[Job], Job] = lambda job: job,
) -> Plan:
    """Writes the run's jobs; `check` fills in what a job leaves open. Cutting large files ends at `until`.

    As `files`, and StoreError. What is wrong with one file is said by its own job.
    """

    def planned() -> Iterator[tuple[dict[str, Any], str, list[Any]]]:
        for each in files(job):
            try:
                checked = check(each)
                parts = jobs.cut(checked, service, slice_bytes, until)
            except InferryError:
                checked, parts = each, []
            yield described(checked), jobs.target(checked), [_part(part) for part in parts]

    return run.write(planned())


def described(job: Job) -> dict[str, Any]:
    """The job as a message says it."""
    given = {item.name: getattr(job, item.name) for item in fields(job) if getattr(job, item.name) != item.default}
    return given | {"part": _part(job.part)} if job.part else given


def _part(part: Slice) -> dict[str, Any]:
    return {"start": [*part.start], "stop": part.stop}


def _is_folder(url: str) -> bool:
    """Whether a URL or a path names a folder: it ends with "/", is one, or has no extension that says otherwise."""
    if url.endswith("/"):
        return True
    if "://" not in url:
        return Path(url).is_dir()
    folder, name = split(url)
    return formats.of_file(name) is None and open_files(folder).stat(name) is None

"""What `inferry batch` and runs of many files do: which files, each with its results' place, and which are cut."""

import math
from collections.abc import Callable, Iterator
from contextlib import suppress
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
    return (each for each, _ in _sized(job))


def _sized(job: Job) -> Iterator[tuple[Job, int | None]]:
    """The same with the size of each file, where a listing has said it."""
    if not _is_folder(job.input):
        target = f"{job.output}/" if _is_folder(job.output) and not job.output.endswith("/") else job.output
        yield replace(job, output=target), None
        return
    keep_apart(job.input, job.output)
    source = f"{job.input.rstrip('/')}/"
    found = open_files(source).list()
    chosen = [file for file in found if job.format or formats.of_file(file.path)]
    if not chosen:
        raise InvalidRequest(f"no files to predict in {job.input}: {len(found)} files, none with a known extension")
    for file in chosen:
        folder, _ = split(file.path)
        yield replace(job, input=f"{source}{file.path}", output=f"{job.output.rstrip('/')}/{folder}"), file.size


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
        for each, size in _sized(job):
            checked, parts = each, list[Slice]()
            with suppress(InferryError):
                checked = check(each)
                # Asking the store for each of many small files would take longer than listing them all.
                if size is None or size > slice_bytes:
                    parts = jobs.cut(checked, service, slice_bytes, until)
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

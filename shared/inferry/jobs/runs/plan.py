"""What `inferry batch` and runs of many files do: which files, each with its results' place, and which are cut."""

import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from inferry.errors import InferryError, InvalidRequest, StoreError
from inferry.jobs import file_names, patterns, runner
from inferry.jobs.formats import formats
from inferry.jobs.runner import Job, Slice
from inferry.jobs.runs.run import Plan, Run
from inferry.runtime.images import ENDINGS
from inferry.service import Service
from inferry.storage.files import is_inside, keep_apart, open_files, split

SLICE_BYTES = 64 << 20


def files(job: Job) -> Iterator[Job]:
    """A job for each file of one whose input and output may be folders.

    InvalidRequest when there are none, or when the results would be read as input again.
    """
    return (each for each, _ in _sized(job))


def _sized(job: Job) -> Iterator[tuple[Job, int | None]]:
    """The same with the size of each file, where a listing has said it."""
    base, pattern = patterns.split(job.input)
    if pattern:
        yield from _matching(job, base, pattern)
        return
    if not is_folder(job.input):
        yield replace(job, output=as_folder(job.output)), None
        return
    keep_apart(job.input, job.output)
    source, output = f"{job.input.rstrip('/')}/", f"{job.output.rstrip('/')}/"
    found = open_files(source).scan()
    tables = file_names.tables(found, source)
    if table := tables.get("") or file_names.table_of(source):
        raise table.refuse()
    for folder in tables:
        yield replace(job, input=f"{source}{folder}", output=f"{output}{folder}"), 0
    is_below = is_inside(job.input, job.output)
    count, is_empty = 0, not tables
    for file in found:
        count += 1
        if not _is_chosen(file.path, job.format, tuple(tables)):
            continue
        is_empty = False
        folder, _ = split(file.path)
        if is_below:
            keep_apart(job.input, f"{output}{folder}")
        # Where the output of one run is the input of the next, its results are meant.
        if not _is_own(f"{source}{file.path}"):
            yield replace(job, input=f"{source}{file.path}", output=f"{output}{folder}"), file.size
    if is_empty:
        has_images = any(file.path.lower().endswith(ENDINGS) for file in found)
        hint = "; images are for a model whose config.json has 'preprocess'" if has_images else ""
        raise InvalidRequest(f"no files to predict in {job.input}: {count} files, none with a known extension{hint}")


def _matching(job: Job, base: str, pattern: str) -> Iterator[tuple[Job, int | None]]:
    """The files that a pattern finds, whatever their extensions are: * and ? stop at "/", and ** doesn't."""
    output = f"{job.output.rstrip('/')}/"
    keep_apart(base, output)
    found = open_files(base).scan()
    tables = file_names.tables(found, base)
    is_meant = patterns.compiled(pattern)
    count, is_empty = 0, True
    for file in found:
        count += 1
        if not is_meant.fullmatch(file.path) or file_names.is_mark(file.path):
            continue
        is_empty = False
        if table := next((tables[folder] for folder in tables if file.path.startswith(folder)), None):
            raise table.refuse()
        folder, _ = split(file.path)
        if not _is_own(f"{base}{file.path}"):
            yield replace(job, input=f"{base}{file.path}", output=f"{output}{folder}"), file.size
    if is_empty:
        raise InvalidRequest(f"no files to predict: none of the {count} below {base} is called {pattern}")


def _is_own(url: str) -> bool:
    with suppress(StoreError):
        return file_names.is_own(url)
    return False


def _is_chosen(path: str, given: str, tables: tuple[str, ...]) -> bool:
    """Whether a file is of a known format, and no table's or mark of other tools."""
    is_known = bool(given or formats.of_file(path))
    return is_known and not path.startswith(tables) and not file_names.is_mark(path)


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
                    parts = runner.cut(checked, service, slice_bytes, until)
            yield described(checked), runner.target(checked), [_part(part) for part in parts]

    return run.write(planned())


def described(job: Job) -> dict[str, Any]:
    """The job as the JSON object of a message."""
    given = {item.name: getattr(job, item.name) for item in fields(job) if getattr(job, item.name) != item.default}
    return given | {"part": _part(job.part)} if job.part else given


def _part(part: Slice) -> dict[str, Any]:
    return {"start": [*part.start], "stop": part.stop}


def is_several(url: str) -> bool:
    """Whether a URL or a path stands for the files of a folder or of a pattern."""
    return bool(patterns.split(url)[1]) or is_folder(url)


def as_folder(url: str) -> str:
    """The URL, with a "/" at its end if it names a folder."""
    return f"{url}/" if is_folder(url) and not url.endswith("/") else url


def is_folder(url: str) -> bool:
    """Whether a URL or a path names a folder: it ends with "/", is one, or has no extension that says otherwise."""
    if url.endswith("/"):
        return True
    if "://" not in url:
        return Path(url).is_dir()
    folder, name = split(url)
    return formats.of_file(name) is None and open_files(folder).stat(name) is None

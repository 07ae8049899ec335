"""`inferry batch`: the jobs of a file or a folder, their progress, and a summary."""

import json
import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO, TextIO

from inferry.cli.progress import Display
from inferry.errors import InferryError, InvalidRequest
from inferry.jobs import image_files, preview, runner
from inferry.jobs.report import Report
from inferry.jobs.runner import Job
from inferry.jobs.runs import plan, snapshots
from inferry.service import Service
from inferry.storage.files import kept_folder, split

STREAM = "-"


@dataclass(slots=True)
class Summary:
    """How many files of a run have results, how many failed, and the rows and errors of all."""

    reports: list[Report]
    """The reports of all files that are finished."""
    failed: list[tuple[str, str]]
    """Files without results, and why."""

    def as_dict(self) -> dict[str, Any]:
        """The members of what `inferry batch --json` prints: totals, and each file with or without results."""
        return {
            "rows": sum(report.rows for report in self.reports),
            "errors": sum(report.errors for report in self.reports),
            "seconds": round(sum(report.seconds for report in self.reports), 3),
            "files": [asdict(report) for report in self.reports if not report.failure],
            "failed": [{"input": name, "reason": reason} for name, reason in self.failed],
        }


def run(job: Job, service: Service, display: Display, snapshot: str = "") -> Summary:
    """Runs `job`, whose input and output may be folders, file by file; one that fails doesn't stop the others.

    `snapshot`: of an input that is a table, as `snapshots.exported` has it.
    """
    found = list(_files(snapshots.exported(job, snapshot), service))
    runner.check(job, service)
    summary = Summary([], [])
    display.files = len(found)
    for folder, jobs in groupby(found, lambda each: split(each.output)[0]):
        with kept_folder(folder):
            for each in jobs:
                _run_one(each, service, display, summary)
    return summary


def _run_one(job: Job, service: Service, display: Display, summary: Summary) -> None:
    display.start(job.input)
    try:
        report = runner.run(job, service, progress=display.show)
    except InferryError as exc:
        _failed(job, str(exc), summary, display)
        return
    summary.reports.append(report)
    if report.failure:
        _failed(job, report.failure, summary, display)
    else:
        display.done(report.rows, report.errors, report.seconds)


def dry_run(job: Job, service: Service, target: TextIO) -> bool:
    """Says how each file would be read, and what of it is refused; False when a file is. Nothing is written."""
    good = True
    for each in _files(job, service):
        try:
            said = preview.preview(each, service)
        except InferryError as exc:
            said, good = [f"refused: {exc}"], False
        target.write(f"{each.input}\n" + "".join(f"  {line}\n" for line in said))
    return good


def _files(job: Job, service: Service) -> Iterable[Job]:
    """A job for each file of `job`; one for all images of a folder, if the model takes such."""
    images = _images(job, service)
    return plan.files(job) if images is None else [replace(images, output=plan.as_folder(images.output))]


def _images(job: Job, service: Service) -> Job | None:
    if not plan.is_several(job.input):
        return None
    return image_files.of_folder(job, service.repository.get(service.default_model(job.model), job.version))


def run_streams(job: Job, service: Service, source: BinaryIO, target: BinaryIO, said: TextIO) -> bool:
    """Runs `job` to the standard output, and from the standard input if that is its input; False when it has failed.

    What comes is read to its end first, as some formats have to be. Errors and a summary go to `said`, a line of JSON
    each; there is no report, and a run that was ended begins anew.
    """
    with TemporaryDirectory(prefix="inferry-") as folder:
        copy = f"{folder}/standard input"
        if job.input == STREAM:
            if not job.format:
                raise InvalidRequest("standard input has no extension that says its format: give --format")
            with Path(copy).open("wb") as file:
                shutil.copyfileobj(source, file, 1 << 20)
        output = f"{folder}/results.{job.to or job.format or Path(job.input).name}"
        here = replace(job, input=copy) if job.input == STREAM else _images(job, service) or job
        here = replace(here, output=output)
        try:
            report = runner.run(here, service)
        except InferryError as exc:
            raise type(exc)(str(exc).replace(copy, "standard input")) from exc
        finally:
            _copy(Path(f"{output}.errors.jsonl"), said)
        if not report.failure:
            with Path(output).open("rb") as file:
                shutil.copyfileobj(file, target, 1 << 20)
            target.flush()
        summary = {"rows": report.rows, "errors": report.errors, "seconds": report.seconds, "model": report.model}
        said.write(f"{json.dumps(summary)}\n")
        return not report.failure


def _copy(errors: Path, said: TextIO) -> None:
    if errors.exists():
        with errors.open() as lines:
            shutil.copyfileobj(lines, said)


def _failed(job: Job, reason: str, summary: Summary, display: Display) -> None:
    summary.failed.append((job.input, reason))
    display.failed(reason)

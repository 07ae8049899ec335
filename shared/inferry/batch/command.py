"""`inferry batch`: the jobs of a file or a folder, their progress, and a summary."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from inferry import jobs
from inferry.batch import formats
from inferry.batch.files import keep_apart, open_files, split
from inferry.batch.progress import Display
from inferry.batch.report import Report
from inferry.errors import InferryError, InvalidRequest
from inferry.jobs import Job
from inferry.service import Service


@dataclass(slots=True)
class Summary:
    """What became of all files."""

    reports: list[Report]
    failed: list[tuple[str, str]]
    """Files without results, and why."""

    def as_dict(self) -> dict[str, Any]:
        """For machines."""
        return {
            "rows": sum(report.rows for report in self.reports),
            "errors": sum(report.errors for report in self.reports),
            "seconds": round(sum(report.seconds for report in self.reports), 3),
            "files": [asdict(report) for report in self.reports],
            "failed": [{"input": name, "reason": reason} for name, reason in self.failed],
        }


def run(job: Job, service: Service, display: Display) -> Summary:
    """Runs `job`, whose input and output may be folders, file by file; one that fails doesn't stop the others."""
    found = list(_files(job))
    summary = Summary([], [])
    display.files = len(found)
    for each in found:
        display.start(each.input)
        try:
            report = jobs.run(each, service, progress=display.show)
        except InferryError as exc:
            summary.failed.append((each.input, str(exc)))
            display.failed(str(exc))
        else:
            summary.reports.append(report)
            display.done(report)
    return summary


def _files(job: Job) -> Iterator[Job]:
    """A job for each file. InvalidRequest when there are none, or when the results would be read as input again."""
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


def _is_folder(url: str) -> bool:
    """Whether a URL or a path names a folder: it ends with "/", is one, or has no extension that says otherwise."""
    if url.endswith("/"):
        return True
    if "://" not in url:
        return Path(url).is_dir()
    folder, name = split(url)
    return formats.of_file(name) is None and open_files(folder).stat(name) is None

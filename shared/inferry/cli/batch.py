"""`inferry batch`: the jobs of a file or a folder, their progress, and a summary."""

from dataclasses import asdict, dataclass
from typing import Any

from inferry.cli.progress import Display
from inferry.errors import InferryError
from inferry.jobs import runner
from inferry.jobs.report import Report
from inferry.jobs.runner import Job
from inferry.jobs.runs import plan
from inferry.service import Service


@dataclass(slots=True)
class Summary:
    """What became of all files."""

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


def run(job: Job, service: Service, display: Display) -> Summary:
    """Runs `job`, whose input and output may be folders, file by file; one that fails doesn't stop the others."""
    found = list(plan.files(job))
    runner.check(job, service)
    summary = Summary([], [])
    display.files = len(found)
    for each in found:
        display.start(each.input)
        try:
            report = runner.run(each, service, progress=display.show)
        except InferryError as exc:
            _failed(each, str(exc), summary, display)
            continue
        summary.reports.append(report)
        if report.failure:
            _failed(each, report.failure, summary, display)
        else:
            display.done(report.rows, report.errors, report.seconds)
    return summary


def _failed(job: Job, reason: str, summary: Summary, display: Display) -> None:
    summary.failed.append((job.input, reason))
    display.failed(reason)

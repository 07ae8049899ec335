"""`inferry batch --on`: a run on a cloud's machines, watched from here until its end."""

import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from importlib import import_module
from secrets import token_hex
from typing import Any, Protocol

import orjson

from inferry.errors import InvalidRequest, InvalidSettings, extra
from inferry.jobs.formats import formats
from inferry.jobs.part_writer import Progress
from inferry.jobs.runner import Job
from inferry.jobs.runs.plan import described
from inferry.jobs.runs.run import Run
from inferry.storage.files import split

# Seconds between two looks, at first and at last; a look at many jobs takes a while, and this is how many times longer
# the pause is at least.
FIRST, LAST, TIMES = 1.0, 15.0, 5.0


class Display(Protocol):
    """Shows what becomes of a run, as `cli.progress.Display` does."""

    def start(self, name: str) -> None:
        """Begins a file or a run of this name: what follows is about it."""

    def show(self, progress: Progress) -> None:
        """Shows how far the run is; called often."""

    def done(self, rows: int, errors: int, seconds: float) -> None:
        """Ends the display: the run has its results."""

    def failed(self, reason: str) -> None:
        """Ends the display: the run has no results, for this reason."""

    def say(self, text: str) -> None:
        """Writes a line that is about none of the files."""


class Cloud(Protocol):
    """Where runs are done. InvalidRequest and InvalidSettings when it can't be asked."""

    def __init__(self, runner: str, env: Mapping[str, str]) -> None:
        """`runner`: the setting BATCH_RUNNER, which has something else on each cloud."""

    def start(self, name: str, job: Mapping[str, Any]) -> None:
        """Begins the run of this name: the job as a message describes it, its input and output folders maybe."""

    def ended(self, run: Run) -> str | None:
        """None as long as it goes on, then why it failed, or "" if it didn't; its report may be there in both cases."""


CLOUDS = {"aws": "inferry.jobs.runs.aws:StepFunctions", "azure": "inferry.jobs.runs.azure:Queue"}


def open_cloud(name: str, runner: str, env: Mapping[str, str]) -> Cloud:
    """The cloud of a name of CLOUDS. InvalidSettings when `runner` is nothing of it, or without the cloud's library."""
    module, _, attribute = CLOUDS[name].partition(":")
    try:
        opened = getattr(import_module(module), attribute)
    except ImportError as exc:
        raise InvalidSettings(f"--on {name} needs the cloud's library: {extra('clouds')} ({exc})") from exc
    cloud: Cloud = opened(runner, env)
    return cloud


def run(
    cloud: Cloud, job: Job, display: Display, *, name: str = "", slice_bytes: int = 0, again: str = ""
) -> dict[str, Any]:
    """The report of a new run of all that is below the job's input, or of the one that has this name already.

    `again`: the command to look at it again, but for its name, which is said when watching ends early.
    """
    job = _folders(job)
    found = Run(job.output, name or f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{token_hex(3)}")
    if not name:
        more = {"slice_bytes": slice_bytes} if slice_bytes else {}
        cloud.start(found.name, {**described(job), **more})
    try:
        return watch(cloud, found, display)
    except BaseException:
        display.say(f"to look at the run again: {again} --run {found.name}")
        raise


def watch(cloud: Cloud, run: Run, display: Display) -> dict[str, Any]:
    """The run's report at its end. InvalidRequest when it ended without one."""
    display.start(f"run {run.name}")
    pause = FIRST
    while (failure := cloud.ended(run)) is None:
        start = time.monotonic()
        display.show(run.progress())
        time.sleep(max(pause, TIMES * (time.monotonic() - start)))
        pause = min(pause * 1.5, LAST)
    content = run.read_report()
    if content is None:
        raise InvalidRequest(f"the run {run.name} failed: {failure or 'it has no report'}")
    report: dict[str, Any] = orjson.loads(content)
    for failed in report["failed"]:
        display.start(failed["input"])
        display.failed(failed["reason"])
    display.start(f"run {run.name}")
    if failure:
        display.failed(failure)
    else:
        display.done(report["rows"], report["errors"], report["seconds"])
    return report


def _folders(job: Job) -> Job:
    """The job with names that say what is a folder: its output always is."""
    has_format = job.format or formats.of_file(split(job.input)[1])
    source = job.input if has_format else f"{job.input.rstrip('/')}/"
    return replace(job, input=source, output=f"{job.output.rstrip('/')}/")

"""The end of a run: one report of all its files."""

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

import orjson

from inferry.errors import InvalidRequest
from inferry.jobs.report import FINISHED, no_results
from inferry.jobs.runs.run import FILES, FileOutcomes, Run

log = logging.getLogger("inferry")

UNKNOWN = "nothing is known of it: it wasn't begun, or what worked on it was ended (by its time or its memory)"
# Each costs a request; what a thousand files say, the others say too.
REASONS = 1000
UNREAD = "as others"


class Merged(NamedTuple):
    """What became of all files; `report` is the URL of the report of all."""

    report: str
    files: int
    failed: int
    rows: int
    errors: int
    seconds: float

    @property
    def said(self) -> str:
        """The summary of the run in one line."""
        return f"{self.failed} of {self.files} files have no results; {self.report} says why"


class _Superseded(Exception):
    """Another merge was faster, and has removed what this one reads."""


def merge(run: Run) -> Merged:
    """Writes the run's report, and removes what else there is of it. InvalidRequest for no run; StoreError.

    It has the members of `inferry batch --json`, whatever is known of files that nobody finished included.
    """
    plan = run.plan()
    if plan is not None:
        with suppress(_Superseded):
            totals, done = _write(run, run.of_files(plan.files))
            run.forget()
            merged = Merged(run.report, plan.files, plan.files - done, **totals)
            _log_end(run, merged)
            return merged
    content = run.read_report()
    if content is None:
        raise InvalidRequest(f"there is no run {run.name} below {run.output}")
    run.forget()
    return _read(run, orjson.loads(content))


def _log_end(run: Run, merged: Merged) -> None:
    fields = {
        "run": run.name,
        "output": run.output,
        "files": merged.files,
        "failed": merged.failed,
        "rows": merged.rows,
        "row_errors": merged.errors,
    }
    level = logging.WARNING if merged.failed else logging.INFO
    said = merged.said if merged.failed else f"all {merged.files} files have results"
    log.log(level, "run %s is over: %s", run.name, said, extra=fields)


def _write(run: Run, known: FileOutcomes) -> tuple[dict[str, Any], int]:
    """What all finished files together have, and how many of them have results."""
    totals: dict[str, Any] = {"rows": 0, "errors": 0, "seconds": 0.0}
    done = 0
    for outcome in known:
        if outcome.state == FINISHED:
            totals["rows"] += outcome.rows
            totals["errors"] += outcome.errors
            totals["seconds"] += outcome.seconds
            done += outcome.has_results
    totals["seconds"] = round(totals["seconds"], 3)
    with run.open_report() as file:
        file.write(orjson.dumps(totals).removesuffix(b"}"))
        for name, items in (("files", _files(run, known)), ("failed", _failed(run, known))):
            for piece in _array(name, items):
                file.write(piece)
        file.write(b"}\n")
        # It is the first that is removed: what was read before this is complete.
        if run.plan() is None:
            raise _Superseded
    return totals, done


def _files(run: Run, known: FileOutcomes) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(run.jobs(FILES)):
        outcome = known.get(number)
        if outcome and outcome.has_results:
            job = orjson.loads(line)
            counts = {"rows": outcome.rows, "errors": outcome.errors, "seconds": outcome.seconds}
            yield {"input": job["job"]["input"], "output": job["results"], **counts}


def _failed(run: Run, known: FileOutcomes) -> Iterator[dict[str, str]]:
    left = REASONS
    for number, line in enumerate(run.jobs(FILES)):
        outcome = known.get(number)
        if outcome is None or not outcome.has_results:
            job = orjson.loads(line)
            if outcome and outcome.state == FINISHED:
                reason = no_results(job["results"], outcome.rows, outcome.errors)
            else:
                reason = UNKNOWN if outcome is None else run.reason(outcome) if left > 0 else UNREAD
                left -= outcome is not None
            yield {"input": job["job"]["input"], "reason": reason}


def _read(run: Run, found: Mapping[str, Any]) -> Merged:
    failed = len(found["failed"])
    totals = {name: found[name] for name in ("rows", "errors", "seconds")}
    return Merged(run.report, len(found["files"]) + failed, failed, **totals)


def _array(name: str, items: Iterable[Mapping[str, Any]]) -> Iterator[bytes]:
    yield b',"%b":[' % name.encode()
    separator = b"\n"
    for item in items:
        yield separator + orjson.dumps(item)
        separator = b",\n"
    yield b"]"

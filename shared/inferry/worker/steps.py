"""Runs of many files, step by step as platforms call them: begin a run, do one of its jobs, end it."""

import time
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, TypeVar

from inferry.errors import InferryError, InvalidRequest
from inferry.jobs import runner
from inferry.jobs.report import FAILED, FINISHED, UNFINISHED
from inferry.jobs.runs import merge, plan
from inferry.jobs.runs.run import FILES, LONGEST, SLICES, Outcome, Run
from inferry.service import Service
from inferry.worker.worker import Worker, is_final

Document: TypeAlias = Mapping[str, Any]
T = TypeVar("T")


class RunSteps:
    """What a worker does for runs. All places that are named are checked as those in messages are."""

    def __init__(self, service: Service, worker: Worker) -> None:
        self._service = service
        self._worker = worker
        self._steps: dict[str, Callable[[Document, float, bool, int], dict[str, Any]]] = {
            "plan": self._plan,
            "job": self._job,
            "merge": self._merge,
        }

    def knows(self, document: Any) -> bool:
        """Whether the document of a message is a step of a run."""
        return isinstance(document, dict) and any(isinstance(document.get(step), dict) for step in self._steps)

    def do(self, document: Document, until: float, *, last: bool = False, attempt: int = 1) -> dict[str, Any]:
        """What came of one of these documents; `until` is when time is over (time.monotonic).

        {"plan": JOB, "run": NAME} lists the jobs of JOB, whose input may be a folder: the run, and where they are.
        {"job": JOB, "run": ...}, as listed, does one: its `state` is UNFINISHED when it has to be done again, FAILED
        when that would be in vain. {"merge": RUN} makes the report of all.

        InvalidRequest, DataRefused; of a job only what may be no error another time. `last`: there is no other time;
        `attempt`: as `jobs.run` has it.
        """
        step = next(step for step in self._steps if step in document)
        return self._steps[step](document, until, last, attempt)

    def _plan(self, document: Document, until: float, *_: Any) -> dict[str, Any]:
        given = dict(document["plan"])
        slice_bytes = given.pop("slice_bytes", plan.SLICE_BYTES)
        if not isinstance(slice_bytes, int) or slice_bytes < 1:
            raise InvalidRequest(
                f"'slice_bytes' is the size of slices in bytes, 1 or more; got {slice_bytes!r}"[:LONGEST]
            )
        messages = self._worker.messages
        job = messages.checked(messages.job(given))
        run = Run(job.output, _member(document, "run", str))
        if job.model:
            runner.check(job, self._service)
        made = plan.plan(job, self._service, run, slice_bytes=slice_bytes, until=until, check=messages.checked)
        return {
            "run": {"name": run.name, "output": run.output},
            FILES: {"url": run.planned(FILES), "count": made.files},
            SLICES: {"url": run.planned(SLICES), "count": made.slices},
        }

    def _job(self, document: Document, until: float, last: bool, attempt: int) -> dict[str, Any]:
        named = _member(document, "run", dict)
        run, file, part = self._run(named), _member(named, "file", int), named.get("slice")
        if time.monotonic() >= until:
            return {"state": UNFINISHED}
        messages = self._worker.messages
        try:
            job = messages.checked(messages.job(document["job"]))
            report = self._worker.run(job, until, last=last, attempt=attempt)
        except Exception as exc:
            final = last or is_final(exc)
            run.record(Outcome(file, part, FAILED if final else UNFINISHED), str(exc))
            if not final or not isinstance(exc, InferryError):
                raise
            return {"state": FAILED, "error": type(exc).__name__, "reason": str(exc)}
        if report.finished:
            run.record(Outcome(file, part, FINISHED, report.rows, report.errors, report.seconds))
        return {"state": report.state, "rows": report.rows, "errors": report.errors}

    def _merge(self, document: Document, *_: Any) -> dict[str, Any]:
        merged = merge.merge(self._run(document["merge"]))
        return {**merged._asdict(), "said": merged.said}

    def _run(self, named: Document) -> Run:
        run = Run(_member(named, "output", str), _member(named, "name", str))
        self._worker.messages.check_output(f"{run.output}/")
        return run


def _member(document: Document, name: str, kind: type[T]) -> T:
    """InvalidRequest when it is missing, or of another kind."""
    value = document.get(name)
    if not isinstance(value, kind):
        raise InvalidRequest(f"a document about a run must have {name!r}, a {kind.__name__}; got {value!r}"[:LONGEST])
    return value

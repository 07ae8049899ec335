"""Invocations by the queue: each message done, sent again to go on, or moved to the poison queue."""

import asyncio
import json
import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any, TypeVar

import azure.functions as func
from inferry.errors import InferryError
from inferry.jobs.report import FAILED, FINISHED, UNFINISHED
from inferry.jobs.runner import Job
from inferry.jobs.runs.queue_text import decoded, encoded
from inferry.observability.context import read
from inferry.worker.messages import Prediction
from inferry.worker.steps import RunSteps
from inferry.worker.worker import Worker, is_final

from azure_app import envelopes
from azure_app.environment import Limits

T = TypeVar("T")

log = logging.getLogger("inferry")

# A job has to stop so many seconds before its invocation ends, or after three quarters of it if that is later.
MARGIN = 60.0
SHARE = 0.25
# A queue's message has 64 KiB, in base64.
LARGEST = 48 * 1024


class QueueHandler:
    """What the queue's function does; `limits` are the host's for a message."""

    def __init__(self, worker: Worker, steps: RunSteps, limits: Limits, account: str = "") -> None:
        """`account`: the name of the storage account, where it is known; events about another are refused."""
        self._account = account
        self._worker = worker
        self._steps = steps
        self._tries = limits.tries
        limit = limits.seconds
        self._seconds = max(limit - MARGIN, limit * (1 - SHARE))
        # Threads of their own: jobs take long, and the loop's are for what requests wait for.
        self._threads = ThreadPoolExecutor(thread_name_prefix="inferry-job")

    async def __call__(
        self, message: func.QueueMessage, context: func.Context, again: func.Out[str], dead_letters: func.Out[str]
    ) -> None:
        """Does what the message says. An error that may not come again is raised: the host delivers the message
        once more, or moves it to the poison queue after too many tries.

        Texts are the queue's own, which neither the host nor azure.functions en- or decodes.
        """
        until = time.monotonic() + self._seconds
        text, name = message.get_body(), message.id or ""
        body = decoded(text)
        try:
            with self._worker.traced(name, context.trace_context.trace_parent):
                done = await self._done(message, body, context, until)
        except InferryError as exc:
            note = _note(body, name, type(exc).__name__, str(exc))
            if not is_final(exc) or note is None:
                raise
            _put(dead_letters, note, name, str(exc), context)
            return
        if done["state"] == UNFINISHED:
            # Not by failing: a long job would be thought to have failed too often.
            again.set(text.decode())
        elif done["state"] == FAILED and (note := _note(body, name, done["error"], done["reason"])):
            _put(dead_letters, note, name, done["reason"], context)

    async def _done(
        self, message: func.QueueMessage, body: bytes, context: func.Context, until: float
    ) -> Mapping[str, Any]:
        """Does what the message says, and returns the state of its job: FINISHED, FAILED or UNFINISHED."""
        document = envelopes.unwrapped(_document(body))
        attempt = message.dequeue_count or 1
        last = attempt >= self._tries
        if self._steps.knows(document):
            return await self._in_thread(context, lambda: self._step(document, until, last, attempt))
        if envelopes.is_event(document):
            found = await self._in_thread(context, lambda: self._arrival(document))
            if found is None:
                return {"state": FINISHED}
        else:
            found = self._worker.messages.read(body, message.id or "")
        if isinstance(found, Job):
            return await self._in_thread(context, lambda: self._job(found, until, last, attempt))
        await self._worker.respond(found, until, context.invocation_id, last=last)
        return {"state": FINISHED}

    def _arrival(self, event: Mapping[str, Any]) -> Job | Prediction | None:
        url = envelopes.url(event, self._account)
        return self._worker.arrival(url) if url else None

    def _job(self, job: Job, until: float, last: bool, attempt: int) -> dict[str, Any]:
        return {"state": self._worker.run(job, until, last=last, attempt=attempt).state}

    def _step(self, document: Any, until: float, last: bool, attempt: int) -> dict[str, Any]:
        """A step of a run of many files. That a slice failed is no failure: its file's own job does what it didn't."""
        done = {"state": FINISHED, **self._steps.do(document, until, last=last, attempt=attempt)}
        is_slice = "job" in document and document["run"].get("slice") is not None
        return {"state": FINISHED} if is_slice and done["state"] == FAILED else done

    async def _in_thread(self, context: func.Context, work: Callable[[], T]) -> T:
        def run() -> T:
            # The worker finds the invocation of a line in the log by this.
            context.thread_local_storage.invocation_id = context.invocation_id  # type: ignore[attr-defined]
            return work()

        return await asyncio.get_running_loop().run_in_executor(self._threads, copy_context().run, run)


def _put(dead_letters: func.Out[str], note: bytes, name: str, reason: str, context: func.Context) -> None:
    dead_letters.set(encoded(note))
    known = read({"headers": [(b"traceparent", context.trace_context.trace_parent.encode())]})
    ids = {"request_id": context.invocation_id, "trace_id": known.trace_id}
    log.error("message %s moved to the dead letters: %s", name, reason, extra=ids)


def _document(body: bytes) -> Any:
    """What is in it; None for no JSON, which is said when it is read as anything else."""
    try:
        return json.loads(body)
    except ValueError:
        return None


def _note(body: bytes, name: str, error: str, reason: str) -> bytes | None:
    """The message for the poison queue; None when it would be too large or is no text: then the host moves the body
    there, as it came."""
    try:
        document = {"error": error, "reason": reason, "message": name, "body": body.decode()}
    except UnicodeDecodeError:
        return None
    note = json.dumps(document, ensure_ascii=False).encode(errors="replace")
    return note if len(note) <= LARGEST else None

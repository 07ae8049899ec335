"""Invocations by the queue: each message done, sent again to go on, or put aside with the reason."""

import asyncio
import json
import logging
import time
from concurrent.futures import ThreadPoolExecutor

import azure.functions as func
from inferry.errors import InferryError
from inferry.jobs import Job
from inferry.worker import Worker, is_final

log = logging.getLogger("inferry")

# A job has to stop so many seconds before its invocation ends, or after three quarters of it if that is later.
MARGIN = 60.0
SHARE = 0.25
# A queue's message has 64 KiB, in base64.
LARGEST = 48 * 1024


class Messages:
    """What the queue's function does; `limit` is the host's for an invocation, in seconds."""

    def __init__(self, worker: Worker, limit: float) -> None:
        self._worker = worker
        self._seconds = max(limit - MARGIN, limit * (1 - SHARE))
        # Threads of their own: jobs take long, and the loop's are for what requests wait for.
        self._threads = ThreadPoolExecutor(thread_name_prefix="inferry-job")

    async def __call__(
        self, message: func.QueueMessage, context: func.Context, again: func.Out[bytes], aside: func.Out[bytes]
    ) -> None:
        """Errors that may be none another time are raised: the host shows the message again, or puts it aside."""
        until = time.monotonic() + self._seconds
        body = message.get_body()
        try:
            if not await self._done(body, message.id or "", context, until):
                # Not by failing: a long job would be thought to have failed too often.
                again.set(body)
        except InferryError as exc:
            note = _note(body, message.id or "", exc)
            if not is_final(exc) or note is None:
                raise
            aside.set(note)
            log.error("message %s is put aside: %s", message.id, exc)

    async def _done(self, body: bytes, name: str, context: func.Context, until: float) -> bool:
        told = self._worker.messages.read(body, name)
        if not isinstance(told, Job):
            await self._worker.answer(told, until, context.invocation_id)
            return True
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._run, told, context, until)

    def _run(self, job: Job, context: func.Context, until: float) -> bool:
        # The worker finds the invocation of a line in the log by this.
        context.thread_local_storage.invocation_id = context.invocation_id  # type: ignore[attr-defined]
        return self._worker.run(job, until).finished


def _note(body: bytes, name: str, exc: InferryError) -> bytes | None:
    """What is put aside; None when it fits into no message: then the host puts the body aside, as it came."""
    try:
        document = {"error": type(exc).__name__, "reason": str(exc), "message": name, "body": body.decode()}
    except UnicodeDecodeError:
        return None
    note = json.dumps(document, ensure_ascii=False).encode(errors="replace")
    return note if len(note) <= LARGEST else None

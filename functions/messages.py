"""Invocations by queues and buckets: each message done, put back, sent again to go on, or sent to the dead letters."""

import asyncio
import json
import logging
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, cast

from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, SqsFifoPartialProcessor
from aws_lambda_powertools.utilities.batch.exceptions import SQSFifoMessageGroupCircuitBreakerError
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
from inferry.errors import InferenceTimeout, InferryError, InvalidSettings
from inferry.jobs.report import UNFINISHED
from inferry.jobs.runner import Job
from inferry.settings import Settings
from inferry.worker.messages import Prediction
from inferry.worker.worker import Worker, is_final

from functions.envelopes import Item, is_sqs, items
from functions.runs import Runs
from functions.sqs import Queue

log = logging.getLogger("inferry")

# A job has to stop so many seconds before its invocation ends, or after three quarters of it if that is later.
MARGIN = 10.0
SHARE = 0.25
_FIFO = ".fifo"


class Unfinished(Exception):
    """A job's time was over; the event has to come again for the rest."""


class EventHandler:
    """The handler. Results of events that come directly are returned; those of SQS' only say which messages failed."""

    def __init__(self, worker: Worker, runs: Runs, settings: Settings, env: Mapping[str, str]) -> None:
        """InvalidSettings for queues that are none, or FIFO ones, or without credentials."""
        self._worker = worker
        self._runs = runs
        self._again = _queue(settings.batch_queue, "BATCH_QUEUE", env)
        self._dead_letters = _queue(settings.batch_dead_letters, "BATCH_DEAD_LETTERS", env)
        self._tries = settings.batch_tries
        self._loop = asyncio.new_event_loop()

    def __call__(self, event: Any, context: Any) -> Any:
        """An invocation. Errors of a direct event are raised: Lambda tries it again, and then knows where it goes."""
        left = context.get_remaining_time_in_millis() / 1000
        until = time.monotonic() + left - min(MARGIN, left * SHARE)
        if is_sqs(event):
            return self._batch(event["Records"], until)
        if self._runs.knows(event):
            return self._runs.do(event, until)
        # Which try of Lambda's this is, nobody says.
        return [self._do(item, context.aws_request_id, until, True, 1) for item in items(json.dumps(event))]

    def _batch(self, records: list[dict[str, Any]], until: float) -> Any:
        processor = _processor(records)

        def handle(record: SQSRecord) -> None:
            self._message(record, until)

        with processor(records, handle):
            processor.process()
        for record, (_, exc, _) in zip(
            cast("list[SQSRecord]", processor.fail_messages), processor.exceptions, strict=True
        ):
            known = isinstance(exc, InferryError | Unfinished | SQSFifoMessageGroupCircuitBreakerError)
            # Nobody else says it: Powertools keeps the exceptions to itself.
            log.error("message %s failed: %s", record.message_id, exc, exc_info=None if known else exc)
        return processor.response()

    def _message(self, record: SQSRecord, until: float) -> None:
        """All that a message is about; what is wrong with one of its items doesn't stop the others."""
        failures: list[Exception] = []
        try:
            found = items(record.body)
        except InferryError as exc:
            self._to_dead_letters(Item(record.body), record, exc)
            return
        # Also of a message that was in work when its invocation was ended: nobody says which one it was ended by.
        attempt = int(record.attributes.approximate_receive_count)
        last = attempt >= self._tries
        in_order = _is_fifo(record.event_source_arn)
        for item in found:
            try:
                self._do(item, record.message_id, until, last, attempt, in_order)
            except Exception as exc:  # noqa: BLE001  raised below
                if not is_final(exc):
                    failures.append(exc)
                    continue
                self._to_dead_letters(item, record, exc)
        if failures:
            raise failures[0]

    def _do(self, item: Item, name: str, until: float, last: bool, attempt: int, in_order: bool = False) -> Any:
        """Does one thing, and returns what came of it: a report, or where a response is.

        `name`: the message's, where it came by no topic. `last`: it has no other try. `attempt`: which one it is.
        `in_order`: others wait for it.
        """
        worker, name = self._worker, item.name or name
        message = worker.arrival(item.url) if item.url else worker.messages.read(item.body.encode(), name)
        match message:
            case Job():
                return self._run(message, item, until, last, attempt, in_order)
            case Prediction():
                return self._answer(message, name, until, last)
        return None

    def _run(self, job: Job, item: Item, until: float, last: bool, attempt: int, in_order: bool) -> dict[str, Any]:
        if time.monotonic() < until:
            report = self._worker.run(job, until, last=last, attempt=attempt)
            if report.finished:
                return asdict(report)
        if self._again is None or in_order:
            said = f"{job.input} has to go on in another invocation"
            # Behind the others of its group, it would not be in its turn.
            said += ", as a delivery of its FIFO queue" if in_order else "; BATCH_QUEUE would see to that"
            if last:
                self._worker.give_up(job, InferenceTimeout(said))
            raise Unfinished(said)
        # Not by failing: a long job would be thought to have failed too often.
        self._again.send(item.body, {})
        log.info("job %s goes on in another invocation", job.input)
        return {"state": UNFINISHED, "input": job.input}

    def _answer(self, prediction: Prediction, request_id: str, until: float, last: bool) -> dict[str, Any]:
        if time.monotonic() >= until and not last:
            raise InferenceTimeout("the invocation's time was over before this message's turn")
        url = self._loop.run_until_complete(self._worker.respond(prediction, until, request_id, last=last))
        return {"answer": url}

    def _to_dead_letters(self, item: Item, record: SQSRecord, exc: Exception) -> None:
        """Sends the item to BATCH_DEAD_LETTERS with the reason; without that queue the message fails, and
        its own queue has a policy for that."""
        if self._dead_letters is None:
            raise exc
        self._dead_letters.send(
            item.body, {"reason": str(exc), "error": type(exc).__name__, "message": record.message_id}
        )
        log.error("message %s moved to the dead letters: %s", record.message_id, exc)


def _queue(url: str, setting: str, env: Mapping[str, str]) -> Queue | None:
    if _is_fifo(url):
        raise InvalidSettings(
            f"{setting} must be a standard queue, got {url[:200]!r}: what is sent there belongs to no group of "
            "messages; jobs that came from a FIFO queue come from there again, and need no BATCH_QUEUE"
        )
    return Queue(url, setting, env) if url else None


def _is_fifo(name: str) -> bool:
    """Whether the URL or ARN is that of a FIFO queue."""
    return name.endswith(_FIFO)


def _processor(records: list[dict[str, Any]]) -> BatchProcessor:
    """Of a FIFO queue's messages, one that fails holds up the rest of its group, which fails with it."""
    is_fifo = any(_is_fifo(record["eventSourceARN"]) for record in records)
    processor = SqsFifoPartialProcessor(skip_group_on_error=True) if is_fifo else BatchProcessor(EventType.SQS)
    # Its constructor takes this for standard queues only.
    processor.raise_on_entire_batch_failure = False
    return processor

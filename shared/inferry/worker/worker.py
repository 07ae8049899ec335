"""Does what messages say, on any platform: jobs until their time is over, requests whose responses are stored."""

import asyncio
import math
import time
from contextlib import AbstractContextManager, nullcontext, suppress

import orjson

from inferry.errors import (
    InferenceTimeout,
    InferryError,
    JobFailed,
    ModelUnavailable,
    NotSupported,
    QueueFull,
    StoreError,
)
from inferry.http.asgi import Scope
from inferry.http.data_plane import App
from inferry.http.errors import described, error_response
from inferry.jobs import file_names, runner
from inferry.jobs.deferred import Deferred
from inferry.jobs.report import Report
from inferry.jobs.runner import Job
from inferry.observability.context import KEY, PlatformContext
from inferry.protocol import types
from inferry.service import Service
from inferry.storage.files import open_files, split
from inferry.worker.messages import MessageReader, Prediction

# What may go well another time.
_RETRIED = (QueueFull, ModelUnavailable, InferenceTimeout)


def is_final(exc: BaseException) -> bool:
    """Whether it is in vain to try a message again that failed with `exc`."""
    return isinstance(exc, InferryError) and not isinstance(exc, (*_RETRIED, JobFailed))


class Worker:
    """Works on a service's behalf. Whoever may send messages needs no API key: the queue decides who that is."""

    def __init__(self, service: Service) -> None:
        """A worker for the models of `service`, within the places of its settings. InvalidSettings: see there."""
        self.messages = MessageReader(service.settings)
        self._service = service
        self._app = App(service, keys=())

    def run(self, job: Job, until: float | None = None, *, last: bool = False, attempt: int = 1) -> Report:
        """What `jobs.run` says of the job's `attempt`; unfinished, it has to be run again.

        `last`: an error is not tried again. A request that was put off has its response then, whatever ends the job.
        """
        deferred = self._deferred(job)
        if deferred is None:
            return runner.run(job, self._service, until=until, attempt=attempt)
        if last and until is not None and until < math.inf:
            with suppress(StoreError):
                deferred.last_try(job, time.time() + until - time.monotonic())
        try:
            return runner.run(job, self._service, until=until, attempt=attempt)
        except Exception as exc:
            if last or is_final(exc):
                self.give_up(job, exc)
            raise

    def give_up(self, job: Job, exc: Exception) -> None:
        """Makes `exc` the response to the request that the job is about, if it is about one that has none."""
        if deferred := self._deferred(job):
            with suppress(StoreError):  # what ended the job says more
                deferred.fail(job, exc)

    def _deferred(self, job: Job) -> Deferred | None:
        """Where the response to the request is that the job is about; None when it is about none."""
        settings = self._service.settings
        deferred = Deferred(settings) if settings.batch_input and settings.batch_output else None
        return deferred if deferred and deferred.is_request(job) else None

    def arrival(self, url: str) -> Job | None:
        """The job of a file that arrived, as `MessageReader.of_file`; None also for what is no input. StoreError.

        Marks of other tools are none, and no files that inferry wrote beside results: the output of one is the input
        of the next.
        """
        if file_names.is_mark(url):
            return None
        job = self.messages.of_file(url)
        return None if job is None or file_names.is_own(url) else job

    def traced(self, name: str, traceparent: str) -> AbstractContextManager[None]:
        """With TRACES, a span for the block: what is done of a message, below the platform's own span."""
        if not self._service.settings.traces:
            return nullcontext()
        from inferry.observability.traces import tracer

        return tracer(self._service.settings).message(name, traceparent)

    async def respond(
        self, prediction: Prediction, deadline: float = math.inf, request_id: str = "", *, last: bool = False
    ) -> str:
        """Stores the response, which may be an error with its status, and returns its URL.

        `last`: nobody will try again. QueueFull, ModelUnavailable and InferenceTimeout: it may go well another time,
        and nothing is stored unless this try was the last. StoreError.
        """
        url = self.messages.response_url(prediction.name)
        platform: PlatformContext = {"deadline": deadline, "request_id": request_id}
        scope = {KEY: platform}
        try:
            content = await self._predict(prediction, scope)
        except _RETRIED as exc:
            if last:
                await asyncio.to_thread(_store, url, _error(exc, scope))
            raise type(exc)(described(exc, scope)) from exc
        except Exception as exc:  # noqa: BLE001  whatever it is becomes the response
            content = _error(exc, scope)
        await asyncio.to_thread(_store, url, content)
        return url

    async def _predict(self, prediction: Prediction, scope: Scope) -> bytes:
        """The body of the response that the data plane would give."""
        path = {"model": self._service.default_model(prediction.model)}
        if prediction.version:
            path["version"] = prediction.version
        _, body, headers = await self._app.infer(path, {}, prediction.body, scope)
        if types.HEADER_LENGTH in dict(headers):
            raise NotSupported("the response to a message is JSON: ask for no binary outputs")
        return body


def _error(exc: Exception, scope: Scope) -> bytes:
    status, body, _ = error_response(exc, scope)
    return orjson.dumps({**orjson.loads(body), "status": status})


def _store(url: str, content: bytes) -> None:
    folder, name = split(url)
    with open_files(folder).write(name) as file:
        file.write(content)

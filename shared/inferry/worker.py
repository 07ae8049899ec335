"""Does what messages say, under any host: jobs until their time is over, requests whose answers are stored."""

import asyncio
import math
from collections.abc import MutableMapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import orjson

from inferry import context, jobs, protocol
from inferry.app import App
from inferry.batch import names
from inferry.batch.files import open_files, split
from inferry.batch.report import Report
from inferry.errors import InferenceTimeout, InferryError, JobFailed, ModelUnavailable, QueueFull
from inferry.jobs import Job
from inferry.messages import Messages, Prediction
from inferry.service import Service

# What may go well another time. The statuses are those of `app.STATUS`.
_RETRIED: dict[int, type[InferryError]] = {429: QueueFull, 503: ModelUnavailable, 504: InferenceTimeout}


def is_final(exc: BaseException) -> bool:
    """Whether it is in vain to try a message again that failed with `exc`."""
    return isinstance(exc, InferryError) and not isinstance(exc, (*_RETRIED.values(), JobFailed))


class Worker:
    """Works on a service's behalf. Whoever may send messages needs no API key: the queue decides who that is."""

    def __init__(self, service: Service) -> None:
        """InvalidSettings as `Messages`."""
        self.messages = Messages(service.settings)
        self._service = service
        self._app = App(service, keys=())

    def arrival(self, url: str) -> Job | None:
        """The job of a file that arrived, as `Messages.of_file`; None also for what is no input. StoreError.

        Marks of other tools are none, and no files that inferry wrote beside results: the output of one is the input
        of the next.
        """
        if names.is_mark(url):
            return None
        job = self.messages.of_file(url)
        return None if job is None or names.is_own(url) else job

    def run(self, job: Job, until: float | None = None) -> Report:
        """What `jobs.run` says of the job; unfinished, it has to be run again."""
        return jobs.run(job, self._service, until=until)

    def traced(self, name: str, traceparent: str) -> AbstractContextManager[None]:
        """With TRACES, a span for the block: what is done of a message, below the host's own span."""
        if not self._service.settings.traces:
            return nullcontext()
        from inferry.traces import tracer

        return tracer(self._service.settings).message(name, traceparent)

    async def answer(self, prediction: Prediction, deadline: float = math.inf, request_id: str = "") -> str:
        """Stores the answer, which may be an error with its status, and returns its URL.

        QueueFull, ModelUnavailable and InferenceTimeout when there may be another one at another time; StoreError.
        """
        url = self.messages.answer(prediction.name)
        content = await self._predict(prediction, {"deadline": deadline, "request_id": request_id})
        await asyncio.to_thread(_store, url, content)
        return url

    async def _predict(self, prediction: Prediction, known: dict[str, Any]) -> bytes:
        status, headers, body = await self._ask(prediction, known)
        if protocol.HEADER_LENGTH in headers:
            status = 501
            body = orjson.dumps({"error": "the answer to a message is JSON: ask for no binary outputs"})
        if status == 200:
            return body
        said = orjson.loads(body)
        if status in _RETRIED:
            raise _RETRIED[status](said["error"])
        return orjson.dumps({**said, "status": status})

    async def _ask(self, prediction: Prediction, known: dict[str, Any]) -> tuple[int, dict[bytes, bytes], bytes]:
        """The data plane's answer, by the route that the request would have taken."""
        sent: list[MutableMapping[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": prediction.body}

        async def send(message: MutableMapping[str, Any]) -> None:
            sent.append(message)

        model = self._service.default_model(prediction.model)
        version = f"/versions/{prediction.version}" if prediction.version else ""
        path = f"/v2/models/{model}{version}/infer"
        scope = {"type": "http", "method": "POST", "path": path, "headers": [], context.KEY: known}
        await self._app(scope, receive, send)
        start, content = sent
        return start["status"], dict(start["headers"]), content["body"]


def _store(url: str, content: bytes) -> None:
    folder, name = split(url)
    with open_files(folder).write(name) as file:
        file.write(content)

"""Requests that are answered later: each is a file of one line below BATCH_INPUT, and its result is the response.

Whatever works on the files that arrive there answers them as well; nobody else needs to know of them.
"""

import os
import re
import time
from typing import Any, NamedTuple

import orjson

from inferry.errors import DeferredNotFound, InferryError, InvalidRequest, NotSupported, RequestTooLarge
from inferry.jobs.formats.lines import MAX_LINE
from inferry.jobs.report import FAILED, FINISHED, UNFINISHED, Report
from inferry.jobs.runner import Job
from inferry.protocol import decoder, text_bodies, types
from inferry.protocol.signature import Signature
from inferry.runtime.model import Model
from inferry.settings import Settings
from inferry.storage.files import Files, open_files

# Below BATCH_INPUT and BATCH_OUTPUT: REQUESTS/MODEL/ID.jsonl.
REQUESTS = "requests"
_ID = re.compile("[0-9a-f]{32}")
_PATH = re.compile(f"{REQUESTS}/[^/]+/{_ID.pattern}\\.jsonl")
# Seconds behind the end of a last try after which nobody is at work on it any more.
MARGIN = 60.0


class DeferredResponse(NamedTuple):
    """What became of a request: `content` is the protocol's response or, where `failed`, its error object."""

    content: bytes
    failed: bool
    headers: list[tuple[bytes, bytes]]


class Deferred:
    """Keeps requests and finds their responses. Its methods wait for a store: call them in a thread."""

    def __init__(self, settings: Settings) -> None:
        """NotSupported when the settings name no BATCH_INPUT or no BATCH_OUTPUT."""
        if not (settings.batch_input and settings.batch_output):
            raise NotSupported(
                "requests can't be answered later here: BATCH_INPUT and BATCH_OUTPUT name no places for them; send the "
                "request without 'Prefer: respond-async'"
            )
        self._input = settings.batch_input.rstrip("/")
        self._output = settings.batch_output.rstrip("/")

    def submit(self, model: Model, body: bytes, header_length: bytes | None) -> str:
        """The id under which the request in `body` waits for its response. InvalidRequest when it can have none."""
        return self.keep(model.name, line_of(body, header_length, model.signature))

    def keep(self, model: str, line: bytes) -> str:
        """Keeps a request that is a line already, and returns its id. RequestTooLarge."""
        if len(line) > MAX_LINE:
            raise RequestTooLarge(
                f"the request's tensors make a line of {len(line)} bytes, and one that is answered later has at most "
                f"{MAX_LINE}: send fewer rows at a time"
            )
        found = os.urandom(16).hex()
        self._inputs().create(_path(model, found), line + b"\n")
        return found

    def job(self, model: str, found: str) -> Job:
        """The job whose result is the response to the request of this id."""
        path = _path(model, found)
        return Job(input=f"{self._input}/{path}", output=f"{self._output}/{path}", model=model)

    def response(self, model: str, found: str) -> DeferredResponse | None:
        """The response to the request of this id, None while it isn't there. DeferredNotFound: no such request."""
        path = _path(model, found) if _ID.fullmatch(found) else ""
        outputs = open_files(self._output)
        content = outputs.read(_report(path)) if path else None
        report = Report.from_json(content) if content else None
        if report is not None and report.finished:
            return _response(outputs, path, report)
        if content and report is None and (reason := _given_up(content)):
            return _failed(reason)
        if not path or self._inputs().stat(path) is None:
            raise DeferredNotFound(f"model '{model}' has no request {found[:40]!r} to answer; responses expire")
        return None

    def is_request(self, job: Job) -> bool:
        """Whether the job is about a request that is answered later."""
        return self._path_of(job) is not None

    def last_try(self, job: Job, until: float) -> None:
        """Says that a request is tried once more and never again, until `until` (time.time); it is given up then."""
        document = {"state": UNFINISHED, "until": until + MARGIN, "reason": "every try to answer the request was ended"}
        self._say(job, orjson.dumps(document))

    def fail(self, job: Job, exc: Exception) -> None:
        """Makes the error of a last try the response to its request, unless that has one. StoreError."""
        reason = str(exc) if isinstance(exc, InferryError) else "internal error"
        output = f"{self._output}/{self._path_of(job)}"
        self._say(job, Report(FAILED, job.input, output, 0, 0, 0.0, job.model, "", "", "", "", reason).to_json())

    def _say(self, job: Job, content: bytes) -> None:
        if (path := self._path_of(job)) is None:
            return
        outputs = open_files(self._output)
        there = outputs.read(_report(path))
        if there is None or Report.from_json(there) is None:
            with outputs.write(_report(path)) as file:
                file.write(content)

    def _path_of(self, job: Job) -> str | None:
        path = job.input.removeprefix(f"{self._input}/")
        return path if _PATH.fullmatch(path) else None

    def _inputs(self) -> Files:
        return open_files(self._input)


def line_of(body: bytes, header_length: bytes | None, signature: Signature) -> bytes:
    """The request in a body as a line of a file. InvalidRequest when it can't be answered later."""
    request = decoder.decode(body, header_length, signature.known[True])
    if request.by_reference:
        raise InvalidRequest("a request that is answered later has its inputs and outputs in it, none by reference")
    signature.feed(request)
    signature.requested(request)
    return text_bodies.of_request(request)


def _path(model: str, found: str) -> str:
    return f"{REQUESTS}/{model}/{found}.jsonl"


def _report(path: str) -> str:
    return f"{path}.report.json"


def _response(outputs: Files, path: str, report: Report) -> DeferredResponse:
    if report.state == FINISHED and not report.errors:
        body, headers = text_bodies.to_body((outputs.read(path) or b"").strip())
        return DeferredResponse(body, False, headers)
    return _failed(report.reason or _first(outputs.read(f"{path}.errors.jsonl")))


def _failed(reason: str) -> DeferredResponse:
    return DeferredResponse(orjson.dumps({"error": reason}), True, [types.JSON])


def _given_up(content: bytes) -> str:
    """Why a request whose last try is over will have no response; empty while it may have one."""
    try:
        said = orjson.loads(content)
        return str(said["reason"]) if said["until"] < time.time() else ""
    except (orjson.JSONDecodeError, LookupError, TypeError):
        return ""


def _first(errors: bytes | None) -> Any:
    return orjson.loads(errors.splitlines()[0])["reason"] if errors else "the request has no response"

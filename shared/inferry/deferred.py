"""Requests that are answered later: each is a file of one line below BATCH_INPUT, and its result is the answer.

Whatever works on the files that arrive there answers them as well; nobody else needs to know of them.
"""

import os
import re
from typing import Any, NamedTuple

import orjson

from inferry import protocol
from inferry.batch.files import Files, open_files
from inferry.batch.report import FINISHED, Report
from inferry.document import load
from inferry.errors import DeferredNotFound, InvalidRequest, NotSupported
from inferry.jobs import Job
from inferry.model import Model
from inferry.settings import Settings

# Below BATCH_INPUT and BATCH_OUTPUT: REQUESTS/MODEL/ID.jsonl.
REQUESTS = "requests"
_ID = re.compile("[0-9a-f]{32}")


class Answer(NamedTuple):
    """What became of a request: `content` is JSON, the protocol's response or, where `failed`, its error object."""

    content: bytes
    failed: bool


class Deferred:
    """Keeps requests and finds their answers. Its methods wait for a store: call them in a thread."""

    def __init__(self, settings: Settings) -> None:
        """NotSupported without the two places."""
        if not (settings.batch_input and settings.batch_output):
            raise NotSupported(
                "requests can't be answered later here: BATCH_INPUT and BATCH_OUTPUT name no places for them; send the "
                "request without 'Prefer: respond-async'"
            )
        self._input = settings.batch_input.rstrip("/")
        self._output = settings.batch_output.rstrip("/")

    def submit(self, model: Model, body: bytes, header_length: bytes | None) -> str:
        """The id under which the request in `body` waits for its answer. InvalidRequest when it can have none."""
        request = protocol.decode(body, header_length, model.name)
        in_json = header_length is None or int(header_length) == len(body)
        if not in_json or request.by_reference or request.binary or any(output.binary for output in request.outputs):
            raise InvalidRequest("a request that is answered later has its inputs and outputs in its JSON")
        model.session.signature.feed(request)
        model.session.signature.requested(request)
        found = os.urandom(16).hex()
        self._inputs().create(_path(model.name, found), orjson.dumps(load(body)) + b"\n")
        return found

    def job(self, model: str, found: str) -> Job:
        """What has to be done for the answer."""
        path = _path(model, found)
        return Job(input=f"{self._input}/{path}", output=f"{self._output}/{path}", model=model)

    def answer(self, model: str, found: str) -> Answer | None:
        """The answer; None when it isn't there yet. DeferredNotFound when there is no such request, or no longer."""
        path = _path(model, found) if _ID.fullmatch(found) else ""
        outputs = open_files(self._output)
        content = outputs.read(f"{path}.report.json") if path else None
        report = Report.from_json(content) if content else None
        if report is not None and report.finished:
            return _answer(outputs, path, report)
        if not path or self._inputs().stat(path) is None:
            raise DeferredNotFound(f"model '{model}' has no request {found[:40]!r} to answer; answers expire")
        return None

    def _inputs(self) -> Files:
        return open_files(self._input)


def _path(model: str, found: str) -> str:
    return f"{REQUESTS}/{model}/{found}.jsonl"


def _answer(outputs: Files, path: str, report: Report) -> Answer:
    if report.state == FINISHED and not report.errors:
        return Answer((outputs.read(path) or b"").strip(), failed=False)
    reason = report.reason or _first(outputs.read(f"{path}.errors.jsonl"))
    return Answer(orjson.dumps({"error": reason}), failed=True)


def _first(errors: bytes | None) -> Any:
    return orjson.loads(errors.splitlines()[0])["reason"] if errors else "the request has no answer"

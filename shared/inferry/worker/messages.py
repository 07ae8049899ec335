"""What queues and stores tell a worker: jobs to run and requests to answer, within the places that settings name."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from inferry.errors import DataRefused, InvalidRequest, InvalidSettings
from inferry.jobs.deferred import REQUESTS
from inferry.jobs.file_names import reserved
from inferry.jobs.formats.blocks import Cursor
from inferry.jobs.runner import Job, Slice
from inferry.protocol.json_documents import load
from inferry.protocol.json_tensors import kind
from inferry.protocol.references import Prefix
from inferry.settings import Settings
from inferry.storage.files import keep_apart

# Below BATCH_OUTPUT: the responses to requests.
ANSWERS = "answers"
# A request's own id names its response when it can name a file.
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")
_SHAPES = (
    "a message must be a JSON object: a job with 'input', 'output' and 'model', or a request of the protocol with "
    "'model_name' and 'inputs'"
)


class Prediction(NamedTuple):
    """A request of the protocol, `body`, as it came; `name` is what its response is called."""

    model: str
    version: str | None
    body: bytes
    name: str


class MessageReader:
    """Reads messages. Those of an unknown shape, and those about other places than the settings', are errors."""

    def __init__(self, settings: Settings) -> None:
        """InvalidSettings when results would become inputs."""
        self._input, self._output = settings.batch_input.rstrip("/"), settings.batch_output.rstrip("/")
        self._model = settings.batch_model
        self._inputs = _places(self._input, settings.data_prefixes)
        self._outputs = _places(self._output, settings.data_prefixes)
        if self._input and self._output:
            try:
                keep_apart(self._input, self._output)
            except InvalidRequest as exc:
                raise InvalidSettings(f"BATCH_OUTPUT: {exc}") from exc

    def read(self, body: bytes, name: str) -> Job | Prediction:
        """The message in `body`; `name` is the queue's id for it. InvalidRequest, DataRefused."""
        try:
            document = load(body)
        except InvalidRequest as exc:
            raise InvalidRequest(f"{_SHAPES}; this is no JSON") from exc
        if isinstance(document, dict) and "input" in document:
            return self.checked(self.job(document))
        if isinstance(document, dict) and "model_name" in document and "inputs" in document:
            return _prediction(document, body, name)
        members = f" with {', '.join(map(repr, document)) or 'nothing in it'}" if isinstance(document, dict) else ""
        raise InvalidRequest(f"{_SHAPES}; got {kind(document)}{members}"[:1000])

    def of_file(self, url: str) -> Job | None:
        """The job of a file that arrived below BATCH_INPUT; None for the mark of a folder. InvalidRequest, DataRefused.

        Its results go to the same path below BATCH_OUTPUT. Without BATCH_MODEL its first folder names the model.
        """
        return None if url.endswith("/") else self.checked(Job(input=url, output="", model=self._model))

    def response_url(self, name: str) -> str:
        """The URL of the file for the response to the request of this name. InvalidRequest without BATCH_OUTPUT."""
        return f"{self._output_prefix()}/{ANSWERS}/{name}.json"

    def job(self, document: Mapping[str, Any]) -> Job:
        """The job that a document describes, as it is. InvalidRequest."""
        for member, value in document.items():
            fits, words = _MEMBERS.get(member, (None, ""))
            if fits is None:
                raise InvalidRequest(f"a job has no member {member!r}; it may have {', '.join(_MEMBERS)}")
            if not fits(value):
                raise InvalidRequest(f"'{member}' of a job must be {words}, got {kind(value)}")
        given = {"output": "", "model": self._model, **document}
        if part := given.get("part"):
            given["part"] = Slice(Cursor(*part["start"]), part["stop"])
        return Job(**given | {name: tuple(given[name]) for name in _TUPLES if name in given})

    def checked(self, job: Job) -> Job:
        """The job with its output and model filled in. DataRefused when it is about a place of others."""
        _check_place(job.input, self._inputs, "input", "BATCH_INPUT", folder=job.input.endswith("/"))
        below = Prefix(self._input).below(_local(job.input)) if self._input else None
        output = job.output or self._default_output(job.input, below)
        self.check_output(output)
        if self._input:
            keep_apart(self._input, output.rpartition("/")[0])
        return replace(job, output=output, model=_model_of(below or "", job.model))

    def check_output(self, url: str) -> None:
        """DataRefused when a file or folder (it ends with "/") is no place for results."""
        _check_place(url, self._outputs, "output", "BATCH_OUTPUT", folder=url.endswith("/"))

    def _default_output(self, url: str, below: str | None) -> str:
        if below is None:
            raise InvalidRequest(f"name the output of {url[:500]!r}, which is not below BATCH_INPUT")
        folder, slash, _ = below.rpartition("/")
        return f"{self._output_prefix()}/{folder}{slash}"

    def _output_prefix(self) -> str:
        if not self._output:
            raise InvalidRequest("BATCH_OUTPUT, where results and responses go, isn't set")
        return self._output


def _model_of(below: str, given: str) -> str:
    """The model of a file by its path below BATCH_INPUT: a request that was put off names its own."""
    first, *rest = below.split("/")
    if first == REQUESTS and len(rest) == 2:
        return rest[0]
    return given or (first if rest else "")


def _prediction(document: Mapping[str, Any], body: bytes, name: str) -> Prediction:
    for member in ("model_name", "model_version"):
        if not isinstance(document.get(member, ""), str):
            raise InvalidRequest(f"'{member}' must be a string, got {kind(document[member])}")
    own = document.get("id")
    called = own if isinstance(own, str) and _NAME.fullmatch(own) and not reserved(f"{own}.json") else name
    return Prediction(document["model_name"], document.get("model_version") or None, body, called)


def _places(prefix: str, others: Iterable[str]) -> list[Prefix]:
    return [Prefix(_local(url).rstrip("/")) for url in (prefix, *others) if url]


def _local(url: str) -> str:
    return url.removeprefix("file://")


def _check_place(url: str, places: Iterable[Prefix], what: str, setting: str, *, folder: bool = False) -> None:
    file = f"{url}file" if folder else url
    if "://" in _local(url) and "?" in url.rpartition("/")[0]:
        raise DataRefused(f"the {what} {url[:500]!r} has a ? in a folder's name, where URLs of stores have a query")
    if not any(place.below(_local(file)) is not None for place in places):
        raise DataRefused(
            f"the {what} {url[:500]!r} is not below {setting} or one of DATA_PREFIXES, or has a name that can't be used"
        )


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_limit(value: Any) -> bool:
    return _is_count(value) or (isinstance(value, float) and 0 <= value <= 1)


def _is_names(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _is_part(value: Any) -> bool:
    if not isinstance(value, dict) or value.keys() != {"start", "stop"}:
        return False
    start, stop = value["start"], value["stop"]
    is_cursor = isinstance(start, list) and len(start) == 2 and all(map(_is_count, start))
    return is_cursor and (stop is None or _is_count(stop))


_TEXT: tuple[Callable[[Any], bool], str] = (_is_text, "a string")
_TUPLES = ("keep", "columns", "constants", "drop")
# What a job's message may say: those of a Job that come from outside.
_MEMBERS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "input": _TEXT,
    "output": _TEXT,
    "model": _TEXT,
    "version": _TEXT,
    "format": _TEXT,
    "to": _TEXT,
    "keep": (_is_names, "an array of strings"),
    "max_errors": (_is_limit, "a count, or a share from 0 to 1"),
    "batch_size": (_is_count, "a number of rows"),
    "header": (lambda value: isinstance(value, bool), "true or false"),
    "columns": (_is_names, "an array of strings"),
    "constants": (_is_names, "an array of strings"),
    "drop": (_is_names, "an array of strings"),
    **dict.fromkeys(("delimiter", "decimal", "quote", "escape", "null"), _TEXT),
    "part": (_is_part, "an object with the cursor 'start' and the row 'stop', as a plan has it"),
}

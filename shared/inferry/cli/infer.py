"""`inferry infer`: a file's rows, read as a job reads them, or a document of JSON, to a JSON line each."""

import asyncio
import dataclasses
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import orjson

from inferry.errors import InvalidRequest
from inferry.jobs import runner
from inferry.jobs.formats import formats
from inferry.jobs.runner import Job
from inferry.protocol import decoder
from inferry.protocol.json_documents import load
from inferry.protocol.types import InferRequest
from inferry.runtime import rows
from inferry.runtime.images import ENDINGS
from inferry.runtime.model import Model
from inferry.runtime.verdicts import NONE
from inferry.service import Service
from inferry.settings import Settings


def predict(settings: Settings, job: Job) -> list[str]:
    """The predictions for the rows in the job's input (a path, a URL, or - for JSON on stdin), one JSON object per row.

    ModelNotFound, and errors of the model's file; InvalidRequest when the input can't be read, or when a row of it
    can't be predicted.
    """
    service = Service.from_settings(settings)
    try:
        # What is wrong with the model comes first: no input would help.
        repository = service.repository
        if repository.problems and not repository.names():
            raise InvalidRequest(f"there is no model to predict with: {repository.problems[0]}")
        repository.get(service.default_model(job.model or None), job.version)
        if job.input == "-" or job.input.lower().endswith(".json"):
            if job.constants:
                raise InvalidRequest("--set is for files of rows: a document of JSON has all inputs in it")
            return asyncio.run(_document(service, job.model, job.version, job.input))
        return _file(service, job)
    finally:
        service.close()


def _file(service: Service, job: Job) -> list[str]:
    """The results of the job, which is done in a temporary folder."""
    if formats.of_file(job.input) is None and not job.input.lower().endswith(ENDINGS):
        endings = ", ".join(f".{ending}" for ending in formats.FORMATS)
        raise InvalidRequest(
            f"can't tell the format of {job.input}: give a file in {endings} or .json, an image in "
            f"{', '.join(ENDINGS)}, or - for stdin"
        )
    with TemporaryDirectory(prefix="inferry-") as folder:
        report = runner.run(dataclasses.replace(job, output=f"{folder}/results.jsonl"), service)
        if report.errors:
            first = orjson.loads(Path(f"{report.output}.errors.jsonl").read_bytes().partition(b"\n")[0])
            at = f"row {first['row']}" + (f", column '{first['column']}'" if first["column"] else "")
            more = "; inferry batch predicts the others" if report.rows else ""
            raise InvalidRequest(
                f"{report.errors} of {report.rows + report.errors} rows of {job.input} can't be predicted{more}; "
                f"{at}: {first['reason']}"
            )
        if not report.rows:
            raise InvalidRequest(f"{job.input} has no rows")
        return Path(report.output).read_text().splitlines()


async def _document(service: Service, name: str, version: str | None, source: str) -> list[str]:
    """The predictions for a document of JSON, which is one request."""
    model = await service.model(service.default_model(name or None), version)
    request = document(read(source), model)
    count = _rows(request, model)
    if count:
        responses = await service.infer_rows(model, request, count)
        outputs = model.row_proof.verdict.outputs
    else:
        responses, count, outputs = [await service.infer(model, request)], 1, frozenset[str]()
    return [
        orjson.dumps(row, option=orjson.OPT_SERIALIZE_NUMPY).decode()
        for row in rows.from_responses(responses, count, outputs)
    ]


def read(source: str) -> bytes:
    """The content of a file, or of stdin. InvalidRequest when it can't be read."""
    if source == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(source).read_bytes()
    except OSError as exc:
        raise InvalidRequest(f"can't read {source}: {exc.strerror or exc}") from exc


def document(text: bytes, model: Model) -> InferRequest:
    """A protocol request, {"features": ...}, {"instances": [...]}, or rows by themselves."""
    value = load(text)
    if isinstance(value, dict) and "inputs" in value:
        return decoder.decode(text, None, model.session.signature.known[True])
    if isinstance(value, dict):
        value = value.get("features", value.get("instances", value))
    return rows.to_request(rows.as_rows(value, model), model)


def _rows(request: InferRequest, model: Model) -> int:
    """How many rows a request has; 0 for a whole one, with a state, say, which has none to split."""
    if model.row_proof.verdict.rows == NONE or not request.inputs.keys() <= model.session.signature.inputs.keys():
        return 0
    lengths = {tensor.array.shape[:1] or (1,) for tensor in request.inputs.values()}
    return int(lengths.pop()[0]) if len(lengths) == 1 else 0

"""The app's functions for messages and files: a file that arrives is a message, and messages are done."""

import asyncio
import json

import azure.functions as func
from inferry.jobs.file_names import is_mark, is_own
from inferry.jobs.runs.queue_text import encoded
from inferry.service import Service
from inferry.worker.steps import Fanout
from inferry.worker.worker import Worker

from azure_app import names
from azure_app.environment import Limits
from azure_app.messages import Messages

_CONTAINER = "az://"


def add_triggers(app: func.AsgiFunctionApp, service: Service, limits: Limits, account: str) -> None:
    """Adds them; `limits` are the host's for a message, `account` the name of its storage. InvalidSettings as
    `Worker`.
    """
    worker = Worker(service)
    _add_jobs(app, Messages(worker, Fanout(service, worker), limits, account))
    place = service.settings.batch_input.rstrip("/")
    if place.startswith(_CONTAINER):
        _add_files(app, place.removeprefix(_CONTAINER))


def _add_jobs(app: func.AsgiFunctionApp, messages: Messages) -> None:
    @app.function_name(names.JOBS_FUNCTION)
    @app.queue_trigger("message", names.JOBS_QUEUE, names.CONNECTION)
    @app.queue_output("again", names.JOBS_QUEUE, names.CONNECTION)
    @app.queue_output("aside", names.POISON_QUEUE, names.CONNECTION)
    async def jobs(
        message: func.QueueMessage, context: func.Context, again: func.Out[str], aside: func.Out[str]
    ) -> None:
        await messages(message, context, again, aside)


def _add_files(app: func.AsgiFunctionApp, place: str) -> None:
    """The host hands a file's content to whoever wants to know its name: to keep it in memory for a job's time is too
    much."""

    @app.function_name(names.BLOB_FUNCTION)
    @app.blob_trigger("blob", f"{place}/{{name}}", names.CONNECTION, source=func.BlobSource.EVENT_GRID)
    @app.queue_output("job", names.JOBS_QUEUE, names.CONNECTION)
    async def files(blob: func.InputStream, job: func.Out[str]) -> None:
        # A name that ends so is the mark of a folder.
        if blob.name and not blob.name.endswith("/") and not await asyncio.to_thread(_is_other, blob.name):
            job.set(encoded(json.dumps({"input": f"{_CONTAINER}{blob.name}"}).encode()))


def _is_other(name: str) -> bool:
    """Whether a blob is a mark of another tool, or a file that inferry wrote beside results."""
    return is_mark(name) or is_own(f"{_CONTAINER}{name}")

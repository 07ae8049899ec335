"""The app's function for messages of the queue; a file that arrives is one of them, from Event Grid."""

import azure.functions as func
from inferry.service import Service
from inferry.worker.steps import RunSteps
from inferry.worker.worker import Worker

from azure_app import names
from azure_app.environment import Limits
from azure_app.messages import QueueHandler


def add_trigger(app: func.AsgiFunctionApp, service: Service, limits: Limits, account: str) -> None:
    """Adds it. `limits`: the host's for a message; `account`: the name of its storage. InvalidSettings as `Worker`."""
    worker = Worker(service)
    handle = QueueHandler(worker, RunSteps(service, worker), limits, account)

    @app.function_name(names.JOBS_FUNCTION)
    @app.queue_trigger("message", names.JOBS_QUEUE, names.CONNECTION)
    @app.queue_output("again", names.JOBS_QUEUE, names.CONNECTION)
    @app.queue_output("dead_letters", names.POISON_QUEUE, names.CONNECTION)
    async def jobs(
        message: func.QueueMessage, context: func.Context, again: func.Out[str], dead_letters: func.Out[str]
    ) -> None:
        await handle(message, context, again, dead_letters)

"""The Lambda function behind queues and buckets: files that arrive, jobs, and requests whose responses are stored."""

import os

# First: see inferry.app.
import numpy  # noqa: F401
from inferry.service import Service
from inferry.settings import Settings
from inferry.worker.steps import RunSteps
from inferry.worker.worker import Worker

from functions import initialization, logs, metrics
from functions.messages import EventHandler
from functions.runs import Runs

settings = Settings.from_env(initialization.threads(os.environ) | os.environ)
logs.configure(settings)
service = Service.from_settings(settings)
worker = Worker(service)
messages = EventHandler(worker, Runs(RunSteps(service, worker)), settings, os.environ)
with initialization.watched():
    initialization.preload(service)

handler = metrics.pushing(messages, service, os.environ)

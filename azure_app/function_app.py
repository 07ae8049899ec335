"""The Azure Functions app: AsgiFunctionApp around inferry's application. Every trigger goes on this one `app`."""

import atexit
import gc
import os

import azure.functions as func
from inferry.app import create_app
from inferry.observability import logs
from inferry.observability.sinks.pusher import open_pusher, process_age
from inferry.service import Service
from inferry.settings import Settings

from azure_app import ROOT
from azure_app.environment import Limits, auth_level, defaults
from azure_app.middleware import FunctionApp

settings = Settings.from_env(defaults(os.environ, ROOT))
# The worker takes messages from the root logger, and brings them to Application Insights.
logs.configure(settings, hosted=True)
service = Service.from_settings(settings)
# Now, and not at the first request: the host routes to an instance when this module is imported.
service.preload()
service.metrics.cold_start(process_age())
if pusher := open_pusher(settings, service.metrics, os.environ):
    atexit.register(pusher.start().close)
gc.freeze()

app = FunctionApp(create_app(service), auth_level(os.environ), function_name="api")
# Open to everybody: probes have no keys.
app.add("health", "health", ["GET", "HEAD"], func.AuthLevel.ANONYMOUS)
app.add("probes", "v2/health/{probe}", ["GET", "HEAD"], func.AuthLevel.ANONYMOUS)

if settings.batch_output:
    from azure_app.triggers import add_triggers

    add_triggers(app, service, Limits.of(os.environ, ROOT))

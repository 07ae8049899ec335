"""The Azure Functions app: AsgiFunctionApp around inferry's application. Every trigger goes on this one `app`."""

import atexit
import gc
import os

import azure.functions as func
from inferry import logs
from inferry.app import create_app
from inferry.pushing import open_pusher, process_age
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


@app.function_name("health")
@app.route("health", methods=["GET", "HEAD"], auth_level=func.AuthLevel.ANONYMOUS)
async def health(req: func.HttpRequest, context: func.Context) -> func.HttpResponse:
    """Open to everybody, like the next: probes have no keys."""
    answer: func.HttpResponse = await app.middleware.handle_async(req, context)
    return answer


@app.function_name("probes")
@app.route("v2/health/{probe}", methods=["GET", "HEAD"], auth_level=func.AuthLevel.ANONYMOUS)
async def probes(req: func.HttpRequest, context: func.Context) -> func.HttpResponse:
    """The protocol's own: live and ready."""
    answer: func.HttpResponse = await app.middleware.handle_async(req, context)
    return answer


if settings.batch_output:
    from azure_app.triggers import add_triggers

    add_triggers(app, service, Limits.of(os.environ, ROOT))

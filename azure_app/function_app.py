"""The Azure Functions app: AsgiFunctionApp around inferry's application. Every trigger goes on this one `app`."""

import atexit
import gc
import os

from inferry.process import importing

with importing():
    from inferry.app import create_app
    from inferry.observability import logs
    from inferry.observability.sinks.pusher import open_pusher, process_age
    from inferry.service import Service
    from inferry.settings import Settings

    from azure_app import ROOT
    from azure_app.environment import Limits, auth_level, defaults, route_prefix
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
app.add_probes()
if (base := settings.base_path.strip("/")) and f"/{base}" != route_prefix(os.environ, ROOT):
    # A proxy's, which may leave it on the path.
    app.add_probes(base)

if settings.batch_output:
    from azure_app.triggers import add_trigger

    add_trigger(app, service, Limits.of(os.environ, ROOT), os.environ.get("AZURE_STORAGE_ACCOUNT_NAME", ""))

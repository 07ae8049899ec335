"""The Lambda function behind API Gateway, a load balancer or a Function URL, or invoked directly: the application."""

import gc
import os

from inferry.process import importing

with importing():
    from inferry.app import create_app
    from inferry.service import Service
    from inferry.settings import Settings

    from functions import initialization, logs, metrics, stored_keys
    from functions.gateway import Gateway

settings = Settings.from_env(initialization.threads(os.environ) | os.environ | stored_keys.settings(os.environ))
logs.configure(settings)
service = Service.from_settings(settings)
with initialization.watched():
    initialization.preload(service)

gateway = Gateway(create_app(service), service)
if initialization.requests_will_wait(service, os.environ):
    gateway.open_loop()
handler = metrics.pushing(gateway, service, os.environ)
# What the init has made stays: no search for garbage looks at it again.
gc.freeze()

"""The Lambda function behind API Gateway, a load balancer or a Function URL: Mangum over inferry's application."""

import gc
import os

# First: below many other imports NumPy's is slow, as Python then maps a piece of its stack for each call in a loop:
# 6 of the 140 ms of CPU of these imports (Python 3.11, AMD EPYC), which row `init` has in it.
import inferry.runtime.session  # noqa: F401
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

mangum = Gateway(create_app(service), lifespan="off")
if initialization.requests_will_wait(service, os.environ):
    mangum.open_loop()
handler = metrics.pushing(mangum, service, os.environ)
# What the init has made stays: no search for garbage looks at it again.
gc.freeze()

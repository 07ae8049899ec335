"""From a process's start to the first prediction of the Functions app: functions_first.py BODY, with MODEL_PATH set."""

import os
import sys
from types import SimpleNamespace
from typing import Any

import function_app

handler: Any = function_app.app.get_functions()[0].get_user_function()

import asyncio  # noqa: E402

import azure.functions as func  # noqa: E402

request = func.HttpRequest("POST", "http://app/v2/models/digits/infer", headers={}, body=sys.argv[1].encode())
context = SimpleNamespace(invocation_id="first", trace_context=SimpleNamespace(trace_parent=""))
answer = asyncio.run(handler(req=request, context=context))
if answer.status_code != 200:
    raise SystemExit(f"the answer is {answer.get_body()}")
if "fastapi" in sys.modules:
    raise SystemExit("FastAPI is imported")
os._exit(0)

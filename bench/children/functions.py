"""One row of 64 floats through Microsoft's runtime library, to the Functions app and to a constant answer, in turns.

functions.py TURNS, with the path to `standin` and the runtime library in PYTHONPATH. Prints `{"app": [seconds],
"constant": [seconds]}` of curl's request, the median of each turn, and the same as "far app" and "far constant" of one
that came through a front end, which tells the app of the client.
"""

import asyncio
import gc
import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from azure_functions_runtime.bindings.datumdef import Datum
from standin import worker

from bench.measure import ROOT
from bench.peers.example import infer_body

# A turn is so many invocations: often enough to be slowed by the same things, and seldom enough to run in caches of its
# own, as an app does where it has an instance for itself.
TURN = 25
WARM_UP = 8
# What the host makes before it asks the worker.
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
INVOCATION = "5b2d6e0a-54c1-4b6f-9a37-6c4f5d1f2f6b"
BODY = infer_body()
CURL = {"host": "app", "user-agent": "curl/8.14.1", "accept": "*/*", "content-type": "application/json"}
# As many as App Service adds.
FRONT_END = {
    "x-forwarded-for": "192.0.2.7:51234",
    "x-forwarded-proto": "https",
    "x-forwarded-tlsversion": "1.3",
    "x-original-url": "/v2/models/digits/infer",
    "x-waws-unencoded-url": "/v2/models/digits/infer",
    "x-site-deployment-id": "app",
    "x-appservice-proto": "https",
    "x-arr-log-id": "5b2d6e0a-54c1-4b6f-9a37-6c4f5d1f2f6b",
    "was-default-hostname": "app.azurewebsites.net",
    "disguised-host": "app.azurewebsites.net",
    "client-ip": "192.0.2.7:51234",
    "max-forwards": "10",
}


def request(**more: str) -> Any:
    """What the host hands to the worker of curl's request: a datum for each, as it makes one."""
    headers = {**CURL, "content-length": str(len(BODY)), **more}
    value = {
        "method": Datum("POST", "string"),
        "url": Datum("http://app/v2/models/digits/infer", "string"),
        "headers": {name: Datum(value, "string") for name, value in headers.items()},
        "query": {},
        "params": {},
        "body": Datum(BODY, "bytes"),
    }
    return Datum(value, "http")


async def measure(turns: int) -> dict[str, list[float]]:
    """Samples of both; the app is indexed first, and what it answers is the constant."""
    (api,) = (function for function in await worker.index(ROOT) if function.name == "api")
    answer = (await worker.invoke(api, request())).value.value
    if answer["status_code"].value != "200":
        raise SystemExit(f"{answer}")
    # Its headers too: the library takes its time for each of them.
    os.environ["CONSTANT_HEADERS"] = json.dumps({name: datum.value for name, datum in answer["headers"].items()})
    os.environ["CONSTANT_ANSWER"] = answer["body"].value.decode()
    os.environ["PYTHON_SCRIPT_FILE_NAME"] = "constant_app.py"
    (constant,) = await worker.index(Path(__file__).parent / "constant")
    functions = [
        (f"{way}{name}", function, headers)
        for way, headers in (("", {}), ("far ", FRONT_END))
        for name, function in (("app", api), ("constant", constant))
    ]
    samples: dict[str, list[float]] = {name: [] for name, *_ in functions}
    gc.collect()
    gc.freeze()
    for _ in range(WARM_UP + turns):
        for name, function, headers in functions:
            samples[name].append(median([await invoked(function, headers) for _ in range(TURN)]))
    return {name: values[WARM_UP:] for name, values in samples.items()}


async def invoked(function: worker.Function, headers: Mapping[str, str]) -> float:
    """Seconds of an invocation."""
    given = request(**headers)
    start = time.perf_counter()
    outcome = await worker.invoke(function, given, None, TRACEPARENT, INVOCATION)
    took = time.perf_counter() - start
    if outcome.error:
        raise SystemExit(outcome.error)
    return took


if __name__ == "__main__":
    print(json.dumps(asyncio.run(measure(int(sys.argv[1])))))

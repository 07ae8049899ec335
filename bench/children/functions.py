"""One row of 64 floats through Microsoft's runtime library, to the Functions app and to a constant answer, in turns.

functions.py N, with the path to `standin` and the runtime library in PYTHONPATH. Prints `{"app": [seconds],
"constant": [seconds]}`.
"""

import asyncio
import gc
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from azure_functions_runtime.bindings.datumdef import Datum
from standin import worker

from bench.measure import ROOT
from bench.peers.example import infer_body

WARM_UP = 200


def request() -> Any:
    """What the host hands to the worker of curl's request: a datum for each, as it makes one."""
    body = infer_body()
    headers = {
        "host": "app",
        "user-agent": "curl/8.14.1",
        "accept": "*/*",
        "content-type": "application/json",
        "content-length": str(len(body)),
    }
    value = {
        "method": Datum("POST", "string"),
        "url": Datum("http://app/v2/models/digits/infer", "string"),
        "headers": {name: Datum(value, "string") for name, value in headers.items()},
        "query": {},
        "params": {},
        "body": Datum(body, "bytes"),
    }
    return Datum(value, "http")


async def measure(count: int) -> dict[str, list[float]]:
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
    samples: dict[str, list[float]] = {"app": [], "constant": []}
    gc.collect()
    gc.freeze()
    for _ in range(WARM_UP + count):
        for name, function in (("app", api), ("constant", constant)):
            given = request()
            start = time.perf_counter()
            outcome = await worker.invoke(function, given)
            samples[name].append(time.perf_counter() - start)
            if outcome.error:
                raise SystemExit(outcome.error)
    return {name: values[WARM_UP:] for name, values in samples.items()}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(measure(int(sys.argv[1])))))

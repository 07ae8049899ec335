"""Run by test_package.py in an interpreter that has nothing: indexes the app of a folder and predicts once.

isolated.py APP RUNTIME BODY, where the worker would look: the app's own packages come first. Prints JSON.
"""

import asyncio
import importlib
import json
import os
import resource
import sys
import sysconfig
import time
from pathlib import Path

START = time.monotonic()
# Imported only where the settings ask for them; each needs packages that a prediction doesn't.
ON_DEMAND = (
    "azure_app.triggers",
    "inferry.storage.bucket",
    "inferry.jobs.formats.parquet_reader",
    "inferry.http.management",
    "inferry.observability.sinks.azure_monitor",
    "inferry.observability.traces",
)


def main() -> None:
    app, runtime, body = Path(sys.argv[1]), sys.argv[2], sys.argv[3].encode()
    # One CPU, whatever the machine has.
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    sys.path[:0] = [str(app / ".python_packages/lib/site-packages"), runtime, str(Path(__file__).parent)]
    print(json.dumps(asyncio.run(predict(app, body))))


async def predict(app: Path, body: bytes) -> dict[str, object]:
    from azure_functions_runtime.bindings.datumdef import Datum
    from standin import worker

    functions = await worker.index(app)
    request = {
        "method": Datum("POST", "string"),
        "url": Datum("http://app/v2/models/digits/infer", "string"),
        "headers": {},
        "query": {},
        "params": {},
        "body": Datum(body, "bytes"),
    }
    (api,) = (function for function in functions if function.name == "api")
    outcome = await worker.invoke(api, Datum(request, "http"))
    assert outcome.value is not None, outcome.error
    seconds = time.monotonic() - START
    for name in ON_DEMAND:
        importlib.import_module(name)
    modules = [module.__file__ for module in list(sys.modules.values()) if getattr(module, "__file__", None)]
    return {
        "functions": sorted(function.name for function in functions),
        "status": outcome.value.value["status_code"].value,
        "answer": json.loads(outcome.value.value["body"].value),
        "seconds": seconds,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "library": sysconfig.get_path("stdlib"),
        "files": [file for file in modules if file],
    }


main()

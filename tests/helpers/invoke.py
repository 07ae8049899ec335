"""Runs one event under Lambda's runtime, and prints the answer, the function's log and its times: invoke.py EVENT."""

import json
import sys
from pathlib import Path

from emulator import PYTHONS, emulated

# What HTTP events have, and direct invocations; files, queues and schedules are for the other function.
REQUESTS = {"requestContext", "inputs", "features", "ready"}


def handler(event: object) -> str:
    """The function that the event is for."""
    is_request = isinstance(event, dict) and not REQUESTS.isdisjoint(event)
    return "functions.api.handler" if is_request else "functions.batch.handler"


def main(path: str) -> None:
    event = json.loads(Path(path).read_text())
    version, python = next(iter(PYTHONS.items()))
    with emulated(handler(event), python, MODEL_PATH="models", DEFAULT_MODEL="digits") as emulator:
        answer = emulator.invoke(event)
        print(emulator.log, file=sys.stderr)
        print(json.dumps(answer, indent=2))
        print(f"{handler(event)}, Python {version}: init {emulator.init_ms:.0f} ms", file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1])

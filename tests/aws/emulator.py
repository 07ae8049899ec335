"""Lambda's runtime interface emulator over awslambdaric, as AWS runs it: one process for one function."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from contract.services import HOST, _wait, free_port

ROOT = Path(__file__).parents[2]
EMULATOR = ROOT / ".tools" / "emulator" / "aws-lambda-rie"
INVOKE = "2015-03-31/functions/function/invocations"


@contextmanager
def emulated(handler: str, environment: Mapping[str, str], *, timeout: int = 29, memory: int = 1769) -> Iterator[str]:
    """The URL that takes events, one at a time. The handler is imported at the first of them."""
    port, runtime = free_port(), free_port()
    command = [str(EMULATOR), "--log-level", "info"]
    command += ["--runtime-interface-emulator-address", f"{HOST}:{port}", "--runtime-api-address", f"{HOST}:{runtime}"]
    command += [sys.executable, "-m", "awslambdaric", handler]
    variables = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "ORT_DISABLE_TELEMETRY": "1",
        "AWS_LAMBDA_FUNCTION_NAME": "function",
        "AWS_LAMBDA_FUNCTION_VERSION": "1",
        "AWS_LAMBDA_FUNCTION_TIMEOUT": str(timeout),
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(memory),
        **environment,
    }
    with tempfile.TemporaryDirectory() as folder, Path(folder, "log").open("w+b") as log:
        process = subprocess.Popen(command, env=variables, cwd=folder, stdout=log, stderr=log, start_new_session=True)
        try:
            _wait(process, port, Path(log.name))
            yield f"http://{HOST}:{port}/{INVOKE}"
        finally:
            # The emulator's own child outlives it otherwise.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)

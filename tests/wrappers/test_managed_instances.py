"""The image's command on a Managed Instance: as many processes as requests at once, each with the application."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import lambda_events as events
from loopback import listening

ROOT = Path(__file__).parents[2]
PROCESSES = 3
SECONDS = 60


class Service:
    """Lambda's runtime API: hands out an event to each process, and only when all of them have asked for one."""

    def __init__(self) -> None:
        self.waiting = threading.Barrier(PROCESSES)
        self.answers: list[tuple[str, Any]] = []
        self.all_there = threading.Event()
        self.over = threading.Event()

    def handler(self) -> type[BaseHTTPRequestHandler]:
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            asked = 0

            def do_GET(self) -> None:
                number = service.waiting.wait(SECONDS) if not service.answers else -1
                if number < 0:
                    service.over.wait(SECONDS)
                    self.close_connection = True
                    return
                event = json.dumps({**events.load("direct"), "id": f"request-{number}"}).encode()
                self.send_response(200)
                for name, value in (
                    ("Lambda-Runtime-Aws-Request-Id", f"id-{number}"),
                    ("Lambda-Runtime-Deadline-Ms", str(int(1000 * (time.time() + SECONDS)))),
                    ("Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:us-east-2:123456789012:function:inferry"),
                    ("Content-Type", "application/json"),
                    ("Content-Length", str(len(event))),
                ):
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(event)

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                service.answers.append((self.path, json.loads(body)))
                self.send_response(202)
                self.send_header("Content-Length", "0")
                self.end_headers()
                if len(service.answers) == PROCESSES:
                    service.all_there.set()

            def log_message(self, *_: Any) -> None:
                """Nobody reads it."""

        return Handler


def test_each_process_predicts() -> None:
    service = Service()
    with listening(service.handler()) as url:
        given = {
            "AWS_LAMBDA_RUNTIME_API": url.removeprefix("http://"),
            "AWS_LAMBDA_MAX_CONCURRENCY": str(PROCESSES),
            "AWS_LAMBDA_INITIALIZATION_TYPE": "lambda-managed-instances",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "4096",
            "INTRA_OP_THREADS": "1",
            "MODEL_PATH": str(ROOT / "models"),
            "DEFAULT_MODEL": "digits",
            "METRICS_SINKS": "prometheus,emf",
            "APP_NAME": "instances",
            "ORT_DISABLE_TELEMETRY": "1",
            "PYTHONPATH": str(ROOT),
        }
        command = [sys.executable, "-m", "functions", "functions.api.handler"]
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **given},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            there = service.all_there.wait(SECONDS)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            service.over.set()
            output, _ = process.communicate()
    assert there, output
    assert {path for path, _ in service.answers} == {
        f"/2018-06-01/runtime/invocation/id-{number}/response" for number in range(PROCESSES)
    }
    assert sorted(answer["id"] for _, answer in service.answers) == [f"request-{n}" for n in range(PROCESSES)]
    assert [answer["outputs"][0]["data"] for _, answer in service.answers] == [[7]] * PROCESSES

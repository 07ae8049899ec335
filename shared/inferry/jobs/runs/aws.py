"""Runs on AWS: executions of the state machine that the stack has."""

import json
import re
import time
from collections.abc import Mapping
from typing import Any

from inferry.cloud.http_client import NoAnswer, Poster
from inferry.cloud.sigv4 import Environment, Signer, now
from inferry.errors import InvalidRequest, InvalidSettings
from inferry.jobs.runs.run import Run

# Seconds for an answer, and how often one is asked for that may come another time.
SECONDS, ATTEMPTS, PAUSE = 10.0, 5, 1.0
_ARN = re.compile(r"arn:(aws[a-z-]*):states:([a-z0-9-]+):(\d{12}):stateMachine:([\w-]+)")
_DOMAINS = {"aws-cn": "amazonaws.com.cn"}
_BUSY = ("ThrottlingException", "ServiceUnavailable")


class StepFunctions:
    """A state machine, by its ARN. Credentials are those of the environment."""

    def __init__(self, runner: str, env: Mapping[str, str]) -> None:
        found = _ARN.fullmatch(runner)
        if found is None:
            raise InvalidSettings(
                "BATCH_RUNNER or --runner must be the ARN of the stack's state machine, its output Runner; "
                f"got {runner[:200]!r}"
            )
        partition, region = found[1], found[2]
        default = f"https://states.{region}.{_DOMAINS.get(partition, 'amazonaws.com')}/"
        self._machine = runner
        self._url = env.get("AWS_ENDPOINT_URL_SFN") or env.get("AWS_ENDPOINT_URL") or default
        self._poster = Poster(self._url, "AWS_ENDPOINT_URL")
        self._signer = Signer(region, "states")
        self._credentials = Environment(env)

    def start(self, name: str, job: Mapping[str, Any]) -> None:
        self._ask("StartExecution", stateMachineArn=self._machine, name=name, input=json.dumps(job))

    def ended(self, run: Run) -> str | None:
        execution = self._machine.replace(":stateMachine:", ":execution:")
        found = self._ask("DescribeExecution", executionArn=f"{execution}:{run.name}")
        if found["status"] in ("RUNNING", "PENDING_REDRIVE"):
            return None
        if found["status"] == "SUCCEEDED":
            return ""
        return ": ".join(filter(None, (found.get("error", found["status"]), _reason(found.get("cause", "")))))

    def _ask(self, action: str, **members: Any) -> Any:
        """The answer. InvalidRequest when there is none, or when it is no."""
        problem = ""
        for attempt in range(ATTEMPTS):
            if attempt:
                time.sleep(PAUSE * attempt**2)
            try:
                return self._once(action, json.dumps(members).encode())
            except NoAnswer as exc:
                problem = str(exc)
        raise InvalidRequest(f"Step Functions gives no answer to {action}: {problem}")

    def _once(self, action: str, body: bytes) -> Any:
        headers = {"Content-Type": "application/x-amz-json-1.0", "X-Amz-Target": f"AWSStepFunctions.{action}"}
        deadline = time.monotonic() + SECONDS
        signed = self._signer.headers("POST", self._url, headers, body, self._credentials.get(deadline), now())
        answer = self._poster.post(body, signed, deadline)
        found = _document(answer.body)
        if answer.status == 200:
            return found
        kind = str(found.get("__type", answer.status)).rpartition("#")[2]
        text = ": ".join(filter(None, (kind, found.get("message") or found.get("Message"))))
        if answer.status >= 500 or kind in _BUSY:
            raise NoAnswer(text)
        raise InvalidRequest(f"Step Functions refuses {action}: {text}")


def _document(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _reason(cause: str) -> str:
    """Lambda's causes are documents with a trace in them."""
    return str(_document(cause.encode()).get("errorMessage", cause))

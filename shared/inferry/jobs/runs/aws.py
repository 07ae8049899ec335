"""Runs on AWS: executions of the state machine that the stack has."""

import json
import re
from collections.abc import Mapping
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from inferry.errors import InvalidRequest, InvalidSettings
from inferry.jobs.runs.run import Run

# Seconds for a response, and how often one is asked for that may come another time.
SECONDS, ATTEMPTS = 10.0, 5
_ARN = re.compile(r"arn:aws[a-z-]*:states:([a-z0-9-]+):(\d{12}):stateMachine:([\w-]+)")
_BUSY = ("ThrottlingException", "ServiceUnavailable")


class StepFunctions:
    """A state machine, by its ARN. Credentials are those that boto3 finds: variables, profiles, SSO, a role."""

    def __init__(self, runner: str, env: Mapping[str, str]) -> None:
        """InvalidSettings for another ARN, and for a profile that isn't there. boto3 reads the process's own `env`."""
        found = _ARN.fullmatch(runner)
        if found is None:
            raise InvalidSettings(
                "BATCH_RUNNER or --runner must be the ARN of the stack's state machine, its output Runner; "
                f"got {runner[:200]!r}"
            )
        self._machine = runner
        retries = {"mode": "standard", "total_max_attempts": ATTEMPTS}
        config = Config(retries=retries, connect_timeout=SECONDS, read_timeout=SECONDS)
        try:
            self._client = boto3.session.Session().client("stepfunctions", region_name=found[1], config=config)
        except BotoCoreError as exc:
            raise InvalidSettings(f"AWS's settings can't be used: {exc}") from exc

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
        """The response. InvalidRequest when there is none, or when it is no."""
        method = {"StartExecution": "start_execution", "DescribeExecution": "describe_execution"}[action]
        try:
            return getattr(self._client, method)(**members)
        except ClientError as exc:
            error, status = exc.response["Error"], exc.response["ResponseMetadata"]["HTTPStatusCode"]
            text = ": ".join(filter(None, (error["Code"], error.get("Message"))))
            if status >= 500 or error["Code"] in _BUSY:
                raise InvalidRequest(f"Step Functions did not answer {action}: {text}") from exc
            raise InvalidRequest(f"Step Functions refuses {action}: {text}") from exc
        except BotoCoreError as exc:
            raise InvalidRequest(f"Step Functions can't be asked for {action}: {exc}") from exc


def _reason(cause: str) -> str:
    """Lambda's causes are documents with a trace in them."""
    try:
        found = json.loads(cause)
    except ValueError:
        return cause
    return str(found.get("errorMessage", cause)) if isinstance(found, dict) else cause

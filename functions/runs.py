"""Runs of many files: what the steps of the state machine ask the function for, and what they need to know of S3."""

from typing import Any

from inferry.errors import InvalidRequest
from inferry.jobs.runs.run import FILES, SLICES
from inferry.worker.steps import Document, RunSteps


class Runs:
    """The steps of a run of many files, as the state machine of AWS Step Functions asks for them."""

    def __init__(self, steps: RunSteps) -> None:
        self._steps = steps
        self.knows = steps.knows

    def do(self, event: Document, until: float) -> dict[str, Any]:
        """What came of a step, as `RunSteps.do` says it; a plan also has its lists' buckets and keys.

        `retries` in the event is how often the state machine has tried the step before.
        """
        retries = event.get("retries", 0)
        done = self._steps.do(event, until, attempt=1 + retries if isinstance(retries, int) else 1)
        for kind in (FILES, SLICES):
            if isinstance(planned := done.get(kind), dict):
                planned["bucket"], planned["key"], planned["results"] = _place(planned["url"], kind)
        return done


def _place(url: str, kind: str) -> tuple[str, str, str]:
    """The bucket and the key of a list, and where Step Functions may say what came of it."""
    scheme, _, rest = url.partition("://")
    bucket, _, key = rest.partition("/")
    if scheme != "s3":
        raise InvalidRequest(f"the state machine reads and writes S3, not {url}")
    return bucket, key, f"{key.rpartition('/')[0]}/results/{kind}"

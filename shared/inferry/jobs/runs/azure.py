"""Runs on Azure: jobs for the queue that the Functions app takes messages from, handed out from here."""

from collections.abc import Mapping
from typing import Any

import orjson

from inferry.errors import InvalidSettings
from inferry.jobs.report import FAILED, FINISHED
from inferry.jobs.runs.run import FILES, SLICES, Outcome, Run
from inferry.jobs.runs.storage_queue import StorageQueue

# A run of which more files than this share have no results has failed, though the others have theirs.
TOLERATED = 0.05
_MERGE = "merge"
# The host's own rule for the name.
_POISON = "-poison"


class Queue:
    """A queue, by its URL. Who watches a run gives out its jobs: the slices, then the files, then the merge.

    Every message may come twice, so that anybody may go on with the run of somebody who went away.
    """

    def __init__(self, runner: str, env: Mapping[str, str]) -> None:
        if not runner:
            raise InvalidSettings(
                "BATCH_RUNNER or --runner must be the URL of the queue, Terraform's output jobs_queue"
            )
        self._queue = StorageQueue(runner, env)
        self._poison = StorageQueue(f"{runner.rstrip('/')}{_POISON}", env)
        self._given: set[str] = set()

    def start(self, name: str, job: Mapping[str, Any]) -> None:
        self._queue.put([orjson.dumps({"plan": job, "run": name})])

    def ended(self, run: Run) -> str | None:
        # Before the look at what was done: an empty queue means that no more will be, by the messages until then.
        idle = self._queue.count() == 0
        plan = run.plan()
        if plan is None:
            report = run.read_report()
            return _verdict(report) if report is not None else self._unplanned(run) if idle else None
        found = run.outcomes()
        for kind, count in ((SLICES, plan.slices), (FILES, plan.files)):
            if not self._behind(run, kind, count, found, idle):
                return None
        if _MERGE not in self._given:
            self._queue.put([orjson.dumps({"merge": {"name": run.name, "output": run.output}})])
            self._given.add(_MERGE)
            return None
        return f"its jobs are done and couldn't be merged{self._reason(run)}" if idle else None

    def _behind(
        self, run: Run, kind: str, count: int, found: Mapping[tuple[int, int | None], Outcome], idle: bool
    ) -> bool:
        """Whether all that can be done of the jobs of a kind is done; gives them out if nobody did."""
        ours = {key: outcome for key, outcome in found.items() if (key[1] is None) == (kind == FILES)}
        settled = {key for key, outcome in ours.items() if outcome.state in (FINISHED, FAILED)}
        if len(settled) >= count:
            return True
        if kind in self._given:
            return idle
        # Somebody else's may be on their way.
        if idle or not ours:
            self._queue.put(line for line in run.jobs(kind) if _key(line) not in settled)
            self._given.add(kind)
        return False

    def _unplanned(self, run: Run) -> str:
        return f"it couldn't be planned{self._reason(run)}"

    def _reason(self, run: Run) -> str:
        """What the app said of the run's message; the queue shows no more than what is in front."""
        for body in self._poison.peek():
            note = _document(body)
            original = _document(str(note.get("body", "")).encode())
            if run.name in (original.get("run"), _document_of(original, "merge").get("name")):
                return f": {note.get('reason')}"
        return f"; the reason is in {self._poison.url} and in the app's log"


def _key(line: bytes) -> tuple[int, int | None]:
    run = orjson.loads(line)["run"]
    return run["file"], run["slice"]


def _verdict(content: bytes) -> str:
    """Why a run with this report failed, or ""."""
    report = orjson.loads(content)
    failed, done = len(report["failed"]), len(report["files"])
    if failed <= TOLERATED * (failed + done):
        return ""
    return f"{failed} of {failed + done} files have no results, more than {TOLERATED:.0%}"


def _document(content: bytes) -> dict[str, Any]:
    try:
        found = orjson.loads(content)
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def _document_of(document: Mapping[str, Any], member: str) -> dict[str, Any]:
    found = document.get(member)
    return found if isinstance(found, dict) else {}

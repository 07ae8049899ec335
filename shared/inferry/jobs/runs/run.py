"""Runs: the jobs of many files, done anywhere. Small files beside the results say what is to do and what was done."""

import re
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from io import BufferedReader, RawIOBase
from itertools import islice
from typing import Any, BinaryIO, NamedTuple, cast

import numpy as np
import orjson

from inferry.errors import InvalidRequest
from inferry.jobs.part_writer import Progress
from inferry.jobs.report import FAILED, FINISHED, UNFINISHED
from inferry.storage.files import open_files
from inferry.storage.stored import HIDDEN

# At once.
DELETES = 32
RUNS = f"{HIDDEN}/runs"
FILES, SLICES = "files", "slices"
# What a job's reason may have in a report of all.
LONGEST = 1000
_PLAN, _OUTCOMES = "plan.json", "outcomes"
# Of what is known of a job, the last of these counts. UNFINISHED: it failed, and will be tried again.
_RANKS = (UNFINISHED, FAILED, FINISHED)
_NAME = re.compile("[A-Za-z0-9_-]{1,80}")


class Outcome(NamedTuple):
    """What became of a file of a run, or of a slice of it, both by number; `state` is that of a report."""

    file: int
    slice: int | None
    state: str
    rows: int = 0
    errors: int = 0
    seconds: float = 0.0

    @property
    def name(self) -> str:
        """Says everything, so that a listing is enough to know all outcomes."""
        part = "" if self.slice is None else self.slice
        return f"{self.file}-{part}-{self.state}-{self.rows}-{self.errors}-{round(self.seconds * 1000)}"

    @classmethod
    def of(cls, name: str) -> "Outcome":
        """The outcome whose file has this name."""
        file, part, state, rows, errors, milliseconds = name.split("-")
        number = int(part) if part else None
        return cls(int(file), number, state, int(rows), int(errors), int(milliseconds) / 1000)

    @property
    def has_results(self) -> bool:
        """Whether the file is done, with more than errors if it has rows."""
        return self.state == FINISHED and bool(self.rows or not self.errors)


class FileOutcomes:
    """What became of the files of a run, by number. Each takes some bytes of memory, as there may be a million."""

    def __init__(self, outcomes: Iterable[Outcome], count: int) -> None:
        self._ranks = np.full(count, -1, np.int8)
        self._counts = np.zeros((count, 3), np.int64)
        for outcome in outcomes:
            number, rank = outcome.file, _RANKS.index(outcome.state)
            if outcome.slice is None and number < count and rank >= self._ranks[number]:
                self._ranks[number] = rank
                self._counts[number] = (outcome.rows, outcome.errors, round(outcome.seconds * 1000))

    def get(self, number: int) -> Outcome | None:
        """That of the file of this number; None while nothing is known of it."""
        if self._ranks[number] < 0:
            return None
        rows, errors, milliseconds = self._counts[number].tolist()
        return Outcome(number, None, _RANKS[self._ranks[number]], rows, errors, milliseconds / 1000)

    def __iter__(self) -> Iterator[Outcome]:
        """All that are known."""
        return (outcome for number in range(len(self._ranks)) if (outcome := self.get(number)))


class Plan(NamedTuple):
    """How many jobs a run has: files, and slices of large ones."""

    files: int
    slices: int


class Run:
    """The run of a name whose results go below the folder `output`. StoreError when the store fails."""

    def __init__(self, output: str, name: str) -> None:
        """InvalidRequest for a name that can't name files."""
        if not _NAME.fullmatch(name):
            raise InvalidRequest("the name of a run has 1 to 80 letters, digits, - and _")
        self.output = output.rstrip("/")
        self.name = name
        self._store = open_files(self.output)
        self._folder = f"{RUNS}/{name}"

    @property
    def report(self) -> str:
        """The URL of the report of the run."""
        return f"{self.output}/{self._report}"

    def planned(self, kind: str) -> str:
        """The URL of the jobs of FILES or SLICES, one in JSON on a line."""
        return f"{self.output}/{self._folder}/{kind}.jsonl"

    def write(self, jobs: Iterable[tuple[Mapping[str, Any], str, list[Any]]]) -> Plan:
        """Plans: each job is its description, the URL of its results, and the parts that may be made before it."""
        files = slices = 0
        paths = [f"{self._folder}/{kind}.jsonl" for kind in (FILES, SLICES)]
        with self._store.write(paths[0]) as file_lines, self._store.write(paths[1]) as slice_lines:
            for description, results, parts in jobs:
                for number, part in enumerate(parts):
                    slice_lines.write(self._line({**description, "part": part}, files, number))
                file_lines.write(self._line(description, files, None, results=results))
                files, slices = files + 1, slices + len(parts)
        plan = Plan(files, slices)
        with self._store.write(f"{self._folder}/{_PLAN}") as file:
            file.write(orjson.dumps(plan._asdict()))
        return plan

    def plan(self) -> Plan | None:
        """The plan of the run; None before there is one, and after `forget`."""
        content = self._store.read(f"{self._folder}/{_PLAN}")
        return Plan(**orjson.loads(content)) if content else None

    def jobs(self, kind: str) -> Iterator[bytes]:
        """The lines of the planned jobs of a kind, SLICES or FILES, one at a time."""
        found = self._store.stat(f"{self._folder}/{kind}.jsonl")
        if found is not None:
            with BufferedReader(cast("RawIOBase", self._store.open(found))) as file:
                yield from file

    def record(self, outcome: Outcome, reason: str = "") -> None:
        """Keeps what became of a job; that it finished counts, however often it failed before or behind that."""
        self._store.create(self._path(outcome), reason[:LONGEST].encode(errors="replace") or b".")
        # A message that came twice, and so late that the run is over: nobody would remove this.
        if self.plan() is None:
            self._store.delete([self._path(outcome)])

    def outcomes(self) -> dict[tuple[int, int | None], Outcome]:
        """The outcomes of all jobs that have one, by the numbers of their file and slice (None: the file itself)."""
        found = sorted(self._known(), key=lambda outcome: _RANKS.index(outcome.state))
        return {(outcome.file, outcome.slice): outcome for outcome in found}

    def of_files(self, count: int) -> FileOutcomes:
        """The outcomes of the first `count` files, those of their slices left out."""
        return FileOutcomes(self._known(), count)

    def progress(self) -> Progress:
        """How far it is, by the files that are done and the slices of those that aren't."""
        plan = self.plan()
        if plan is None:
            return Progress()
        found = self.outcomes()
        counted = [o for o in found.values() if o.slice is None or (o.file, None) not in found]
        rows, errors = sum(o.rows + o.errors for o in counted), sum(o.errors for o in counted)
        return Progress(rows, errors, min(len(found) / max(plan.files + plan.slices, 1), 1.0))

    def reason(self, outcome: Outcome) -> str:
        """Why the job with this outcome failed."""
        return (self._store.read(self._path(outcome)) or b"").decode(errors="replace")

    def open_report(self) -> AbstractContextManager[BinaryIO]:
        """The report of the run, opened to be written."""
        return self._store.write(self._report)

    def read_report(self) -> bytes | None:
        """The report of the run as JSON, None before there is one."""
        return self._store.read(self._report)

    def forget(self) -> None:
        """Removes all but the report. The plan is the first: as long as it is there, the rest is."""
        self._store.delete(f"{self._folder}/{name}" for name in (_PLAN, f"{SLICES}.jsonl", f"{FILES}.jsonl"))
        known = self._known()
        with ThreadPoolExecutor(DELETES) as pool:
            # A request each; the pool would take all of them at once.
            while some := list(islice(known, DELETES * DELETES)):
                for _ in pool.map(lambda outcome: self._store.delete([self._path(outcome)]), some):
                    pass

    @property
    def _report(self) -> str:
        return f"{self.name}.run.json"

    def _known(self) -> Iterator[Outcome]:
        paths = self._store.below(f"{self._folder}/{_OUTCOMES}")
        return (Outcome.of(path.rpartition("/")[2]) for path in paths)

    def _path(self, outcome: Outcome) -> str:
        return f"{self._folder}/{_OUTCOMES}/{outcome.name}"

    def _line(self, job: Mapping[str, Any], file: int, part: int | None, **more: str) -> bytes:
        run = {"name": self.name, "output": self.output, "file": file, "slice": part}
        return orjson.dumps({"run": run, "job": job, **more}, option=orjson.OPT_APPEND_NEWLINE)

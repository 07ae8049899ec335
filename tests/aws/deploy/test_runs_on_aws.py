"""Runs of many files in the emulated account: the state machine as the template has it, in MiniStack's interpreter.

`inferry batch --on aws` starts and watches them, and the function does their steps under Lambda's runtime. What is
replaced: account.py. The interpreter uses no role of the machine's, runs all items whatever has failed, and writes no
results of a Map Run; docs/batch.md says so.
"""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from account import Account
from codedeploy import CodeDeploy
from filestack import Files, deployed, killing
from relay import PATIENCE
from rowsets import lines, straight, table, without_reports

LAKE = "lake"
CONTEXT = {
    "batch": "true",
    "batch_timeout": "30",
    "batch_tolerated": "10",
    "project": "runs",
    "environments": {
        "dev": {"settings": {"DEFAULT_MODEL": "digits", "DATA_PREFIXES": f"s3://{LAKE}/in,s3://{LAKE}/out"}}
    },
}
# The invocations' real limit is less, so that a long job needs several; a machine with other work starts in that time.
SECONDS = 20
# Rows of a job: as many as this machine, at its work of today, doesn't do in one invocation.
LONG = (20_000, 40_000, 80_000, 160_000, 320_000)


class Lake(Files):
    """The stack, and a bucket of somebody else's where the files are."""

    def fill(self, folder: str, files: dict[str, bytes]) -> None:
        for name, content in files.items():
            self.s3.put_object(Bucket=LAKE, Key=f"in/{folder}/{name}", Body=content)

    def execution(self, name: str) -> list[Any]:
        """What Step Functions says of it, and the counts of items of its Map Runs."""
        client = self.environment.account.client("stepfunctions")
        arn = f"{self.names['Runner'].replace(':stateMachine:', ':execution:')}:{name}"
        runs = [
            client.describe_map_run(mapRunArn=run["mapRunArn"])
            for run in client.list_map_runs(executionArn=arn)["mapRuns"]
        ]
        runs.sort(key=lambda run: run["startDate"])
        return [client.describe_execution(executionArn=arn), *(run["itemCounts"] for run in runs)]

    def found(self, prefix: str) -> dict[str, bytes]:
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=LAKE, Prefix=prefix)
        keys = [item["Key"] for page in pages for item in page.get("Contents", [])]
        return {key[len(prefix) :]: self.s3.get_object(Bucket=LAKE, Key=key)["Body"].read() for key in keys}

    def batch(self, folder: str, *more: str) -> "subprocess.CompletedProcess[str]":
        """`inferry batch --on aws` over in/FOLDER/, with its results below out/FOLDER/."""
        command = [sys.executable, "-m", "inferry", "batch", f"s3://{LAKE}/in/{folder}/", f"s3://{LAKE}/out/{folder}/"]
        told = {**self.environment.account.environment, "AWS_ALLOW_HTTP": "true", "ORT_DISABLE_TELEMETRY": "1"}
        return subprocess.run(
            [*command, "--on", "aws", "--runner", self.names["Runner"], "--json", *more],
            env=told,
            check=False,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )


@pytest.fixture(scope="module")
def lake(account: Account, codedeploy: CodeDeploy, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    with deployed(account, codedeploy, tmp_path_factory.mktemp("deployed"), CONTEXT, SECONDS) as files:
        lake = Lake(files.environment, files.relay, files.emulator, files.rights)
        lake.s3.create_bucket(Bucket=LAKE)
        yield lake


def ids(results: dict[str, bytes]) -> Counter[int]:
    """Of all rows that have a result or an error."""
    found: Counter[int] = Counter()
    for name, content in results.items():
        rows = content.splitlines()
        if name.endswith(".errors.jsonl"):
            data = [json.loads(row)["data"] for row in rows]
            found.update(int(row["id"] if isinstance(row, dict) else row.partition(",")[0]) for row in data)
        elif name.endswith(".jsonl"):
            found.update(json.loads(row)["id"] for row in rows)
        elif name.endswith(".csv"):
            found.update(int(row.partition(b",")[0].strip(b'"')) for row in rows[1:])
    return found


def name_of(done: "subprocess.CompletedProcess[str]") -> str:
    return done.stderr.splitlines()[-1].removeprefix("run ").partition(":")[0]


def test_objects_and_slices(lake: Lake, tmp_path: Path) -> None:
    """Small files, a large CSV, and one that can't be read: each row has one result or one error, as a run here has."""
    random = Random(1)
    files = {f"{n % 3}/ü {n}.jsonl": lines(n * 50, 50, random) for n in range(12)}
    files |= {"large.csv": table(600, 15_000, random), "poison.csv": b""}
    lake.fill("first", files)
    done = lake.batch("first", "--model", "digits", "--keep", "id", "--slice", "1")
    summary = json.loads(done.stdout)
    assert (done.returncode, summary["rows"] + summary["errors"]) == (1, 15_600), done.stderr
    poison = f"s3://{LAKE}/in/first/poison.csv"
    assert summary["failed"] == [{"input": poison, "reason": f"{poison} is empty"}]
    assert len(summary["files"]) == 13
    results, name = lake.found("out/first/"), name_of(done)
    assert json.loads(results[f"{name}.run.json"]) == summary
    assert without_reports(results) == without_reports(straight(files, tmp_path, "--keep", "id"))
    assert ids(results) == Counter(range(15_600))
    status, slices, whole = lake.execution(name)
    assert (status["status"], json.loads(status["output"])["failed"]) == ("SUCCEEDED", 1)
    assert (slices["total"] > 2, slices["succeeded"]) == (True, slices["total"])
    assert (whole["total"], whole["succeeded"], whole["failed"]) == (14, 13, 1)


def test_a_second_run_does_nothing_again(lake: Lake) -> None:
    """Nothing is cut, and no result is written: the files' reports are of the first run."""
    before = lake.found("out/first/")
    done = lake.batch("first", "--model", "digits", "--keep", "id", "--slice", "1")
    assert done.returncode == 1
    after = lake.found("out/first/")
    assert {name: after[name] for name in before} == before
    assert after.keys() - before.keys() == {f"{name_of(done)}.run.json"}
    _, whole = lake.execution(name_of(done))
    assert (whole["total"], whole["succeeded"]) == (14, 13)


def test_over_the_threshold(lake: Lake) -> None:
    """The execution fails, with a report that says why, and with the results of what could be predicted."""
    files = {"a.jsonl": lines(0, 5, Random(2)), "b.csv": b"", "c.parquet": b"PAR1", "d.npy": b"?"}
    lake.fill("bad", files)
    done = lake.batch("bad", "--model", "digits")
    assert done.returncode == 1
    name, place = name_of(done), f"s3://{LAKE}/out/bad"
    said = f"3 of 4 files have no results; {place}/{name}.run.json says why"
    assert done.stderr.splitlines()[-1] == f"run {name}: failed: TooManyFailures: {said}"
    summary = json.loads(done.stdout)
    assert [item["output"] for item in summary["files"]] == [f"{place}/a.jsonl"]
    assert [Path(item["input"]).name for item in summary["failed"]] == ["b.csv", "c.parquet", "d.npy"]
    assert all(Path(item["input"]).name in item["reason"] for item in summary["failed"])
    status, whole = lake.execution(name)
    assert (status["status"], status["error"], status["cause"]) == ("FAILED", "TooManyFailures", said)
    assert (whole["succeeded"], whole["failed"]) == (1, 3)


@pytest.mark.parametrize(
    ("folder", "more", "said"),
    [
        ("nothing", (), "no files to predict in s3://lake/in/nothing/: 0 files, none with a known extension"),
        ("first", ("--slice", "-1"), "'slice_bytes' is the size of slices in bytes, 1 or more; got -1048576"),
    ],
)
def test_a_run_that_can_not_begin(lake: Lake, folder: str, more: tuple[str, ...], said: str) -> None:
    done = lake.batch(folder, *more)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert (last.startswith("inferry: the run "), said in last) == (True, True), done.stderr


def test_the_type_of_an_error(lake: Lake) -> None:
    """The machine tries again by it, and MiniStack forgets it: this is what Lambda's runtime says."""
    plan = {"input": "s3://elsewhere/", "output": f"s3://{LAKE}/out/"}
    answer = json.loads(lake.relay.invoke(json.dumps({"plan": plan, "run": "r"}).encode()))
    assert answer["errorType"] == "DataRefused"


def test_a_long_job_needs_several_invocations(lake: Lake) -> None:
    """The machine invokes the function until the job is finished; nothing is missing, and nothing twice."""
    for count in LONG:
        folder, before = f"long{count}", lake.relay.events
        lake.fill(folder, {"long.jsonl": b'{"x":[1,2,3]}\n' * count})
        done = lake.batch(folder, "--model", "heavy")
        assert (done.returncode, json.loads(done.stdout)["rows"]) == (0, count), done.stderr
        # One to plan, one to merge.
        if lake.relay.events - before > 2 + 1:
            break
    assert lake.relay.events - before > 2 + 1
    assert lake.found(f"out/{folder}/")["long.jsonl"] == b'{"y":[1.0,2.0,3.0]}\n' * count
    status, whole = lake.execution(name_of(done))
    assert (status["status"], whole["succeeded"]) == ("SUCCEEDED", 1)


def test_workers_that_are_killed(lake: Lake, tmp_path: Path) -> None:
    """In the midst of slices and files: the machine tries again, and each row has one result or one error."""
    random = Random(3)
    files = {f"{n}.jsonl": lines(n * 50, 50, random) for n in range(6)} | {"large.csv": table(300, 12_000, random)}
    lake.fill("killed", files)
    with killing(lake, random, 4):
        done = lake.batch("killed", "--model", "digits", "--keep", "id", "--slice", "1")
    assert (done.returncode, json.loads(done.stdout)["failed"]) == (0, []), done.stderr
    results = lake.found("out/killed/")
    assert without_reports(results) == without_reports(straight(files, tmp_path, "--keep", "id"))
    assert ids(results) == Counter(range(12_300))

"""Files and messages in the emulated account: S3, SQS, its event source mapping, Lambda's runtime emulator, and S3.

The CDK deploys the real template; the function has the rights of its role there. What is replaced: account.py.
The emulator takes one event at a time: relay.py. How many MiniStack's event source mapping would send is not tested.
"""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
from account import REGION, Account
from botocore.exceptions import ClientError
from codedeploy import CodeDeploy
from deployed import CARD, digits
from filestack import Files, deployed, killing
from rowsets import lines, straight, without_reports

CONTEXT = {"batch": "true", "batch_timeout": "30", "project": "files", "authorization": "none"}
# The invocations' real limit is less, so that a long job needs several; a machine with other work starts in that time.
SECONDS = 20
# Rows of a job: as many as this machine, at its work of today, doesn't do in one invocation.
LONG = (20_000, 40_000, 80_000, 160_000, 320_000)
DIGIT = CARD["example"]["inputs"][0]["data"]
LABEL = 7


@pytest.fixture(scope="module")
def files(account: Account, codedeploy: CodeDeploy, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Files]:
    with deployed(account, codedeploy, tmp_path_factory.mktemp("deployed"), CONTEXT, SECONDS) as files:
        yield files


@pytest.fixture(autouse=True)
def _clean(files: Files) -> None:
    """No test finds a message of another one that failed."""
    files.clean()


def rows(count: int) -> bytes:
    return (json.dumps({"pixels": DIGIT}) + "\n").encode() * count


def labels(content: bytes) -> list[int]:
    return [json.loads(line)["label"] for line in content.splitlines()]


def test_a_file_with_bad_rows(files: Files) -> None:
    files.put("input/digits/today.jsonl", rows(2) + b'{"pixels": 7}\nnonsense\n' + rows(1))
    files.until(lambda: "today.jsonl.report.json" in files.keys("output/digits/"))
    assert labels(files.read("output/digits/today.jsonl")) == [LABEL] * 3
    errors = files.read("output/digits/today.jsonl.errors.jsonl")
    assert [json.loads(line)["row"] for line in errors.splitlines()] == [3, 4]
    report = files.report("digits/today.jsonl")
    assert (report["state"], report["rows"], report["errors"], report["model"]) == ("finished", 3, 2, "digits")
    assert files.dead() == []


def test_keys_of_any_text_and_events_that_come_twice(files: Files) -> None:
    """Each event a second and a third time, in another order: there is one result of each file, and nothing else."""
    keys = [f"{name}.jsonl" for name in ("ü ö", "日本語/1+1=2", "a%20b&c#d", "quote'\"", "emoji 🎈/x y")]
    for key in keys:
        files.put(f"input/digits/{key}", rows(1))
    again = keys * 2
    random.Random(1).shuffle(again)
    for key in again:
        files.arrived(f"input/digits/{key}")
    expected = {f"{key}{end}" for key in keys for end in ("", ".report.json")}
    files.until(lambda: files.is_idle() and expected <= files.keys("output/digits/"))
    assert files.keys("output/digits/") - expected == {
        f"today.jsonl{end}" for end in ("", ".errors.jsonl", ".report.json")
    }
    assert [labels(files.read(f"output/digits/{key}")) for key in keys] == [[LABEL]] * len(keys)
    assert files.dead() == []


def test_poison_is_put_aside_and_the_others_go_on(files: Files) -> None:
    files.put("input/digits/poison.parquet", b"PAR1 and no more")
    files.put("input/absent/a.jsonl", rows(1))
    files.send("no JSON")
    files.put("input/digits/good.jsonl", rows(1))
    files.until(lambda: files.is_idle() and "good.jsonl.report.json" in files.keys("output/digits/"))
    dead = files.dead()
    assert sorted(attributes["error"] for _, attributes in dead) == ["InvalidFile", "InvalidRequest", "ModelNotFound"]
    assert sum("no JSON" in body for body, _ in dead) == 1
    assert all(attributes["reason"] for _, attributes in dead)
    report = files.report("digits/poison.parquet")
    assert (report["state"], bool(report["reason"])) == ("failed", True)
    assert labels(files.read("output/digits/good.jsonl")) == [LABEL]


def test_jobs_and_requests(files: Files) -> None:
    bucket = files.names["Files"]
    job = {
        "input": f"s3://{bucket}/input/digits/good.jsonl",
        "output": f"s3://{bucket}/output/else/",
        "model": "digits",
    }
    files.send(job)
    message = files.send({"model_name": "digits", "inputs": CARD["example"]["inputs"]})
    files.send({"model_name": "digits", "id": "mine", "inputs": []})
    files.until(lambda: files.keys("output/answers/") == {f"{message}.json", "mine.json"} and files.is_idle())
    assert json.loads(files.read(f"output/answers/{message}.json"))["outputs"][0]["data"] == [LABEL]
    assert json.loads(files.read("output/answers/mine.json"))["status"] == 400
    assert labels(files.read("output/else/good.jsonl")) == [LABEL]
    assert files.dead() == []


def test_a_long_job_goes_on_in_other_invocations(files: Files) -> None:
    """It stops before Lambda would end it, and is sent again: nothing is missing in its result, and nothing twice."""
    for count in LONG:
        name, before = f"{count}.jsonl", files.relay.events
        files.put(f"input/heavy/{name}", b'{"x":[1,2,3]}\n' * count)
        files.until(lambda done=f"{name}.report.json": files.is_idle() and done in files.keys("output/heavy/"))  # type: ignore[misc]
        if files.relay.events - before > 1:
            break
    assert f"{name} goes on in another invocation" in files.emulator.log
    assert files.read(f"output/heavy/{name}") == b'{"y":[1.0,2.0,3.0]}\n' * count
    report = files.report(f"heavy/{name}")
    assert (report["rows"], report["errors"]) == (count, 0)
    assert {key for key in files.keys("output/heavy/") if name in key} == {name, f"{name}.report.json"}
    assert files.dead() == []


def test_what_the_role_does_not_allow(files: Files) -> None:
    """S3 refuses what is neither input nor output, whatever the function asks it for."""
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    who = {name.lower(): files.rights[name] for name in names}
    client = boto3.client("s3", endpoint_url=files.environment.account.endpoint, region_name=REGION, **who)
    place = {"Bucket": files.names["Files"]}
    assert client.get_object(**place, Key="input/digits/good.jsonl")["ContentLength"] == len(rows(1))
    files.put("elsewhere/a.jsonl", rows(1))
    refused = [
        lambda: client.get_object(**place, Key="elsewhere/a.jsonl"),
        lambda: client.put_object(**place, Key="input/digits/b.jsonl", Body=b""),
        lambda: client.delete_object(**place, Key="input/digits/good.jsonl"),
        lambda: client.put_object(**place, Key="elsewhere/b.jsonl", Body=b""),
    ]
    for call in refused:
        with pytest.raises(ClientError, match="AccessDenied"):
            call()


def test_workers_that_are_killed(files: Files, tmp_path: Path) -> None:
    """Their messages come again, others come twice and in any order: each row has one result or one error."""
    seeded = random.Random(2)
    inputs = {f"digits/killed/{n}.jsonl": lines(n * 40, 40, seeded) for n in range(40)}
    with killing(files, seeded, 3):
        for name, content in inputs.items():
            files.put(f"input/{name}", content)
        for name in seeded.sample(sorted(inputs), 20):
            files.arrived(f"input/{name}")
        done = {f"{name}.report.json".removeprefix("digits/killed/") for name in inputs}
        files.until(lambda: files.is_idle() and done <= files.keys("output/digits/killed/"))
    found = {
        f"digits/killed/{key}": files.read(f"output/digits/killed/{key}") for key in files.keys("output/digits/killed/")
    }
    assert without_reports(found) == without_reports(straight(inputs, tmp_path))
    reports = [json.loads(content) for name, content in found.items() if name.endswith(".report.json")]
    assert sum(report["rows"] + report["errors"] for report in reports) == 40 * 40
    assert not [key for key in files.keys("output/digits/killed/") if key.startswith(".")]
    assert files.dead() == []


@pytest.fixture(scope="module")
def api(files: Files, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The API's address; the function behind it knows the bucket now, and has the rights of its role there."""
    place = f"s3://{files.names['Files']}"
    told = {"BATCH_INPUT": f"{place}/input", "BATCH_OUTPUT": f"{place}/output"}
    rights = files.environment.credentials("FunctionRole")
    models = digits(tmp_path_factory.mktemp("models"), 2)
    status, said = files.environment.deploy(models, CONTEXT, **told, **rights)
    assert status == 0, said
    return f"http://{files.environment.address}"


def ask(method: str, url: str, **more: Any) -> httpx.Response:
    return httpx.request(method, url, timeout=60, trust_env=False, **more)


def test_a_request_that_is_answered_later(files: Files, api: str) -> None:
    """API Gateway, the function, S3, its event, SQS, the batch function, S3, and the answer at the API again."""
    request = {"id": "seven", "inputs": CARD["example"]["inputs"]}
    accepted = ask("POST", f"{api}/v2/models/digits/infer", json=request, headers={"prefer": "respond-async"})
    assert accepted.status_code == 202, accepted.text
    found, url = accepted.json()["id"], f"{api}{accepted.json()['url']}"
    assert accepted.json() == {
        "id": found,
        "model_name": "digits",
        "status": "pending",
        "url": f"/v2/models/digits/requests/{found}",
    }
    answer = files.until(lambda: (got := ask("GET", url)).status_code != 202 and got)
    assert (answer.status_code, answer.json()) == (
        200,
        ask("POST", f"{api}/v2/models/digits/infer", json=request).json(),
    )
    name = f"digits/{found}.jsonl"
    assert files.keys("input/requests/") == {name}
    assert files.keys("output/requests/") == {name, f"{name}.report.json"}
    assert files.dead() == []
    # As S3 does in some days by the bucket's rules, which test_batch_template has: MiniStack knows none.
    for key in (f"input/requests/{name}", f"output/requests/{name}", f"output/requests/{name}.report.json"):
        files.s3.delete_object(Bucket=files.names["Files"], Key=key)
    gone = ask("GET", url)
    assert (gone.status_code, "responses expire" in gone.json()["error"]) == (404, True)


def test_a_request_that_is_refused_at_once(files: Files, api: str) -> None:
    before = files.keys("input/requests/")
    refused = ask("POST", f"{api}/v2/models/digits/requests", json={"inputs": []})
    assert (refused.status_code, files.keys("input/requests/")) == (400, before)

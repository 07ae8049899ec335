"""functions/batch.py: real events of files and queues, over a bucket and queues of moto on loopback."""

import asyncio
import importlib
import json
import logging
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import boto3
import lambda_events as events
import pytest
from contract import services
from inferry.errors import DataRefused, InvalidRequest, InvalidSettings, ModelUnavailable
from inferry.jobs.runner import Job
from inferry.observability.stats import ModelStats
from inferry.worker.worker import Worker
from wrappers.conftest import EXAMPLES, INVOCATION, context

from functions.messages import Unfinished

BUCKET = "inferry-dev-files-123456789012"
DIGIT = json.loads((EXAMPLES / "digits/config.json").read_text())["example"]["inputs"][0]["data"]
ROW = json.dumps({"pixels": DIGIT})
ERROR = '{"pixels": 7}'
RESULT = '{"label":7,'
ID = "059f36b4-87a3-44ab-83d2-661970000001"
MANY = [ROW] * 20_000
JOB = {"model": "digits", "input": f"s3://{BUCKET}/input/digits/a.jsonl"}


class Cloud(NamedTuple):
    """A bucket, and two queues."""

    s3: Any
    sqs: Any
    jobs: str
    dead: str

    def put(self, key: str, *rows: str) -> None:
        self.s3.put_object(Bucket=BUCKET, Key=key, Body="".join(f"{row}\n" for row in rows).encode())

    def read(self, key: str) -> str:
        return str(self.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read().decode())

    def keys(self, prefix: str = "output/") -> list[str]:
        found = self.s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix)
        return [item["Key"] for item in found.get("Contents", [])]

    def received(self, queue: str) -> list[tuple[str, dict[str, str]]]:
        """Body and attributes of all messages of a queue, which is empty then."""
        found = []
        while got := self.sqs.receive_message(
            QueueUrl=queue, MaxNumberOfMessages=10, MessageAttributeNames=["All"]
        ).get("Messages"):
            for message in got:
                attributes = message.get("MessageAttributes", {})
                found.append((message["Body"], {k: v["StringValue"] for k, v in attributes.items()}))
                self.sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
        return found


@pytest.fixture(scope="module")
def moto() -> Iterator[services.S3]:
    with services.moto() as running:
        yield running


@pytest.fixture
def cloud(moto: services.S3, monkeypatch: pytest.MonkeyPatch) -> Cloud:
    for name, value in {**moto.environment, "NO_PROXY": services.HOST}.items():
        monkeypatch.setenv(name, value)
    s3, sqs = (boto3.client(name, endpoint_url=moto.endpoint, region_name="us-east-1") for name in ("s3", "sqs"))
    s3.create_bucket(Bucket=BUCKET)
    for item in s3.list_objects_v2(Bucket=BUCKET).get("Contents", []):
        s3.delete_object(Bucket=BUCKET, Key=item["Key"])
    made = [sqs.create_queue(QueueName=name)["QueueUrl"] for name in ("jobs", "dead")]
    cloud = Cloud(s3, sqs, *made)
    for queue in made:
        cloud.received(queue)
    return cloud


@pytest.fixture
def batch(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """`batch(BATCH_MODEL=...)` is the handler in that environment."""
    loaded: list[Any] = []

    def make(**env: str) -> Any:
        defaults = {
            "MODEL_PATH": str(EXAMPLES),
            "DEFAULT_MODEL": "digits",
            "BATCH_INPUT": f"s3://{BUCKET}/input",
            "BATCH_OUTPUT": f"s3://{BUCKET}/output",
            "BATCH_QUEUE": cloud.jobs,
            "BATCH_DEAD_LETTERS": cloud.dead,
            "INTRA_OP_THREADS": "1",
        }
        for name, value in {**defaults, **env}.items():
            monkeypatch.setenv(name, value)
        sys.modules.pop("functions.batch", None)
        module = importlib.import_module("functions.batch")
        loaded.append(module)
        return lambda event, seconds=60.0: module.handler(event, context(seconds))

    yield make
    for module in loaded:
        module.service.close()
        module.messages._loop.close()
    sys.modules.pop("functions.batch", None)
    asyncio.set_event_loop(None)


def sqs(*bodies: Any) -> dict[str, Any]:
    """The event of messages with these bodies: text, or what JSON makes of it."""
    sample = events.load("sqs-job")["Records"][0]
    texts = [body if isinstance(body, str) else json.dumps(body) for body in bodies]
    return {
        "Records": [
            {**sample, "messageId": f"{ID[:-1]}{number}", "body": text} for number, text in enumerate(texts, start=1)
        ]
    }


def by_sns(message: Any) -> dict[str, Any]:
    """The event of a topic's message to the function itself."""
    [record] = events.load("sns-s3")["Records"]
    return {"Records": [{**record, "Sns": {**record["Sns"], "Message": json.dumps(message)}}]}


def wrapped(message: Any) -> dict[str, Any]:
    """What a topic puts into a queue without raw delivery; with it, the message itself is there."""
    return {**json.loads(events.load("sqs-sns-s3")["Records"][0]["body"]), "Message": json.dumps(message)}


def failed(answer: Any) -> list[int]:
    """The numbers of the messages that failed."""
    assert answer.keys() == {"batchItemFailures"}
    return [int(item["itemIdentifier"][-1]) for item in answer["batchItemFailures"]]


def notification(*keys: str) -> dict[str, Any]:
    """S3's event about objects; the keys are as they come, encoded."""
    [record] = events.load("s3")["Records"]
    return {"Records": [{**record, "s3": {**record["s3"], "object": {"key": key}}} for key in keys]}


def test_what_arrives_and_is_no_input(batch: Any, cloud: Cloud) -> None:
    """Marks of other tools and another run's files are done at once; a user's file of such a name is put aside."""
    cloud.put("input/digits/a.jsonl", ROW)
    cloud.put("input/digits/_SUCCESS")
    cloud.put("input/digits/a.jsonl.errors.jsonl", '{"row":2,"column":null,"reason":"no","data":"?"}')
    cloud.put("input/digits/mine.errors.jsonl", ROW)
    names = ("_SUCCESS", "year=1_%24folder%24", "a.jsonl.errors.jsonl", "mine.errors.jsonl", "a.jsonl")
    event = notification(*(f"input/digits/{name}" for name in names))
    assert failed(batch()(sqs(event))) == []
    assert cloud.keys() == ["output/digits/a.jsonl", "output/digits/a.jsonl.report.json"]
    [(_, said)] = cloud.received(cloud.dead)
    assert said["error"] == "InvalidRequest"
    assert said["reason"].startswith(f"s3://{BUCKET}/input/digits/mine.errors.jsonl can't be predicted or hold results")


@pytest.mark.parametrize(("received", "largest"), [(1, 64), (2, 8), (3, 1), (4, 1)])
def test_blocks_get_smaller_when_a_message_comes_again(
    batch: Any, cloud: Cloud, monkeypatch: pytest.MonkeyPatch, received: int, largest: int
) -> None:
    """A job that was ended in the middle may have been ended by the length of its blocks."""
    cloud.put("input/digits/a.jsonl", *[ROW] * 100)
    handle = batch()
    sizes = runs(monkeypatch)
    event = sqs(notification("input/digits/a.jsonl"))
    event["Records"][0]["attributes"] |= {"ApproximateReceiveCount": str(received)}
    assert failed(handle(event)) == []
    assert (max(sizes) >= largest if received == 1 else max(sizes) == largest, sum(sizes)) == (True, 100)


def runs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The rows of each run of a job from now on."""
    found: list[int] = []
    executed = ModelStats.executed

    def counted(self: ModelStats, rows: int, ns: int) -> None:
        found.append(rows)
        executed(self, rows, ns)

    monkeypatch.setattr(ModelStats, "executed", counted)
    return found


@pytest.mark.parametrize(("retries", "largest"), [(1, 8), (2, 1)])
def test_blocks_get_smaller_when_a_step_is_tried_again(
    batch: Any, cloud: Cloud, monkeypatch: pytest.MonkeyPatch, retries: int, largest: int
) -> None:
    cloud.put("input/digits/a.jsonl", *[ROW] * 100)
    handle = batch()
    sizes = runs(monkeypatch)
    job = {"input": f"s3://{BUCKET}/input/digits/a.jsonl", "output": f"s3://{BUCKET}/output/digits/"}
    run = {"name": "monday", "output": f"s3://{BUCKET}/output", "file": 0, "slice": None}
    done = handle({"job": job, "run": run, "retries": retries})
    assert done == {"state": "finished", "rows": 100, "errors": 0}
    assert (max(sizes), sum(sizes)) == (largest, 100)


# The sample's key is "input/digits/2026-11-26+batch.jsonl", in which + stands for a blank.
KEY = "digits/2026-11-26 batch.jsonl"
OBJECTS = {
    "s3": (events.load("s3"), False),
    "eventbridge": (events.load("eventbridge-s3"), False),
    "s3 in sqs": (events.load("sqs-s3"), True),
    "eventbridge in sqs": (sqs(events.load("eventbridge-s3")), True),
    "s3 by sns": (events.load("sns-s3"), False),
    "eventbridge by sns": (by_sns(events.load("eventbridge-s3")), False),
    "s3 by sns in sqs": (events.load("sqs-sns-s3"), True),
    "eventbridge by sns in sqs": (sqs(wrapped(events.load("eventbridge-s3"))), True),
}


@pytest.mark.parametrize("name", OBJECTS)
def test_events_of_objects(batch: Any, cloud: Cloud, name: str) -> None:
    event, queued = OBJECTS[name]
    cloud.put(f"input/{KEY}", ROW, ERROR, ROW)
    handle = batch()
    first = handle(event)
    results, report = cloud.read(f"output/{KEY}"), json.loads(cloud.read(f"output/{KEY}.report.json"))
    assert first == ({"batchItemFailures": []} if queued else [report])
    assert [line[: len(RESULT)] for line in results.splitlines()] == [RESULT, RESULT]
    assert json.loads(cloud.read(f"output/{KEY}.errors.jsonl"))["row"] == 2
    assert (report["state"], report["rows"], report["errors"]) == ("finished", 2, 1)
    assert report["input"] == f"s3://{BUCKET}/input/{KEY}"
    # The same event again.
    assert handle(event) == first
    assert cloud.keys() == [f"output/{KEY}{end}" for end in ("", ".errors.jsonl", ".report.json")]


def test_keys_of_any_text(batch: Any, cloud: Cloud) -> None:
    keys = {"ü%20+.jsonl": "%C3%BC%2520%2B.jsonl", "日本 1&2=3#.jsonl": "%E6%97%A5%E6%9C%AC+1%262%3D3%23.jsonl"}
    for key in keys:
        cloud.put(f"input/digits/{key}", ROW)
    event = sqs(notification(*(f"input/digits/{encoded}" for encoded in keys.values())))
    assert failed(batch()(event)) == []
    assert cloud.received(cloud.dead) == []
    assert sorted(cloud.keys()) == sorted(f"output/digits/{key}{end}" for key in keys for end in ("", ".report.json"))


REMOVED = json.loads(json.dumps(events.load("s3")).replace("ObjectCreated:Put", "ObjectRemoved:Delete"))
NOTHING = {
    "test": events.load("s3-test"),
    "removed": REMOVED,
    "deleted": {**events.load("eventbridge-s3"), "detail-type": "Object Deleted"},
    "folder": notification("input/digits/"),
    **{
        name: notification(f"input/digits/{name}")
        for name in ("_SUCCESS", "run_%24folder%24", "_committed_123", "_started_123", ".part-0.csv.crc")
    },
    "eventbridge's _SUCCESS": json.loads(
        json.dumps(events.load("eventbridge-s3")).replace("2026-11-26 batch.jsonl", "_SUCCESS")
    ),
}


@pytest.mark.parametrize("name", NOTHING)
def test_events_that_are_about_nothing_to_do(batch: Any, cloud: Cloud, name: str) -> None:
    """On their own, in a queue, and by a topic to either."""
    handle = batch()
    for direct in (NOTHING[name], by_sns(NOTHING[name])):
        assert handle(direct) == ([None] if name == "folder" else [])
    assert failed(handle(sqs(NOTHING[name], wrapped(NOTHING[name])))) == []
    assert (cloud.received(cloud.dead), cloud.keys()) == ([], [])


@pytest.mark.parametrize("name", ["sqs-s3-test", "sqs-sns-s3-test"])
def test_the_samples_of_s3s_test(batch: Any, cloud: Cloud, name: str) -> None:
    assert batch()(events.load(name)) == {"batchItemFailures": []}
    assert cloud.received(cloud.dead) == []


TOPICS_ID = "95df01b4-ee98-5cb9-9903-4c221d41eb5e"


@pytest.mark.parametrize("way", ["function", "queue", "queue, raw"])
def test_jobs_and_requests_by_a_topic(batch: Any, cloud: Cloud, way: str) -> None:
    """An answer has the topic's id of its message, which is the one that its sender knows; raw delivery hides it."""
    cloud.put("input/digits/a.jsonl", ROW)
    handle, request = batch(), {"model_name": "digits", "inputs": []}
    for message in (JOB, request):
        if way == "function":
            [told] = handle(by_sns(message))
            assert told.get("state", "finished") == "finished"
        else:
            assert failed(handle(sqs(message if "raw" in way else wrapped(message)))) == []
    name = ID if "raw" in way else TOPICS_ID
    names = [f"answers/{name}.json", "digits/a.jsonl", "digits/a.jsonl.report.json"]
    assert (cloud.keys(), cloud.received(cloud.dead)) == ([f"output/{name}" for name in names], [])


def test_a_job_by_a_topic_goes_on_without_it(batch: Any, cloud: Cloud) -> None:
    cloud.put("input/digits/a.jsonl", *MANY)
    handle = batch()
    job, arrived = wrapped(JOB), events.load("sqs-sns-s3")["Records"][0]["body"]
    assert failed(handle(sqs(job, arrived), seconds=0)) == []
    sent = [json.loads(body) for body, _ in cloud.received(cloud.jobs)]
    assert sent == [JOB, events.load("s3")]


FIFO = events.load("sqs-fifo")


def fifo(*bodies: Any, groups: str) -> dict[str, Any]:
    """Messages of a FIFO queue, each of the group at its place in `groups`."""
    arn = FIFO["Records"][0]["eventSourceARN"]
    return {
        "Records": [
            {**record, "eventSourceARN": arn, "attributes": {**record["attributes"], "MessageGroupId": group}}
            for record, group in zip(sqs(*bodies)["Records"], groups, strict=True)
        ]
    }


def test_the_sample_of_a_fifo_queue(batch: Any, cloud: Cloud) -> None:
    for day in ("monday", "tuesday", "wednesday"):
        cloud.put(f"input/digits/{day}.jsonl", ROW)
    assert batch()(FIFO) == {"batchItemFailures": []}
    assert len(cloud.keys()) == 6


def test_what_fails_in_a_fifo_queue_holds_up_its_group(
    batch: Any, cloud: Cloud, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """And no other one. Poison is put aside, and holds up nothing."""
    (tmp_path / "broken.onnx").write_bytes(b"broken")
    shutil.copytree(EXAMPLES / "digits", tmp_path / "digits")
    for name in ("a", "b", "c"):
        cloud.put(f"input/digits/{name}.jsonl", ROW)
    cloud.put("input/broken/a.jsonl", ROW)
    a, b, c = ({"input": f"s3://{BUCKET}/input/digits/{name}.jsonl"} for name in "abc")
    broken = {"input": f"s3://{BUCKET}/input/broken/a.jsonl"}
    handle = batch(MODEL_PATH=str(tmp_path))
    caplog.clear()
    assert failed(handle(fifo("{", a, broken, b, c, broken, groups="xxxxyx"))) == [3, 4, 6]
    assert cloud.keys() == [f"output/digits/{name}.jsonl{end}" for name in "ac" for end in ("", ".report.json")]
    assert [body for body, _ in cloud.received(cloud.dead)] == ["{"]
    lines = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    waiting = [line.partition(" failed: ")[0] for line in lines if "record from this message group" in line]
    assert waiting == [f"message {ID[:-1]}{number}" for number in (4, 6)]
    # All of a batch.
    assert failed(handle(fifo(broken, a, groups="xx"))) == [1, 2]


def test_a_long_job_of_a_fifo_queue_keeps_its_place(batch: Any, cloud: Cloud) -> None:
    """Sent again it would come behind what came after it: it fails, and the deliveries of its queue do the rest."""
    cloud.put("input/digits/a.jsonl", *MANY)
    cloud.put("input/digits/b.jsonl", ROW)
    later = {**JOB, "input": f"s3://{BUCKET}/input/digits/b.jsonl"}
    handle, event = batch(), fifo(JOB, later, groups="xx")
    assert failed(handle(event, seconds=0.02)) == [1, 2]
    assert cloud.keys("output/digits/b") == []
    assert cloud.received(cloud.jobs) == []
    assert failed(handle(event)) == []
    assert len(cloud.read("output/digits/a.jsonl").splitlines()) == len(MANY)


@pytest.mark.parametrize("setting", ["BATCH_QUEUE", "BATCH_DEAD_LETTERS"])
def test_a_fifo_queue_to_send_to_is_refused_at_the_start(batch: Any, cloud: Cloud, setting: str) -> None:
    with pytest.raises(InvalidSettings, match=f"{setting} must be a standard queue, got '{cloud.jobs}.fifo'"):
        batch(**{setting: f"{cloud.jobs}.fifo"})


def test_no_messages(batch: Any) -> None:
    assert batch()({"Records": []}) == {"batchItemFailures": []}


def test_a_job_and_a_request(batch: Any, cloud: Cloud) -> None:
    cloud.put("input/digits/today.jsonl", ROW)
    assert batch()(events.load("sqs-job")) == {"batchItemFailures": []}
    assert json.loads(cloud.read("output/answers/42.json"))["outputs"][0]["data"] == [7]
    names = ["answers/42.json", "digits/today.jsonl", "digits/today.jsonl.report.json"]
    assert (cloud.keys(), cloud.received(cloud.dead)) == ([f"output/{name}" for name in names], [])


def test_a_request_without_an_id_is_answered_under_the_messages(batch: Any, cloud: Cloud) -> None:
    assert failed(batch()(sqs({"model_name": "digits", "inputs": []}))) == []
    answer = {"error": "the request's 'inputs' must be an array of at least one object", "status": 400}
    assert json.loads(cloud.read(f"output/answers/{ID}.json")) == answer


SHAPE = "a message must be a JSON object: a job with 'input', 'output' and 'model', or a request of the protocol"
POISON: dict[str, tuple[Any, str, str]] = {
    "no JSON": ("ü{", "InvalidRequest", f"{SHAPE} with 'model_name' and 'inputs'; this is no JSON"),
    "another shape": ({"a": 1}, "InvalidRequest", f"{SHAPE} with 'model_name' and 'inputs'; got an object with 'a'"),
    "schedule": (events.load("eventbridge-schedule"), "InvalidRequest", SHAPE),
    "half an event": (
        {"Records": [{"eventSource": "aws:s3"}]},
        "InvalidRequest",
        "an event about objects, without 'eventName'",
    ),
    "half a notification": (
        {"Type": "Notification", "TopicArn": "arn:aws:sns:eu-central-1:123456789012:t", "MessageId": "m"},
        "InvalidRequest",
        "a topic's notification, without 'Message'",
    ),
    "elsewhere": ({**JOB, "input": "s3://elsewhere/a.csv"}, "DataRefused", "is not below BATCH_INPUT"),
    "a query": (
        notification("input/digits/what%3F/a.jsonl"),
        "DataRefused",
        "has a ? in a folder's name, where URLs of stores have a query",
    ),
    "a loop": ({**JOB, "output": f"s3://{BUCKET}/input/a/"}, "DataRefused", "is not below BATCH_OUTPUT"),
    "no model": ({**JOB, "model": "absent"}, "ModelNotFound", "absent"),
    "no file": (JOB, "InvalidFile", f"there is no file s3://{BUCKET}/input/digits/a.jsonl"),
    "no format": ({**JOB, "input": f"s3://{BUCKET}/input/a.txt"}, "InvalidFile", "can't tell the format of a.txt"),
}


@pytest.mark.parametrize("name", POISON)
def test_poison_is_put_aside_with_the_reason(batch: Any, cloud: Cloud, name: str) -> None:
    body, error, reason = POISON[name]
    cloud.put("input/a.txt", "text")
    cloud.put("input/digits/good.jsonl", ROW)
    event = sqs(body, notification("input/digits/good.jsonl"))
    assert failed(batch()(event)) == []
    [(sent, attributes)] = cloud.received(cloud.dead)
    assert sent == event["Records"][0]["body"]
    assert (attributes["error"], attributes["message"], set(attributes)) == (
        error,
        ID,
        {"error", "message", "reason"},
    )
    assert reason in attributes["reason"]
    assert cloud.keys() == ["output/digits/good.jsonl", "output/digits/good.jsonl.report.json"]


def test_of_several_files_only_the_bad_one_is_put_aside(batch: Any, cloud: Cloud) -> None:
    cloud.put("input/digits/good.jsonl", ROW)
    cloud.put("input/digits/bad.parquet", "no Parquet")
    assert failed(batch()(sqs(notification("input/digits/bad.parquet", "input/digits/good.jsonl")))) == []
    [(sent, attributes)] = cloud.received(cloud.dead)
    assert json.loads(sent) == notification("input/digits/bad.parquet")
    assert attributes["error"] == "InvalidFile"
    assert json.loads(cloud.read("output/digits/bad.parquet.report.json"))["state"] == "failed"
    assert json.loads(cloud.read("output/digits/good.jsonl.report.json"))["state"] == "finished"


def test_without_a_queue_for_it_poison_fails(batch: Any, cloud: Cloud, caplog: pytest.LogCaptureFixture) -> None:
    cloud.put("input/digits/a.jsonl", ROW)
    assert failed(batch(BATCH_DEAD_LETTERS="")(sqs("{", JOB, "[]"))) == [1, 3]
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert [
        text.startswith(f"message {ID[:-1]}{number} failed: a message must be")
        for text, number in zip(said, (1, 3), strict=True)
    ]
    assert len(cloud.keys()) == 2


def test_what_may_go_well_another_time_fails(batch: Any, cloud: Cloud, tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"broken")
    cloud.put("input/broken/a.jsonl", ROW)
    body = {"model_name": "broken", "inputs": []}
    handle = batch(MODEL_PATH=str(tmp_path), DEFAULT_MODEL="")
    assert failed(handle(sqs(notification("input/broken/a.jsonl"), body))) == [1, 2]
    assert (cloud.keys(), cloud.received(cloud.dead)) == ([], [])


def test_the_last_delivery_leaves_an_answer(batch: Any, cloud: Cloud, tmp_path: Path) -> None:
    """To a request that was put off, and to one in a message; the message fails all the same."""
    (tmp_path / "broken.onnx").write_bytes(b"broken")
    found = "0" * 32
    key = f"requests/broken/{found}.jsonl"
    cloud.put(f"input/{key}", json.dumps({"inputs": []}))
    event = sqs(notification(f"input/{key}"), {"model_name": "broken", "inputs": [], "id": "mine"})
    handle = batch(MODEL_PATH=str(tmp_path), DEFAULT_MODEL="", BATCH_TRIES="3")
    for tries, left in ((2, []), (3, ["output/answers/mine.json", f"output/{key}.report.json"])):
        for record in event["Records"]:
            record["attributes"] = {**record["attributes"], "ApproximateReceiveCount": str(tries)}
        assert failed(handle(event)) == [1, 2]
        assert cloud.keys() == left
    said = json.loads(cloud.read("output/answers/mine.json"))
    assert (said["status"], "'broken' can't be loaded" in said["error"]) == (503, True)
    report = json.loads(cloud.read(f"output/{key}.report.json"))
    assert (report["state"], report["reason"]) == ("failed", said["error"])
    assert cloud.received(cloud.dead) == []


def test_a_direct_event_leaves_an_answer(batch: Any, cloud: Cloud, tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"broken")
    key = f"requests/broken/{'0' * 32}.jsonl"
    cloud.put(f"input/{key}", json.dumps({"inputs": []}))
    with pytest.raises(ModelUnavailable):
        batch(MODEL_PATH=str(tmp_path), DEFAULT_MODEL="")(notification(f"input/{key}"))
    assert cloud.keys() == [f"output/{key}.report.json"]


def test_if_it_can_not_be_put_aside_it_fails(batch: Any, cloud: Cloud) -> None:
    assert failed(batch(BATCH_DEAD_LETTERS=f"{cloud.dead}-absent")(sqs("{"))) == [1]


def test_a_job_goes_on_in_other_invocations(batch: Any, cloud: Cloud) -> None:
    cloud.put("input/digits/long.jsonl", *MANY)
    handle = batch()
    event, turns = sqs(notification("input/digits/long.jsonl")), []
    while event:
        assert failed(handle(event, seconds=0.02)) == []
        turns.append(len(cloud.keys("output/.inferry/")) + len(cloud.keys("output/digits/.inferry/")))
        sent = cloud.received(cloud.jobs)
        assert len(sent) <= 1
        event = sqs(sent[0][0]) if sent else {}
    assert len(turns) > 1
    assert turns[-1] == 0
    assert sorted(turns[:-1]) == turns[:-1]
    assert len(cloud.read("output/digits/long.jsonl").splitlines()) == len(MANY)


def test_what_has_no_time_to_start_waits(batch: Any, cloud: Cloud) -> None:
    cloud.put("input/digits/a.jsonl", ROW)
    request = {"model_name": "digits", "inputs": []}
    assert failed(batch()(sqs(JOB, request), seconds=0)) == [2]
    assert [json.loads(body) for body, _ in cloud.received(cloud.jobs)] == [JOB]
    assert cloud.keys() == []


@pytest.mark.parametrize(("left", "worked"), [(60.0, 50.0), (20.0, 15.0)])
def test_a_job_stops_before_its_invocation_ends(
    batch: Any, monkeypatch: pytest.MonkeyPatch, left: float, worked: float
) -> None:
    given: list[float] = []

    def run(_: Worker, job: Job, until: float, *, last: bool, attempt: int) -> None:
        assert (last, attempt) == (False, 1)
        given.append(until - time.monotonic())
        raise InvalidRequest(job.input)

    monkeypatch.setattr(Worker, "run", run)
    assert failed(batch()(sqs(JOB), left)) == []
    assert given == [pytest.approx(worked, abs=1)]


def test_a_direct_job_that_needs_more_time(batch: Any, cloud: Cloud) -> None:
    cloud.put("input/digits/long.jsonl", *MANY)
    with pytest.raises(Unfinished, match="BATCH_QUEUE"):
        batch(BATCH_QUEUE="")(notification("input/digits/long.jsonl"), seconds=0.02)
    url = f"s3://{BUCKET}/input/digits/long.jsonl"
    assert batch()(notification("input/digits/long.jsonl"), seconds=0.02) == [{"state": "unfinished", "input": url}]


def test_direct_messages(batch: Any, cloud: Cloud) -> None:
    cloud.put("input/digits/a.jsonl", ROW)
    handle = batch()
    [report] = handle(JOB)
    assert (report["state"], report["output"]) == ("finished", f"s3://{BUCKET}/output/digits/a.jsonl")
    answer = f"s3://{BUCKET}/output/answers/{INVOCATION}.json"
    assert handle({"model_name": "digits", "inputs": []}) == [{"answer": answer}]


def test_the_steps_of_a_run(batch: Any, cloud: Cloud) -> None:
    """As the state machine asks for them. A job goes on in the next invocation, and not by way of the queue."""
    cloud.put("input/digits/long.jsonl", *MANY)
    cloud.put("input/digits/empty.csv")
    handle = batch()
    plan = handle(events.load("run-plan"))
    output, lists, slices = f"s3://{BUCKET}/output", "output/.inferry/runs/monday", plan["slices"]["count"]
    assert slices > 2
    assert plan == {
        "run": {"name": "monday", "output": output},
        **{
            kind: {
                "url": f"s3://{BUCKET}/{lists}/{kind}.jsonl",
                "count": count,
                "bucket": BUCKET,
                "key": f"{lists}/{kind}.jsonl",
                "results": f"{lists}/results/{kind}",
            }
            for kind, count in (("files", 2), ("slices", slices))
        },
    }
    jobs = [json.loads(line) for line in cloud.read(f"{lists}/slices.jsonl").splitlines()]
    assert [handle(job)["state"] for job in jobs] == ["finished"] * slices
    empty, whole = (json.loads(line) for line in cloud.read(f"{lists}/files.jsonl").splitlines())
    # What the machine hands over of a line.
    assert {name: empty[name] for name in ("run", "job")} == events.load("run-job")
    reason = f"s3://{BUCKET}/input/digits/empty.csv is empty"
    assert handle(events.load("run-job")) == {"state": "failed", "error": "InvalidFile", "reason": reason}
    assert handle(whole) == {"state": "finished", "rows": len(MANY), "errors": 0}
    assert events.load("run-merge") == {"merge": plan["run"]}
    merged = handle(events.load("run-merge"))
    assert (merged["report"], merged["rows"], merged["failed"]) == (f"{output}/monday.run.json", len(MANY), 1)
    report = json.loads(cloud.read("output/monday.run.json"))
    assert report["failed"] == [{"input": empty["job"]["input"], "reason": reason}]
    assert cloud.received(cloud.jobs) == []
    assert cloud.keys("output/.inferry") == []


def test_a_job_of_a_run_that_needs_more_time(batch: Any, cloud: Cloud) -> None:
    cloud.put("input/digits/long.jsonl", *MANY)
    handle = batch()
    plan = handle({"plan": {"input": f"s3://{BUCKET}/input/", "output": f"s3://{BUCKET}/output/"}, "run": "r"})
    [job] = [json.loads(line) for line in cloud.read(plan["files"]["key"]).splitlines()]
    assert handle(job, seconds=0.02)["state"] == "unfinished"
    assert handle(job)["state"] == "finished"
    assert cloud.received(cloud.jobs) == []


@pytest.mark.parametrize(
    ("event", "error"),
    [
        (events.load("eventbridge-schedule"), InvalidRequest),
        ({"plan": {"input": f"s3://{BUCKET}/input/", "output": "s3://elsewhere/"}, "run": "r"}, DataRefused),
        (events.load("http-api"), InvalidRequest),
        ([1], InvalidRequest),
        (None, InvalidRequest),
        (notification("output/a.jsonl"), DataRefused),
    ],
)
def test_direct_events_that_are_wrong_are_errors(batch: Any, event: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        batch()(event)


def test_rows_are_counted(batch: Any, cloud: Cloud, capsys: pytest.CaptureFixture[str]) -> None:
    cloud.put("input/digits/a.jsonl", ROW, ERROR)
    handle = batch(METRICS_SINKS="emf")
    capsys.readouterr()
    handle(sqs(JOB))
    [line] = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith('{"_aws"')]
    found = {name: value for name, value in line.items() if "job" in name}
    assert found == {
        "inferry_job_files_total.success": [1.0],
        "inferry_job_rows_total": [1.0],
        "inferry_job_row_errors_total": [1.0],
    }

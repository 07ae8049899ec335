"""What the sample events of files are about: a bucket of moto on loopback, for the batch function under an emulator."""

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import boto3
import lambda_events as events
import pyarrow as pa
import pyarrow.parquet as pq
from contract import services
from emulator import ROOT, Emulator

# S3's own keys have + for a blank.
BUCKET = "inferry-dev-files-123456789012"
OBJECT = "digits/2026-11-26 batch.jsonl"
FILES = {"s3": OBJECT, "eventbridge-s3": OBJECT, "sqs-s3": OBJECT, "sqs-job": "digits/today.jsonl"}
[PIXELS] = json.loads((ROOT / "models" / "digits" / "config.json").read_text())["example"]["inputs"]


class Bucket(NamedTuple):
    """moto, and a client of it."""

    moto: services.S3
    client: Any

    @property
    def environment(self) -> dict[str, str]:
        """Of a function that works on its files."""
        return {
            **self.moto.environment,
            "NO_PROXY": services.HOST,
            "DEFAULT_MODEL": "digits",
            "BATCH_INPUT": f"s3://{BUCKET}/input",
            "BATCH_OUTPUT": f"s3://{BUCKET}/output",
        }

    def put(self, key: str, content: bytes) -> None:
        self.client.put_object(Bucket=BUCKET, Key=f"input/{key}", Body=content)

    def result(self, key: str) -> bytes:
        content: bytes = self.client.get_object(Bucket=BUCKET, Key=f"output/{key}")["Body"].read()
        return content


@contextmanager
def bucket() -> Iterator[Bucket]:
    with services.moto() as moto:
        names = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
        client = boto3.client("s3", endpoint_url=moto.endpoint, **names)
        client.create_bucket(Bucket=BUCKET)
        yield Bucket(moto, client)


def check_event(function: Emulator, bucket: Bucket, name: str) -> None:
    """The sample's file is predicted, and its answer is the one for its source."""
    # Another content for each: a job that was done already would do nothing.
    rows = [PIXELS["data"]] * (1 + list(FILES).index(name))
    bucket.put(FILES[name], "".join(json.dumps({"pixels": row}) + "\n" for row in rows).encode())
    answer = function.invoke(events.load(name))
    done = [json.loads(line)["label"] for line in bucket.result(FILES[name]).splitlines()]
    assert done == [7] * len(rows)
    if name.startswith("sqs"):
        assert answer == {"batchItemFailures": []}
    else:
        assert [(report["state"], report["rows"]) for report in answer] == [("finished", len(rows))]


def check_parquet(function: Emulator, bucket: Bucket) -> None:
    """A job over Parquet, in a direct invocation."""
    source = io.BytesIO()
    pq.write_table(pa.table({"id": ["a", "b"], "pixels": [PIXELS["data"]] * 2}), source)
    bucket.put("digits/table.parquet", source.getvalue())
    place = f"s3://{BUCKET}/{{}}/digits/"
    job = {"model": "digits", "input": place.format("input") + "table.parquet", "output": place.format("output")}
    [report] = function.invoke({**job, "keep": ["id"]})
    assert (report["state"], report["rows"], report["errors"]) == ("finished", 2, 0)
    found = pq.read_table(io.BytesIO(bucket.result("digits/table.parquet"))).select(["id", "label"])
    assert found.to_pydict() == {"id": ["a", "b"], "label": [7, 7]}

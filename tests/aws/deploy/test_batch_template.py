"""The template of files and messages: bucket, queues, function, rights, alarms; and nothing of them where it is off."""

import json
from typing import Any

import pytest
from assemblies import Assembly
from inferry.jobs import deferred
from inferry.worker import messages
from test_policies import listed
from test_template import constants, told

from cdk import files as names

FUNCTION, BUCKET, QUEUE = "AWS::Lambda::Function", "AWS::S3::Bucket", "AWS::SQS::Queue"
SECONDS = 120


@pytest.fixture(scope="module")
def batch(assemblies: dict[str, Assembly]) -> Assembly:
    return assemblies["batch"]


def name(assembly: Assembly, kind: str, start: str) -> str:
    [found] = [name for name in assembly.resources(kind) if name.startswith(start)]
    return found


def test_it_is_off_by_default(dev: Assembly) -> None:
    assert {kind: dev.resources(kind) for kind in (BUCKET, QUEUE)} == {BUCKET: {}, QUEUE: {}}
    assert [item for item in dev.resources() if item.startswith("Batch")] == []


def test_function(batch: Assembly) -> None:
    """The image of the other one, with another handler and more time; no snapshot, no alias."""
    found = batch.only(FUNCTION, "BatchHandler")
    assert found["Code"] == batch.only(FUNCTION, "FunctionHandler")["Code"]
    plain = constants(found)
    del plain["Environment"]
    assert plain == {
        "Architectures": ["arm64"],
        "Code": {},
        "Description": "Predictions of inferry-dev over files and messages",
        "EphemeralStorage": {"Size": 512},
        "ImageConfig": {"Command": ["functions.batch.handler"]},
        "LoggingConfig": {"ApplicationLogLevel": "INFO", "LogFormat": "JSON", "SystemLogLevel": "INFO"},
        "MemorySize": 1769,
        "PackageType": "Image",
        "Timeout": SECONDS,
        "TracingConfig": {"Mode": "Active"},
    }


def test_environment(batch: Assembly) -> None:
    files, models = name(batch, BUCKET, "DataBucket"), name(batch, BUCKET, "Models")
    assert batch.only(FUNCTION, "BatchHandler")["Environment"]["Variables"] == {
        **told("inferry-dev", cors_origins=("https://app.example",)).to_env(),
        "MODEL_PATH": {"Fn::Join": ["", ["s3://", {"Ref": models}, "/models"]]},
        "BATCH_INPUT": {"Fn::Join": ["", ["s3://", {"Ref": files}, "/input"]]},
        "BATCH_OUTPUT": {"Fn::Join": ["", ["s3://", {"Ref": files}, "/output"]]},
        "BATCH_QUEUE": {"Ref": name(batch, QUEUE, "BatchJobs")},
        "BATCH_DEAD_LETTERS": {"Ref": name(batch, QUEUE, "BatchDeadLetters")},
    }


def test_queues(batch: Assembly) -> None:
    dead = name(batch, QUEUE, "BatchDeadLetters")
    common = {"MessageRetentionPeriod": 14 * 24 * 3600, "SqsManagedSseEnabled": True}
    assert constants(batch.only(QUEUE, "BatchDeadLetters")) == common
    assert batch.only(QUEUE, "BatchJobs")["RedrivePolicy"] == {
        "deadLetterTargetArn": {"Fn::GetAtt": [dead, "Arn"]},
        "maxReceiveCount": 5,
    }
    assert constants(batch.only(QUEUE, "BatchJobs")) == {
        **common,
        "RedrivePolicy": {"maxReceiveCount": 5},
        "VisibilityTimeout": 6 * SECONDS,
    }


def test_event_source(batch: Assembly) -> None:
    found = batch.only("AWS::Lambda::EventSourceMapping")
    assert found["EventSourceArn"] == {"Fn::GetAtt": [name(batch, QUEUE, "BatchJobs"), "Arn"]}
    assert found["FunctionName"] == {"Ref": name(batch, FUNCTION, "BatchHandler")}
    assert constants(found) == {
        "BatchSize": 10,
        "FunctionResponseTypes": ["ReportBatchItemFailures"],
        "ScalingConfig": {"MaximumConcurrency": 10},
    }


def test_bucket(batch: Assembly) -> None:
    """Its input alone calls the queue, which this account's buckets may send to; answers expire."""
    found = batch.only(BUCKET, "DataBucket")
    queue = {"Fn::GetAtt": [name(batch, QUEUE, "BatchJobs"), "Arn"]}
    assert found["NotificationConfiguration"] == {
        "QueueConfigurations": [
            {
                "Event": "s3:ObjectCreated:*",
                "Filter": {"S3Key": {"Rules": [{"Name": "prefix", "Value": "input/"}]}},
                "Queue": queue,
            }
        ]
    }
    expiring = [rule for rule in found["LifecycleConfiguration"]["Rules"] if "ExpirationInDays" in rule]
    assert expiring == [
        {"ExpirationInDays": 7, "Prefix": prefix, "Status": "Enabled"}
        for prefix in ("output/answers/", "input/requests/", "output/requests/")
    ]
    policy = batch.only("AWS::SQS::QueuePolicy", "BatchJobs")
    [allowed] = [s for s in policy["PolicyDocument"]["Statement"] if s["Effect"] == "Allow"]
    assert allowed == {
        "Action": "sqs:SendMessage",
        "Condition": {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}},
        "Effect": "Allow",
        "Principal": {"Service": "s3.amazonaws.com"},
        "Resource": queue,
    }
    resource = batch.resources()[name(batch, BUCKET, "DataBucket")]
    assert resource["DependsOn"] == [name(batch, "AWS::SQS::QueuePolicy", "BatchJobs")]


def test_the_prefixes_are_apart_and_named_as_the_function_names_them() -> None:
    assert (names.ANSWERS, names.REQUESTS) == (messages.ANSWERS, deferred.REQUESTS)
    assert (names.INPUT, names.OUTPUT) == ("input", "output")


def test_the_api_takes_requests_that_are_answered_later(batch: Assembly) -> None:
    files = name(batch, BUCKET, "DataBucket")
    variables = batch.only(FUNCTION, "FunctionHandler")["Environment"]["Variables"]
    assert {key: value for key, value in variables.items() if key.startswith("BATCH_")} == {
        "BATCH_INPUT": {"Fn::Join": ["", ["s3://", {"Ref": files}, "/input"]]},
        "BATCH_OUTPUT": {"Fn::Join": ["", ["s3://", {"Ref": files}, "/output"]]},
    }
    allowed = {
        _place(resource): set(listed(statement["Action"]))
        for policy, statement in batch.statements()
        if policy.startswith("FunctionRole")
        for resource in listed(statement["Resource"])
        if files in str(resource)
    }
    assert allowed == {
        files: {"s3:ListBucket"},
        f"{files}/input/requests/*": {"s3:GetObject", "s3:PutObject"},
        f"{files}/output/requests/*": {"s3:GetObject"},
    }


def test_what_the_function_may_do(batch: Assembly) -> None:
    files, models = name(batch, BUCKET, "DataBucket"), name(batch, BUCKET, "Models")
    jobs, dead = name(batch, QUEUE, "BatchJobs"), name(batch, QUEUE, "BatchDeadLetters")
    allowed: dict[str, set[str]] = {}
    for policy, statement in batch.statements():
        if policy.startswith("BatchRole"):
            for resource in listed(statement["Resource"]):
                allowed.setdefault(_place(resource), set()).update(listed(statement["Action"]))
    queue = {"sqs:GetQueueAttributes", "sqs:GetQueueUrl", "sqs:SendMessage"}
    assert allowed == {
        name(batch, "AWS::Logs::LogGroup", "BatchLogs"): {"logs:CreateLogStream", "logs:PutLogEvents"},
        "*": {"xray:PutTelemetryRecords", "xray:PutTraceSegments"},
        jobs: {*queue, "sqs:ChangeMessageVisibility", "sqs:DeleteMessage", "sqs:ReceiveMessage"},
        dead: queue,
        files: {"s3:ListBucket"},
        f"{files}/input/*": {"s3:GetObject"},
        f"{files}/output/*": {"s3:AbortMultipartUpload", "s3:DeleteObject", "s3:GetObject", "s3:PutObject"},
        models: {"s3:ListBucket"},
        f"{models}/models/*": {"s3:GetObject"},
    }


def _place(resource: Any) -> str:
    """The resource's name, and what is behind it."""
    if isinstance(resource, str):
        return resource
    if "Ref" in resource:
        return str(resource["Ref"])
    if "Fn::GetAtt" in resource:
        return str(resource["Fn::GetAtt"][0])
    head, tail = resource["Fn::Join"][1]
    return f"{head['Fn::GetAtt'][0]}{tail}"


def test_alarms(batch: Assembly) -> None:
    """None of them stops a rollout of the function behind the API."""
    found = {}
    for alarm, item in batch.resources("AWS::CloudWatch::Alarm").items():
        if alarm.startswith(("AlarmsBatch", "AlarmsDead", "AlarmsRuns")):
            given = item["Properties"]
            [dimension] = given["Dimensions"]
            found[alarm[len("Alarms") : -len("01234567")]] = (
                given["MetricName"],
                _place(dimension["Value"]),
                given["Threshold"],
                given["Statistic"],
            )
    assert found == {
        "BatchAge": ("ApproximateAgeOfOldestMessage", name(batch, QUEUE, "BatchJobs"), 3600, "Maximum"),
        "DeadLetters": (
            "ApproximateNumberOfMessagesVisible",
            name(batch, QUEUE, "BatchDeadLetters"),
            0,
            "Maximum",
        ),
        "Runs": ("ExecutionsFailed", name(batch, "AWS::StepFunctions::StateMachine", "BatchRuns"), 0, "Sum"),
    }
    group = json.dumps(batch.only("AWS::CodeDeploy::DeploymentGroup")["AlarmConfiguration"])
    assert [alarm for alarm in ("Batch", "DeadLetters", "Runs") if alarm in group] == []


def test_outputs(batch: Assembly) -> None:
    expected = {
        "Files": name(batch, BUCKET, "DataBucket"),
        "Jobs": name(batch, QUEUE, "BatchJobs"),
        "DeadLetters": name(batch, QUEUE, "BatchDeadLetters"),
    }
    expected["Runner"] = name(batch, "AWS::StepFunctions::StateMachine", "BatchRuns")
    found = {key: batch.template["Outputs"][key]["Value"]["Ref"] for key in expected}
    assert found == expected

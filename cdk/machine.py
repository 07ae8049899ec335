"""The state machine that does a run of many files, in Amazon's States Language."""

from typing import Any

from aws_cdk import Aws

from cdk.props import Props

FUNCTION = "${Function}"
_INTEGRATION = f"arn:{Aws.PARTITION}:states:::"
# What may go well another time: our own errors by their names, and those of Lambda. A job that would fail again fails
# without an error of the function.
RETRIED = (
    "StoreError",
    "ModelUnavailable",
    "QueueFull",
    "InferenceTimeout",
    "Lambda.ServiceException",
    "Lambda.AWSLambdaException",
    "Lambda.SdkClientException",
    "Lambda.TooManyRequestsException",
    "Lambda.Unknown",
    "Sandbox.Timedout",
    "Runtime.ExitError",
    "States.Timeout",
)


def definition(props: Props) -> dict[str, Any]:
    """Plans, does the slices, then the files, and merges; the batch function does each step."""
    return {
        "Comment": "A run of batch jobs: docs/batch.md",
        "StartAt": "Plan",
        "States": {
            "Plan": _invoke({"plan.$": "$", "run.$": "$$.Execution.Name"}, "AnySlices") | {"OutputPath": "$.Payload"},
            "AnySlices": {
                "Type": "Choice",
                "Choices": [{"Variable": "$.slices.count", "NumericGreaterThan": 0, "Next": "Slices"}],
                "Default": "Files",
            },
            # Only for speed: a file's own job does what they didn't.
            "Slices": _map("slices", "Files", props, tolerated=100) | _caught("Files", None),
            "Files": _map("files", "Merge", props, tolerated=props.batch_tolerated) | _caught("Merge", "$.failure"),
            "Merge": _invoke({"merge.$": "$.run"}, "IsTolerated") | {"ResultPath": "$.merged"},
            "IsTolerated": {
                "Type": "Choice",
                "Choices": [{"Variable": "$.failure", "IsPresent": True, "Next": "TooManyFailures"}],
                "Default": "Done",
            },
            "TooManyFailures": {"Type": "Fail", "Error": "TooManyFailures", "CausePath": "$.merged.Payload.said"},
            "Done": {"Type": "Pass", "OutputPath": "$.merged.Payload", "End": True},
        },
    }


def _caught(after: str, path: str | None) -> dict[str, Any]:
    return {"Catch": [{"ErrorEquals": ["States.ALL"], "ResultPath": path, "Next": after}]}


def _map(kind: str, after: str, props: Props, tolerated: float) -> dict[str, Any]:
    """Each job that the plan lists is an execution of its own."""
    place = f"$.{kind}"
    return {
        "Type": "Map",
        "ItemReader": {
            "Resource": f"{_INTEGRATION}s3:getObject",
            "ReaderConfig": {"InputType": "JSONL"},
            "Parameters": {"Bucket.$": f"{place}.bucket", "Key.$": f"{place}.key"},
        },
        "ItemProcessor": {
            "ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"},
            "StartAt": f"Work{kind}",
            "States": _work(kind),
        },
        "MaxConcurrency": props.batch_concurrency,
        "ToleratedFailurePercentage": tolerated,
        "ResultWriter": {
            "Resource": f"{_INTEGRATION}s3:putObject",
            "Parameters": {"Bucket.$": f"{place}.bucket", "Prefix.$": f"{place}.results"},
        },
        "ResultPath": None,
        "Next": after,
    }


def _work(kind: str) -> dict[str, Any]:
    """A job, as often as it wants to be done: each invocation goes on where the last one ended."""
    work, is_finished, finished, failed = (f"{name}{kind}" for name in ("Work", "IsFinished", "Finished", "Failed"))
    done = "$.done.Payload"
    return {
        work: _invoke({"run.$": "$.run", "job.$": "$.job", "retries.$": "$$.State.RetryCount"}, is_finished)
        | {"ResultPath": "$.done"},
        is_finished: {
            "Type": "Choice",
            "Choices": [
                {"Variable": f"{done}.state", "StringEquals": "finished", "Next": finished},
                {"Variable": f"{done}.state", "StringEquals": "unfinished", "Next": work},
            ],
            "Default": failed,
        },
        finished: {"Type": "Pass", "OutputPath": done, "End": True},
        failed: {"Type": "Fail", "Error": "JobFailed", "CausePath": f"{done}.reason"},
    }


def _invoke(payload: dict[str, str], after: str) -> dict[str, Any]:
    return {
        "Type": "Task",
        "Resource": f"{_INTEGRATION}lambda:invoke",
        "Parameters": {"FunctionName": FUNCTION, "Payload": payload},
        "Retry": [
            {
                "ErrorEquals": list(RETRIED),
                "IntervalSeconds": 2,
                "BackoffRate": 2,
                "MaxAttempts": 6,
                "MaxDelaySeconds": 60,
                "JitterStrategy": "FULL",
            }
        ],
        "Next": after,
    }

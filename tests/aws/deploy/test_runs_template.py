"""The template of runs of many files: the state machine's definition, and what it and the function may do."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from assemblies import Assembly
from inferry import errors
from inferry.jobs.runs import run as core
from inferry.worker.worker import is_final
from test_batch_template import name
from test_policies import listed

from cdk import runs as names
from cdk.machine import RETRIED

MACHINE = "AWS::StepFunctions::StateMachine"
INVOKE = "arn:AWS::Partition:states:::lambda:invoke"


@pytest.fixture(scope="module")
def assembly(assemblies: dict[str, Assembly]) -> Assembly:
    return assemblies["runs"]


@pytest.fixture(scope="module")
def states(assembly: Assembly) -> dict[str, Any]:
    definition = json.loads(_text(assembly.only(MACHINE)["DefinitionString"]))
    assert definition["StartAt"] == "Plan"
    found: dict[str, Any] = definition["States"]
    return found


def every(states: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for each, state in states.items():
        yield each, state
        yield from every(state.get("ItemProcessor", {}).get("States", {}))


def test_machine(assembly: Assembly) -> None:
    found = assembly.only(MACHINE)
    assert found["DefinitionSubstitutions"] == {
        "Function": {"Fn::GetAtt": [name(assembly, "AWS::Lambda::Function", "BatchHandler"), "Arn"]}
    }
    assert found["LoggingConfiguration"]["Level"] == "ERROR"
    assert found["LoggingConfiguration"]["IncludeExecutionData"] is False
    assert set(re.findall(r"\$\{(\w+)\}", _text(found["DefinitionString"]))) == {"Function"}


def test_every_state_has_a_name_of_its_own(states: dict[str, Any]) -> None:
    """Step Functions asks for that in all of a machine."""
    found = [name for name, _ in every(states)]
    assert sorted(found) == sorted(set(found))
    assert {name: state["Type"] for name, state in every(states)} == {
        "Plan": "Task",
        "AnySlices": "Choice",
        "Slices": "Map",
        "Workslices": "Task",
        "IsFinishedslices": "Choice",
        "Finishedslices": "Pass",
        "Failedslices": "Fail",
        "Files": "Map",
        "Workfiles": "Task",
        "IsFinishedfiles": "Choice",
        "Finishedfiles": "Pass",
        "Failedfiles": "Fail",
        "Merge": "Task",
        "IsTolerated": "Choice",
        "TooManyFailures": "Fail",
        "Done": "Pass",
    }


@pytest.mark.parametrize(
    ("state", "kind", "tolerated", "caught"), [("Slices", "slices", 100, "Files"), ("Files", "files", 12.5, "Merge")]
)
def test_distributed_maps(states: dict[str, Any], state: str, kind: str, tolerated: float, caught: str) -> None:
    found = dict(states[state])
    processor, [catch] = found.pop("ItemProcessor"), found.pop("Catch")
    assert found == {
        "Type": "Map",
        "ItemReader": {
            "Resource": "arn:AWS::Partition:states:::s3:getObject",
            "ReaderConfig": {"InputType": "JSONL"},
            "Parameters": {"Bucket.$": f"$.{kind}.bucket", "Key.$": f"$.{kind}.key"},
        },
        "MaxConcurrency": 10,
        "ToleratedFailurePercentage": tolerated,
        "ResultWriter": {
            "Resource": "arn:AWS::Partition:states:::s3:putObject",
            "Parameters": {"Bucket.$": f"$.{kind}.bucket", "Prefix.$": f"$.{kind}.results"},
        },
        "ResultPath": None,
        "Next": caught,
    }
    assert processor["ProcessorConfig"] == {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"}
    assert (catch["ErrorEquals"], catch["Next"]) == (["States.ALL"], caught)


def test_every_step_is_the_function_s(states: dict[str, Any]) -> None:
    tasks = {name: state for name, state in every(states) if state["Type"] == "Task"}
    assert {name: state["Parameters"]["Payload"] for name, state in tasks.items()} == {
        "Plan": {"plan.$": "$", "run.$": "$$.Execution.Name"},
        "Workslices": {"run.$": "$.run", "job.$": "$.job", "retries.$": "$$.State.RetryCount"},
        "Workfiles": {"run.$": "$.run", "job.$": "$.job", "retries.$": "$$.State.RetryCount"},
        "Merge": {"merge.$": "$.run"},
    }
    for state in tasks.values():
        assert (state["Resource"], state["Parameters"]["FunctionName"]) == (INVOKE, "${Function}")
        [retry] = state["Retry"]
        assert (retry["ErrorEquals"], retry["MaxAttempts"]) == (list(RETRIED), 6)


def test_what_is_tried_again() -> None:
    """Our own errors that may be none another time, and no others."""
    ours = [name for name in RETRIED if "." not in name]
    assert ours
    assert [name for name in ours if is_final(getattr(errors, name)(""))] == []


def test_what_the_machine_may_do(assembly: Assembly) -> None:
    files, machine = name(assembly, "AWS::S3::Bucket", "DataBucket"), name(assembly, MACHINE, "BatchRuns")
    lists = {"s3:AbortMultipartUpload", "s3:GetObject", "s3:ListMultipartUploadParts", "s3:PutObject"}
    delivery = {action for action, resource in rights(assembly, "BatchRuns") if resource == "*"}
    assert {action.partition(":")[0] for action in delivery} == {"logs"}
    assert {found for found in rights(assembly, "BatchRuns") if found[1] != "*"} == {
        ("lambda:InvokeFunction", name(assembly, "AWS::Lambda::Function", "BatchHandler") + ".Arn"),
        *((action, f"{files}.Arn/output/*.inferry/runs/*") for action in lists),
        *((action, "arn:AWS::Partition:s3:::lake/in/*.inferry/runs/*") for action in lists),
        *((action, "arn:AWS::Partition:s3:::lake/out/*.inferry/runs/*") for action in lists),
        ("states:StartExecution", machine),
        *(
            (action, f"arn:AWS::Partition:states:AWS::Region:AWS::AccountId:execution:{machine}.Name:*")
            for action in ("states:DescribeExecution", "states:StopExecution")
        ),
    }


def test_what_the_function_may_do_below_the_prefixes(assembly: Assembly) -> None:
    found = {found for found in rights(assembly, "BatchRole") if "lake" in found[1]}
    objects = {"s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"}
    assert found == {
        ("s3:ListBucket", "arn:AWS::Partition:s3:::lake"),
        *((action, f"arn:AWS::Partition:s3:::lake/{folder}/*") for action in objects for folder in ("in", "out")),
    }


def rights(assembly: Assembly, policies: str) -> set[tuple[str, str]]:
    """Each action with each of its resources."""
    return {
        (action, _text(resource))
        for policy, statement in assembly.statements()
        if policy.startswith(policies)
        for action in listed(statement["Action"])
        for resource in listed(statement["Resource"])
    }


def _text(resource: Any) -> str:
    if isinstance(resource, str):
        return resource
    if "Ref" in resource:
        return str(resource["Ref"])
    if "Fn::GetAtt" in resource:
        return ".".join(resource["Fn::GetAtt"])
    return "".join(map(_text, resource["Fn::Join"][1]))


def test_the_lists_are_where_the_function_writes_them() -> None:
    assert names.RUNS == core.RUNS

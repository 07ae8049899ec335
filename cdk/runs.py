"""Runs of many files: the state machine, and what it may do."""

import json

from aws_cdk import ArnFormat, Stack
from aws_cdk.aws_iam import Policy, PolicyStatement, Role, ServicePrincipal
from aws_cdk.aws_lambda import IFunction
from aws_cdk.aws_stepfunctions import DefinitionBody, LogLevel, LogOptions, StateMachine
from constructs import Construct
from inferry.settings import Settings

from cdk.files import OUTPUT, Files
from cdk.grants import s3_prefixes
from cdk.logs import log_group
from cdk.machine import definition
from cdk.nag import acknowledge, wildcard
from cdk.props import Props

# inferry's own name, which a test compares: where the lists of jobs are, below any output.
RUNS = ".inferry/runs"
_LISTS = f"*{RUNS}/*"


class Runs(Construct):
    """`machine` takes a job whose input may be a folder; the `function` does each of its steps."""

    def __init__(
        self, scope: Construct, name: str, props: Props, function: IFunction, files: Files, told: Settings
    ) -> None:
        super().__init__(scope, name)
        role = Role(self, "Role", assumed_by=ServicePrincipal("states.amazonaws.com"))
        role.add_to_policy(PolicyStatement(actions=["lambda:InvokeFunction"], resources=[function.function_arn]))
        _grant_lists(role, files, told)
        self.machine = StateMachine(
            self,
            "Machine",
            comment=f"Runs of many files of {props.stack_name}",
            definition_body=DefinitionBody.from_string(json.dumps(definition(props))),
            definition_substitutions={"Function": function.function_arn},
            logs=LogOptions(
                destination=log_group(self, "Logs", props, delivered=True),
                level=LogLevel.ERROR,
                include_execution_data=False,
            ),
            role=role,
            tracing_enabled=props.tracing,
        )
        acknowledge(role, {"IAM5[Resource::*]": "delivering logs and traces knows no resources"})
        acknowledge(self.machine, {"SF1": "of many thousand jobs each would be several lines: the function logs them"})
        if not props.tracing:
            acknowledge(self.machine, {"SF2": "tracing is chosen for an environment and all that is in it"})
        _again(self, self.machine, role)


def _grant_lists(role: Role, files: Files, told: Settings) -> None:
    """Reading the lists of jobs, and saying beside them what came of each, for every place where results may go."""
    places = [f"{files.bucket.bucket_arn}/{OUTPUT}", *s3_prefixes(told)]
    lists = [f"{place}/{_LISTS}" for place in places]
    actions = ["s3:GetObject", "s3:PutObject", "s3:ListMultipartUploadParts", "s3:AbortMultipartUpload"]
    role.add_to_policy(PolicyStatement(actions=actions, resources=lists))
    reason = "runs are not known in advance, nor what is below an output"
    acknowledge(role, {wildcard(role, place): reason for place in lists})


def _again(scope: Construct, machine: StateMachine, role: Role) -> None:
    """Each job of a Distributed Map is an execution too. The policy is on its own: the machine needs the role's."""
    executions = Stack.of(scope).format_arn(
        service="states",
        resource="execution",
        resource_name=f"{machine.state_machine_name}:*",
        arn_format=ArnFormat.COLON_RESOURCE_NAME,
    )
    policy = Policy(scope, "Again", roles=[role])
    policy.add_statements(
        PolicyStatement(actions=["states:StartExecution"], resources=[machine.state_machine_arn]),
        PolicyStatement(actions=["states:DescribeExecution", "states:StopExecution"], resources=[executions]),
    )
    acknowledge(
        policy, {wildcard(policy, executions): "executions of the machine itself, which are not known in advance"}
    )

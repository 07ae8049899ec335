"""Roles of functions: what a function may do is written here or granted by name, never by a managed policy."""

from aws_cdk.aws_iam import PolicyStatement, Role, ServicePrincipal
from aws_cdk.aws_logs import LogGroup
from constructs import Construct

from cdk.nag import acknowledge


def function_role(scope: Construct, name: str, logs: LogGroup, *, tracing: bool = False) -> Role:
    """A role that may write to `logs`, and send traces where that is wanted."""
    role = Role(scope, name, assumed_by=ServicePrincipal("lambda.amazonaws.com"))
    role.add_to_policy(
        PolicyStatement(actions=["logs:CreateLogStream", "logs:PutLogEvents"], resources=[logs.log_group_arn])
    )
    if tracing:
        role.add_to_policy(
            PolicyStatement(actions=["xray:PutTraceSegments", "xray:PutTelemetryRecords"], resources=["*"])
        )
        acknowledge(role, {"IAM5[Resource::*]": "X-Ray's write actions know no resources"})
    return role

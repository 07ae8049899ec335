"""What the function may do because its settings say that it does it."""

import re
from collections.abc import Iterator

from aws_cdk import Aws
from aws_cdk.aws_iam import PolicyStatement, Role
from inferry.settings import Settings

from cdk.nag import acknowledge

_WORKSPACE = re.compile(r"https://aps-workspaces\.([a-z0-9-]+)\.amazonaws\.com/workspaces/([\w-]+)/")


def grant_settings(role: Role, told: Settings) -> None:
    """Tensors by reference below DATA_PREFIXES, and pushes to Amazon Managed Prometheus."""
    for objects in _objects(told):
        role.add_to_policy(PolicyStatement(actions=["s3:GetObject", "s3:PutObject"], resources=[objects]))
        finding = objects.replace(Aws.PARTITION, "<AWS::Partition>")
        acknowledge(role, {f"IAM5[Resource::{finding}]": "DATA_PREFIXES lets requests name any object below"})
    workspace = _WORKSPACE.match(told.remote_write_url)
    if "amp" in told.metrics_sinks and workspace:
        arn = f"arn:{Aws.PARTITION}:aps:{workspace[1]}:{Aws.ACCOUNT_ID}:workspace/{workspace[2]}"
        role.add_to_policy(PolicyStatement(actions=["aps:RemoteWrite"], resources=[arn]))


def _objects(told: Settings) -> Iterator[str]:
    for prefix in told.data_prefixes:
        scheme, _, path = prefix.partition("://")
        if scheme == "s3":
            yield f"arn:{Aws.PARTITION}:s3:::{path.rstrip('/')}/*"

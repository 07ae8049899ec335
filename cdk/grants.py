"""What the function may do because its settings say that it does it."""

import re

from aws_cdk import Aws
from aws_cdk.aws_iam import PolicyStatement, Role
from inferry.settings import Settings

from cdk.nag import acknowledge, wildcard

_WORKSPACE = re.compile(r"https://aps-workspaces\.([a-z0-9-]+)\.amazonaws\.com/workspaces/([\w-]+)/")


def grant_settings(role: Role, told: Settings) -> None:
    """Tensors by reference below DATA_PREFIXES, and pushes to Amazon Managed Prometheus."""
    for place in s3_prefixes(told):
        objects = f"{place}/*"
        role.add_to_policy(PolicyStatement(actions=["s3:GetObject", "s3:PutObject"], resources=[objects]))
        acknowledge(role, {wildcard(role, objects): "DATA_PREFIXES lets requests name any object below"})
    workspace = _WORKSPACE.match(told.remote_write_url)
    if "amp" in told.metrics_sinks and workspace:
        arn = f"arn:{Aws.PARTITION}:aps:{workspace[1]}:{Aws.ACCOUNT_ID}:workspace/{workspace[2]}"
        role.add_to_policy(PolicyStatement(actions=["aps:RemoteWrite"], resources=[arn]))


def grant_work(role: Role, told: Settings) -> None:
    """What results below DATA_PREFIXES need besides: unfinished ones are removed, and what isn't there is no error."""
    for place in s3_prefixes(told):
        actions = ["s3:DeleteObject", "s3:AbortMultipartUpload"]
        role.add_to_policy(PolicyStatement(actions=actions, resources=[f"{place}/*"]))
        role.add_to_policy(PolicyStatement(actions=["s3:ListBucket"], resources=[place.partition("/")[0]]))


def s3_prefixes(told: Settings) -> list[str]:
    """The ARNs of the places in S3 that DATA_PREFIXES names."""
    split = [prefix.partition("://") for prefix in told.data_prefixes]
    return [f"arn:{Aws.PARTITION}:s3:::{path.rstrip('/')}" for scheme, _, path in split if scheme == "s3"]

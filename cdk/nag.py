"""Findings of cdk-nag that are accepted, each with its reason, beside the construct that causes it."""

from collections.abc import Mapping
from typing import cast

from aws_cdk import Acknowledgment, Aws, CfnElement, Stack, Validations
from constructs import IConstruct


def acknowledge(construct: IConstruct, reasons: Mapping[str, str]) -> None:
    """`reasons` by the finding's id without its pack: {"IAM5[Resource::*]": "..."}."""
    rules = [Acknowledgment(id=f"AwsSolutions-{rule}", reason=reason) for rule, reason in reasons.items()]
    Validations.of(construct).acknowledge(*rules)


def wildcard(resource: IConstruct, rest: str) -> str:
    """The id of the finding that a policy names the resource's ARN followed by `rest`, which has a "*" in it."""
    element = cast("CfnElement", resource.node.default_child)
    return f"IAM5[Resource::<{Stack.of(resource).get_logical_id(element)}.Arn>{rest}]"


def finding(arn: str) -> str:
    """An ARN as findings write it."""
    return arn.replace(Aws.PARTITION, "<AWS::Partition>")

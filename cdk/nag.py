"""Findings of cdk-nag that are accepted, each with its reason, beside the construct that causes it."""

from collections.abc import Mapping
from typing import Any

from aws_cdk import Acknowledgment, Stack, Validations
from constructs import IConstruct


def acknowledge(construct: IConstruct, reasons: Mapping[str, str]) -> None:
    """`reasons` by the finding's id without its pack: {"IAM5[Resource::*]": "..."}."""
    rules = [Acknowledgment(id=f"AwsSolutions-{rule}", reason=reason) for rule, reason in reasons.items()]
    Validations.of(construct).acknowledge(*rules)


def wildcard(construct: IConstruct, resource: str) -> str:
    """The id of the finding that a policy of `construct` names a resource with a "*" in its ARN."""
    return f"IAM5[Resource::{_written(Stack.of(construct).resolve(resource))}]"


def _written(value: Any) -> str:
    """An ARN as cdk-nag writes it, from what its template has: what is only known in the account is in <>."""
    match value:
        case {"Fn::Join": [separator, parts]}:
            return str(separator).join(map(_written, parts))
        case {"Fn::GetAtt": [resource, attribute]}:
            return f"<{resource}.{attribute}>"
        case {"Ref": name}:
            return f"<{name}>"
        case _:
            return str(value)

"""A stack as an account has it: resources by their ARNs, and the policies of each and of each role."""

import json
from collections.abc import Iterator, Mapping
from functools import cache, cached_property
from typing import Any

from moto.iam.aws_managed_policies import aws_managed_policies_data
from resolved import arn, resolved

VERSION = "2012-10-17"
# Of what a stack only names.
_KINDS = {"sns": "SNS::Topic", "kms": "KMS::Key"}


class Stack:
    """The resources of a template, as an account has them."""

    def __init__(self, template: Mapping[str, Any], others: Mapping[str, Any] | None = None) -> None:
        """`others`: the policies of what the template only names, by its ARN."""
        self.resources = resolved(template)
        self.others = others or {}

    def of(self, kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """The ARN, or the name where its kind has none here, and the properties of every resource of a kind."""
        for name, item in self.resources.items():
            if item["Type"] == kind:
                yield (self.arns.get(name, name), item["Properties"])

    def find(self, address: str) -> tuple[str, dict[str, Any]]:
        """The type and the properties of the resource with an ARN, its aliases' and versions' too."""
        for name, known in self.arns.items():
            if address == known or address.startswith(f"{known}:"):
                return self.resources[name]["Type"], self.resources[name]["Properties"]
        if address in self.others:
            return f"AWS::{_KINDS[address.split(':')[2]]}", {}
        raise LookupError(f"no resource of the stack is {address}")

    @cached_property
    def arns(self) -> dict[str, str]:
        found = {}
        for name in self.resources:
            try:
                found[name] = arn(name, self.resources)
            except KeyError:
                continue
        return found

    def trust(self, role: str) -> Any:
        return self.find(role)[1]["AssumeRolePolicyDocument"]

    @cached_property
    def identities(self) -> dict[str, list[dict[str, Any]]]:
        """The policies of each role, by its ARN."""
        found: dict[str, list[dict[str, Any]]] = {}
        for role, given in self.of("AWS::IAM::Role"):
            found[role] = [*map(_managed, given.get("ManagedPolicyArns", []))]
            found[role] += [
                {"name": policy["PolicyName"], "policy": policy["PolicyDocument"]}
                for policy in given.get("Policies", [])
            ]
        for name, given in self.of("AWS::IAM::Policy"):
            for role in given["Roles"]:
                found[self.arns[role]].append({"name": name, "policy": given["PolicyDocument"]})
        return found

    @cached_property
    def policies(self) -> dict[str, Any]:
        """The policies of the resources that have one, by their ARNs."""
        found: dict[str, list[Any]] = {}

        def add(target: str, policy: Mapping[str, Any]) -> None:
            found.setdefault(target, []).extend(policy["Statement"])

        for _, given in self.of("AWS::SNS::TopicPolicy"):
            for topic in given["Topics"]:
                add(topic, given["PolicyDocument"])
        for _, given in self.of("AWS::SQS::QueuePolicy"):
            for url in given["Queues"]:
                add(self.queue(url), given["PolicyDocument"])
        for _, given in self.of("AWS::S3::BucketPolicy"):
            add(self.arns[given["Bucket"]], given["PolicyDocument"])
        for key, given in self.of("AWS::KMS::Key"):
            add(key, given["KeyPolicy"])
        for name, given in self.of("AWS::Lambda::Permission"):
            target = self.function(given["FunctionName"])
            add(target, {"Statement": [_permission(name, given, target)]})
        return {target: {"Version": VERSION, "Statement": statements} for target, statements in found.items()}

    def policy(self, target: str) -> Any:
        """That of a resource; an object has its bucket's."""
        found = self.policies.get(target) or self.policies.get(target.partition("/")[0])
        return found or self.others.get(target)

    def queue(self, url: str) -> str:
        return self.arns[url.rpartition("/")[2]]

    def function(self, named: str) -> str:
        """The ARN of a function that is named by it or by its name."""
        return named if named.startswith("arn:") else self.arns[named]


@cache
def _catalogue() -> dict[str, Any]:
    """AWS's managed policies by their names."""
    found: dict[str, Any] = json.loads(aws_managed_policies_data)
    return found


def _managed(address: str) -> dict[str, Any]:
    return {"name": address, "policy": _catalogue()[address.rpartition("/")[2]]["Document"]}


def _permission(name: str, given: Mapping[str, Any], target: str) -> dict[str, Any]:
    """A permission of Lambda as the statement that it becomes."""
    principal = given["Principal"]
    conditions: dict[str, dict[str, Any]] = {}
    for key, operator, condition in (
        ("SourceArn", "ArnLike", "aws:SourceArn"),
        ("SourceAccount", "StringEquals", "aws:SourceAccount"),
        ("FunctionUrlAuthType", "StringEquals", "lambda:FunctionUrlAuthType"),
        ("InvokedViaFunctionUrl", "Bool", "lambda:InvokedViaFunctionUrl"),
    ):
        if key in given:
            conditions.setdefault(operator, {})[condition] = (
                str(given[key]).lower() if operator == "Bool" else given[key]
            )
    return {
        "Sid": name,
        "Effect": "Allow",
        "Principal": principal if principal == "*" else {"Service" if "." in principal else "AWS": principal},
        "Action": given["Action"],
        "Resource": target,
        "Condition": conditions,
    }

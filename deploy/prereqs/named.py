"""What an environment's props name, and its stack doesn't make: whether the account has it."""

from collections.abc import Callable, Iterator
from typing import Any

from botocore.exceptions import ClientError

from cdk.props import Props
from deploy.prereqs.findings import Finding, missing, note, ok

# AWS's services have no word in common for what is not there.
_NOT_THERE = {
    "404",
    "NotFound",
    "NotFoundException",
    "NoSuchEntity",
    "RepositoryNotFoundException",
    "ImageNotFoundException",
    "InvalidVpcID.NotFound",
    "InvalidSubnetID.NotFound",
    "InvalidGroup.NotFound",
    "InvalidRouteTableID.NotFound",
    "InvalidVpcEndpointId.NotFound",
    "WAFNonexistentItemException",
}


def _image(uri: str) -> dict[str, Any]:
    registry, _, named = uri.partition("/")
    name, _, digest = named.partition("@")
    return {
        "registryId": registry.partition(".")[0],
        "repositoryName": name,
        "imageIds": [{"imageDigest": digest}],
    }


def _web_acl(arn: str) -> dict[str, Any]:
    *_, name, identity = arn.split("/")
    return {"Name": name, "Scope": "REGIONAL", "Id": identity}


# The prop, and the service, the operation and the parameters that ask for it.
_NAMED: tuple[tuple[str, str, str, Callable[[Any], dict[str, Any]]], ...] = (
    ("kms_key", "kms", "describe_key", lambda value: {"KeyId": value}),
    ("permissions_boundary", "iam", "get_policy", lambda value: {"PolicyArn": value}),
    ("model_bucket", "s3", "head_bucket", lambda value: {"Bucket": value}),
    ("files_bucket", "s3", "head_bucket", lambda value: {"Bucket": value}),
    ("alarm_topic", "sns", "get_topic_attributes", lambda value: {"TopicArn": value}),
    ("image", "ecr", "describe_images", _image),
    ("vpc", "ec2", "describe_vpcs", lambda value: {"VpcIds": [value]}),
    ("subnets", "ec2", "describe_subnets", lambda value: {"SubnetIds": value}),
    ("security_groups", "ec2", "describe_security_groups", lambda value: {"GroupIds": value}),
    ("vpc_endpoints", "ec2", "describe_vpc_endpoints", lambda value: {"VpcEndpointIds": value}),
    ("web_acl", "wafv2", "get_web_acl", _web_acl),
    ("route_tables", "ec2", "describe_route_tables", lambda value: {"RouteTableIds": value}),
)


def named(props: Props, session: Any) -> Iterator[Finding]:
    """A finding for each prop that names something."""
    for prop, service, operation, parameters in _NAMED:
        if value := getattr(props, prop):
            text = value if isinstance(value, str) else ",".join(value)
            yield _asked(prop, text, getattr(session.client(service), operation), parameters(value))
    for more in props.functions:
        if image := more.values.get("image"):
            yield _asked(f"image of {more.name}", image, session.client("ecr").describe_images, _image(image))


def _asked(prop: str, value: str, ask: Callable[..., object], parameters: dict[str, Any]) -> Finding:
    try:
        ask(**parameters)
    except ClientError as exc:
        if exc.response["Error"]["Code"] in _NOT_THERE:
            return missing(prop, f"{value} is not there", f"make it, or mend the prop {prop}")
        return note(prop, f"{value}: not known: {exc}", "look at it in the console")
    return ok(prop, value)

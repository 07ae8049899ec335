"""Whether what isn't the stack's own is set up as the stack needs it."""

from collections.abc import Callable, Iterator
from typing import Any

from botocore.exceptions import ClientError

from cdk.props import Props
from deploy.prereqs.findings import Finding, missing, note, ok

# EC2's quota of vCPUs for instances of the families A, C, D, H, I, M, R, T and Z.
VCPUS = "L-1216C47A"


def configured(props: Props, session: Any) -> Iterator[Finding]:
    """A finding for each thing that has to be set up; what is not there at all, `named` says."""
    if props.api != "http":
        yield _asked("API Gateway's logs", _logs, props, session)
    if props.api == "private":
        yield _asked("vpc_endpoints", _endpoints, props, session)
    if props.has_instances:
        yield _asked("instances", _instances, props, session)
    if props.files_bucket:
        yield _asked("files_bucket", _events, props, session)


def _asked(name: str, ask: Callable[[str, Props, Any], Finding], props: Props, session: Any) -> Finding:
    try:
        return ask(name, props, session)
    except ClientError as exc:
        return note(name, f"not known: {exc}", "look at it in the console")


def _logs(name: str, props: Props, session: Any) -> Finding:
    """REST APIs write logs with one role of the account and region."""
    if role := session.client("apigateway").get_account().get("cloudwatchRoleArn"):
        return ok(name, role)
    remedy = (
        "aws apigateway update-account --patch-operations op=replace,path=/cloudwatchRoleArn,value=ROLE, a role that "
        "apigateway.amazonaws.com assumes, with AmazonAPIGatewayPushToCloudWatchLogs"
    )
    return missing(name, "no role in this account and region lets REST APIs write logs", remedy)


def _endpoints(name: str, props: Props, session: Any) -> Finding:
    found = session.client("ec2").describe_vpc_endpoints(VpcEndpointIds=list(props.vpc_endpoints))["VpcEndpoints"]
    if others := [item["VpcEndpointId"] for item in found if not item["ServiceName"].endswith(".execute-api")]:
        return missing(name, f"{', '.join(others)} not for execute-api", "mend the prop vpc_endpoints")
    return ok(name, "for execute-api")


def _instances(name: str, props: Props, session: Any) -> Finding:
    quotas = session.client("service-quotas")
    vcpus = int(quotas.get_service_quota(ServiceCode="ec2", QuotaCode=VCPUS)["Quota"]["Value"])
    wanted = sum(item.instances.max_vcpus for item in [props, *map(props.of, props.functions)] if item.instances)
    if vcpus >= wanted:
        return ok(name, f"{vcpus} vCPUs in the account")
    remedy = (
        f"aws service-quotas request-service-quota-increase --service-code ec2 --quota-code {VCPUS} --desired-value N"
    )
    return note(name, f"max_vcpus are {wanted}, and the account has {vcpus} for standard instances", remedy)


def _events(name: str, props: Props, session: Any) -> Finding:
    told = session.client("s3").get_bucket_notification_configuration(Bucket=props.files_bucket)
    if "EventBridgeConfiguration" in told:
        return ok(name, "its events come by EventBridge")
    remedy = "turn on EventBridge in the bucket's properties: a command would replace its other notifications"
    return missing(name, f"{props.files_bucket} sends no events to EventBridge", remedy)

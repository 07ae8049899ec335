"""Whether functions in a VPC reach the services that they call."""

from collections.abc import Iterator, Mapping
from typing import Any

from botocore.exceptions import ClientError

from cdk.props import Props
from deploy.prereqs.findings import Finding, missing, note, ok


def network(props: Props, session: Any) -> Iterator[Finding]:
    """By endpoints, those of the VPC and those that the stack makes, or by a route out of the VPC."""
    client = session.client("ec2")
    try:
        yield from _subnets(props, client)
        yield from _services(props, client)
    except ClientError as exc:
        yield note("endpoints", f"not known: {exc}", "look at the VPC in the console")


def _subnets(props: Props, client: Any) -> Iterator[Finding]:
    found = client.describe_subnets(SubnetIds=list(props.subnets))["Subnets"]
    if others := [item["SubnetId"] for item in found if item["VpcId"] != props.vpc]:
        yield missing("subnets", f"{', '.join(others)} not in {props.vpc}", "mend the props vpc and subnets")


def _services(props: Props, client: Any) -> Iterator[Finding]:
    all_endpoints = client.describe_vpc_endpoints()["VpcEndpoints"]
    endpoints = [item for item in all_endpoints if item["VpcId"] == props.vpc]
    own = {"Project": props.project, "Environment": props.environment, "ManagedBy": "cdk"}
    there = {_service(item) for item in endpoints if not own.items() <= _tags(item).items()}
    if twice := [name for name in props.endpoints if name in there]:
        said = f"{props.vpc} has {', '.join(twice)} already, and takes no second one"
        yield missing("endpoints", said, f"leave out of the prop endpoints: {', '.join(twice)}")
        return
    without = [name for name in props.called if name not in there | set(props.endpoints)]
    if not without:
        yield ok("endpoints", f"{', '.join(props.called)}")
    elif closed := [subnet for subnet in props.subnets if not _leads_out(subnet, props.vpc, client)]:
        said = f"no way from {', '.join(closed)} to {', '.join(without)}"
        remedy = f"--context endpoints={','.join([*props.endpoints, *without])}"
        if "s3" in without:
            remedy += " with the subnets' route_tables"
        yield missing("endpoints", said, f"{remedy}; or a route to a NAT gateway")
    else:
        yield ok("endpoints", f"a route out of the VPC leads to {', '.join(without)}")


def _service(endpoint: Mapping[str, Any]) -> str:
    """ "sqs" of com.amazonaws.eu-west-1.sqs."""
    return str(endpoint["ServiceName"]).rpartition(".")[2]


def _tags(endpoint: Mapping[str, Any]) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in endpoint.get("Tags", [])}


def _leads_out(subnet: str, vpc: str, client: Any) -> bool:
    """Whether its table, its own or the VPC's main one, has a route for all addresses.

    One to an internet gateway is none: a function has no public address.
    """
    own = [{"Name": "association.subnet-id", "Values": [subnet]}]
    main = [{"Name": "vpc-id", "Values": [vpc]}, {"Name": "association.main", "Values": ["true"]}]
    tables = client.describe_route_tables(Filters=own)["RouteTables"]
    tables = tables or client.describe_route_tables(Filters=main)["RouteTables"]
    routes = [route for table in tables for route in table["Routes"]]
    return any(
        route.get("DestinationCidrBlock") == "0.0.0.0/0" and not route.get("GatewayId", "").startswith("igw-")
        for route in routes
    )

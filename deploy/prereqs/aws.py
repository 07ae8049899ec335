"""What `make deploy` needs on AWS: programs, credentials, a region with the CDK's toolkit in it, and quotas."""

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from cdk.props import InvalidProps, Props
from deploy.prereqs.builder import builder
from deploy.prereqs.configured import configured
from deploy.prereqs.findings import Finding, missing, note, ok
from deploy.prereqs.named import named
from deploy.prereqs.network import network
from deploy.prereqs.programs import ask

ROOT = Path(__file__).parents[2]
NODE = 20
# The CDK's default synthesizer asks for it.
QUALIFIER, BOOTSTRAP = "hnb659fds", 6
# Lambda keeps so much concurrency for functions that reserve none, as far as the quota has it.
UNRESERVED = 100
# New accounts get no more until they ask; no API says so.
NEW_ACCOUNT_MB = 3008
MORE = (
    "aws service-quotas request-service-quota-increase --service-code lambda --quota-code L-B99A9384 "
    "--desired-value 1000, which takes some days for a new account"
)


def findings(arguments: Sequence[str], env: Mapping[str, str]) -> Iterator[Finding]:
    """`arguments` are those of `cdk deploy`."""
    options = _options(arguments)
    try:
        props = Props.from_context(_context(options.context).get)
    except (InvalidProps, ValueError) as exc:
        yield missing("props", str(exc), "see docs/deploy-aws.md#props")
        return
    yield _node()
    if not all(item.image for item in [props, *map(props.of, props.functions)]):
        yield builder(env.get("CDK_DOCKER", "docker"), props.architecture)
    try:
        yield from _account(props, options.profile, env)
    except (BotoCoreError, ClientError) as exc:
        yield missing("AWS", str(exc), "see what the message says")


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("-c", "--context", action="append", default=[])
    parser.add_argument("--profile")
    return parser.parse_known_args(arguments)[0]


def _context(given: Sequence[str]) -> dict[str, Any]:
    """That of cdk.json, and what the command line adds."""
    context: dict[str, Any] = json.loads((ROOT / "cdk.json").read_text(encoding="utf-8"))["context"]
    return {**context, **dict(item.split("=", 1) for item in given)}


def _node() -> Finding:
    version = ask("node", "--version").output.removeprefix("v")
    if version and int(version.split(".")[0]) >= NODE:
        return ok("Node", version)
    return missing("Node", version or "there is no program node", f"install Node {NODE} or newer: the CDK runs on it")


def _account(props: Props, profile: str | None, env: Mapping[str, str]) -> Iterator[Finding]:
    # The CDK reads both variables, boto3 the second one only.
    region = props.region or env.get("AWS_REGION")
    session = boto3.Session(profile_name=profile, region_name=region)
    identity = _identity(session)
    yield identity
    if not session.region_name:
        remedy = "export AWS_REGION=..., or set the prop region: the CDK would take us-east-1"
        yield missing("region", "none is set", remedy)
        return
    if identity.state != "ok":
        return
    account = identity.said.split(":")[4]
    if props.account not in ("", account):
        said = f"the credentials are of {account}, and {props.environment} is for {props.account}"
        yield missing("account", said, "take the other account's credentials, or mend the prop account")
        return
    yield ok("region", session.region_name)
    yield _bootstrap(session)
    yield from named(props, session)
    yield from configured(props, session)
    if props.vpc:
        yield from network(props, session)
    yield from _quotas(props, session)


def _identity(session: Any) -> Finding:
    login = "aws configure sso, aws sso login or export AWS_PROFILE=..."
    if not session.get_credentials():
        return missing("credentials", "there are none", login)
    try:
        # Any region answers; without one there is an answer all the same.
        client = session.client("sts", region_name=session.region_name or "us-east-1")
        return ok("credentials", client.get_caller_identity()["Arn"])
    except (BotoCoreError, ClientError) as exc:
        return missing("credentials", str(exc), login)


def _bootstrap(session: Any) -> Finding:
    name = f"/cdk-bootstrap/{QUALIFIER}/version"
    try:
        version = session.client("ssm").get_parameter(Name=name)["Parameter"]["Value"]
    except ClientError as exc:
        if exc.response["Error"]["Code"] != "ParameterNotFound":
            return note("bootstrap", f"not known: {exc}", "make bootstrap, unless somebody has done it")
        return missing("bootstrap", f"{session.region_name} has no CDK toolkit", "make bootstrap")
    if int(version) < BOOTSTRAP:
        return missing("bootstrap", f"version {version}, and {BOOTSTRAP} is needed", "make bootstrap")
    return ok("bootstrap", f"version {version}")


def _quotas(props: Props, session: Any) -> Iterator[Finding]:
    memory = max(item.memory for item in [props, *map(props.of, props.functions)])
    if memory > NEW_ACCOUNT_MB:
        said = f"{memory} MB, and new accounts may have {NEW_ACCOUNT_MB} only, which no API tells"
        yield note("memory", said, f"if the deployment fails with MemorySize, ask AWS, or memory={NEW_ACCOUNT_MB}")
    try:
        limits = session.client("lambda").get_account_settings()["AccountLimit"]
        yield from _concurrency(props, limits, _reserved(props.stack_name, session))
    except ClientError as exc:
        yield note("concurrency", f"not known: {exc}", "look at Lambda's quotas in the console")


def _concurrency(props: Props, limits: Mapping[str, int], already: int) -> Iterator[Finding]:
    quota = limits["ConcurrentExecutions"]
    wanted = sum(map(_wanted, [props, *map(props.of, props.functions)]))
    free = limits["UnreservedConcurrentExecutions"] + already - min(UNRESERVED, quota)
    if wanted > free:
        said = f"{props.environment} reserves {wanted}, and of the account's {quota} {max(free, 0)} can be reserved"
        yield missing("concurrency", said, f"{MORE}; or --context concurrency={max(free, 0)}")
    elif props.batch and props.batch_concurrency >= quota:
        said = f"files may take {props.batch_concurrency} invocations, and the account has {quota} for everything"
        yield note("concurrency", said, f"{MORE}; or --context batch_concurrency={max(quota // 2, 2)}")
    elif quota <= UNRESERVED:
        yield note("concurrency", f"the account answers {quota} requests at once, as new ones do", MORE)
    else:
        yield ok("concurrency", f"{quota} in the account, {wanted} of them reserved for {props.environment}")


def _wanted(props: Props) -> int:
    """What a function reserves."""
    return max(props.concurrency, props.provisioned if props.start == "provisioned" else 0)


def _reserved(stack: str, session: Any) -> int:
    """What the stack's own functions have reserved already; it is not among what is left."""
    try:
        found = session.client("cloudformation").describe_stack_resources(StackName=stack)["StackResources"]
    except ClientError:
        return 0
    functions = session.client("lambda")
    names = [item["PhysicalResourceId"] for item in found if "FunctionHandler" in item["LogicalResourceId"]]
    kinds = {item["PhysicalResourceId"] for item in found if item["ResourceType"] == "AWS::Lambda::Function"}
    asked = (functions.get_function_concurrency(FunctionName=name) for name in names if name in kinds)
    return sum(answer.get("ReservedConcurrentExecutions", 0) for answer in asked)

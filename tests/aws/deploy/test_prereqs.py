"""`make check-prereqs` for AWS: the emulated account answers, and a stand-in where a quota has to be another one."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from account import ACCOUNT, REGION, Account
from assemblies import ROOT, Assembly
from loopback import listening

from deploy.prereqs.aws import BOOTSTRAP, QUALIFIER

# What `docker version --format "{{json .}}"` says, less what nobody reads; 28.2.2.
DOCKER = {"Client": {"Version": "28.2.2", "Os": "linux", "Arch": "ARCH"}, "Server": {"Os": "linux", "Arch": "ARCH"}}
# And `docker buildx inspect`, with QEMU's handlers installed and without.
BUILDX = "Name:   default\nDriver: docker\n\nNodes:\nName:      default\nStatus:    running\nPlatforms: {}\n"
EMULATING = "linux/amd64, linux/amd64/v2, linux/arm64, linux/arm/v7"
PLAIN = "linux/amd64, linux/amd64/v2, linux/386"

Run = Callable[..., tuple[int, list[str]]]


def program(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def docker(folder: Path, processor: str, platforms: str | None) -> None:
    """A Docker on this processor; its buildx builds for the platforms, or is not installed."""
    inspect = f"printf '{BUILDX.format(platforms)}'" if platforms else "exit 1"
    version = json.dumps(DOCKER).replace("ARCH", processor)
    program(folder, "docker", f"case $1 in version) echo '{version}';; buildx) {inspect};; esac")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """`run(env, *arguments)`: the exit status and the lines of the check, with a Docker that builds for anything."""
    docker(tmp_path, "amd64", EMULATING)

    def go(env: Mapping[str, str], *arguments: str) -> tuple[int, list[str]]:
        path = os.pathsep.join([str(tmp_path), os.environ["PATH"]])
        given = {"PATH": path, "HOME": str(tmp_path), "AWS_EC2_METADATA_DISABLED": "true", **env}
        command = [sys.executable, "-m", "deploy.prereqs", "aws", *arguments]
        done = subprocess.run(command, cwd=ROOT, env=given, capture_output=True, text=True, timeout=120)
        assert done.stderr == ""
        return done.returncode, done.stdout.splitlines()

    return go


@pytest.fixture
def quota(account: Account) -> Iterator[Callable[[int, int], dict[str, str]]]:
    """`quota(all, unreserved)`: the account's environment, where Lambda's quotas are these."""
    answers: dict[str, bytes] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(answers[self.path])))
            self.end_headers()
            self.wfile.write(answers[self.path])

        def log_message(self, *_: Any) -> None:
            """Nobody reads it."""

    with listening(Handler) as url:

        def given(whole: int, unreserved: int) -> dict[str, str]:
            limits = {"ConcurrentExecutions": whole, "UnreservedConcurrentExecutions": unreserved}
            answers["/2016-08-19/account-settings"] = json.dumps({"AccountLimit": limits}).encode()
            return {**account.environment, "AWS_ENDPOINT_URL_LAMBDA": url}

        yield given


IDENTITY = f"ok       credentials: arn:aws:iam::{ACCOUNT}:root"


def test_an_account_that_is_ready(run: Run, account: Account) -> None:
    status, lines = run(account.environment, "--context", "environment=dev")
    limits = account.client("lambda").get_account_settings()["AccountLimit"]
    bootstrap = account.client("ssm").get_parameter(Name=f"/cdk-bootstrap/{QUALIFIER}/version")["Parameter"]["Value"]
    assert (status, lines[1:]) == (
        0,
        [
            "ok       image builder: docker on amd64, which emulates arm64",
            IDENTITY,
            f"ok       region: {REGION}",
            f"ok       bootstrap: version {bootstrap}",
            f"ok       concurrency: {limits['ConcurrentExecutions']} in the account, 0 of them reserved for dev",
        ],
    )
    assert lines[0].startswith("ok       Node: ")


def test_what_props_name(run: Run, account: Account) -> None:
    """It is there, or it is missing; an image that is there needs no builder."""
    boundary = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
    made = {
        "kms_key": account.client("kms").create_key()["KeyMetadata"]["Arn"],
        "permissions_boundary": account.client("iam").create_policy(
            PolicyName="boundary", PolicyDocument=json.dumps(boundary)
        )["Policy"]["Arn"],
        "model_bucket": "there",
        "alarm_topic": account.client("sns").create_topic(Name="there")["TopicArn"],
    }
    account.client("s3").create_bucket(Bucket="there")
    gone = {
        "kms_key": f"arn:aws:kms:{REGION}:{ACCOUNT}:key/00000000-0000-0000-0000-000000000000",
        "permissions_boundary": f"arn:aws:iam::{ACCOUNT}:policy/nobodys",
        "model_bucket": "nobodys",
        "alarm_topic": f"arn:aws:sns:{REGION}:{ACCOUNT}:nobodys",
        "image": f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/nobodys@sha256:{'0' * 64}",
    }
    _, lines = run(account.environment, *told(made))
    assert [line for line in lines if line.startswith("ok       ")][5:-1] == [
        f"ok       {prop}: {value}" for prop, value in made.items()
    ]
    status, lines = run(account.environment, *told(gone))
    assert status == 1
    assert lines[4:-1] == [
        line
        for prop, value in gone.items()
        for line in (f"missing  {prop}: {value} is not there", f"         -> make it, or mend the prop {prop}")
    ]
    assert "builder" not in "".join(lines)


@pytest.fixture
def network(account: Account) -> dict[str, str]:
    """A VPC with a subnet and a route table, as props."""
    ec2 = account.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.30.0.0/16")["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.30.1.0/24")["Subnet"]["SubnetId"]
    table = ec2.create_route_table(VpcId=vpc)["RouteTable"]["RouteTableId"]
    ec2.associate_route_table(RouteTableId=table, SubnetId=subnet)
    return {"vpc": vpc, "subnets": subnet, "route_tables": table}


def test_what_functions_in_a_vpc_reach(run: Run, account: Account, network: dict[str, str]) -> None:
    """By endpoints, its own and the stack's, or by a route; one to an internet gateway is none."""
    ec2, (vpc, subnet, table) = account.client("ec2"), network.values()
    place = {"vpc": vpc, "subnets": subnet}
    gateway = ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
    ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=vpc)
    ec2.create_route(RouteTableId=table, DestinationCidrBlock="0.0.0.0/0", GatewayId=gateway)
    status, lines = run(account.environment, *told(place))
    assert (status, lines[-3:-1]) == (
        1,
        [
            f"missing  endpoints: no way from {subnet} to s3, lambda, codedeploy",
            "         -> --context endpoints=s3,lambda,codedeploy with the subnets' route_tables; "
            "or a route to a NAT gateway",
        ],
    )
    name = f"com.amazonaws.{REGION}.lambda"
    ec2.create_vpc_endpoint(VpcId=vpc, ServiceName=name, VpcEndpointType="Interface", SubnetIds=[subnet])
    status, lines = run(account.environment, *told({**network, "endpoints": "s3,lambda,codedeploy"}))
    assert (status, lines[-3:-1]) == (
        1,
        [
            f"missing  endpoints: {vpc} has lambda already, and takes no second one",
            "         -> leave out of the prop endpoints: lambda",
        ],
    )
    status, lines = run(account.environment, *told({**network, "endpoints": "s3,codedeploy"}))
    assert (status, lines[-2]) == (0, "ok       endpoints: s3, lambda, codedeploy")
    address = ec2.allocate_address(Domain="vpc")["AllocationId"]
    nat = ec2.create_nat_gateway(SubnetId=subnet, AllocationId=address)["NatGateway"]["NatGatewayId"]
    ec2.replace_route(RouteTableId=table, DestinationCidrBlock="0.0.0.0/0", NatGatewayId=nat)
    status, lines = run(account.environment, *told(place))
    assert (status, lines[-2]) == (0, "ok       endpoints: a route out of the VPC leads to s3, codedeploy")


def test_subnets_of_another_vpc(run: Run, account: Account, network: dict[str, str]) -> None:
    other = account.client("ec2").create_vpc(CidrBlock="10.40.0.0/16")["Vpc"]["VpcId"]
    status, lines = run(account.environment, *told({"vpc": other, "subnets": network["subnets"]}))
    assert status == 1
    assert f"missing  subnets: {network['subnets']} not in {other}" in lines


def test_what_a_network_names_and_is_not_there(run: Run, account: Account, network: dict[str, str]) -> None:
    """MiniStack says so of these; of route tables and endpoints it lists none."""
    ec2 = account.client("ec2")
    group = ec2.create_security_group(GroupName="gone", Description="gone", VpcId=network["vpc"])["GroupId"]
    ec2.delete_security_group(GroupId=group)
    gone = {
        "vpc": "vpc-0123456789abcdef0",
        "subnets": "subnet-0123456789abcdef0",
        "security_groups": group,
        "web_acl": f"arn:aws:wafv2:{REGION}:{ACCOUNT}:regional/webacl/ours/00000000-0000-0000-0000-000000000000",
    }
    status, lines = run(account.environment, *told({**gone, "api": "rest"}))
    assert status == 1
    assert [f"missing  {prop}: {value} is not there" for prop, value in gone.items()] == [
        line for line in lines if line.endswith("is not there")
    ]


def test_what_a_private_api_needs(run: Run, account: Account, network: dict[str, str]) -> None:
    ec2 = account.client("ec2")

    def endpoint(service: str) -> str:
        name = f"com.amazonaws.{REGION}.{service}"
        made = ec2.create_vpc_endpoint(VpcId=network["vpc"], ServiceName=name, VpcEndpointType="Interface")
        return str(made["VpcEndpoint"]["VpcEndpointId"])

    other = endpoint("sqs")
    status, lines = run(account.environment, *told({"api": "private", "vpc_endpoints": other}))
    assert status == 1
    assert f"missing  vpc_endpoints: {other} not for execute-api" in lines
    logs = "missing  API Gateway's logs: no role in this account and region lets REST APIs write logs"
    assert logs in lines
    role = f"arn:aws:iam::{ACCOUNT}:role/logs-of-apis"
    change = {"op": "replace", "path": "/cloudwatchRoleArn", "value": role}
    account.client("apigateway").update_account(patchOperations=[change])
    status, lines = run(account.environment, *told({"api": "private", "vpc_endpoints": endpoint("execute-api")}))
    assert (status, lines[-3:-1]) == (
        0,
        [f"ok       API Gateway's logs: {role}", "ok       vpc_endpoints: for execute-api"],
    )


@pytest.mark.parametrize(
    ("vcpus", "said"),
    [
        (5, "note     instances: max_vcpus are 24, and the account has 5 "),
        (64, "ok       instances: 64 vCPUs in the account"),
    ],
)
def test_vcpus_for_instances(run: Run, account: Account, network: dict[str, str], vcpus: int, said: str) -> None:
    """MiniStack has no quotas: this answers what Service Quotas does."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            answer = json.dumps({"Quota": {"QuotaCode": "L-1216C47A", "Value": float(vcpus)}}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None:
            """Nobody reads it."""

    place = {"vpc": network["vpc"], "subnets": network["subnets"]}
    with listening(Handler) as url:
        env = {**account.environment, "AWS_ENDPOINT_URL_SERVICE_QUOTAS": url}
        _, lines = run(env, *told({**place, "instances": "{}", "memory": "2048", "start": "none"}))
    assert [line for line in lines if line.startswith(said)] != []
    assert any(line.endswith("to s3, lambda, codedeploy, logs") for line in lines), lines


def test_whether_a_bucket_sends_its_events(run: Run, account: Account) -> None:
    s3 = account.client("s3")
    s3.create_bucket(Bucket="files-there")
    status, lines = run(account.environment, *told({"batch": "true", "files_bucket": "files-there"}))
    assert status == 1
    assert "missing  files_bucket: files-there sends no events to EventBridge" in lines
    s3.put_bucket_notification_configuration(
        Bucket="files-there", NotificationConfiguration={"EventBridgeConfiguration": {}}
    )
    status, lines = run(account.environment, *told({"batch": "true", "files_bucket": "files-there"}))
    assert (status, lines[-2]) == (0, "ok       files_bucket: its events come by EventBridge")


def told(values: Mapping[str, str]) -> list[str]:
    """The arguments that give these props, for models in a bucket."""
    return [part for prop, value in {"models": "bucket", **values}.items() for part in ("--context", f"{prop}={value}")]


def test_the_toolkit_is_as_new_as_the_templates_ask(dev: Assembly) -> None:
    manifest = json.loads((dev.folder / "manifest.json").read_text())
    asked = [item.get("properties", {}) for item in manifest["artifacts"].values()]
    assert {BOOTSTRAP} == {
        found["requiresBootstrapStackVersion"]
        for found in asked
        if found.keys() & {QUALIFIER, "requiresBootstrapStackVersion"}
    }


def test_another_region_has_no_toolkit(run: Run, account: Account) -> None:
    """Which region it is, AWS_REGION says, as for the CDK."""
    status, lines = run({**account.environment, "AWS_REGION": "eu-west-1"})
    assert (status, lines[4:6]) == (
        1,
        ["missing  bootstrap: eu-west-1 has no CDK toolkit", "         -> make bootstrap"],
    )


def test_nobody_is_logged_in(run: Run) -> None:
    status, lines = run({})
    assert (status, lines[2:]) == (
        1,
        [
            "missing  credentials: there are none",
            "         -> aws configure sso, aws sso login or export AWS_PROFILE=...",
            "missing  region: none is set",
            "         -> export AWS_REGION=..., or set the prop region: the CDK would take us-east-1",
        ],
    )


def test_credentials_that_are_not_valid(run: Run, account: Account) -> None:
    status, lines = run({**account.environment, "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE"})
    assert status == 1
    assert lines[2].startswith("missing  credentials: An error occurred (InvalidClientTokenId)")
    assert lines[3] == "         -> aws configure sso, aws sso login or export AWS_PROFILE=..."


def test_another_account(run: Run, account: Account) -> None:
    status, lines = run(account.environment, "--context", "account=999999999999")
    assert (status, lines[3:]) == (
        1,
        [
            f"missing  account: the credentials are of {ACCOUNT}, and dev is for 999999999999",
            "         -> take the other account's credentials, or mend the prop account",
        ],
    )


def test_props_that_cannot_be(run: Run) -> None:
    assert run({}, "--context", "memory=64") == (
        1,
        [
            "missing  props: memory must be from 128 to 10240, got 64",
            "         -> see docs/deploy-aws.md#props",
        ],
    )


MORE = (
    "aws service-quotas request-service-quota-increase --service-code lambda --quota-code L-B99A9384 "
    "--desired-value 1000, which takes some days for a new account"
)
QUOTAS: dict[str, tuple[tuple[int, int], tuple[str, ...], int, list[str]]] = {
    "a new account": (
        (10, 10),
        (),
        0,
        ["note     concurrency: the account answers 10 requests at once, as new ones do", f"         -> {MORE}"],
    ),
    "a reservation in a new account": (
        (10, 10),
        ("--context", "environment=staging"),
        1,
        [
            "missing  concurrency: staging reserves 20, and of the account's 10 0 can be reserved",
            f"         -> {MORE}; or --context concurrency=0",
        ],
    ),
    "others have reserved": (
        (1000, 150),
        ("--context", "environment=prod"),
        1,
        [
            "missing  concurrency: prod reserves 100, and of the account's 1000 50 can be reserved",
            f"         -> {MORE}; or --context concurrency=50",
        ],
    ),
    "provisioned": (
        (10, 10),
        ("-c", "start=provisioned", "-c", "provisioned=2"),
        1,
        [
            "missing  concurrency: dev reserves 2, and of the account's 10 0 can be reserved",
            f"         -> {MORE}; or --context concurrency=0",
        ],
    ),
    "several functions": (
        (1000, 150),
        ("-c", "concurrency=30", "-c", 'functions={"text": {"model_path": "text", "memory": 4096}}'),
        1,
        [
            "note     memory: 4096 MB, and new accounts may have 3008 only, which no API tells",
            "         -> if the deployment fails with MemorySize, ask AWS, or memory=3008",
            "missing  concurrency: dev reserves 60, and of the account's 1000 50 can be reserved",
            f"         -> {MORE}; or --context concurrency=50",
        ],
    ),
    "files in a new account": (
        (10, 10),
        ("-c", "batch=true"),
        0,
        [
            "note     concurrency: files may take 10 invocations, and the account has 10 for everything",
            f"         -> {MORE}; or --context batch_concurrency=5",
        ],
    ),
    "much memory": (
        (1000, 1000),
        ("-c", "memory=4096", "-c", "environment=prod"),
        0,
        [
            "note     memory: 4096 MB, and new accounts may have 3008 only, which no API tells",
            "         -> if the deployment fails with MemorySize, ask AWS, or memory=3008",
            "ok       concurrency: 1000 in the account, 100 of them reserved for prod",
        ],
    ),
}


@pytest.mark.parametrize("case", QUOTAS)
def test_quotas(run: Run, quota: Callable[[int, int], dict[str, str]], case: str) -> None:
    """A reservation leaves 100 to the account's other functions, or its whole quota where that is less."""
    limits, arguments, expected, said = QUOTAS[case]
    status, lines = run(quota(*limits), *arguments)
    assert (status, lines[5:]) == (expected, said)


BUILDERS: dict[str, tuple[str, str | None, str, list[str]]] = {
    "on its own processor": ("arm64", None, "arm64", ["ok       image builder: docker on arm64"]),
    "as a kernel calls it": ("aarch64", None, "arm64", ["ok       image builder: docker on aarch64"]),
    "for x86 on x86": ("amd64", None, "x86_64", ["ok       image builder: docker on amd64"]),
    "without QEMU": (
        "amd64",
        PLAIN,
        "arm64",
        [
            "missing  image builder: docker runs on amd64 and can't build for arm64",
            "         -> docker run --privileged --rm tonistiigi/binfmt --install arm64 (QEMU), "
            "or deploy with --context architecture=x86_64",
        ],
    ),
    "without buildx": (
        "amd64",
        None,
        "arm64",
        [
            "note     image builder: docker runs on amd64; whether it builds for arm64 it does not say",
            "         -> docker run --privileged --rm tonistiigi/binfmt --install arm64 (QEMU), "
            "or deploy with --context architecture=x86_64",
        ],
    ),
}


@pytest.mark.parametrize("case", BUILDERS)
def test_builders(run: Run, tmp_path: Path, case: str) -> None:
    processor, platforms, architecture, said = BUILDERS[case]
    docker(tmp_path, processor, platforms)
    _, lines = run({}, "--context", f"architecture={architecture}")
    assert lines[1 : 1 + len(said)] == said


def test_a_docker_without_a_daemon(run: Run, tmp_path: Path) -> None:
    """It prints its own half, and exits with 1."""
    program(
        tmp_path, "docker", 'echo \'{"Client":{"Arch":"amd64"},"Server":null}\'; echo \'Cannot connect\' >&2; exit 1'
    )
    _, lines = run({})
    assert lines[1:3] == [
        "missing  image builder: docker does not answer: Cannot connect",
        "         -> start docker's daemon",
    ]


def test_another_builder(run: Run, tmp_path: Path) -> None:
    """Podman needs no daemon, and names its processor elsewhere; 4.3.1."""
    program(tmp_path, "podman", 'echo \'{"Client":{"Version":"4.3.1","OsArch":"linux/amd64","Os":"linux"}}\'')
    _, lines = run({"CDK_DOCKER": "podman"}, "--context", "architecture=x86_64")
    assert lines[1] == "ok       image builder: podman on amd64"
    _, lines = run({"CDK_DOCKER": "nobodys"})
    assert lines[1:3] == [
        "missing  image builder: there is no program nobodys",
        "         -> install Docker, or name another builder (finch, podman) in CDK_DOCKER",
    ]

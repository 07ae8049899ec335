"""Functions in a VPC, behind an API that only its endpoint reaches, over files of a bucket that was there before.

MiniStack routes no packets: whether the subnets lead to the endpoints is not tested, nor the security groups.
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import tritonclient.http as triton
from account import Account
from codedeploy import CodeDeploy
from deployed import CARD
from filestack import Files, deployed
from test_bucket import CALLER

BUCKET = "files-of-a-team"
SERVICES = ("s3", "sqs", "lambda", "codedeploy")


@pytest.fixture(scope="module")
def network(account: Account) -> dict[str, str]:
    """What the team has: a VPC, two subnets, a route table, and an endpoint for execute-api. As props."""
    ec2 = account.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.20.0.0/16")["Vpc"]["VpcId"]
    subnets = [
        ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.20.{number}.0/24")["Subnet"]["SubnetId"] for number in (1, 2)
    ]
    table = ec2.create_route_table(VpcId=vpc)["RouteTable"]["RouteTableId"]
    name = "com.amazonaws.us-east-1.execute-api"
    made = ec2.create_vpc_endpoint(VpcId=vpc, ServiceName=name, VpcEndpointType="Interface", SubnetIds=subnets)
    return {
        "vpc": vpc,
        "subnets": ",".join(subnets),
        "route_tables": table,
        "vpc_endpoints": made["VpcEndpoint"]["VpcEndpointId"],
    }


@pytest.fixture(scope="module")
def files(
    account: Account, codedeploy: CodeDeploy, network: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Files]:
    s3 = account.client("s3")
    s3.create_bucket(Bucket=BUCKET)
    s3.put_bucket_notification_configuration(Bucket=BUCKET, NotificationConfiguration={"EventBridgeConfiguration": {}})
    context = {
        **network,
        "endpoints": ",".join(SERVICES),
        "api": "private",
        "batch": "true",
        "batch_timeout": "30",
        "files_bucket": BUCKET,
        "project": "network",
    }
    with deployed(account, codedeploy, tmp_path_factory.mktemp("deployed"), context, 20) as files:
        yield files


def endpoints(account: Account, network: dict[str, str]) -> set[str]:
    found = account.client("ec2").describe_vpc_endpoints()["VpcEndpoints"]
    return {item["ServiceName"].rpartition(".")[2] for item in found if item["VpcId"] == network["vpc"]}


# One story, told in the order of these tests.


def test_the_functions_are_in_the_vpc(files: Files, account: Account, network: dict[str, str]) -> None:
    """MiniStack's CloudFormation makes groups and endpoints, but forgets VpcConfig, which its Lambda knows."""
    group = files.environment.physical("AWS::EC2::SecurityGroup", "NetworkFunctions")
    subnets = network["subnets"].split(",")
    for start in ("FunctionHandler", "BatchHandler", "CheckHandler"):
        given = files.environment.assembly.only("AWS::Lambda::Function", start)["VpcConfig"]
        assert given["SubnetIds"] == subnets
        name = files.environment.physical("AWS::Lambda::Function", start)
        told = {"SubnetIds": subnets, "SecurityGroupIds": [group]}
        found = account.client("lambda").update_function_configuration(FunctionName=name, VpcConfig=told)["VpcConfig"]
        assert {**told, "VpcId": network["vpc"]}.items() <= found.items()
    assert endpoints(account, network) == {"execute-api", *SERVICES}


def test_a_file_that_arrives_is_predicted(files: Files) -> None:
    """By EventBridge, the queue and the function, with the rights that its role has there."""
    row = json.dumps({"pixels": CARD["example"]["inputs"][0]["data"]})
    files.put("input/digits/today.jsonl", f"{row}\n".encode())
    files.until(lambda: "digits/today.jsonl" in files.keys("output/"))
    assert json.loads(files.read("output/digits/today.jsonl"))["label"] == 7


@pytest.fixture(scope="module")
def caller(files: Files) -> dict[str, str]:
    return files.environment.user("of-the-network", CALLER)


def test_who_comes_by_no_endpoint_is_refused(files: Files, caller: dict[str, str]) -> None:
    """However well the request is signed."""
    assert files.environment.predict_signed(caller).status_code == 403


def test_a_prediction(files: Files, account: Account, caller: dict[str, str]) -> None:
    """Where the policy lets in who comes by loopback, too; without a signature, it doesn't."""
    environment = files.environment
    client = account.client("apigateway")
    [api] = [item for item in client.get_rest_apis()["items"] if item["name"] == environment.stack]
    [callers, _] = policy(api)["Statement"]
    change = {"op": "replace", "path": "/policy", "value": json.dumps({**policy(api), "Statement": [callers]})}
    client.update_rest_api(restApiId=api["id"], patchOperations=[change])
    answer = environment.predict_signed(caller)
    assert (answer.status_code, answer.json()["outputs"][0]["data"]) == (200, [7]), answer.text
    assert environment.predict_signed(environment.user("without-rights")).status_code == 403
    with pytest.raises(triton.InferenceServerException) as caught:
        environment.predict()
    assert caught.value.status() == "403"


def policy(api: dict[str, Any]) -> dict[str, Any]:
    """As API Gateway gives it: JSON in JSON."""
    text = api["policy"]
    found: dict[str, Any] = json.loads(text if text.startswith('{"') else json.loads(f'"{text}"'))
    return found


def test_destroy(files: Files, account: Account, network: dict[str, str]) -> None:
    """What was there before stays."""
    status, said = files.environment.destroy()
    assert status == 0, said
    assert endpoints(account, network) == {"execute-api"}
    assert files.keys("input/") == {"digits/today.jsonl"}

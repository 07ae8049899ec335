"""The API in front of the function: who may call it, and where; and what a deployment ends with."""

import json
import shlex

import pytest
from assemblies import ROOT, VARIANTS, Assembly
from templates import ALIAS, FUNCTION, ROUTE, constants


@pytest.mark.parametrize(
    ("variant", "expected"),
    [
        ("dev", {"$default": "AWS_IAM"}),
        ("prod", {"$default": "JWT"}),
        ("open", {"$default": "NONE", "OPTIONS /{proxy+}": "NONE"}),
        # Preflight requests of browsers have no credentials, whatever the others need.
        ("batch", {"$default": "AWS_IAM", "OPTIONS /{proxy+}": "NONE"}),
        ("keys", {"$default": "NONE"}),
    ],
)
def test_authorisation(assemblies: dict[str, Assembly], variant: str, expected: dict[str, str]) -> None:
    found = [item["Properties"] for item in assemblies[variant].resources(ROUTE).values()]
    assert {route["RouteKey"]: route["AuthorizationType"] for route in found} == expected


def test_tokens(prod: Assembly) -> None:
    assert constants(prod.only("AWS::ApiGatewayV2::Authorizer")) == {
        "AuthorizerType": "JWT",
        "IdentitySource": ["$request.header.Authorization"],
        "JwtConfiguration": {"Audience": ["predictions"], "Issuer": "https://issuer.example"},
        "Name": "Jwt",
    }


HTTP_APIS = [name for name, context in VARIANTS.items() if "api" not in context]


@pytest.mark.parametrize("variant", HTTP_APIS)
def test_requests_reach_the_alias(assemblies: dict[str, Assembly], variant: str) -> None:
    assembly = assemblies[variant]
    [alias] = assembly.resources(ALIAS)
    for item in assembly.resources("AWS::ApiGatewayV2::Integration").values():
        assert item["Properties"]["IntegrationUri"] == {"Ref": alias}
        assert item["Properties"]["PayloadFormatVersion"] == "2.0"
    invokers = [item["Properties"] for item in assembly.resources("AWS::Lambda::Permission").values()]
    assert {json.dumps(permission["FunctionName"]) for permission in invokers} == {json.dumps({"Ref": alias})}


@pytest.mark.parametrize("variant", HTTP_APIS)
def test_stage(assemblies: dict[str, Assembly], variant: str) -> None:
    assembly = assemblies[variant]
    found = assembly.only("AWS::ApiGatewayV2::Stage")
    assert found["StageName"] == "$default"
    assert found["DefaultRouteSettings"] == {
        "DetailedMetricsEnabled": True,
        "ThrottlingBurstLimit": 100,
        "ThrottlingRateLimit": 50,
    }
    [logs] = [name for name in assembly.resources("AWS::Logs::LogGroup") if name.startswith("ApiAccessLogs")]
    assert found["AccessLogSettings"]["DestinationArn"] == {"Fn::GetAtt": [logs, "Arn"]}
    logged = json.loads(found["AccessLogSettings"]["Format"])
    assert (logged["requestId"], logged["status"]) == ("$context.requestId", "$context.status")


def test_cors(opened: Assembly, dev: Assembly) -> None:
    assert opened.only("AWS::ApiGatewayV2::Api")["CorsConfiguration"] == {
        "AllowHeaders": ["*"],
        "AllowMethods": ["GET", "POST", "OPTIONS"],
        "AllowOrigins": ["https://app.example"],
        "ExposeHeaders": ["Inference-Header-Content-Length", "X-Request-Id"],
        "MaxAge": 3600,
    }
    assert "CorsConfiguration" not in dev.only("AWS::ApiGatewayV2::Api")


def test_domain(prod: Assembly) -> None:
    domain = prod.only("AWS::ApiGatewayV2::DomainName")
    assert domain["DomainName"] == "api.example.com"
    record = prod.only("AWS::Route53::RecordSet")
    assert (record["Name"], record["Type"], record["HostedZoneId"]) == ("api.example.com", "A", "Z0000000000000")
    assert prod.template["Outputs"]["Endpoint"]["Value"] == "https://api.example.com"


@pytest.mark.parametrize(("variant", "kind"), [("batch", "AWS_IAM"), ("keys", "NONE"), ("open", "NONE")])
def test_function_url(assemblies: dict[str, Assembly], variant: str, kind: str) -> None:
    """Whoever needs a signature at the API needs one there; everybody is let in where the others are."""
    [handler] = [name for name in assemblies[variant].resources(FUNCTION) if name.startswith("FunctionHandler")]
    assert assemblies[variant].only("AWS::Lambda::Url") == {
        "AuthType": kind,
        "Qualifier": "live",
        "TargetFunctionArn": {"Fn::GetAtt": [handler, "Arn"]},
    }
    everybody = [
        item["Properties"]["Action"]
        for item in assemblies[variant].resources("AWS::Lambda::Permission").values()
        if item["Properties"]["Principal"] == "*"
    ]
    assert bool(everybody) == (kind == "NONE")


def test_function_url_is_off_by_default(dev: Assembly) -> None:
    assert dev.resources("AWS::Lambda::Url") == {}


@pytest.mark.parametrize(
    ("variant", "more"),
    [("dev", set()), ("prod", {"ModelBucket"}), ("open", {"FunctionUrl"}), ("keys", {"ApiKeysSecret", "FunctionUrl"})],
)
def test_outputs(assemblies: dict[str, Assembly], variant: str, more: set[str]) -> None:
    expected = {"AlarmTopic", "Curl", "Dashboard", "Endpoint", "FunctionArn", "LogGroup"}
    assert set(assemblies[variant].template["Outputs"]) == expected | more


@pytest.mark.parametrize(
    ("variant", "options"),
    [
        (
            "dev",
            [
                "--aws-sigv4",
                "aws:amz:eu-west-1:execute-api",
                "--user",
                "$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY",
                "-H",
                "x-amz-security-token: $AWS_SESSION_TOKEN",
            ],
        ),
        ("open", []),
        ("keys", ["-H", "x-api-key: $API_KEY"]),
    ],
)
def test_curl_line(assemblies: dict[str, Assembly], variant: str, options: list[str]) -> None:
    parts = assemblies[variant].template["Outputs"]["Curl"]["Value"]["Fn::Join"][1]
    values = {"Ref": "eu-west-1", "Fn::GetAtt": "https://id.example"}
    line = "".join(part if isinstance(part, str) else values[next(iter(part))] for part in parts)
    *command, url, flag, body = shlex.split(line)
    assert (command, url, flag) == (["curl", *options], "https://id.example/v2/models/digits/infer", "-d")
    card = json.loads((ROOT / "models/digits/config.json").read_text())
    assert json.loads(body) == {"inputs": card["example"]["inputs"]}


def test_curl_line_without_an_example(prod: Assembly) -> None:
    said = prod.template["Outputs"]["Curl"]["Value"]
    assert said == 'curl -H "Authorization: Bearer $TOKEN" https://api.example.com/v2/health/ready'

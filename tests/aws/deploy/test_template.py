"""The template of each variant: the function, the API, the rollout, the alarms, the outputs."""

import json
import re
import shlex
from typing import Any

import pytest
from assemblies import ROOT, Assembly
from inferry.settings import Settings

from cdk.image import CONTEXT

FUNCTION = "AWS::Lambda::Function"
ALIAS = "AWS::Lambda::Alias"
ROUTE = "AWS::ApiGatewayV2::Route"
ALARM = "AWS::CloudWatch::Alarm"


def constants(value: Any) -> Any:
    """`value` without what refers to other resources, and without tags."""
    if not isinstance(value, dict):
        return value
    return {k: constants(v) for k, v in value.items() if k != "Tags" and not refers(v)}


def refers(value: Any) -> bool:
    return isinstance(value, dict) and len(value) == 1 and next(iter(value)).startswith(("Ref", "Fn::"))


def function(assembly: Assembly) -> dict[str, Any]:
    return assembly.only(FUNCTION, "FunctionHandler")


COMMON = {
    "Code": {},
    "EphemeralStorage": {"Size": 512},
    "ImageConfig": {"Command": ["functions.api.handler"]},
    "LoggingConfig": {"ApplicationLogLevel": "INFO", "LogFormat": "JSON", "SystemLogLevel": "INFO"},
    "PackageType": "Image",
}
FUNCTIONS: dict[str, dict[str, Any]] = {
    "dev": {
        "Architectures": ["arm64"],
        "Description": "Predictions of inferry-dev over the Open Inference Protocol",
        "MemorySize": 1769,
        "SnapStart": {"ApplyOn": "PublishedVersions"},
        "Timeout": 29,
    },
    "prod": {
        "Architectures": ["arm64"],
        "Description": "Predictions of inferry-prod over the Open Inference Protocol",
        "MemorySize": 1769,
        "ReservedConcurrentExecutions": 100,
        "Timeout": 29,
        "TracingConfig": {"Mode": "Active"},
    },
    "open": {
        "Architectures": ["x86_64"],
        "Description": "Predictions of inferry-dev over the Open Inference Protocol",
        "LoggingConfig": {"ApplicationLogLevel": "DEBUG", "LogFormat": "JSON", "SystemLogLevel": "INFO"},
        "MemorySize": 4000,
        "Timeout": 120,
        "TracingConfig": {"Mode": "Active"},
    },
}


@pytest.mark.parametrize("variant", FUNCTIONS)
def test_function(assemblies: dict[str, Assembly], variant: str) -> None:
    found = constants(function(assemblies[variant]))
    del found["Environment"]
    assert found == {**COMMON, **FUNCTIONS[variant]}


def told(stack: str, **more: Any) -> Settings:
    """What every function of a stack is told, but for the differences."""
    given: dict[str, Any] = {
        "default_model": "digits",
        "model_timeout": 28.0,
        "intra_op_threads": 1,
        "metrics_sinks": ("prometheus", "emf"),
        "app_name": stack,
        "log_format": "json",
    }
    return Settings(**{**given, **more})


OPEN_SETTINGS = {
    "model_timeout": 119.0,
    "intra_op_threads": 3,
    "cors_origins": ("https://app.example",),
    "data_prefixes": ("s3://tensors/in", "az://elsewhere"),
    "log_level": "DEBUG",
    "metrics_sinks": ("amp",),
    "remote_write_url": "https://aps-workspaces.eu-west-1.amazonaws.com/workspaces/ws-1/api/v1/remote_write",
}


@pytest.mark.parametrize(
    ("variant", "expected"),
    [
        ("dev", told("inferry-dev")),
        ("prod", told("inferry-prod", environment="prod")),
        ("open", told("inferry-dev", **OPEN_SETTINGS)),
    ],
)
def test_environment_is_the_settings(assemblies: dict[str, Assembly], variant: str, expected: Settings) -> None:
    """Every image function is told its settings, in the words of to_env(), and nothing else."""
    found = [
        item["Properties"]["Environment"]["Variables"]
        for item in assemblies[variant].resources(FUNCTION).values()
        if item["Properties"].get("PackageType") == "Image"
    ]
    bucket = {"MODEL_PATH": models_url(assemblies["prod"])} if variant == "prod" else {}
    assert found == [{**expected.to_env(), **bucket}]


def test_keys_reach_the_function_as_a_reference(keys: Assembly) -> None:
    """To digests that CloudFormation fills in. With no digest there, nobody may call: the first is of no key."""
    [secret] = keys.resources("AWS::SecretsManager::Secret")
    expected = told("models-dev").to_env()
    reference = [f"{'0' * 64},{{{{resolve:secretsmanager:", {"Ref": secret}, f":SecretString:digests::{'5' * 32}}}}}"]
    assert function(keys)["Environment"]["Variables"] == {**expected, "API_KEYS": {"Fn::Join": ["", reference]}}


def test_a_new_secret_has_a_digest_that_nobody_has_a_key_for(keys: Assembly) -> None:
    assert keys.only("AWS::SecretsManager::Secret")["GenerateSecretString"] == {
        "ExcludeCharacters": "ghijklmnopqrstuvwxyz",
        "ExcludePunctuation": True,
        "ExcludeUppercase": True,
        "GenerateStringKey": "digests",
        "PasswordLength": 64,
        "RequireEachIncludedType": False,
        "SecretStringTemplate": '{"check":""}',
    }


def models_url(assembly: Assembly) -> dict[str, Any]:
    [bucket] = assembly.resources("AWS::S3::Bucket")
    return {"Fn::Join": ["", ["s3://", {"Ref": bucket}, "/models"]]}


@pytest.mark.parametrize(
    ("variant", "provisioned"), [("dev", None), ("prod", {"ProvisionedConcurrentExecutions": 2}), ("open", None)]
)
def test_alias(assemblies: dict[str, Assembly], variant: str, provisioned: dict[str, int] | None) -> None:
    found = assemblies[variant].only(ALIAS)
    assert (found["Name"], found.get("ProvisionedConcurrencyConfig")) == ("live", provisioned)


@pytest.mark.parametrize(
    ("variant", "expected"),
    [
        ("dev", {"$default": "AWS_IAM"}),
        ("prod", {"$default": "JWT"}),
        ("open", {"$default": "NONE", "OPTIONS /{proxy+}": "NONE"}),
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


def test_requests_reach_the_alias(assembly: Assembly) -> None:
    [alias] = assembly.resources(ALIAS)
    for item in assembly.resources("AWS::ApiGatewayV2::Integration").values():
        assert item["Properties"]["IntegrationUri"] == {"Ref": alias}
        assert item["Properties"]["PayloadFormatVersion"] == "2.0"
    invokers = [item["Properties"] for item in assembly.resources("AWS::Lambda::Permission").values()]
    assert {json.dumps(permission["FunctionName"]) for permission in invokers} == {json.dumps({"Ref": alias})}


def test_stage(assembly: Assembly) -> None:
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


def test_function_url(opened: Assembly, keys: Assembly, dev: Assembly) -> None:
    assert [item.only("AWS::Lambda::Url")["AuthType"] for item in (opened, keys)] == ["NONE", "NONE"]
    assert dev.resources("AWS::Lambda::Url") == {}


def test_model_bucket(prod: Assembly, dev: Assembly) -> None:
    assert dev.resources("AWS::S3::Bucket") == {}
    assert constants(prod.only("AWS::S3::Bucket")) == {
        "BucketEncryption": {
            "ServerSideEncryptionConfiguration": [{"ServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]
        },
        "LifecycleConfiguration": {
            "Rules": [
                {"NoncurrentVersionExpiration": {"NoncurrentDays": 365}, "Status": "Enabled"},
                {"AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1}, "Status": "Enabled"},
            ]
        },
        "OwnershipControls": {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]},
        "PublicAccessBlockConfiguration": {
            "BlockPublicAcls": True,
            "BlockPublicPolicy": True,
            "IgnorePublicAcls": True,
            "RestrictPublicBuckets": True,
        },
        "VersioningConfiguration": {"Status": "Enabled"},
    }
    refused = [
        (statement["Effect"], statement["Action"], statement["Condition"])
        for statement in prod.only("AWS::S3::BucketPolicy")["PolicyDocument"]["Statement"]
    ]
    assert refused == [
        ("Deny", "s3:*", {"Bool": {"aws:SecureTransport": "false"}}),
        ("Deny", "s3:*", {"NumericLessThan": {"s3:TlsVersion": 1.2}}),
    ]


@pytest.mark.parametrize(
    ("variant", "name", "hook_timeout"),
    [
        ("dev", "CodeDeployDefault.LambdaCanary10Percent5Minutes", 88),
        ("open", "CodeDeployDefault.LambdaAllAtOnce", 270),
    ],
)
def test_rollout(assemblies: dict[str, Assembly], variant: str, name: str, hook_timeout: int) -> None:
    assembly = assemblies[variant]
    group = assembly.only("AWS::CodeDeploy::DeploymentGroup")
    assert group["DeploymentConfigName"] == name
    assert group["AutoRollbackConfiguration"] == {
        "Enabled": True,
        "Events": ["DEPLOYMENT_FAILURE", "DEPLOYMENT_STOP_ON_REQUEST", "DEPLOYMENT_STOP_ON_ALARM"],
    }
    watched = {alarm["Name"]["Ref"] for alarm in group["AlarmConfiguration"]["Alarms"]}
    assert (group["AlarmConfiguration"]["Enabled"], watched) == (True, set(alarms(assembly, "Errors", "ServerErrors")))
    [(alias, item)] = assembly.resources(ALIAS).items()
    [check] = [name for name in assembly.resources(FUNCTION) if name.startswith("CheckHandler")]
    [application] = assembly.resources("AWS::CodeDeploy::Application")
    [deployments] = assembly.resources("AWS::CodeDeploy::DeploymentGroup")
    assert item["UpdatePolicy"]["CodeDeployLambdaAliasUpdate"] == {
        "ApplicationName": {"Ref": application},
        "BeforeAllowTrafficHook": {"Ref": check},
        "DeploymentGroupName": {"Ref": deployments},
    }
    assert check in item["DependsOn"]
    assert assembly.only(FUNCTION, "CheckHandler")["Timeout"] == hook_timeout
    assert alias.startswith("FunctionAlias")


def alarms(assembly: Assembly, *starts: str) -> list[str]:
    return [n for n in assembly.resources(ALARM) for start in starts if n[: -len("01234567")] == f"Alarms{start}"]


@pytest.mark.parametrize(
    ("variant", "models", "cards"),
    [
        ("dev", ["digits"], ["digits"]),
        ("open", ["digits", "newsline"], ["digits", "newsline"]),
        # Those of a bucket are read when the check runs.
        ("prod", ["digits"], []),
    ],
)
def test_check(assemblies: dict[str, Assembly], variant: str, models: list[str], cards: list[str]) -> None:
    assembly = assemblies[variant]
    check = assembly.only(FUNCTION, "CheckHandler")
    [version] = assembly.resources("AWS::Lambda::Version")
    told = check["Environment"]["Variables"]
    assert json.loads(told["MODELS"]) == models
    assert told["VERSION"] == {"Ref": version}
    folder = assembly.folder / f"asset.{check['Code']['S3Key'].removesuffix('.zip')}"
    found = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    assert found == [*(f"cards/{name}/config.json" for name in cards), "handler.py"]
    for name in cards:
        card = ROOT / "models" / name / "config.json"
        assert (folder / "cards" / name / "config.json").read_bytes() == card.read_bytes()


def test_alarms(prod: Assembly) -> None:
    [topic] = prod.resources("AWS::SNS::Topic")
    found = {}
    for name, item in prod.resources(ALARM).items():
        alarm = item["Properties"]
        assert (alarm["AlarmActions"], alarm["OKActions"]) == ([{"Ref": topic}], [{"Ref": topic}])
        assert (alarm["ComparisonOperator"], alarm["TreatMissingData"]) == ("GreaterThanThreshold", "notBreaching")
        found[name[len("Alarms") : -len("01234567")]] = (alarm["Threshold"], alarm["EvaluationPeriods"])
    assert found == {
        "Errors": (1, 1),
        "ServerErrors": (1, 1),
        "Latency": (3000, 3),
        "Throttles": (0, 1),
        "Init": (8000, 1),
        "Cost": (10, 1),
    }
    assert constants(prod.only("AWS::SNS::Subscription")) == {"Endpoint": "ops@example.com", "Protocol": "email"}


def test_rollback_alarms_ring_within_a_rollout(dev: Assembly) -> None:
    for name in alarms(dev, "Errors", "ServerErrors"):
        metrics = dev.resources(ALARM)[name]["Properties"]["Metrics"]
        assert {metric["MetricStat"]["Period"] for metric in metrics if "MetricStat" in metric} == {60}


def test_cost_formula(opened: Assembly) -> None:
    """4,000 MB for 1,000 s in 1,000 requests, by Lambda's and API Gateway's price lists."""
    [name] = alarms(opened, "Cost")
    metrics = opened.resources(ALARM)[name]["Properties"]["Metrics"]
    [formula] = [metric["Expression"] for metric in metrics if "Expression" in metric]
    cost = eval(formula, {"duration": 1_000_000, "invocations": 1000, "requests": 1000})
    assert cost == pytest.approx(1000 * 4000 / 1024 * 0.0000166667 + 0.0002 + 0.001)
    assert {metric["MetricStat"]["Period"] for metric in metrics if "MetricStat" in metric} == {86400}


def test_cold_starts_are_read_from_the_logs(dev: Assembly) -> None:
    found = [constants(item["Properties"]) for item in dev.resources("AWS::Logs::MetricFilter").values()]
    assert found == [
        {
            "FilterPattern": f"{{ $.record.metrics.{field} > 0 }}",
            "MetricTransformations": [
                {
                    "MetricName": f"{kind}-inferry-dev",
                    "MetricNamespace": "inferry/lambda",
                    "MetricValue": f"$.record.metrics.{field}",
                }
            ],
        }
        for kind, field in (("Init", "initDurationMs"), ("Restore", "restoreDurationMs"))
    ]


def test_dashboard(dev: Assembly) -> None:
    """Among Lambda's and API Gateway's, inferry's own metrics, by the names that it prints."""
    body = dev.only("AWS::CloudWatch::Dashboard")["DashboardBody"]["Fn::Join"][1]
    graphs = json.loads("".join(part if isinstance(part, str) else "REF" for part in body))["widgets"]
    by_title = {graph["properties"]["title"]: graph["properties"].get("metrics") for graph in graphs}
    assert list(by_title) == [
        "inferry-dev",
        "Requests",
        "Failures",
        "Latency at the API",
        "Duration in the function",
        "Predictions",
        "Time of a prediction, s",
        "Cold starts",
        "Concurrency",
        "Cost per hour",
    ]
    assert [metric[:4] for metric in by_title["Predictions"]] == [
        ["inferry-dev", name, "service", "inferry-dev"]
        for name in ("inferry_requests_total", "inferry_request_failures_total", "inferry_rows_total")
    ]


def test_budget(prod: Assembly, dev: Assembly) -> None:
    assert dev.resources("AWS::Budgets::Budget") == {}
    found = prod.only("AWS::Budgets::Budget")
    assert found["Budget"] == {
        "BudgetLimit": {"Amount": 50, "Unit": "USD"},
        "BudgetType": "COST",
        "CostFilters": {"TagKeyValue": ["aws:cloudformation:stack-name$inferry-prod"]},
        "TimeUnit": "MONTHLY",
    }


@pytest.mark.parametrize(
    ("variant", "days", "policy"), [("dev", 30, "Delete"), ("prod", 365, "Retain"), ("open", 3653, "Delete")]
)
def test_logs_end(assemblies: dict[str, Assembly], variant: str, days: int, policy: str) -> None:
    groups = assemblies[variant].resources("AWS::Logs::LogGroup")
    assert {name[:-8] for name in groups} == {"FunctionLogs", "ApiAccessLogs", "CheckLogs"}
    assert {(g["Properties"]["RetentionInDays"], g["DeletionPolicy"]) for g in groups.values()} == {(days, policy)}


def test_tags(assembly: Assembly) -> None:
    project, environment = assembly.template_file.name.removesuffix(".template.json").split("-")
    expected = {"Environment": environment, "ManagedBy": "cdk", "Project": project}
    tagged = {name: item["Properties"]["Tags"] for name, item in assembly.resources().items() if has_tags(item)}
    for name, tags in tagged.items():
        pairs = tags if isinstance(tags, dict) else {tag["Key"]: tag["Value"] for tag in tags}
        assert {key: pairs.get(key) for key in expected} == expected, name
    kinds = {assembly.resources()[name]["Type"] for name in tagged}
    assert kinds >= {FUNCTION, "AWS::ApiGatewayV2::Api", "AWS::Logs::LogGroup", "AWS::IAM::Role", "AWS::SNS::Topic"}


def has_tags(item: dict[str, Any]) -> bool:
    return "Tags" in item.get("Properties", {})


@pytest.mark.parametrize(
    ("variant", "more"),
    [("dev", set()), ("prod", {"ModelBucket"}), ("open", {"FunctionUrl"}), ("keys", {"ApiKeysSecret", "FunctionUrl"})],
)
def test_outputs(assemblies: dict[str, Assembly], variant: str, more: set[str]) -> None:
    expected = {"AlarmTopic", "Curl", "Dashboard", "Endpoint", "LogGroup"}
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


def test_image_context(dev: Assembly) -> None:
    """Only what the image needs is hashed and sent to the builder: no .env, no tests."""
    manifest = json.loads(next(dev.folder.glob("*.assets.json")).read_text())
    [image] = manifest["dockerImages"].values()
    source = image["source"]
    assert (source["dockerFile"], source["platform"]) == ("functions/Dockerfile", "linux/arm64")
    folder = dev.folder / source["directory"]
    found = {path.name for path in folder.iterdir()} - {".dockerignore"}
    assert found == {"functions", "models", "pyproject.toml", "shared"}
    assert [path.name for path in (folder / "functions").iterdir()] == ["Dockerfile"]
    assert sorted(path.name for path in (folder / "models").iterdir()) == [
        card.parent.name for card in sorted(ROOT.glob("models/*/config.json"))
    ]


def test_the_context_has_what_the_image_copies() -> None:
    copied = re.findall(r"^COPY (?!--)(.*) \S+$", (ROOT / "functions" / "Dockerfile").read_text(), re.MULTILINE)
    names = {source.split("/")[0] for line in copied for source in line.split()}
    assert names == set(CONTEXT)

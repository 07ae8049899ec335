"""What watches the function: rollouts and their check, alarms, the dashboard, logs, tags, the budget."""

import json
from typing import Any

import pytest
from assemblies import ROOT, Assembly
from templates import ALARM, ALIAS, FUNCTION, constants


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


PRICES = json.loads((ROOT / "shared/inferry/sizing/prices.json").read_text())["lambda"]
DAY = 24 * 60 * 60


@pytest.mark.parametrize(
    ("variant", "gigabytes", "idle", "restored"),
    [
        ("open", 4000 / 1024, 0.0, 0.0),
        ("dev", 1769 / 1024, PRICES["snapstart"]["cached_gb_second"] * DAY, PRICES["snapstart"]["restored_gb"]),
        # Two of them.
        ("prod", 1769 / 1024, PRICES["provisioned"]["gb_second"] * DAY * 2, 0.0),
    ],
)
def test_cost_formula(
    assemblies: dict[str, Assembly], variant: str, gigabytes: float, idle: float, restored: float
) -> None:
    """A day with 1,000 s in 1,000 requests and ten restores, and a day with nothing, by AWS's price lists."""
    [name] = alarms(assemblies[variant], "Cost")
    metrics = assemblies[variant].resources(ALARM)[name]["Properties"]["Metrics"]
    [formula] = [metric["Expression"] for metric in metrics if "Expression" in metric]
    names = {metric["Id"]: metric["MetricStat"]["Stat"] for metric in metrics if "MetricStat" in metric}
    assert names == {
        "duration": "Sum",
        "invocations": "Sum",
        "requests": "Sum",
        **({"restores": "SampleCount"} if restored else {}),
    }

    def cost(**data: int) -> float:
        missing = dict.fromkeys(names)
        value: float = eval(
            formula, {"FILL": lambda value, other: other if value is None else value, **missing, **data}
        )
        return value

    busy = cost(duration=1_000_000, invocations=1000, requests=1000, **({"restores": 10} if restored else {}))
    running = 1000 * gigabytes * PRICES["x86_64"]["gb_second"] + 1000 * PRICES["request"] + 0.001
    assert busy == pytest.approx(running + gigabytes * (idle + 10 * restored))
    assert cost() == pytest.approx(gigabytes * idle)
    assert cost(duration=1_000_000, invocations=1000) > cost()
    assert {metric["MetricStat"]["Period"] for metric in metrics if "MetricStat" in metric} == {DAY}


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
    assert kinds >= {FUNCTION, "AWS::Logs::LogGroup", "AWS::IAM::Role", "AWS::SNS::Topic"}
    assert kinds & {"AWS::ApiGatewayV2::Api", "AWS::ApiGateway::RestApi"}


def has_tags(item: dict[str, Any]) -> bool:
    return "Tags" in item.get("Properties", {})

"""Several functions in the template: what each has of its own, and where the API has it."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx_models
import pytest
from assemblies import Assembly, sources, synthesise
from inferry.settings import Settings
from resolved import ACCOUNT, REGION, resolved
from templates import ALIAS, FUNCTION, ROUTE

from cdk.props import InvalidProps

TABLE = {"text": {"memory": 3538, "timeout": 20, "settings": {"LOG_LEVEL": "WARNING"}}}
CORS = {"environments": {"dev": {"settings": {"DEFAULT_MODEL": "digits", "CORS_ORIGINS": "https://app.example"}}}}


def several(folder: Path, table: Mapping[str, Any] = TABLE, **context: Any) -> Assembly:
    """A stack whose function `text` has newsline, and whose own one has the other examples."""
    source = sources(folder / "source")
    shutil.move(source / "models" / "newsline", onnx_models.write(source / "text", {}) / "newsline")
    functions = {name: {"model_path": "text", **values} for name, values in table.items()}
    return synthesise({"functions": functions, **context}, folder / "out", source)


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Assembly:
    return several(tmp_path_factory.mktemp("http"), **CORS)


@pytest.fixture(scope="module")
def rest(tmp_path_factory: pytest.TempPathFactory) -> Assembly:
    return several(tmp_path_factory.mktemp("rest"), api="rest", **CORS)


def test_what_each_has_of_its_own(http: Assembly) -> None:
    own, text = (http.only(FUNCTION, start) for start in ("FunctionHandler", "MoretextFunctionHandler"))
    assert (own["MemorySize"], text["MemorySize"], text["Timeout"]) == (1769, 3538, 20)
    assert own["Code"] != text["Code"]
    assert text["Description"] == "Predictions of inferry-dev-text over the Open Inference Protocol"
    assert Settings.from_env(text["Environment"]["Variables"]) == Settings(
        app_name="inferry-dev-text",
        cors_origins=("https://app.example",),
        intra_op_threads=2,
        log_format="json",
        log_level="WARNING",
        metrics_sinks=("prometheus", "emf"),
        model_timeout=19.0,
    )
    checked = [
        json.loads(http.only(FUNCTION, f"{start}CheckHandler")["Environment"]["Variables"]["MODELS"])
        for start in ("", "Moretext")
    ]
    assert checked == [["digits"], ["newsline"]]
    assert set(http.template["Outputs"]) >= {"FunctionArn", "FunctionArnText"}


def target(item: Mapping[str, Any], resources: Mapping[str, Any]) -> str:
    """Which function a route of an HTTP API leads to."""
    integration = resources[item["Properties"]["Target"].rpartition("/")[2]]["Properties"]["IntegrationUri"]
    return "text" if "Moretext" in integration else "own"


def test_where_the_http_api_has_them(http: Assembly) -> None:
    """All that is below a function's name, its models where clients look for models, and preflight requests."""
    resources = resolved(http.template)
    routes = {
        item["Properties"]["RouteKey"]: (target(item, resources), item["Properties"]["AuthorizationType"])
        for item in resources.values()
        if item["Type"] == ROUTE
    }
    fronts = [f"{front}{end}" for front in ("/text", "/v2/models/newsline") for end in ("", "/{proxy+}")]
    assert routes == {
        "$default": ("own", "AWS_IAM"),
        "OPTIONS /{proxy+}": ("own", "NONE"),
        **{f"ANY {front}": ("text", "AWS_IAM") for front in fronts},
        **{f"OPTIONS {front}": ("text", "NONE") for front in fronts},
    }
    assert len([item for item in resources.values() if item["Type"] == "AWS::Lambda::Permission"]) == 3


def test_where_a_rest_api_has_them(rest: Assembly) -> None:
    resources = resolved(rest.template)

    def path(name: str) -> str:
        item = resources.get(name)
        if not item or item["Type"] != "AWS::ApiGateway::Resource":
            return ""
        return f"{path(item['Properties']['ParentId'])}/{item['Properties']['PathPart']}"

    methods = {
        (given["HttpMethod"], path(given["ResourceId"]) or "/"): (
            "text" if "Moretext" in given["Integration"]["Uri"] else "own",
            given["AuthorizationType"],
        )
        for given in (item["Properties"] for item in resources.values() if item["Type"] == "AWS::ApiGateway::Method")
    }
    places = {"/": "own", "/{proxy+}": "own"} | {
        f"{front}{end}": "text" for front in ("/text", "/v2/models/newsline") for end in ("", "/{proxy+}")
    }
    assert methods == {
        (method, place): (function, kind)
        for place, function in places.items()
        for method, kind in (("ANY", "AWS_IAM"), ("OPTIONS", "NONE"))
    }


def test_each_is_rolled_out_by_itself(http: Assembly) -> None:
    """At its own errors, and at those of the API that all of them are behind."""
    groups = http.resources("AWS::CodeDeploy::DeploymentGroup")
    aliases = http.resources(ALIAS)
    assert (len(groups), len(aliases)) == (2, 2)
    for name, item in aliases.items():
        update = item["UpdatePolicy"]["CodeDeployLambdaAliasUpdate"]
        start = "Moretext" if name.startswith("Moretext") else ""
        assert update["BeforeAllowTrafficHook"]["Ref"].startswith(f"{start}CheckHandler")
        group = groups[update["DeploymentGroupName"]["Ref"]]["Properties"]
        watched = {alarm["Name"]["Ref"][:-8] for alarm in group["AlarmConfiguration"]["Alarms"]}
        assert watched == {f"{start}AlarmsErrors", "AlarmsServerErrors"}


def test_metrics_of_each(http: Assembly) -> None:
    names = {
        item["Properties"]["MetricTransformations"][0]["MetricName"]
        for item in http.resources("AWS::Logs::MetricFilter").values()
    }
    assert names == {f"{kind}-inferry-dev{name}" for kind in ("Init", "Restore") for name in ("", "-text")}
    costs = [name for name in http.resources("AWS::CloudWatch::Alarm") if "AlarmsCost" in name]
    assert len(costs) == 2
    [topic] = http.resources("AWS::SNS::Topic")
    actions = [item["Properties"]["AlarmActions"] for item in http.resources("AWS::CloudWatch::Alarm").values()]
    assert actions == [[{"Ref": topic}]] * len(actions)
    shown = json.dumps(http.only("AWS::CloudWatch::Dashboard"))
    assert "text: cost per hour" in shown


def test_models_in_a_bucket(tmp_path: Path) -> None:
    """Each has a folder of its own there, and no right to another one's."""
    assembly = several(tmp_path, models="bucket")
    resources = resolved(assembly.template)
    [bucket] = assembly.resources("AWS::S3::Bucket")
    for start, folder in (("Function", "models"), ("MoretextFunction", "text")):
        variables = assembly.only(FUNCTION, f"{start}Handler")["Environment"]["Variables"]
        assert variables["MODEL_PATH"] == {"Fn::Join": ["", ["s3://", {"Ref": bucket}, f"/{folder}"]]}
        [policy] = [
            item["Properties"]["PolicyDocument"]["Statement"]
            for name, item in resources.items()
            if name.startswith(f"{start}RoleDefaultPolicy")
        ]
        [read] = [statement["Resource"] for statement in policy if statement["Action"] == "s3:GetObject"]
        assert read == f"arn:aws:s3:::{bucket}/{folder}/*"
    check = assembly.only(FUNCTION, "MoretextCheckHandler")["Environment"]["Variables"]
    assert check["MODEL_FOLDER"] == "text"
    paths = {item["Properties"]["RouteKey"] for item in assembly.resources(ROUTE).values()}
    assert paths == {"$default", "ANY /text", "ANY /text/{proxy+}"}


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"text": {}, "more": {}}, "functions: more: model newsline is in functions: text too: a model has one place"),
        ({"text": {"model_path": "models"}}, "functions: text: model .* is in model_path too: a model has one place"),
        ({"text": {"model_path": "nobodys"}}, "functions: text: model_path is a folder of models, and .* is none"),
        (
            {"text": {"settings": {"DEFAULT_MODEL": "digits"}}},
            "functions: text: DEFAULT_MODEL is digits, and the models in .* are newsline",
        ),
    ],
)
def test_what_cannot_be(tmp_path: Path, table: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidProps, match=message):
        several(tmp_path, table)


def test_permissions_of_the_api(rest: Assembly) -> None:
    """One for each function, whatever the number of its models."""
    found = [
        item["Properties"] for item in resolved(rest.template).values() if item["Type"] == "AWS::Lambda::Permission"
    ]
    assert {given["FunctionName"] for given in found} == {
        f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}:live"
        for name in rest.resources(FUNCTION)
        if name.endswith(tuple("0123456789ABCDEF")) and "FunctionHandler" in name
    }
    assert len(found) == 2

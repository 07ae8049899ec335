"""The function in the template of each variant: what it is, what it is told, what its image has."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from assemblies import ROOT, Assembly, sources, synthesise
from inferry.errors import InvalidSettings
from inferry.settings import Settings
from templates import ALIAS, FUNCTION, constants, function

from cdk.image import CONTEXT, MODELS
from cdk.props import InvalidProps
from functions.stored_keys import SECRET, VERSION

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
    "traces": True,
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


def test_the_function_is_told_where_the_keys_are(keys: Assembly) -> None:
    [secret] = keys.resources("AWS::SecretsManager::Secret")
    variables = function(keys)["Environment"]["Variables"]
    expected = {**told("models-dev").to_env(), "API_KEYS_SECRET": {"Ref": secret}, "API_KEYS_VERSION": "5" * 32}
    assert variables == expected
    assert {SECRET, VERSION} <= set(variables)


def test_an_environment_that_lambda_has_no_room_for(tmp_path: Path) -> None:
    places = ",".join(f"s3://lake/{number:0200}" for number in range(20))
    context = {"environments": {"dev": {"settings": {"DATA_PREFIXES": places}}}}
    said = r"are 4\d{3} bytes as the function's environment, .* 3600: shorten the longest, DATA_PREFIXES \(4219 char"
    with pytest.raises(InvalidProps, match=said):
        synthesise(context, tmp_path / "out", sources(tmp_path / "source"))


def test_a_name_that_cloudwatch_drops(tmp_path: Path) -> None:
    context = {"environments": {"dev": {"settings": {"APP_NAME": "AWS/inferry"}}}}
    with pytest.raises(InvalidSettings, match=r"APP_NAME must be a namespace of CloudWatch.*got 'AWS/inferry'"):
        synthesise(context, tmp_path / "out", sources(tmp_path / "source"))


@pytest.mark.parametrize(
    ("settings", "extras"),
    [
        ({"METRICS_SINKS": "emf,otlp"}, "aws,batch,otel"),
        ({"RESPONSE_CACHE_URL": "rediss://cache.example"}, "aws,batch,redis"),
        ({"RESPONSE_CACHE_URL": "rediss://cache.example", "TRACES": "true"}, "aws,batch,otel,redis"),
    ],
)
def test_what_the_image_needs(tmp_path: Path, settings: dict[str, str], extras: str) -> None:
    context = {"environments": {"dev": {"settings": settings}}}
    synthesise(context, tmp_path / "out", sources(tmp_path / "source"))
    [manifest] = (tmp_path / "out").glob("*.assets.json")
    [image] = json.loads(manifest.read_text())["dockerImages"].values()
    assert image["source"]["dockerBuildArgs"] == {"EXTRAS": extras}
    assert (ROOT / "images" / "packages" / f"{extras}.txt").exists()


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


def test_image_context(dev: Assembly) -> None:
    """Only what the image needs is hashed and sent to the builder: no .env, no tests."""
    manifest = json.loads(next(dev.folder.glob("*.assets.json")).read_text())
    [image] = manifest["dockerImages"].values()
    source = image["source"]
    assert (source["dockerFile"], source["platform"]) == ("functions/Dockerfile", "linux/arm64")
    folder = dev.folder / source["directory"]
    found = {path.name for path in folder.iterdir()} - {".dockerignore"}
    assert found == {"functions", "models", "shared"}
    assert [path.name for path in (folder / "functions").iterdir()] == ["Dockerfile"]
    assert sorted(path.name for path in (folder / "models").iterdir()) == [
        card.parent.name for card in sorted(ROOT.glob("models/*/config.json"))
    ]


def test_what_the_image_needs_for_traces(opened: Assembly, dev: Assembly) -> None:
    manifests = [json.loads(next(item.folder.glob("*.assets.json")).read_text()) for item in (opened, dev)]
    given = [image["source"].get("dockerBuildArgs") for item in manifests for image in item["dockerImages"].values()]
    assert given == [{"EXTRAS": "aws,batch,otel"}, None]


def test_the_context_has_what_the_image_copies() -> None:
    copied = re.findall(r"^COPY (?!--)(.*) \S+$", (ROOT / "functions" / "Dockerfile").read_text(), re.MULTILINE)
    names = {source.split("/")[0] for line in copied for source in line.split()}
    assert names == {*CONTEXT, MODELS}

"""What the CDK makes of an environment: one synthesis for each variant and session, without Docker."""

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aws_cdk import App

from cdk.app import build

ROOT = Path(__file__).parents[3]
EXAMPLES = ROOT / "models"
CONTEXT = json.loads((ROOT / "cdk.json").read_text())["context"]
for _values in CONTEXT["environments"].values():
    _values["settings"] = {"DEFAULT_MODEL": "digits"}

ISSUER = {"jwt_issuer": "https://issuer.example", "jwt_audience": "predictions"}
DOMAIN = {
    "domain": "api.example.com",
    "certificate": "arn:aws:acm:eu-west-1:123456789012:certificate/00000000-0000-0000-0000-000000000000",
    "hosted_zone": "Z0000000000000",
}
WORKSPACE = "https://aps-workspaces.eu-west-1.amazonaws.com/workspaces/ws-1/api/v1/remote_write"
WEB_ACL = "arn:aws:wafv2:eu-west-1:123456789012:regional/webacl/ours/00000000-0000-0000-0000-000000000000"
# Together they choose every value of a prop that changes which resources there are.
VARIANTS: dict[str, dict[str, Any]] = {
    "dev": {},
    "prod": {
        "environment": "prod",
        "models": "bucket",
        "authorization": "jwt",
        **ISSUER,
        **DOMAIN,
        "start": "provisioned",
        "provisioned": "2",
        "budget": "50",
        "alarm_email": "ops@example.com",
        "account": "123456789012",
        "region": "eu-west-1",
    },
    "open": {
        "environments": {
            "dev": {
                "settings": {
                    "DEFAULT_MODEL": "digits",
                    "CORS_ORIGINS": "https://app.example",
                    "DATA_PREFIXES": "s3://tensors/in,az://elsewhere",
                    "LOG_LEVEL": "DEBUG",
                    "METRICS_SINKS": "amp",
                    "REMOTE_WRITE_URL": WORKSPACE,
                    "TRACES": "true",
                }
            }
        },
        "authorization": "none",
        "function_url": "true",
        "start": "none",
        "tracing": "true",
        "architecture": "x86_64",
        "memory": "4000",
        "timeout": "120",
        "log_retention": "3653",
        "rollout": "LambdaAllAtOnce",
        "checked_models": "digits,newsline",
    },
    "batch": {
        "environments": {"dev": {"settings": {"DEFAULT_MODEL": "digits", "CORS_ORIGINS": "https://app.example"}}},
        "batch": "true",
        "batch_timeout": "120",
        "function_url": "true",
        "models": "bucket",
        "tracing": "true",
    },
    "runs": {
        "batch": "true",
        "batch_tolerated": "12.5",
        "environments": {"dev": {"settings": {"DATA_PREFIXES": "s3://lake/in,s3://lake/out,az://elsewhere"}}},
    },
    "network": {
        "vpc": "vpc-0123456789abcdef0",
        "subnets": "subnet-0123456789abcdef0,subnet-0123456789abcdef1",
        "endpoints": "s3,sqs,lambda,codedeploy",
        "route_tables": "rtb-0123456789abcdef0",
        "batch": "true",
        "tracing": "true",
        "api": "private",
        "vpc_endpoints": "vpce-0123456789abcdef0",
        "files_bucket": "lake",
        "web_acl": WEB_ACL,
    },
    "instances": {
        "vpc": "vpc-0123456789abcdef0",
        "subnets": "subnet-0123456789abcdef0,subnet-0123456789abcdef1",
        "security_groups": "sg-0123456789abcdef0",
        "instances": {"processes": 2, "max_vcpus": 48, "types": "m7g.large,c7g.xlarge"},
        "memory": "8192",
        "daily_cost": "50",
        "start": "none",
        "tracing": "true",
        "tags": "team=ml",
    },
    "keys": {"authorization": "api-keys", "api_keys_version": "5" * 32, "function_url": "true", "project": "models"},
}


@dataclass(frozen=True)
class Assembly:
    """A folder as `cdk synth` writes it, and the one template in it."""

    folder: Path
    template: dict[str, Any]

    @property
    def template_file(self) -> Path:
        return next(self.folder.glob("*.template.json"))

    def resources(self, kind: str = "") -> dict[str, dict[str, Any]]:
        found: Mapping[str, dict[str, Any]] = self.template["Resources"]
        return {name: item for name, item in found.items() if kind in ("", item["Type"])}

    def only(self, kind: str, start: str = "") -> dict[str, Any]:
        """The properties of the one resource of its kind, whose name starts so."""
        [found] = [item for name, item in self.resources(kind).items() if name.startswith(start)]
        properties: dict[str, Any] = found["Properties"]
        return properties

    def statements(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Every statement of an identity's policy, with the name of its resource."""
        for name, item in self.resources("AWS::IAM::Policy").items():
            for statement in item["Properties"]["PolicyDocument"]["Statement"]:
                yield name, statement


def synthesise(context: Mapping[str, Any], folder: Path, source: Path) -> Assembly:
    # The CDK's command line asks for the paths, too.
    app = App(context={**CONTEXT, "aws:cdk:enable-path-metadata": True, **context}, outdir=str(folder))
    stack = build(app, source)
    app.synth()
    return Assembly(folder, json.loads((folder / stack.template_file).read_text()))


def sources(folder: Path, models: Path = EXAMPLES) -> Path:
    """A project's folder as the image needs it, with these models, and with things that are nobody's business."""
    (folder / "functions" / "__pycache__").mkdir(parents=True)
    (folder / "shared").mkdir()
    (folder / "functions" / "Dockerfile").write_text("FROM scratch\n")
    (folder / "functions" / "__pycache__" / "api.pyc").write_text("")
    (folder / "azure_app").mkdir()
    shutil.copytree(models, folder / "models", ignore=shutil.ignore_patterns("*.py", "*_corpus.json"))
    for name in ("pyproject.toml", ".env", "tests.py", "models/make.py", "models/corpus.json", "azure_app/app.py"):
        (folder / name).write_text("")
    shutil.copy(ROOT / ".dockerignore", folder)
    return folder

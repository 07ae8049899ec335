"""Stacks that together have every pair of values of the props, where the props allow the pair: a covering array."""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from assemblies import DOMAIN, ISSUER, WEB_ACL, WORKSPACE
from covertable import make
from resolved import ACCOUNT, REGION

Row = Mapping[str, Any]
TOPIC = f"arn:aws:sns:{REGION}:{ACCOUNT}:ops"
KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/1234abcd-12ab-34cd-56ef-1234567890ab"
ENDPOINT = "vpce-0123456789abcdef0"

_SETTINGS = {
    "DEFAULT_MODEL": "digits",
    "CORS_ORIGINS": "https://app.example",
    "DATA_PREFIXES": "s3://lake/in,s3://lake/out,az://elsewhere",
    "LOG_LEVEL": "DEBUG",
    "METRICS_SINKS": "amp",
    "REMOTE_WRITE_URL": WORKSPACE,
    "TRACES": "true",
}
# The values of each prop: the default, and another; all of them where each makes other resources.
VALUES: dict[str, tuple[Any, ...]] = {
    "environment": ("dev", "prod"),
    "project": ("inferry", "models"),
    "account": ("", ACCOUNT),
    "region": ("", REGION),
    "settings": ({"DEFAULT_MODEL": "digits"}, _SETTINGS),
    "architecture": ("arm64", "x86_64"),
    "memory": (1769, 4096),
    "storage": (512, 2048),
    "timeout": (29, 120),
    "start": ("snapstart", "provisioned", "none"),
    "provisioned": (1, 2),
    "concurrency": (0, 100),
    "models": ("image", "bucket"),
    "model_path": ("models", "trained/models"),
    "prepare": ("none", "many"),
    "authorization": ("iam", "jwt", "api-keys", "none"),
    "jwt_issuer": ("", ISSUER["jwt_issuer"]),
    "jwt_audience": ("", ISSUER["jwt_audience"]),
    "api_keys_version": ("", "5" * 32),
    "throttle_rate": (50, 10),
    "throttle_burst": (100, 20),
    "domain": ("", DOMAIN["domain"]),
    "certificate": ("", DOMAIN["certificate"]),
    "hosted_zone": ("", DOMAIN["hosted_zone"]),
    "function_url": (False, True),
    "rollout": ("LambdaCanary10Percent5Minutes", "LambdaAllAtOnce"),
    "checked_models": ("", "digits,newsline"),
    "log_retention": (30, 3653),
    "tracing": (False, True),
    "batch": (False, True),
    "batch_timeout": (300, 120),
    "batch_concurrency": (10, 20),
    "batch_tolerated": (5.0, 12.5),
    "batch_answers": (7, 1),
    "alarm_email": ("", "ops@example.com"),
    "max_errors": (1.0, 5.0),
    "max_p99": (3000, 1000),
    "max_init": (8000, 5000),
    "max_batch_age": (3600, 600),
    "daily_cost": (10.0, 20.0),
    "budget": (0.0, 50.0),
    "retain": (False, True),
    "kms_key": ("", KEY),
    "tags": ("", "team=ml,cost-centre=4711"),
    "permissions_boundary": ("", f"arn:aws:iam::{ACCOUNT}:policy/boundary"),
    "model_bucket": ("", "lake"),
    "files_bucket": ("", "lake"),
    "alarm_topic": ("", TOPIC),
    "image": ("", f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/team/inferry@sha256:{'5' * 64}"),
    "vended_logs": (False, True),
    "vpc": ("", "vpc-0123456789abcdef0"),
    "subnets": ("", "subnet-0123456789abcdef0,subnet-0123456789abcdef1"),
    "security_groups": ("", "sg-0123456789abcdef0"),
    "endpoints": ("", "s3,sqs,secretsmanager,aps-workspaces,lambda,codedeploy,logs,xray"),
    "route_tables": ("", "rtb-0123456789abcdef0"),
    "api": ("http", "rest", "private"),
    "vpc_endpoints": ("", ENDPOINT),
    "web_acl": ("", WEB_ACL),
    "instances": ("", {"memory_per_vcpu": 4, "processes": 2, "max_vcpus": 48, "types": "m7g.large"}),
    "functions": ({}, {"text": {"model_path": "more", "memory": 8192, "settings": {"LOG_LEVEL": "WARNING"}}}),
}
# What the props refuse together, in the order of their rules.
ALLOWED: dict[tuple[str, str], Callable[[Row], bool]] = {
    ("start", "storage"): lambda row: row["start"] != "snapstart" or row["storage"] == 512,
    ("authorization", "jwt_issuer"): lambda row: (row["authorization"] == "jwt") == bool(row["jwt_issuer"]),
    ("authorization", "jwt_audience"): lambda row: (row["authorization"] == "jwt") == bool(row["jwt_audience"]),
    ("jwt_issuer", "jwt_audience"): lambda row: bool(row["jwt_issuer"]) == bool(row["jwt_audience"]),
    ("authorization", "function_url"): lambda row: row["authorization"] != "jwt" or not row["function_url"],
    ("authorization", "api_keys_version"): lambda row: (
        row["authorization"] == "api-keys" or not row["api_keys_version"]
    ),
    ("domain", "certificate"): lambda row: bool(row["domain"]) == bool(row["certificate"]),
    ("domain", "hosted_zone"): lambda row: bool(row["domain"]) or not row["hosted_zone"],
    ("models", "model_bucket"): lambda row: row["models"] == "bucket" or not row["model_bucket"],
    ("alarm_email", "alarm_topic"): lambda row: not (row["alarm_email"] and row["alarm_topic"]),
    ("prepare", "image"): lambda row: row["prepare"] == "none" or not row["image"],
    ("vpc", "subnets"): lambda row: bool(row["vpc"]) == bool(row["subnets"]),
    ("vpc", "security_groups"): lambda row: bool(row["vpc"]) or not row["security_groups"],
    ("vpc", "endpoints"): lambda row: bool(row["vpc"]) or not row["endpoints"],
    ("endpoints", "route_tables"): lambda row: bool(row["endpoints"]) == bool(row["route_tables"]),
    ("api", "vpc_endpoints"): lambda row: (row["api"] == "private") == bool(row["vpc_endpoints"]),
    ("api", "authorization"): lambda row: row["api"] == "http" or row["authorization"] != "jwt",
    ("api", "domain"): lambda row: row["api"] != "private" or not row["domain"],
    ("api", "function_url"): lambda row: row["api"] != "private" or not row["function_url"],
    ("api", "web_acl"): lambda row: row["api"] != "http" or not row["web_acl"],
    ("web_acl", "function_url"): lambda row: not (row["web_acl"] and row["function_url"]),
    ("batch", "files_bucket"): lambda row: row["batch"] or not row["files_bucket"],
    ("batch_answers", "files_bucket"): lambda row: row["batch_answers"] == 7 or not row["files_bucket"],
    ("image", "functions"): lambda row: not (row["image"] and row["functions"]),
    ("instances", "vpc"): lambda row: bool(row["vpc"]) or not row["instances"],
    ("instances", "start"): lambda row: row["start"] == "none" or not row["instances"],
    ("instances", "concurrency"): lambda row: not (row["concurrency"] and row["instances"]),
    ("instances", "memory"): lambda row: row["memory"] == 4096 or not row["instances"],
    ("instances", "settings"): lambda row: "TRACES" not in row["settings"] or not row["instances"],
    # What these two pairs leave out follows from two of the others.
    ("jwt_issuer", "function_url"): lambda row: not (row["jwt_issuer"] and row["function_url"]),
}


def contexts() -> list[dict[str, Any]]:
    """What the CDK is told of each stack: every prop by itself, whatever its environment says."""
    return [_context(row) for row in rows()]


@cache
def rows() -> tuple[Row, ...]:
    """The values of each stack's props."""
    indices = {prop: list(range(len(values))) for prop, values in VALUES.items()}
    made = make(indices, constraints=[_constraint(props, allowed) for props, allowed in ALLOWED.items()])
    return tuple(map(_values, made))


def _values(row: Mapping[str, int]) -> dict[str, Any]:
    return {prop: VALUES[prop][index] for prop, index in row.items()}


def _constraint(props: tuple[str, str], allowed: Callable[[Row], bool]) -> dict[str, Any]:
    return {"operator": "fn", "requires": list(props), "evaluate": lambda row: allowed(_values(row))}


def _context(row: Row) -> dict[str, Any]:
    single = {prop: value for prop, value in row.items() if prop != "settings"}
    return {**single, "environments": {row["environment"]: {"settings": row["settings"]}}}

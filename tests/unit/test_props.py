"""Props of an environment: from the CDK's context, every default, and every bad value's message."""

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from inferry.errors import InvalidSettings
from inferry.settings import Settings

from cdk.props import InvalidProps, Props

CONTEXT = json.loads((Path(__file__).parents[2] / "cdk.json").read_text())["context"]

TOPIC = "arn:aws:sns:eu-west-1:123456789012:ops"
IMAGE = f"123456789012.dkr.ecr.eu-west-1.amazonaws.com/team/inferry@sha256:{'5' * 64}"
VPC, SUBNET, GROUP, TABLE = (f"{kind}-0123456789abcdef0" for kind in ("vpc", "subnet", "sg", "rtb"))
ENDPOINT = "vpce-0123456789abcdef0"
WEB_ACL = "arn:aws:wafv2:eu-west-1:123456789012:regional/webacl/ours/00000000-0000-0000-0000-000000000000"
PRIVATE = {"api": "private", "vpc_endpoints": ENDPOINT}
NETWORK = {"vpc": VPC, "subnets": SUBNET}
INSTANCES = {**NETWORK, "instances": {}, "memory": 4096, "start": "none"}
DEFAULTS = {
    "environment": "dev",
    "project": "inferry",
    "account": "",
    "region": "",
    "settings": Settings(),
    "architecture": "arm64",
    "memory": 1769,
    "storage": 512,
    "timeout": 29,
    "start": "snapstart",
    "provisioned": 1,
    "concurrency": 0,
    "models": "image",
    "model_path": "models",
    "prepare": "none",
    "authorization": "iam",
    "jwt_issuer": "",
    "jwt_audience": (),
    "api_keys_version": "",
    "throttle_rate": 50,
    "throttle_burst": 100,
    "domain": "",
    "certificate": "",
    "hosted_zone": "",
    "function_url": False,
    "rollout": "LambdaCanary10Percent5Minutes",
    "checked_models": (),
    "log_retention": 30,
    "tracing": False,
    "batch": False,
    "batch_timeout": 300,
    "batch_concurrency": 10,
    "batch_tolerated": 5.0,
    "batch_answers": 7,
    "alarm_email": "",
    "max_errors": 1.0,
    "max_p99": 3000,
    "max_init": 8000,
    "max_batch_age": 3600,
    "daily_cost": 10.0,
    "budget": 0.0,
    "retain": False,
    "kms_key": "",
    "tags": (),
    "permissions_boundary": "",
    "model_bucket": "",
    "files_bucket": "",
    "alarm_topic": "",
    "image": "",
    "vended_logs": False,
    "vpc": "",
    "subnets": (),
    "security_groups": (),
    "endpoints": (),
    "route_tables": (),
    "api": "http",
    "vpc_endpoints": (),
    "web_acl": "",
    "instances": None,
    "functions": (),
}


def values(props: Props) -> dict[str, Any]:
    return {item.name: getattr(props, item.name) for item in fields(props)}


def read(environment: dict[str, Any], **single: str) -> Props:
    context = {"environments": {"dev": environment}, **single}
    return Props.from_context(context.get)


def test_defaults() -> None:
    assert values(Props()) == values(read({})) == DEFAULTS


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ("dev", {}),
        ("staging", {"environment": "staging", "concurrency": 20}),
        (
            "prod",
            {"environment": "prod", "concurrency": 100, "log_retention": 365, "retain": True, "tracing": True},
        ),
    ],
)
def test_environments_of_the_project(environment: str, expected: dict[str, Any]) -> None:
    props = Props.from_context({**CONTEXT, "environment": environment}.get)
    assert values(props) == {**DEFAULTS, **expected}


def test_command_line_wins() -> None:
    """`-c NAME=VALUE` gives text, whatever the prop's type."""
    given = {"memory": 512, "settings": {"LOG_LEVEL": "DEBUG", "MODEL_CACHE_SIZE": 2}, "authorization": "none"}
    single = {
        "memory": "3008",
        "max_errors": "2.5",
        "function_url": "true",
        "checked_models": "digits, iris",
        "architecture": "x86_64",
    }
    props = read(given, **single)
    assert values(props) == {
        **DEFAULTS,
        "memory": 3008,
        "settings": Settings(log_level="DEBUG", model_cache_size=2),
        "max_errors": 2.5,
        "function_url": True,
        "checked_models": ("digits", "iris"),
        "architecture": "x86_64",
        "authorization": "none",
    }


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"memroy": 1}, "environment 'dev' has unknown props: memroy"),
        ({"memory": 64}, "memory must be from 128 to 10240, got 64"),
        ({"memory": "much"}, "memory can't be 'much': it must be a whole number"),
        ({"memory": 1769.5}, "memory can't be 1769.5: it must be a whole number"),
        ({"memory": True}, "memory can't be True: it must be a whole number"),
        ({"budget": -1}, "budget must be from 0 to inf, got -1.0"),
        ({"retain": "yes"}, "retain can't be 'yes': it must be true or false"),
        ({"project": None}, "project can't be None: it must be text"),
        ({"checked_models": 1}, "checked_models can't be 1: 'int' object is not iterable"),
        ({"architecture": "arm"}, "architecture must be one of arm64, x86_64, got 'arm'"),
        ({"authorization": ""}, "authorization must be one of iam, jwt, api-keys, none, got ''"),
        ({"project": "my_models"}, "project and environment name the stack: letters, digits and -, a letter first"),
        (
            {"start": "snapstart", "storage": 1024},
            "start is snapstart, which has 512 MB of /tmp at most: set storage to 512, with large models in the image "
            "(models: image), or start to provisioned or none",
        ),
        *(
            (
                given,
                "daily_cost is less than what start or instances cost a day without a request, by memory and "
                "provisioned, or min_environments (docs/deploy-aws.md, Costs): raise daily_cost, or keep less",
            )
            for given in (
                {"daily_cost": 0.22},
                {"daily_cost": 1.2, "start": "provisioned", "provisioned": 2},
                {"daily_cost": 1.29, "memory": 10240},
            )
        ),
        ({"authorization": "jwt"}, "jwt_issuer and jwt_audience belong to authorization jwt, which needs both"),
        (
            {"jwt_issuer": "https://a"},
            "jwt_issuer and jwt_audience belong to authorization jwt, which needs both",
        ),
        (
            {"authorization": "jwt", "jwt_issuer": "https://a", "jwt_audience": "b", "function_url": True},
            "function_url can't check tokens: Lambda's URLs know only signatures; leave it out with authorization jwt",
        ),
        ({"api_keys_version": "v"}, "api_keys_version belongs to authorization api-keys"),
        (
            {"settings": {"API_KEYS": "0" * 64}},
            "API_KEYS come from the stack's secret, with authorization api-keys: leave them out of settings",
        ),
        *(
            (
                {"kms_key": key},
                "kms_key must be the ARN of a key, arn:aws:kms:REGION:ACCOUNT:key/ID: Lambda and CloudWatch Logs take "
                "no alias",
            )
            for key in ("1234abcd", "arn:aws:kms:eu-west-1:123456789012:alias/mine")
        ),
        (
            {"kms_key": "arn:aws:kms:us-east-1:123456789012:key/1234abcd", "region": "eu-west-1"},
            "kms_key must be in the stack's region: choose another key, or another region",
        ),
        *(
            (
                {"tags": tags},
                "tags must be NAME=VALUE, of up to 128 and 256 characters, with other names than Environment, Project "
                "and ManagedBy, which environment and project give, and than those that begin with aws:",
            )
            for tags in ("team", "team=ml,=x", "Project=mine", "aws:team=ml", [f"{'n' * 129}="], f"n={'v' * 257}")
        ),
        (
            {"permissions_boundary": "boundary"},
            "permissions_boundary must be the ARN of a policy, arn:aws:iam::ACCOUNT:policy/NAME",
        ),
        (
            {"permissions_boundary": "arn:aws:iam::123456789012:policy/boundary", "account": "210987654321"},
            "permissions_boundary must be a policy of the account, or one of AWS's: choose another policy, or account",
        ),
        ({"model_bucket": "s3://lake", "models": "bucket"}, "model_bucket must be a bucket's name, without s3://"),
        ({"model_bucket": "lake"}, "model_bucket belongs to models bucket"),
        ({"alarm_topic": "ops"}, "alarm_topic must be the ARN of a topic, arn:aws:sns:REGION:ACCOUNT:NAME"),
        (
            {"alarm_topic": TOPIC, "region": "us-east-1"},
            "alarm_topic must be in the stack's region: choose another topic, or another region",
        ),
        (
            {"alarm_topic": TOPIC, "alarm_email": "ops@example.com"},
            "alarm_email subscribes to the stack's own topic: leave it out with alarm_topic, and subscribe it there",
        ),
        (
            {"image": f"{IMAGE.partition('@')[0]}:latest"},
            "image must be ACCOUNT.dkr.ecr.REGION.amazonaws.com/NAME@sha256:DIGEST: a tag may move without a "
            "deployment",
        ),
        (
            {"image": IMAGE, "region": "us-east-1"},
            "image must be in the stack's region, as Lambda asks for: push it there, or choose another region",
        ),
        (
            {"image": IMAGE, "prepare": "many"},
            "prepare belongs to an image that the stack builds: leave it out with image",
        ),
        ({"vpc": VPC}, "vpc and subnets belong together"),
        ({"subnets": SUBNET}, "vpc and subnets belong together"),
        *(
            (
                {**NETWORK, **wrong},
                "vpc, subnets, security_groups and route_tables must be IDs: vpc-..., subnet-..., sg-... and rtb-...",
            )
            for wrong in (
                {"vpc": "main"},
                {"subnets": f"{SUBNET},private-b"},
                {"security_groups": SUBNET},
                {"endpoints": "s3", "route_tables": "main"},
            )
        ),
        ({"security_groups": GROUP}, "security_groups belong to a vpc"),
        (
            {**NETWORK, "endpoints": "dynamodb"},
            "endpoints must be among s3, sqs, secretsmanager, aps-workspaces, lambda, codedeploy, logs, xray",
        ),
        (
            {**NETWORK, "settings": {"RESPONSE_CACHE_URL": "rediss://cache.internal:6379/0"}},
            "RESPONSE_CACHE_URL in settings needs security_groups that let the functions out to it: the stack's own "
            "lets them out to port 443 only",
        ),
        ({"endpoints": "sqs"}, "endpoints belong to a vpc"),
        *(
            (
                {**NETWORK, **one},
                "route_tables and the s3 among endpoints belong together: S3's endpoint is a route in each of them",
            )
            for one in ({"endpoints": "s3,sqs"}, {"endpoints": "sqs", "route_tables": TABLE})
        ),
        *(
            (one, "vpc_endpoints and api private belong together: by which endpoints of VPCs the API is reached")
            for one in ({"api": "private"}, {"vpc_endpoints": ENDPOINT}, {"api": "rest", "vpc_endpoints": ENDPOINT})
        ),
        (
            {"api": "private", "vpc_endpoints": VPC},
            "vpc_endpoints must be IDs, vpce-..., of endpoints for execute-api",
        ),
        (
            {"api": "rest", "authorization": "jwt", "jwt_issuer": "https://a", "jwt_audience": "b"},
            "authorization jwt needs api http: REST APIs check no tokens of any issuer",
        ),
        (
            {**PRIVATE, "domain": "a.example", "certificate": "c"},
            "domain needs api http or rest: a private API has its endpoint's name",
        ),
        ({**PRIVATE, "function_url": True}, "function_url is public: leave it out with api private"),
        (
            {"api": "rest", "web_acl": "ours"},
            "web_acl must be the ARN of a regional web ACL, arn:aws:wafv2:REGION:ACCOUNT:regional/webacl/NAME/ID",
        ),
        (
            {"api": "rest", "web_acl": WEB_ACL, "region": "us-east-1"},
            "web_acl must be in the stack's region: choose another web ACL, or another region",
        ),
        ({"web_acl": WEB_ACL}, "web_acl needs api rest or private: HTTP APIs take no WAF"),
        (
            {"api": "rest", "web_acl": WEB_ACL, "function_url": True},
            "function_url would bypass web_acl, as function URLs take no WAF: leave one of them out",
        ),
        (
            {"files_bucket": "s3://lake", "batch": True},
            "files_bucket must be a bucket's name, without s3://",
        ),
        ({"files_bucket": "lake"}, "files_bucket belongs to batch"),
        (
            {"files_bucket": "lake", "batch": True, "batch_answers": 1},
            "batch_answers is a rule of the stack's own bucket: leave it out with files_bucket, which has its owner's",
        ),
        *(
            (
                {"functions": {name: {"model_path": "text"}}},
                "functions must have names of small letters and digits, a letter first, that no path of the API begins "
                "with: not docs, health, metrics, models, openapi.json, page, predict, v1, v2",
            )
            for name in ("Text", "v2", "models", "a-b", "")
        ),
        ({"functions": {"text": {}}}, "functions need a model_path of their own each, with models image"),
        (
            {"functions": {"text": {"model_path": "text"}}, "image": IMAGE},
            "functions need an image of their own each, with models image: those of image are one function's",
        ),
        (
            {"functions": {"text": {"model_path": "text", "domain": "a.example"}}},
            "functions: text: can't have of its own: domain; but settings, memory, storage, timeout, start, "
            "provisioned, concurrency, model_path, prepare, image, checked_models, instances",
        ),
        (
            {"functions": {"text": {"model_path": "text", "memory": 64}}},
            "functions: text: memory must be from 128 to 10240, got 64",
        ),
        (
            {"functions": {"text": {"model_path": "text", "settings": {"LOG_LEVEL": "LOUD"}}}},
            "functions: text: LOG_LEVEL must be DEBUG, INFO, WARNING, ERROR or CRITICAL, got 'LOUD'",
        ),
        (
            {"functions": {"text": {"model_path": "text", "storage": 1024}}},
            "functions: text: start is snapstart, which has 512 MB of /tmp at most: set storage to 512, with large "
            "models in the image (models: image), or start to provisioned or none",
        ),
        (
            {"functions": "text"},
            "functions can't be 'text': Expecting value: line 1 column 1 (char 0)",
        ),
        (
            {"functions": ["text"]},
            'functions can\'t be [\'text\']: it must be a table, {"NAME": {"memory": 4096}}',
        ),
        ({**INSTANCES, "vpc": "", "subnets": ""}, "instances need vpc and subnets, where they are"),
        (
            {**INSTANCES, "start": "snapstart"},
            "start must be none with instances, whose environments stay: min_environments says how many",
        ),
        (
            {**INSTANCES, "concurrency": 10},
            "concurrency reserves nothing for instances: leave it out; max_vcpus is their limit",
        ),
        *(
            (
                {**INSTANCES, "instances": wrong},
                "instances have memory_per_vcpu 2, 4 or 8, from 0 to 64 processes, from 0 to 15000 min_environments, "
                "and from 12 to 15000 max_vcpus",
            )
            for wrong in ({"memory_per_vcpu": 3}, {"processes": 65}, {"min_environments": -1}, {"max_vcpus": 8})
        ),
        *(
            (
                {**INSTANCES, **wrong},
                "memory must be 2048 at least, and whole vCPUs of memory_per_vcpu GB, with instances",
            )
            for wrong in ({"memory": 1769}, {"memory": 3008}, {"memory": 2048, "instances": {"memory_per_vcpu": 4}})
        ),
        *(
            (
                {**INSTANCES, "settings": wrong},
                "settings have TRACES, or METRICS_SINKS other than prometheus and emf, which are sent after responses: "
                "instances have no way for that",
            )
            for wrong in ({"TRACES": "true"}, {"METRICS_SINKS": "emf,amp"})
        ),
        (
            {**INSTANCES, "instances": {"size": 2}},
            "instances can't be {'size': 2}: unknown: size; it must be a table of memory_per_vcpu, processes, "
            "min_environments, max_vcpus, types",
        ),
        (
            {**INSTANCES, "instances": True},
            "instances can't be True: it must be a table of memory_per_vcpu, processes, min_environments, max_vcpus, "
            "types",
        ),
        (
            {**INSTANCES, "daily_cost": 6.75},
            "daily_cost is less than what start or instances cost a day without a request, by memory and provisioned, "
            "or min_environments (docs/deploy-aws.md, Costs): raise daily_cost, or keep less",
        ),
        ({"domain": "a.example"}, "domain and certificate belong together, and hosted_zone to them"),
        ({"hosted_zone": "Z"}, "domain and certificate belong together, and hosted_zone to them"),
        (
            {"start": "provisioned", "provisioned": 3, "concurrency": 2},
            "provisioned must not be more than concurrency",
        ),
    ],
)
def test_bad_values(environment: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidProps) as caught:
        read(environment)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "environment",
    [
        {"daily_cost": 0.23},
        {"daily_cost": 1.25, "start": "provisioned", "provisioned": 2},
        {"daily_cost": 0.01, "start": "none"},
    ],
)
def test_a_daily_cost_above_what_is_kept_idle(environment: dict[str, Any]) -> None:
    assert read(environment).daily_cost == environment["daily_cost"]


@pytest.mark.parametrize(
    "environment",
    [
        {"kms_key": "arn:aws:kms:eu-west-1:123456789012:key/mrk-1234abcd", "region": "eu-west-1"},
        {"tags": ["team=ml", "note=a=b", "empty="]},
        {"permissions_boundary": "arn:aws:iam::aws:policy/PowerUserAccess", "account": "123456789012"},
        {"permissions_boundary": "arn:aws:iam::123456789012:policy/teams/ml", "account": "123456789012"},
        {"model_bucket": "lake.models-1", "models": "bucket"},
        {"alarm_topic": TOPIC, "region": "eu-west-1"},
        {"image": IMAGE, "region": "eu-west-1"},
    ],
)
def test_rules_of_an_account(environment: dict[str, Any]) -> None:
    props = read(environment)
    assert {name: getattr(props, name) for name in environment} == {
        name: tuple(value) if isinstance(value, list) else value for name, value in environment.items()
    }


@pytest.mark.parametrize(
    ("memory", "instances", "expected"),
    [
        (2048, {}, (1, 1, 1)),
        (8192, {}, (4, 4, 1)),
        (8192, {"processes": 2}, (4, 2, 2)),
        (8192, {"processes": 1}, (4, 1, 4)),
        (8192, {"memory_per_vcpu": 8, "processes": 3}, (1, 3, 1)),
    ],
)
def test_processes_share_the_vcpus_of_an_instance(
    memory: int, instances: dict[str, int], expected: tuple[int, int, int]
) -> None:
    props = read({**INSTANCES, "memory": memory, "instances": json.dumps(instances), "daily_cost": 100})
    assert (props.vcpus, props.processes, props.threads) == expected


def test_a_function_of_several_on_instances() -> None:
    """And one that isn't, where the environment's own is."""
    row = {"model_path": "text", "memory": 4096, "start": "none", "instances": {"types": "m7g.large"}}
    props = read({**NETWORK, "functions": {"text": row}})
    assert (props.instances, props.has_instances) == (None, True)
    assert "logs" in props.called
    props = read({**INSTANCES, "functions": {"text": {"model_path": "text", "instances": ""}}})
    assert props.of(props.functions[0]).instances is None


def test_several_functions() -> None:
    """Each has its own values, and else those of the environment; what is the environment's own alone, it has not."""
    given = {
        "memory": 3008,
        "timeout": 20,
        "batch": True,
        "function_url": True,
        "checked_models": "digits",
        "settings": {"DEFAULT_MODEL": "digits", "APP_NAME": "mine", "MODEL_CACHE_SIZE": 2, "LOG_LEVEL": "DEBUG"},
    }
    table = {"text": {"model_path": "text", "memory": "8192", "settings": {"LOG_LEVEL": "ERROR"}}}
    for functions in (table, json.dumps(table)):
        props = read({**given, "functions": functions})
        [more] = props.functions
        assert more.name == "text"
        assert values(props.of(more)) == {
            **DEFAULTS,
            "model_path": "text",
            "memory": 8192,
            "timeout": 20,
            "settings": Settings(model_cache_size=2, log_level="ERROR"),
        }


def test_unknown_environment() -> None:
    with pytest.raises(InvalidProps) as caught:
        Props.from_context({**CONTEXT, "environment": "test"}.get)
    assert str(caught.value) == "environment 'test' is none of cdk.json's: dev, prod, staging"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"LOGLEVEL": "INFO"}, "unknown settings: LOGLEVEL"),
        ({"LOG_LEVEL": "LOUD"}, "LOG_LEVEL must be DEBUG, INFO, WARNING, ERROR or CRITICAL, got 'LOUD'"),
    ],
)
def test_bad_settings(given: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidSettings) as caught:
        read({"settings": given})
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("memory", "cpus"), [(128, 1), (1769, 1), (1770, 2), (3538, 2), (3539, 3), (8845, 5), (10240, 6)]
)
def test_memory_buys_cpus(memory: int, cpus: int) -> None:
    assert Props(memory=memory).cpus == cpus


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, ("lambda", "codedeploy")),
        ({"models": "bucket"}, ("s3", "lambda", "codedeploy")),
        ({"settings": {"DATA_PREFIXES": "s3://lake/in"}}, ("s3", "lambda", "codedeploy")),
        ({"batch": True}, ("s3", "sqs", "lambda", "codedeploy")),
        ({"authorization": "api-keys"}, ("secretsmanager", "lambda", "codedeploy")),
        ({"settings": {"METRICS_SINKS": "amp"}}, ("aps-workspaces", "lambda", "codedeploy")),
    ],
)
def test_services_that_the_functions_call(environment: dict[str, Any], expected: tuple[str, ...]) -> None:
    assert read(environment).called == expected


@pytest.mark.parametrize(
    ("default", "checked", "expected"),
    [("", (), ()), ("digits", (), ("digits",)), ("digits", ("iris", "wine"), ("iris", "wine"))],
)
def test_models_to_check(default: str, checked: tuple[str, ...], expected: tuple[str, ...]) -> None:
    assert Props(settings=Settings(default_model=default), checked_models=checked).models_to_check == expected

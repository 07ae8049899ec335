"""What an environment may choose, typed; read from the CDK's context, which is cdk.json and `-c NAME=VALUE`."""

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cache
from typing import Any, NamedTuple, get_args, get_type_hints

from inferry.errors import InvalidSettings
from inferry.settings import Settings

from cdk.rules import ANSWERS, ENDPOINTS, RULES

# "1 vCPU per 1,769 MB", says Lambda's documentation.
MB_PER_CPU = 1769
# USD for a GB that is kept for a second, of a snapshot or a provisioned environment: as inferry/sizing/prices.json.
KEPT_GB_SECOND = {"snapstart": 0.0000015046, "provisioned": 0.0000041667, "none": 0.0}
# USD an hour for an m7g.large with the fee for its management, as inferry/sizing/prices.json has them.
INSTANCE_HOUR = 0.0816 * 1.15
INSTANCE_VCPUS = 2
# "Lambda launches three instances by default": https://docs.aws.amazon.com/lambda/latest/dg/lambda-managed-instances.html
LEAST_INSTANCES = 3
DAY_SECONDS = 24 * 60 * 60
# CloudWatch Logs takes these numbers of days and no others.
RETENTIONS = (1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653)
ROLLOUTS = (
    "LambdaAllAtOnce",
    "LambdaCanary10Percent5Minutes",
    "LambdaCanary10Percent10Minutes",
    "LambdaCanary10Percent15Minutes",
    "LambdaCanary10Percent30Minutes",
    "LambdaLinear10PercentEvery1Minute",
    "LambdaLinear10PercentEvery2Minutes",
    "LambdaLinear10PercentEvery3Minutes",
    "LambdaLinear10PercentEvery10Minutes",
)


# What each of several functions may have of its own.
OF_A_FUNCTION = (
    "settings",
    "memory",
    "storage",
    "timeout",
    "start",
    "provisioned",
    "concurrency",
    "model_path",
    "prepare",
    "image",
    "checked_models",
    "instances",
)
# Settings that one function has for all functions but itself.
_OWN_SETTINGS = ("DEFAULT_MODEL", "APP_NAME")


class Instances(NamedTuple):
    """Machines of EC2 that Lambda manages, of a function's own."""

    memory_per_vcpu: int = 2
    """GB of `memory` for each vCPU: 2, 4 or 8."""
    processes: int = 0
    """Requests at once, and processes, of an environment; 0: one for each vCPU."""
    min_environments: int = 3
    """Environments that are always there."""
    max_vcpus: int = 24
    """Most vCPUs of all of its instances."""
    types: tuple[str, ...] = ()
    """Types that they may have; empty: Lambda chooses."""


class More(NamedTuple):
    """One of several functions: `values` are those of its own, as the context has them."""

    name: str
    values: Mapping[str, Any]


class InvalidProps(ValueError):
    """An environment's values can't be deployed. The message names the prop."""


def _prop(
    default: Any,
    help: str,  # noqa: A002
    *,
    choices: tuple[Any, ...] = (),
    least: float = -math.inf,
    most: float = math.inf,
) -> Any:
    return field(default=default, metadata={"help": help, "choices": choices, "least": least, "most": most})


@dataclass(frozen=True, slots=True, kw_only=True)
class Props:
    """One environment. Names and values are those of the context; docs/deploy-aws.md has the table."""

    environment: str = _prop("dev", "Name of the environment: of its stack, its tag and ENVIRONMENT")
    project: str = _prop("inferry", "First part of the stack's name, and the tag Project")
    account: str = _prop("", "AWS account; empty: the one of the caller's credentials")
    region: str = _prop("", "AWS region; empty: the one of the caller's credentials")
    settings: Settings = field(
        default=Settings(),
        metadata={"help": "More [settings](settings.md) of the function, by the names of their variables"},
    )
    architecture: str = _prop("arm64", "Processor of the function", choices=("arm64", "x86_64"))
    memory: int = _prop(MB_PER_CPU, "Memory of the function in MB; 1769 buy one vCPU", least=128, most=10240)
    storage: int = _prop(512, "Size of the function's /tmp in MB, where models from a bucket go", least=512, most=10240)
    timeout: int = _prop(29, "Seconds an invocation may take; HTTP APIs wait for 30", least=2, most=900)
    start: str = _prop(
        "snapstart",
        "How cold starts are shortened: restored from a snapshot, kept warm, or not at all",
        choices=("snapstart", "provisioned", "none"),
    )
    provisioned: int = _prop(1, "Environments kept warm when `start` is provisioned", least=1)
    concurrency: int = _prop(
        0, "Concurrent invocations reserved for the function, and its limit; 0: no reservation, no limit", least=0
    )
    models: str = _prop("image", "Where models are: baked into the image, or in a bucket", choices=("image", "bucket"))
    model_path: str = _prop(
        "models", "Folder of the models that are baked into the image: `make deploy MODEL_PATH=...`"
    )
    prepare: str = _prop(
        "none",
        "Prepare the models in the image to start sooner: for one process on a host, or for many",
        choices=("none", "one", "many"),
    )
    authorization: str = _prop(
        "iam",
        "Who may call: IAM identities with signed requests, holders of a token or of a key, or everybody",
        choices=("iam", "jwt", "api-keys", "none"),
    )
    jwt_issuer: str = _prop("", "URL of the issuer of the tokens when `authorization` is jwt")
    jwt_audience: tuple[str, ...] = _prop((), "Audiences that the tokens may have, comma-separated")
    api_keys_version: str = _prop("", "Version of the secret of API keys to deploy; empty: the current one")
    throttle_rate: int = _prop(50, "Requests per second that the API lets through on average", least=1)
    throttle_burst: int = _prop(100, "Requests that the API lets through at once", least=1)
    domain: str = _prop("", "Domain name of the API; empty: only API Gateway's own")
    certificate: str = _prop("", "ARN of the certificate for `domain`, in the same region")
    hosted_zone: str = _prop("", "Route 53 hosted zone that gets the record of `domain`; empty: no record")
    function_url: bool = _prop(
        False, "Give the function a URL of its own too, which bypasses the API and its throttling"
    )
    rollout: str = _prop("LambdaCanary10Percent5Minutes", "CodeDeploy's way to a new version", choices=ROLLOUTS)
    checked_models: tuple[str, ...] = _prop(
        (),
        "Models whose example a new version must predict before it gets requests; "
        "empty: the DEFAULT_MODEL, else all in the image",
    )
    log_retention: int = _prop(30, "Days that logs are kept", choices=RETENTIONS)
    tracing: bool = _prop(False, "Trace invocations with X-Ray")
    batch: bool = _prop(False, "Predict files that arrive in a bucket, and messages of a queue")
    batch_timeout: int = _prop(300, "Seconds an invocation over files may take", least=30, most=900)
    batch_concurrency: int = _prop(10, "Most invocations over files at the same time", least=2, most=1000)
    batch_tolerated: float = _prop(5.0, "Percentage of the files of a run that may fail", least=0, most=100)
    batch_answers: int = _prop(ANSWERS, "Days that responses to messages are kept", least=1)
    alarm_email: str = _prop("", "Address that gets the alarms, once it has confirmed; empty: only the SNS topic")
    max_errors: float = _prop(1.0, "Alarm and rollback: percentage of requests that fail", least=0, most=100)
    max_p99: int = _prop(3000, "Alarm: p99 of the API's latency in ms", least=1)
    max_init: int = _prop(8000, "Alarm: longest cold start in ms; Lambda ends them at 10 s", least=1)
    max_batch_age: int = _prop(3600, "Alarm: age of the oldest message in s, when `batch` is on", least=60)
    daily_cost: float = _prop(10.0, "Alarm: estimated cost of the function in USD a day, idle and invoked", least=0.01)
    budget: float = _prop(0.0, "Monthly AWS budget of the stack, USD; 0: none", least=0)
    retain: bool = _prop(False, "Keep buckets and logs when the stack is destroyed")
    kms_key: str = _prop(
        "",
        "ARN of a KMS key for buckets, queues, the topic, logs, secrets and the functions' environments; "
        "empty: AWS's own keys",
    )
    tags: tuple[str, ...] = _prop((), "More tags of all that the stack has, `NAME=VALUE`, comma-separated")
    permissions_boundary: str = _prop("", "ARN of a policy that is the permissions boundary of all roles; empty: none")
    model_bucket: str = _prop(
        "", "Name of a bucket that has the models, below `models/`; empty: one of the stack's own"
    )
    files_bucket: str = _prop(
        "",
        "Name of a bucket that has the files when `batch` is on, and sends EventBridge events; empty: the stack's own",
    )
    alarm_topic: str = _prop("", "ARN of an SNS topic that gets the alarms; empty: one of the stack's own")
    image: str = _prop("", "URI of an image in ECR, with its digest, that the functions run; empty: it is built")
    vended_logs: bool = _prop(
        False, "Name the log groups that API Gateway and Step Functions deliver to `/aws/vendedlogs/...`"
    )
    vpc: str = _prop("", "ID of the VPC that the functions are in; empty: none")
    subnets: tuple[str, ...] = _prop((), "IDs of its subnets for the functions, comma-separated")
    security_groups: tuple[str, ...] = _prop(
        (), "IDs of the functions' security groups, comma-separated; empty: one of the stack's own, out by HTTPS only"
    )
    endpoints: tuple[str, ...] = _prop(
        (), f"Endpoints that the stack makes in the VPC, comma-separated: {', '.join(ENDPOINTS)}"
    )
    route_tables: tuple[str, ...] = _prop((), "IDs of the subnets' route tables, for the endpoint s3, comma-separated")
    api: str = _prop(
        "http",
        "Front end: an HTTP API, a REST API (for a WAF), or a REST API that only a VPC reaches",
        choices=("http", "rest", "private"),
    )
    vpc_endpoints: tuple[str, ...] = _prop(
        (), "IDs of the endpoints for execute-api that reach the API when `api` is private, comma-separated"
    )
    web_acl: str = _prop("", "ARN of a web ACL of WAF, in the same region, when `api` is rest or private; empty: none")
    instances: Instances | None = _prop(  # noqa: RUF009
        None, "[Managed Instances](#managed-instances) in `vpc` that the function runs on, a table; empty: Lambda's own"
    )
    functions: tuple[More, ...] = _prop(
        (), "More functions behind the same API: a table of [each one's own values](#several-functions) by its name"
    )

    def __post_init__(self) -> None:
        for item in fields(self):
            _check(item.name, getattr(self, item.name), item.metadata)
        for broken, message in RULES:
            if broken(self):
                raise InvalidProps(message)
        for more in self.functions:
            self.of(more)

    def of(self, more: More) -> "Props":
        """The props of one of several functions: its own values, and else the environment's.

        Files and messages, and a URL, are those of the environment's own function.
        """
        hints = _hints()
        try:
            if unknown := sorted(more.values.keys() - set(OF_A_FUNCTION)):
                raise InvalidProps(f"can't have of its own: {', '.join(unknown)}; but {', '.join(OF_A_FUNCTION)}")
            inherited = {name: value for name, value in self.settings.to_env().items() if name not in _OWN_SETTINGS}
            values = {**more.values, "settings": {**inherited, **more.values.get("settings", {})}}
            own = {prop: _parse(prop, value, hints[prop]) for prop, value in values.items()}
            return replace(
                self,
                **{"checked_models": (), **own},
                functions=(),
                function_url=False,
                batch=False,
                files_bucket="",
            )
        except (InvalidProps, InvalidSettings) as exc:
            raise InvalidProps(f"functions: {more.name}: {exc}") from exc

    @classmethod
    def from_context(cls, context: Callable[[str], Any]) -> "Props":
        """The props of the environment that the context names: its entry in `environments`, then single values."""
        environments = context("environments") or {}
        name = context("environment") or "dev"
        if name not in environments:
            raise InvalidProps(f"environment {name!r} is none of cdk.json's: {', '.join(sorted(environments))}")
        values = {**environments[name], "environment": name}
        names = [item.name for item in fields(cls)]
        if unknown := sorted(values.keys() - set(names)):
            raise InvalidProps(f"environment {name!r} has unknown props: {', '.join(unknown)}")
        single = {prop: value for prop in names if (value := context(prop)) is not None}
        hints = _hints()
        return cls(**{prop: _parse(prop, value, hints[prop]) for prop, value in {**values, **single}.items()})

    @property
    def cpus(self) -> int:
        """vCPUs that the memory buys, begun ones counted: as many threads as can run."""
        return math.ceil(self.memory / MB_PER_CPU)

    @property
    def vcpus(self) -> int:
        """Those of an environment on Managed Instances."""
        return self.memory // (1024 * self.instances.memory_per_vcpu) if self.instances else 0

    @property
    def processes(self) -> int:
        """Those of an environment, each for a request at a time."""
        return (self.instances.processes or self.vcpus) if self.instances else 1

    @property
    def threads(self) -> int:
        """As many for each prediction as can run; processes share the vCPUs of their environment."""
        return max(self.vcpus // self.processes, 1) if self.instances else self.cpus

    @property
    def has_instances(self) -> bool:
        """Whether any function of the stack runs on Managed Instances."""
        return bool(self.instances) or any(self.of(more).instances for more in self.functions)

    @property
    def idle_cost(self) -> float:
        """USD a day for what is kept for the next request, whether one comes or not."""
        if self.instances:
            vcpus = self.instances.min_environments * self.vcpus
            instances = max(LEAST_INSTANCES, math.ceil(vcpus / INSTANCE_VCPUS))
            return INSTANCE_HOUR * 24 * instances
        count = self.provisioned if self.start == "provisioned" else 1
        return KEPT_GB_SECOND[self.start] * DAY_SECONDS * self.memory / 1024 * count

    @property
    def called(self) -> tuple[str, ...]:
        """The services that the functions call by themselves, by the names of their endpoints.

        Logs, the metrics in them, X-Ray's traces and the events that come are Lambda's own business, in no VPC, but on
        Managed Instances.
        """
        has_objects = any(prefix.startswith("s3://") for prefix in self.settings.data_prefixes)
        found = {
            "s3": has_objects or self.batch or self.models == "bucket",
            "sqs": self.batch,
            # Managed Instances are in the VPC with all that they send.
            "logs": self.has_instances,
            "xray": self.has_instances and self.tracing,
            "secretsmanager": self.authorization == "api-keys",
            "aps-workspaces": "amp" in self.settings.metrics_sinks,
            # The check of a new version.
            "lambda": True,
            "codedeploy": True,
        }
        return tuple(name for name in ENDPOINTS if found[name])

    @property
    def stack_name(self) -> str:
        return f"{self.project}-{self.environment}"

    @property
    def own_tags(self) -> dict[str, str]:
        """Those that everything has."""
        return {"Environment": self.environment, "Project": self.project, "ManagedBy": "cdk"}

    @property
    def given_tags(self) -> dict[str, str]:
        return {name: value for name, _, value in (tag.partition("=") for tag in self.tags)}

    @property
    def models_to_check(self) -> tuple[str, ...]:
        """Those that are named; empty: whichever there are."""
        return self.checked_models or tuple(filter(None, [self.settings.default_model]))


@cache
def _hints() -> dict[str, Any]:
    return get_type_hints(Props)


def _check(name: str, value: Any, metadata: Mapping[str, Any]) -> None:
    choices = metadata.get("choices")
    if choices and value not in choices:
        raise InvalidProps(f"{name} must be one of {', '.join(map(str, choices))}, got {value!r}")
    if isinstance(value, int | float) and not metadata.get("least", value) <= value <= metadata.get("most", value):
        raise InvalidProps(f"{name} must be from {metadata['least']} to {metadata['most']}, got {value}")


def _parse(name: str, value: Any, kind: Any) -> Any:
    """A value of the context, which is text when it comes from the command line, as the prop's type."""
    try:
        return _PARSERS[get_args(kind)[0] if get_args(kind) else kind, bool(get_args(kind))](value)
    except (TypeError, ValueError) as exc:
        raise InvalidProps(f"{name} can't be {value!r}: {exc}") from exc


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("it must be text")
    return value


def _bool(value: Any) -> bool:
    try:
        return {"true": True, "false": False}[str(value).lower()]
    except KeyError:
        raise ValueError("it must be true or false") from None


def _whole(value: Any) -> int:
    text = str(value)
    if not re.fullmatch("-?[0-9]+", text):
        raise ValueError("it must be a whole number")
    return int(text)


def _texts(value: Any) -> tuple[str, ...]:
    parts = value.split(",") if isinstance(value, str) else value
    return tuple(part.strip() for part in parts if part.strip())


def _instances(value: Any) -> Instances | None:
    table = json.loads(value) if isinstance(value, str) and value else value
    if table in ("", None):
        return None
    if not isinstance(table, dict) or (unknown := sorted(table.keys() - set(Instances._fields))):
        what = f"unknown: {', '.join(unknown)}; " if isinstance(table, dict) else ""
        raise TypeError(f"{what}it must be a table of {', '.join(Instances._fields)}")
    numbers = {name: _whole(given) for name, given in table.items() if name != "types"}
    return Instances(**numbers, types=_texts(table.get("types", ())))


def _functions(value: Any) -> tuple[More, ...]:
    table = json.loads(value) if isinstance(value, str) else value
    if not isinstance(table, dict) or not all(isinstance(values, dict) for values in table.values()):
        raise TypeError('it must be a table, {"NAME": {"memory": 4096}}')
    return tuple(More(name, values) for name, values in table.items())


def _settings(value: Mapping[str, Any]) -> Settings:
    known = {item.name.upper() for item in fields(Settings)}
    if unknown := sorted(value.keys() - known):
        raise InvalidSettings(f"unknown settings: {', '.join(unknown)}")
    return Settings.from_env({name: str(given) for name, given in value.items()})


_PARSERS: dict[tuple[Any, bool], Callable[[Any], Any]] = {
    (str, False): _text,
    (bool, False): _bool,
    (int, False): _whole,
    (float, False): float,
    (Settings, False): _settings,
    (str, True): _texts,
    (More, True): _functions,
    (Instances, True): _instances,
}

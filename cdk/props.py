"""What an environment may choose, typed; read from the CDK's context, which is cdk.json and `-c NAME=VALUE`."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, get_args, get_type_hints

from inferry.errors import InvalidSettings
from inferry.settings import Settings

# "1 vCPU per 1,769 MB", says Lambda's documentation.
MB_PER_CPU = 1769
# USD for a GB that is kept for a second, of a snapshot or a provisioned environment: as inferry/sizing/prices.json.
KEPT_GB_SECOND = {"snapstart": 0.0000015046, "provisioned": 0.0000041667, "none": 0.0}
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
    batch_answers: int = _prop(7, "Days that responses to messages are kept", least=1)
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
    alarm_topic: str = _prop("", "ARN of an SNS topic that gets the alarms; empty: one of the stack's own")
    image: str = _prop("", "URI of an image in ECR, with its digest, that the functions run; empty: it is built")
    vended_logs: bool = _prop(
        False, "Name the log groups that API Gateway and Step Functions deliver to `/aws/vendedlogs/...`"
    )

    def __post_init__(self) -> None:
        for item in fields(self):
            _check(item.name, getattr(self, item.name), item.metadata)
        for broken, message in _RULES:
            if broken(self):
                raise InvalidProps(message)

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
        hints = get_type_hints(cls)
        return cls(**{prop: _parse(prop, value, hints[prop]) for prop, value in {**values, **single}.items()})

    @property
    def cpus(self) -> int:
        """vCPUs that the memory buys, begun ones counted: as many threads as can run."""
        return math.ceil(self.memory / MB_PER_CPU)

    @property
    def idle_cost(self) -> float:
        """USD a day for what is kept for the next request, whether one comes or not."""
        count = self.provisioned if self.start == "provisioned" else 1
        return KEPT_GB_SECOND[self.start] * DAY_SECONDS * self.memory / 1024 * count

    @property
    def stack_name(self) -> str:
        return f"{self.project}-{self.environment}"

    @property
    def models_to_check(self) -> tuple[str, ...]:
        """Those that are named; empty: whichever there are."""
        return self.checked_models or tuple(filter(None, [self.settings.default_model]))


_KEY = re.compile("arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/[A-Za-z0-9-]+")
_POLICY = re.compile("arn:aws[a-z-]*:iam::([0-9]{12}|aws):policy/[A-Za-z0-9+=,.@_/-]+")
_BUCKET = re.compile("[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_TOPIC = re.compile("arn:aws[a-z-]*:sns:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_-]{1,256}")
_IMAGE = re.compile(r"[0-9]{12}\.dkr\.ecr\.[a-z0-9-]+\.amazonaws\.com(\.cn)?/[a-z0-9._/-]+@sha256:[0-9a-f]{64}")
# Tags of the stack's own.
_TAGS = ("Environment", "Project", "ManagedBy")


def _is_tag(text: str) -> bool:
    name, equals, value = text.partition("=")
    is_free = name not in _TAGS and not name.lower().startswith("aws:")
    return bool(equals) and 0 < len(name) <= 128 and len(value) <= 256 and is_free


# What two props say together.
_RULES: tuple[tuple[Callable[[Props], bool], str], ...] = (
    (
        lambda p: not re.fullmatch("[A-Za-z][A-Za-z0-9-]*", p.stack_name),
        "project and environment name the stack: letters, digits and -, a letter first",
    ),
    (
        lambda p: p.start == "snapstart" and p.storage > 512,
        "start is snapstart, which has 512 MB of /tmp at most: set storage to 512, with large models in the image "
        "(models: image), or start to provisioned or none",
    ),
    (
        lambda p: p.daily_cost <= p.idle_cost,
        "daily_cost is less than what start costs a day without a request, by memory and provisioned "
        "(docs/deploy-aws.md, Costs): raise daily_cost, or set start to none",
    ),
    (
        lambda p: {bool(p.jwt_issuer), bool(p.jwt_audience)} != {p.authorization == "jwt"},
        "jwt_issuer and jwt_audience belong to authorization jwt, which needs both",
    ),
    (
        lambda p: p.authorization == "jwt" and p.function_url,
        "function_url can't check tokens: Lambda's URLs know only signatures; leave it out with authorization jwt",
    ),
    (
        lambda p: bool(p.api_keys_version) and p.authorization != "api-keys",
        "api_keys_version belongs to authorization api-keys",
    ),
    (
        lambda p: bool(p.settings.api_keys),
        "API_KEYS come from the stack's secret, with authorization api-keys: leave them out of settings",
    ),
    (
        lambda p: bool(p.kms_key) and not _KEY.fullmatch(p.kms_key),
        "kms_key must be the ARN of a key, arn:aws:kms:REGION:ACCOUNT:key/ID: Lambda and CloudWatch Logs take no alias",
    ),
    (
        lambda p: bool(p.kms_key and p.region) and p.kms_key.split(":")[3] != p.region,
        "kms_key must be in the stack's region: choose another key, or another region",
    ),
    (
        lambda p: not all(map(_is_tag, p.tags)),
        "tags must be NAME=VALUE, of up to 128 and 256 characters, with other names than Environment, Project and "
        "ManagedBy, which environment and project give, and than those that begin with aws:",
    ),
    (
        lambda p: bool(p.permissions_boundary) and not _POLICY.fullmatch(p.permissions_boundary),
        "permissions_boundary must be the ARN of a policy, arn:aws:iam::ACCOUNT:policy/NAME",
    ),
    (
        lambda p: (
            bool(p.permissions_boundary and p.account)
            and p.permissions_boundary.split(":")[4] not in (p.account, "aws")
        ),
        "permissions_boundary must be a policy of the account, or one of AWS's: choose another policy, or account",
    ),
    (
        lambda p: bool(p.model_bucket) and not _BUCKET.fullmatch(p.model_bucket),
        "model_bucket must be a bucket's name, without s3://",
    ),
    (
        lambda p: bool(p.model_bucket) and p.models != "bucket",
        "model_bucket belongs to models bucket",
    ),
    (
        lambda p: bool(p.alarm_topic) and not _TOPIC.fullmatch(p.alarm_topic),
        "alarm_topic must be the ARN of a topic, arn:aws:sns:REGION:ACCOUNT:NAME",
    ),
    (
        lambda p: bool(p.alarm_topic and p.region) and p.alarm_topic.split(":")[3] != p.region,
        "alarm_topic must be in the stack's region: choose another topic, or another region",
    ),
    (
        lambda p: bool(p.alarm_topic and p.alarm_email),
        "alarm_email subscribes to the stack's own topic: leave it out with alarm_topic, and subscribe it there",
    ),
    (
        lambda p: bool(p.image) and not _IMAGE.fullmatch(p.image),
        "image must be ACCOUNT.dkr.ecr.REGION.amazonaws.com/NAME@sha256:DIGEST: a tag may move without a deployment",
    ),
    (
        lambda p: bool(p.image and p.region) and p.image.split(".")[3] != p.region,
        "image must be in the stack's region, as Lambda asks for: push it there, or choose another region",
    ),
    (
        lambda p: bool(p.image) and p.prepare != "none",
        "prepare belongs to an image that the stack builds: leave it out with image",
    ),
    (
        lambda p: bool(p.domain) != bool(p.certificate) or bool(p.hosted_zone and not p.domain),
        "domain and certificate belong together, and hosted_zone to them",
    ),
    (
        lambda p: bool(p.concurrency) and p.start == "provisioned" and p.provisioned > p.concurrency,
        "provisioned must not be more than concurrency",
    ),
)


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
}

"""What the values of props must be, alone and together: each rule says when it is broken, and in which words."""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from inferry.http.routes import FIRST_SEGMENTS

if TYPE_CHECKING:
    from cdk.props import Instances, Props

# Services that a function calls, by the names of their endpoints; the first one's is a gateway, which costs nothing.
GATEWAY_ENDPOINT = "s3"
ENDPOINTS = (GATEWAY_ENDPOINT, "sqs", "secretsmanager", "aps-workspaces", "lambda", "codedeploy", "logs", "xray")
# What works without an extension that hears of invocations, which Managed Instances have not.
_SINKS = {"prometheus", "emf"}
# Days that responses to messages are kept.
ANSWERS = 7

_KEY = re.compile("arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/[A-Za-z0-9-]+")
_POLICY = re.compile("arn:aws[a-z-]*:iam::([0-9]{12}|aws):policy/[A-Za-z0-9+=,.@_/-]+")
_BUCKET = re.compile("[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_TOPIC = re.compile("arn:aws[a-z-]*:sns:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_-]{1,256}")
_WEB_ACL = re.compile("arn:aws[a-z-]*:wafv2:[a-z0-9-]+:[0-9]{12}:regional/webacl/[A-Za-z0-9_-]{1,128}/[a-f0-9-]{36}")
_IMAGE = re.compile(r"[0-9]{12}\.dkr\.ecr\.[a-z0-9-]+\.amazonaws\.com(\.cn)?/[a-z0-9._/-]+@sha256:[0-9a-f]{64}")
# Tags of the stack's own.
_TAGS = ("Environment", "Project", "ManagedBy")


def _are_ids(kind: str, *ids: str) -> bool:
    """Whether these are IDs of EC2, "subnet-0123456789abcdef0" for the kind "subnet"."""
    return all(re.fullmatch(f"{kind}-([0-9a-f]{{8}}|[0-9a-f]{{17}})", text) for text in ids)


def _is_tag(text: str) -> bool:
    name, equals, value = text.partition("=")
    is_free = name not in _TAGS and not name.lower().startswith("aws:")
    return bool(equals) and 0 < len(name) <= 128 and len(value) <= 256 and is_free


# How paths of the API begin, and where a bucket has the models of the environment's own function.
_TAKEN = {*filter(None, FIRST_SEGMENTS), "models"}


def _is_function(name: str) -> bool:
    return bool(re.fullmatch("[a-z][a-z0-9]{0,19}", name)) and name not in _TAKEN


def _is_possible(instances: "Instances") -> bool:
    """As AWS's API has the limits, and the CDK that of vCPUs."""
    return (
        instances.memory_per_vcpu in (2, 4, 8)
        and 0 <= instances.processes <= 64
        and 0 <= instances.min_environments <= 15000
        and 12 <= instances.max_vcpus <= 15000
    )


# What two props say together.
RULES: tuple[tuple[Callable[["Props"], bool], str], ...] = (
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
        "daily_cost is less than what start or instances cost a day without a request, by memory and provisioned, or "
        "min_environments (docs/deploy-aws.md, Costs): raise daily_cost, or keep less",
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
        lambda p: bool(p.files_bucket) and not _BUCKET.fullmatch(p.files_bucket),
        "files_bucket must be a bucket's name, without s3://",
    ),
    (
        lambda p: bool(p.files_bucket) and not p.batch,
        "files_bucket belongs to batch",
    ),
    (
        lambda p: bool(p.files_bucket) and p.batch_answers != ANSWERS,
        "batch_answers is a rule of the stack's own bucket: leave it out with files_bucket, which has its owner's",
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
        lambda p: bool(p.vpc) != bool(p.subnets),
        "vpc and subnets belong together",
    ),
    (
        lambda p: (
            not (
                _are_ids("vpc", *filter(None, [p.vpc]))
                and _are_ids("subnet", *p.subnets)
                and _are_ids("sg", *p.security_groups)
                and _are_ids("rtb", *p.route_tables)
            )
        ),
        "vpc, subnets, security_groups and route_tables must be IDs: vpc-..., subnet-..., sg-... and rtb-...",
    ),
    (
        lambda p: bool(p.security_groups) and not p.vpc,
        "security_groups belong to a vpc",
    ),
    (
        lambda p: bool(p.vpc and p.settings.response_cache_url) and not p.security_groups,
        "RESPONSE_CACHE_URL in settings needs security_groups that let the functions out to it: the stack's own lets "
        "them out to port 443 only",
    ),
    (
        lambda p: not set(p.endpoints) <= set(ENDPOINTS),
        f"endpoints must be among {', '.join(ENDPOINTS)}",
    ),
    (
        lambda p: bool(p.endpoints) and not p.vpc,
        "endpoints belong to a vpc",
    ),
    (
        lambda p: (GATEWAY_ENDPOINT in p.endpoints) != bool(p.route_tables),
        "route_tables and the s3 among endpoints belong together: S3's endpoint is a route in each of them",
    ),
    (
        lambda p: (p.api == "private") != bool(p.vpc_endpoints),
        "vpc_endpoints and api private belong together: by which endpoints of VPCs the API is reached",
    ),
    (
        lambda p: not _are_ids("vpce", *p.vpc_endpoints),
        "vpc_endpoints must be IDs, vpce-..., of endpoints for execute-api",
    ),
    (
        lambda p: p.api != "http" and p.authorization == "jwt",
        "authorization jwt needs api http: REST APIs check no tokens of any issuer",
    ),
    (
        lambda p: p.api == "private" and bool(p.domain),
        "domain needs api http or rest: a private API has its endpoint's name",
    ),
    (
        lambda p: p.api == "private" and p.function_url,
        "function_url is public: leave it out with api private",
    ),
    (
        lambda p: bool(p.web_acl) and not _WEB_ACL.fullmatch(p.web_acl),
        "web_acl must be the ARN of a regional web ACL, arn:aws:wafv2:REGION:ACCOUNT:regional/webacl/NAME/ID",
    ),
    (
        lambda p: bool(p.web_acl and p.region) and p.web_acl.split(":")[3] != p.region,
        "web_acl must be in the stack's region: choose another web ACL, or another region",
    ),
    (
        lambda p: bool(p.web_acl) and p.api == "http",
        "web_acl needs api rest or private: HTTP APIs take no WAF",
    ),
    (
        lambda p: bool(p.web_acl) and p.function_url,
        "function_url would bypass web_acl, as function URLs take no WAF: leave one of them out",
    ),
    (
        lambda p: bool(p.instances) and not p.vpc,
        "instances need vpc and subnets, where they are",
    ),
    (
        lambda p: bool(p.instances) and p.start != "none",
        "start must be none with instances, whose environments stay: min_environments says how many",
    ),
    (
        lambda p: bool(p.instances) and p.concurrency > 0,
        "concurrency reserves nothing for instances: leave it out; max_vcpus is their limit",
    ),
    (
        lambda p: p.instances is not None and not _is_possible(p.instances),
        "instances have memory_per_vcpu 2, 4 or 8, from 0 to 64 processes, from 0 to 15000 min_environments, and from "
        "12 to 15000 max_vcpus",
    ),
    (
        lambda p: p.instances is not None and (p.memory < 2048 or p.memory % (1024 * p.instances.memory_per_vcpu) > 0),
        "memory must be 2048 at least, and whole vCPUs of memory_per_vcpu GB, with instances",
    ),
    (
        lambda p: bool(p.instances) and (p.settings.traces or not set(p.settings.metrics_sinks) <= _SINKS),
        "settings have TRACES, or METRICS_SINKS other than prometheus and emf, which are sent after responses: "
        "instances have no way for that",
    ),
    (
        lambda p: not all(map(_is_function, (more.name for more in p.functions))),
        "functions must have names of small letters and digits, a letter first, that no path of the API begins with: "
        f"not {', '.join(sorted(_TAKEN))}",
    ),
    (
        lambda p: p.models == "image" and not all("model_path" in more.values for more in p.functions),
        "functions need a model_path of their own each, with models image",
    ),
    (
        lambda p: bool(p.image) and p.models == "image" and not all("image" in more.values for more in p.functions),
        "functions need an image of their own each, with models image: those of image are one function's",
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

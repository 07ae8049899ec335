"""The function behind the API: its image, its role, its environment, and the alias that gets the requests."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from aws_cdk import Acknowledgment, Duration, RemovalPolicy, Size, Validations
from aws_cdk.aws_iam import Role
from aws_cdk.aws_lambda import (
    Alias,
    ApplicationLogLevel,
    DockerImageFunction,
    LoggingFormat,
    SnapStartConf,
    SystemLogLevel,
    Tracing,
    VersionOptions,
)
from constructs import Construct
from inferry.observability.sinks import cloudwatch_names
from inferry.settings import Settings

from cdk.api_keys import ApiKeys
from cdk.capacity import Capacity
from cdk.image import ARCHITECTURES, EXTRAS, image, stored_image
from cdk.logs import log_group
from cdk.network import Network
from cdk.props import InvalidProps, Props
from cdk.role import function_role

HANDLER = "functions.api.handler"
ALIAS = "live"
# "4 KB, for all environment variables associated with the function, in aggregate", say Lambda's quotas. What the
# template has as a reference is longer in the account.
MAX_ENVIRONMENT = 3600


def settings(props: Props, name: str) -> Settings:
    """What the function is told: derived from the props, unless the environment's own settings say otherwise.

    `name` is the one by which CloudWatch has its metrics.
    """
    derived = Settings(
        model_timeout=props.timeout - 1,
        intra_op_threads=props.threads,
        metrics_sinks=("prometheus", "emf"),
        app_name=name,
        log_format="json",
    )
    told = replace(Settings.from_env({**derived.to_env(), **props.settings.to_env()}), environment=props.environment)
    if "emf" in told.metrics_sinks:
        cloudwatch_names.check(told, {})
    return told


def environment(told: Settings, variables: Mapping[str, str]) -> dict[str, str]:
    """The variables of a function. InvalidProps when they are more than Lambda takes."""
    found = {**told.to_env(), **variables}
    size = sum(len(name.encode()) + len(value.encode()) for name, value in found.items())
    if size > MAX_ENVIRONMENT:
        longest = max(found, key=lambda name: len(found[name]))
        raise InvalidProps(
            f"the settings are {size} bytes as the function's environment, of which Lambda takes {MAX_ENVIRONMENT}: "
            f"shorten the longest, {longest} ({len(found[longest])} characters)"
        )
    return found


def image_function(
    scope: Construct,
    handler: str,
    props: Props,
    source: Path,
    told: Settings,
    *,
    description: str,
    timeout: int,
    role: Role,
    network: Network | None,
    variables: Mapping[str, str] | None = None,
    **more: Any,
) -> DockerImageFunction:
    """A function of the image, as large as the props say.

    `variables` are those that are no settings; `more` is the CDK's own.
    """
    extras = EXTRAS
    if told.traces or "otlp" in told.metrics_sinks:
        extras += ",otel"
    if told.response_cache_url:
        extras += ",redis"
    function = DockerImageFunction(
        scope,
        "Handler",
        description=description,
        code=stored_image(scope, props.image, handler)
        if props.image
        else image(
            source,
            source / props.model_path,
            props.architecture,
            handler,
            extras=extras,
            prepare=props.prepare if props.models == "image" else "none",
        ),
        architecture=ARCHITECTURES[props.architecture],
        memory_size=props.memory,
        ephemeral_storage_size=Size.mebibytes(props.storage),
        timeout=Duration.seconds(timeout),
        environment=environment(told, variables or {}),
        # Lambda's own lines as JSON too: the alarm on cold starts reads them.
        logging_format=LoggingFormat.JSON,
        system_log_level_v2=SystemLogLevel.INFO,
        # LOG_LEVEL is the application's own. Lambda takes a line of metrics for INFO, and would drop it above that.
        application_log_level_v2=ApplicationLogLevel.DEBUG if told.log_level == "DEBUG" else ApplicationLogLevel.INFO,
        tracing=Tracing.ACTIVE if props.tracing else Tracing.DISABLED,
        role=role,
        **more,
    )
    if network:
        network.add(function, role)
    return function


class InferenceFunction(Construct):
    """`alias` is what callers invoke; a deployment moves it from version to version."""

    def __init__(
        self,
        scope: Construct,
        name: str,
        props: Props,
        source: Path,
        told: Settings,
        keys: ApiKeys | None,
        network: Network | None,
        title: str,
    ) -> None:
        """`title`: what it is called among the account's functions."""
        super().__init__(scope, name)
        self.told = told
        self.logs = log_group(self, "Logs", props)
        self.role = function_role(self, "Role", self.logs, tracing=props.tracing)
        if keys:
            keys.grant_read(self.role)
        self.function = image_function(
            self,
            HANDLER,
            props,
            source,
            told,
            description=f"Predictions of {title} over the Open Inference Protocol",
            timeout=props.timeout,
            variables=keys.variables if keys else {},
            role=self.role,
            network=None if props.instances else network,
            log_group=self.logs,
            reserved_concurrent_executions=props.concurrency or None,
            snap_start=SnapStartConf.ON_PUBLISHED_VERSIONS if props.start == "snapstart" else None,
            # Snapshots of versions that nobody calls cost money.
            current_version_options=VersionOptions(removal_policy=RemovalPolicy.DESTROY),
        )
        if props.start == "snapstart":
            # A warning for functions that nobody publishes.
            known = "Annotation::@aws-cdk/aws-lambda:snapStartRequirePublish"
            Validations.of(self).acknowledge(Acknowledgment(id=known, reason="the alias calls a published version"))
        self.version = self.function.current_version
        if props.instances and network:
            Capacity(self, props, props.instances, network.subnets, network.groups).add(self.function, self.version)
            self.function.node.add_dependency(network)
        self.alias = Alias(
            self,
            "Alias",
            alias_name=ALIAS,
            version=self.version,
            provisioned_concurrent_executions=props.provisioned if props.start == "provisioned" else None,
        )

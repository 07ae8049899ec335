"""More functions behind the same API, each with models, memory, settings, and a rollout of its own."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from aws_cdk.aws_iam import IRole
from constructs import Construct

from cdk.alarms import Alarms, FunctionAlarms
from cdk.api_keys import ApiKeys
from cdk.bucket import ModelBucket
from cdk.function import InferenceFunction, settings
from cdk.grants import grant_settings
from cdk.metrics import FunctionMetrics
from cdk.models import ModelFolder, models_of
from cdk.mounts import Mount
from cdk.network import Network
from cdk.props import InvalidProps, More, Props
from cdk.rollout import Check, Rollout


class MoreFunction(Construct):
    """One of several functions; `roles` are all of its own."""

    def __init__(
        self,
        scope: Construct,
        more: More,
        props: Props,
        source: Path,
        keys: ApiKeys | None,
        bucket: ModelBucket | None,
        network: Network | None,
    ) -> None:
        """`props` are the environment's."""
        super().__init__(scope, f"More{more.name}")
        self.name = more.name
        self.title = f"{props.stack_name}-{more.name}"
        self.props = props.of(more)
        self.models = None if bucket else self._models(source)
        self._bucket = bucket
        self._network = network
        told = settings(self.props, self.title)
        if bucket:
            told = replace(told, model_path=bucket.url(more.name))
        self.function = InferenceFunction(self, "Function", self.props, source, told, keys, network, self.title)
        self.roles: list[IRole] = [self.function.role]
        grant_settings(self.function.role, told)
        if bucket:
            bucket.grant_read(self.function.role, more.name)

    def _models(self, source: Path) -> ModelFolder:
        try:
            return models_of(self.props, source)
        except InvalidProps as exc:
            raise InvalidProps(f"functions: {self.name}: {exc}") from exc

    @property
    def mount(self) -> Mount:
        """Its own path, and those of its models, which are known where they are in the image."""
        return Mount(self.name, self.models.names if self.models else (), self.function.alias)

    def watch(self, alarms: Alarms) -> None:
        """Its metrics, alarms and rollout; `alarms` are those of the API."""
        self.metrics = FunctionMetrics(self, "Metrics", self.props, self.function, self.title)
        self.alarms = FunctionAlarms(self, "Alarms", self.props, self.metrics, alarms.topic)
        self.alarms.rollback += alarms.of_api
        place = self.name if self._bucket else ""
        check = Check(self, "Check", self.props, self.models, self.function, self._bucket, self._network, place)
        self.roles.append(check.role)
        Rollout(self, "Rollout", self.props, self.function, check, self.alarms)


def require_one_place(own: ModelFolder, functions: Iterable[MoreFunction]) -> None:
    """InvalidProps when a model would be in two functions, of which the API had to choose one."""
    places = dict.fromkeys(own.names, "model_path")
    for function, name in _models(functions):
        if name in places:
            raise InvalidProps(f"functions: {function}: model {name} is in {places[name]} too: a model has one place")
        places[name] = f"functions: {function}"


def _models(functions: Iterable[MoreFunction]) -> Iterator[tuple[str, str]]:
    for function in functions:
        for name in function.models.names if function.models else ():
            yield function.name, name

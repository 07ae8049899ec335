"""The stack of one environment: what it has, in the order in which it depends on each other."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from aws_cdk import CfnOutput, Environment, Stack, Tags
from aws_cdk.aws_iam import IRole, ManagedPolicy, PermissionsBoundary
from constructs import Construct
from inferry.settings import Settings

from cdk.alarms import Alarms
from cdk.api_keys import ApiKeys
from cdk.batch import Batch
from cdk.bucket import ModelBucket
from cdk.budget import add_budget
from cdk.curl import curl_line
from cdk.dashboard import Monitor
from cdk.encryption import encrypt
from cdk.files import Files
from cdk.function import InferenceFunction, settings
from cdk.function_url import add_function_url
from cdk.functions import MoreFunction, require_one_place
from cdk.grants import grant_settings, grant_work
from cdk.http_api import InferenceApi
from cdk.metrics import Metrics
from cdk.models import ModelFolder, models_of
from cdk.network import Network
from cdk.props import Props
from cdk.rest_api import RestInferenceApi
from cdk.rollout import Check, Rollout


class InferryStack(Stack):
    """`source` is the project's folder: the image is built from it, and relative paths begin there."""

    def __init__(self, scope: Construct, props: Props, source: Path) -> None:
        super().__init__(
            scope,
            props.stack_name,
            description=f"inferry: ONNX models over the Open Inference Protocol ({props.environment})",
            env=Environment(account=props.account or None, region=props.region or None),
            termination_protection=props.retain,
        )
        bucket = ModelBucket(self, "Models", props) if props.models == "bucket" else None
        models = models_of(props, source) if not bucket else None
        keys = ApiKeys(self, "ApiKeys", props) if props.authorization == "api-keys" else None
        files = Files(self, "Data", props) if props.batch else None
        told = settings(props, props.stack_name)
        if files:
            told = replace(told, batch_input=files.input, batch_output=files.output)
        if bucket:
            told = replace(told, model_path=bucket.url())
        network = Network(self, "Network", props) if props.vpc else None
        self.function = InferenceFunction(self, "Function", props, source, told, keys, network, props.stack_name)
        grant_settings(self.function.role, told)
        if bucket:
            bucket.grant_read(self.function.role)
        if files:
            files.grant_requests(self.function.role)
        more = self._more(props, source, keys, bucket, network, models)
        front = InferenceApi if props.api == "http" else RestInferenceApi
        self.api: InferenceApi | RestInferenceApi = front(
            self, "Api", props, self.function.alias, [function.mount for function in more]
        )
        metrics = Metrics(self, "Metrics", props, self.function, self.api)
        self.alarms = Alarms(self, "Alarms", props, metrics)
        roles: list[IRole] = [self.function.role]
        batch = self._batch(props, source, told, bucket, files, network, roles) if files else {}
        for function in more:
            function.watch(self.alarms)
            roles += function.roles
        monitor = Monitor(self, "Monitor", props, metrics, self.alarms, more)
        check = Check(self, "Check", props, models, self.function, bucket, network)
        Rollout(self, "Rollout", props, self.function, check, self.alarms)
        if props.budget:
            add_budget(self, props, self.alarms.topic)
        if props.kms_key:
            encrypt(self, props.kms_key, [*roles, check.role])

        outputs = batch | {
            "Endpoint": self.api.url,
            "Curl": curl_line(props, self.api.url, models),
            "FunctionArn": self.function.alias.function_arn,
            "Dashboard": monitor.url,
            "AlarmTopic": self.alarms.topic.topic_arn,
            "LogGroup": self.function.logs.log_group_name,
        }
        outputs |= _outputs(bucket, keys, more)
        if props.function_url:
            outputs["FunctionUrl"] = add_function_url(props, self.function.alias)
        self._finish(props, outputs)

    def _more(
        self,
        props: Props,
        source: Path,
        keys: ApiKeys | None,
        bucket: ModelBucket | None,
        network: Network | None,
        models: ModelFolder | None,
    ) -> list[MoreFunction]:
        """The other functions, where there are several; none has a model of another one."""
        more = [MoreFunction(self, item, props, source, keys, bucket, network) for item in props.functions]
        if models:
            require_one_place(models, more)
        return more

    def _batch(
        self,
        props: Props,
        source: Path,
        told: Settings,
        models: ModelBucket | None,
        files: Files,
        network: Network | None,
        roles: list[IRole],
    ) -> dict[str, str]:
        """The outputs of what works on files and messages, whose roles are added."""
        batch = Batch(self, "Batch", props, source, told, files, self.alarms, network)
        grant_settings(batch.role, told)
        grant_work(batch.role, told)
        if models:
            models.grant_read(batch.role)
        roles += [batch.role, batch.runs.machine.role]
        return {
            "Files": files.bucket.bucket_name,
            "Jobs": batch.queue.queue_url,
            "DeadLetters": batch.dead.queue_url,
            "Runner": batch.runs.machine.state_machine_arn,
        }

    def _finish(self, props: Props, outputs: Mapping[str, str]) -> None:
        for name, value in outputs.items():
            CfnOutput(self, name, value=value)
        for tag, value in {**props.own_tags, **props.given_tags}.items():
            Tags.of(self).add(tag, value)
        if props.permissions_boundary:
            boundary = ManagedPolicy.from_managed_policy_arn(self, "Boundary", props.permissions_boundary)
            PermissionsBoundary.of(self).apply(boundary)


def _outputs(bucket: ModelBucket | None, keys: ApiKeys | None, more: Iterable[MoreFunction]) -> dict[str, str]:
    """Of what not every stack has."""
    found = {f"FunctionArn{function.name.capitalize()}": function.function.alias.function_arn for function in more}
    if bucket:
        found["ModelBucket"] = bucket.bucket.bucket_name
    if keys:
        found["ApiKeysSecret"] = keys.secret.secret_arn
    return found

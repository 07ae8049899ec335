"""How a new version gets its requests: checked first, then a share of them, then all; back at an alarm."""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from aws_cdk import Duration
from aws_cdk.aws_codedeploy import (
    AutoRollbackConfig,
    LambdaApplication,
    LambdaDeploymentConfig,
    LambdaDeploymentGroup,
)
from aws_cdk.aws_iam import Policy, PolicyStatement, Role, ServicePrincipal
from aws_cdk.aws_lambda import Code, Function, Runtime
from constructs import Construct

from cdk.alarms import FunctionAlarms
from cdk.bucket import MODELS, ModelBucket
from cdk.function import ALIAS, InferenceFunction
from cdk.logs import log_group
from cdk.models import ModelFolder
from cdk.nag import acknowledge, wildcard
from cdk.network import Network
from cdk.props import Props
from cdk.role import function_role

HANDLER = Path(__file__).parent / "check" / "handler.py"


class Check(Construct):
    """The function that CodeDeploy calls before the new version gets a request."""

    def __init__(
        self,
        scope: Construct,
        name: str,
        props: Props,
        models: ModelFolder | None,
        target: InferenceFunction,
        bucket: ModelBucket | None,
        network: Network | None,
        place: str = "",
    ) -> None:
        """`place`: the folder of the bucket that has the function's models; empty: that of the environment's own."""
        super().__init__(scope, name)
        logs = log_group(self, "Logs", props)
        role = function_role(self, "Role", logs)
        # Its own version only would be a new policy in each deployment, which IAM takes seconds to learn.
        versions = f"{target.function.function_arn}:*"
        role.add_to_policy(PolicyStatement(actions=["lambda:InvokeFunction"], resources=[versions]))
        acknowledge(
            role, {wildcard(role, versions): "which version is the new one is not known when the policy is made"}
        )
        checked = props.models_to_check or (models.names if models else ())
        environment = {"MODELS": json.dumps(checked), "VERSION": target.version.function_arn}
        if bucket:
            bucket.grant_read(role, place or MODELS)
            environment |= {"MODEL_BUCKET": bucket.bucket.bucket_name, "MODEL_FOLDER": place or MODELS}
        self.role = role
        # Those of a bucket are read when the check runs.
        cards = {name: card for name in checked if (card := models.card(name))} if models else {}
        # The CDK takes its copy when the function is made.
        with _code(cards) as folder:
            self.function = Function(
                self,
                "Handler",
                description=f"Runs the examples of models against a new version of {props.stack_name}",
                code=Code.from_asset(folder),
                handler="handler.handler",
                runtime=Runtime.PYTHON_3_14,
                memory_size=256,
                timeout=Duration.seconds(2 * props.timeout + 30),
                environment=environment,
                # CodeDeploy's grant would make it depend on the deployment group, which depends on it.
                role=role.without_policy_updates(),
                log_group=logs,
            )
        if network:
            network.add(self.function, role)


class Rollout(Construct):
    """CodeDeploy over the alias."""

    def __init__(
        self, scope: Construct, name: str, props: Props, target: InferenceFunction, check: Check, alarms: FunctionAlarms
    ) -> None:
        super().__init__(scope, name)
        role = _role(self, target, check)
        group = LambdaDeploymentGroup(
            self,
            "Group",
            application=LambdaApplication(self, "Application"),
            alias=target.alias,
            deployment_config=LambdaDeploymentConfig.from_lambda_deployment_config_name(
                self, "Config", f"CodeDeployDefault.{props.rollout}"
            ),
            alarms=alarms.rollback,
            auto_rollback=AutoRollbackConfig(failed_deployment=True, stopped_deployment=True, deployment_in_alarm=True),
            pre_hook=check.function,
            role=role.without_policy_updates(),
        )
        group.node.add_dependency(role)
        Policy(
            self,
            "Report",
            roles=[check.role],
            statements=[
                PolicyStatement(
                    actions=["codedeploy:PutLifecycleEventHookExecutionStatus"], resources=[group.deployment_group_arn]
                )
            ],
        )
        # The check must know the new version before CodeDeploy, who moves the alias, calls it.
        target.alias.node.add_dependency(check.function)


def _role(scope: Construct, target: InferenceFunction, check: Check) -> Role:
    """Instead of AWS's managed policy, which may move every alias of the account."""
    role = Role(scope, "Role", assumed_by=ServicePrincipal("codedeploy.amazonaws.com"))
    role.add_to_policy(
        PolicyStatement(
            actions=["lambda:GetAlias", "lambda:UpdateAlias", "lambda:GetProvisionedConcurrencyConfig"],
            resources=[target.function.function_arn, f"{target.function.function_arn}:{ALIAS}"],
        )
    )
    role.add_to_policy(PolicyStatement(actions=["lambda:InvokeFunction"], resources=[check.function.function_arn]))
    role.add_to_policy(PolicyStatement(actions=["cloudwatch:DescribeAlarms"], resources=["*"]))
    acknowledge(role, {"IAM5[Resource::*]": "CodeDeploy asks for all alarms at once, which knows no resources"})
    return role


@contextmanager
def _code(cards: Mapping[str, Path]) -> Iterator[str]:
    """A folder of the handler, and of the models' cards that it compares with."""
    with TemporaryDirectory() as folder:
        shutil.copy(HANDLER, folder)
        for model, card in cards.items():
            target = Path(folder, "cards", model)
            target.mkdir(parents=True)
            shutil.copy(card, target)
        yield folder

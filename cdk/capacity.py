"""Managed Instances: machines of EC2 that Lambda runs in the VPC, where an environment has several processes."""

from collections.abc import Sequence

from aws_cdk import Aws, CfnTag
from aws_cdk.aws_iam import PolicyStatement, Role, ServicePrincipal
from aws_cdk.aws_lambda import CfnCapacityProvider, CfnFunction, CfnVersion, Function, Version
from aws_cdk.aws_logs import LogGroup
from constructs import Construct

from cdk.logs import log_group
from cdk.nag import acknowledge, wildcard
from cdk.props import Instances, Props

# Instances, their disks and network interfaces; Lambda's scaler marks those that it manages.
_MADE = ("instance", "network-interface", "volume")
_MANAGED = {"StringEquals": {"ec2:ManagedResourceOperator": "scaler.lambda.amazonaws.com"}}
_SEEN = (
    "ec2:DescribeAvailabilityZones",
    "ec2:DescribeCapacityReservations",
    "ec2:DescribeInstances",
    "ec2:DescribeInstanceStatus",
    "ec2:DescribeInstanceTypeOfferings",
    "ec2:DescribeInstanceTypes",
    "ec2:DescribeSecurityGroups",
    "ec2:DescribeSubnets",
    "ec2:DescribeVpcEncryptionControls",
)


class Capacity(Construct):
    """A provider of instances for one function: functions on the same ones would have to trust each other."""

    def __init__(
        self, scope: Construct, props: Props, instances: Instances, subnets: Sequence[str], groups: Sequence[str]
    ) -> None:
        super().__init__(scope, "Capacity")
        self._props = props
        self._instances = instances
        logs = log_group(self, "Logs", props)
        role = _operator(self, subnets, groups, logs)
        tags = {**props.own_tags, **props.given_tags}
        self._provider = CfnCapacityProvider(
            self,
            "Provider",
            permissions_config=CfnCapacityProvider.CapacityProviderPermissionsConfigProperty(
                capacity_provider_operator_role_arn=role.role_arn
            ),
            vpc_config=CfnCapacityProvider.CapacityProviderVpcConfigProperty(
                subnet_ids=list(subnets), security_group_ids=list(groups)
            ),
            instance_requirements=CfnCapacityProvider.InstanceRequirementsProperty(
                architectures=[props.architecture], allowed_instance_types=list(instances.types) or None
            ),
            capacity_provider_scaling_config=CfnCapacityProvider.CapacityProviderScalingConfigProperty(
                max_v_cpu_count=instances.max_vcpus, scaling_mode="Auto"
            ),
            propagate_tags=CfnCapacityProvider.PropagateTagsConfigProperty(
                mode="Explicit",
                explicit_tags=[CfnTag(key=tag, value=value) for tag, value in tags.items()],
            ),
            telemetry_config=CfnCapacityProvider.CapacityProviderTelemetryConfigProperty(
                logging_config=CfnCapacityProvider.CapacityProviderLoggingConfigProperty(
                    log_group=logs.log_group_name, system_log_level="INFO"
                )
            ),
        )
        self._provider.node.add_dependency(role)

    def add(self, function: Function, version: Version) -> None:
        """Has versions of the function run on the instances; the unpublished one, which nobody calls, doesn't."""
        made, published = function.node.default_child, version.node.default_child
        assert isinstance(made, CfnFunction)
        assert isinstance(published, CfnVersion)
        made.publish_to_latest_published = False
        made.capacity_provider_config = CfnFunction.CapacityProviderConfigProperty(
            lambda_managed_instances_capacity_provider_config=CfnFunction.LambdaManagedInstancesCapacityProviderConfigProperty(
                capacity_provider_arn=self._provider.attr_arn,
                execution_environment_memory_gib_per_v_cpu=self._instances.memory_per_vcpu,
                # Python's default of 16 for each vCPU would load each model so often.
                per_execution_environment_max_concurrency=self._props.processes,
            )
        )
        published.function_scaling_config = CfnVersion.FunctionScalingConfigProperty(
            min_execution_environments=self._instances.min_environments
        )


def _operator(scope: Construct, subnets: Sequence[str], groups: Sequence[str], logs: LogGroup) -> Role:
    """What AWSLambdaManagedEC2ResourceOperator allows, in these subnets and groups instead of all of the account."""
    place = f"arn:{Aws.PARTITION}:ec2:{Aws.REGION}"
    own = f"{place}:{Aws.ACCOUNT_ID}"
    made = [f"{own}:{kind}/*" for kind in _MADE]
    images = f"{place}:*:image/*"
    role = Role(scope, "Role", assumed_by=ServicePrincipal("lambda.amazonaws.com"))
    for statement in (
        PolicyStatement(
            actions=["ec2:RunInstances", "ec2:CreateTags", "ec2:AttachNetworkInterface"],
            resources=made,
            conditions=_MANAGED,
        ),
        PolicyStatement(
            actions=["ec2:RunInstances", "ec2:CreateNetworkInterface"],
            resources=[
                *(f"{own}:subnet/{subnet}" for subnet in subnets),
                *(f"{own}:security-group/{group}" for group in groups),
            ],
        ),
        PolicyStatement(
            actions=["ec2:RunInstances"], resources=[images], conditions={"StringEquals": {"ec2:Owner": "amazon"}}
        ),
        PolicyStatement(actions=list(_SEEN), resources=["*"]),
        PolicyStatement(actions=["logs:CreateLogStream", "logs:PutLogEvents"], resources=[logs.log_group_arn]),
    ):
        role.add_to_policy(statement)
    reason = "instances and what belongs to them are not known in advance"
    acknowledge(role, {wildcard(role, item): reason for item in made})
    acknowledge(role, {wildcard(role, images): "images of Amazon's, which it renews", "IAM5[Resource::*]": reason})
    return role

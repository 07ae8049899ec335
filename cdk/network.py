"""A network that there is already: the functions are in it, and reach AWS's services by its endpoints."""

from typing import Any

from aws_cdk import Aws
from aws_cdk.aws_ec2 import CfnSecurityGroup, CfnVPCEndpoint
from aws_cdk.aws_iam import Effect, PolicyStatement, Role
from aws_cdk.aws_lambda import CfnFunction, Function
from constructs import Construct

from cdk.nag import acknowledge
from cdk.props import Props
from cdk.rules import GATEWAY_ENDPOINT

HTTPS = 443
# What Lambda does with the rights of a function in a VPC: "your function's execution role must have permissions to
# create and manage" its network interfaces: https://docs.aws.amazon.com/lambda/latest/dg/configuration-vpc.html
_INTERFACES = (
    "ec2:CreateNetworkInterface",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeSubnets",
    "ec2:DeleteNetworkInterface",
    "ec2:AssignPrivateIpAddresses",
    "ec2:UnassignPrivateIpAddresses",
)


class Network(Construct):
    """Subnets, security groups and, where the props name some, endpoints."""

    def __init__(self, scope: Construct, name: str, props: Props) -> None:
        super().__init__(scope, name)
        self.subnets = list(props.subnets)
        self.groups = list(props.security_groups) or [self._group(props)]
        interfaces = [name for name in props.endpoints if name != GATEWAY_ENDPOINT]
        if GATEWAY_ENDPOINT in props.endpoints:
            self._endpoint(props, GATEWAY_ENDPOINT, "Gateway", route_table_ids=list(props.route_tables))
        if interfaces:
            group = self._group_of_endpoints(props)
            for service in interfaces:
                self._endpoint(
                    props,
                    service,
                    "Interface",
                    subnet_ids=self.subnets,
                    security_group_ids=[group],
                    private_dns_enabled=True,
                )

    def add(self, function: Function, role: Role) -> None:
        """Puts the function into the network; its role lets Lambda make the network interfaces."""
        role.add_to_policy(PolicyStatement(actions=list(_INTERFACES), resources=["*"]))
        # Lambda itself needs them, and not the function's code, whose calls have this key:
        # https://docs.aws.amazon.com/lambda/latest/dg/permissions-source-function-arn.html
        by_code = {"Null": {"lambda:SourceFunctionArn": "false"}}
        role.add_to_policy(
            PolicyStatement(effect=Effect.DENY, actions=list(_INTERFACES), resources=["*"], conditions=by_code)
        )
        acknowledge(role, {"IAM5[Resource::*]": "Lambda's network interfaces are not known in advance"})
        made = function.node.default_child
        assert isinstance(made, CfnFunction)
        made.vpc_config = CfnFunction.VpcConfigProperty(subnet_ids=self.subnets, security_group_ids=self.groups)
        # The init, of which a version's snapshot is made, reads models and keys by the endpoints.
        function.node.add_dependency(self)

    def _group(self, props: Props) -> str:
        group = CfnSecurityGroup(
            self,
            "Functions",
            group_description=f"Functions of {props.stack_name}: out by HTTPS, in not at all",
            vpc_id=props.vpc,
            security_group_egress=[
                CfnSecurityGroup.EgressProperty(
                    ip_protocol="tcp",
                    from_port=HTTPS,
                    to_port=HTTPS,
                    cidr_ip="0.0.0.0/0",
                    description="AWS's services, whose addresses change",
                )
            ],
        )
        return group.attr_group_id

    def _group_of_endpoints(self, props: Props) -> str:
        group = CfnSecurityGroup(
            self,
            "Endpoints",
            group_description=f"Endpoints for {props.stack_name}: in from its functions",
            vpc_id=props.vpc,
            security_group_ingress=[
                CfnSecurityGroup.IngressProperty(
                    ip_protocol="tcp",
                    from_port=HTTPS,
                    to_port=HTTPS,
                    source_security_group_id=group,
                    description="the functions",
                )
                for group in self.groups
            ],
        )
        return group.attr_group_id

    def _endpoint(self, props: Props, service: str, kind: str, **more: Any) -> None:
        CfnVPCEndpoint(
            self,
            service,
            vpc_id=props.vpc,
            vpc_endpoint_type=kind,
            service_name=f"com.amazonaws.{Aws.REGION}.{service}",
            **more,
        )

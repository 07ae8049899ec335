"""A REST API in front of the alias: in a VPC of one's own, behind a WAF, or both. HTTP APIs can be neither."""

import json
from collections.abc import Iterable

from aws_cdk import Aws
from aws_cdk.aws_apigateway import (
    AccessLogFormat,
    AuthorizationType,
    DomainName,
    EndpointConfiguration,
    EndpointType,
    IResource,
    LambdaIntegration,
    LogGroupLogDestination,
    MethodOptions,
    RestApi,
    SecurityPolicy,
    StageOptions,
)
from aws_cdk.aws_certificatemanager import Certificate
from aws_cdk.aws_ec2 import InterfaceVpcEndpoint
from aws_cdk.aws_iam import AccountRootPrincipal, AnyPrincipal, Effect, IPrincipal, PolicyDocument, PolicyStatement
from aws_cdk.aws_lambda import Alias
from aws_cdk.aws_route53 import CfnRecordSet
from aws_cdk.aws_wafv2 import CfnWebACLAssociation
from constructs import Construct

from cdk.http_api import ACCESS_LOG, open_routes
from cdk.logs import log_group
from cdk.mounts import Mount
from cdk.nag import acknowledge
from cdk.props import Props

STAGE = "live"
HTTPS = 443
# Tensors are binary, and no list of types could name what clients call them.
BINARY = ["*/*"]


class RestInferenceApi(Construct):
    """`url` is where clients send their requests."""

    def __init__(self, scope: Construct, name: str, props: Props, alias: Alias, more: Iterable[Mount]) -> None:
        """`more`: the other functions, where there are several."""
        super().__init__(scope, name)
        is_private = props.api == "private"
        self.api = RestApi(
            self,
            "Api",
            rest_api_name=props.stack_name,
            endpoint_configuration=self._private(props)
            if is_private
            else EndpointConfiguration(types=[EndpointType.REGIONAL]),
            policy=_policy(props) if is_private else None,
            binary_media_types=BINARY,
            # One role for all APIs of the account and region: `make check-prereqs` says whether there is one.
            cloud_watch_role=False,
            deploy_options=StageOptions(
                stage_name=STAGE,
                access_log_destination=LogGroupLogDestination(log_group(self, "AccessLogs", props, delivered=True)),
                access_log_format=AccessLogFormat.custom(json.dumps(ACCESS_LOG)),
                metrics_enabled=True,
                throttling_rate_limit=props.throttle_rate,
                throttling_burst_limit=props.throttle_burst,
                tracing_enabled=props.tracing,
            ),
            default_method_options=MethodOptions(authorization_type=_AUTHORIZATION[props.authorization]),
        )
        self._route(self.api.root, _integration(alias), props)
        for mount in more:
            for path in mount.paths:
                self._route(self.api.root.resource_for_path(path), _integration(mount.alias), props)
        if props.web_acl:
            stage = f"arn:{Aws.PARTITION}:apigateway:{Aws.REGION}::/restapis/{self.api.rest_api_id}/stages/{STAGE}"
            association = CfnWebACLAssociation(self, "WebAcl", resource_arn=stage, web_acl_arn=props.web_acl)
            association.node.add_dependency(self.api.deployment_stage)
        self.url = self._url(props)
        _acknowledge(self.api, props)

    def _route(self, front: IResource, integration: LambdaIntegration, props: Props) -> None:
        """A path and all that is below it."""
        for resource in (front, front.add_resource("{proxy+}")):
            resource.add_method("ANY", integration)
            if props.settings.cors_origins:
                # The application answers preflight requests, which have no credentials.
                resource.add_method("OPTIONS", integration, authorization_type=AuthorizationType.NONE)

    def _private(self, props: Props) -> EndpointConfiguration:
        endpoints = [
            InterfaceVpcEndpoint.from_interface_vpc_endpoint_attributes(self, name, port=HTTPS, vpc_endpoint_id=name)
            for name in props.vpc_endpoints
        ]
        return EndpointConfiguration(types=[EndpointType.PRIVATE], vpc_endpoints=endpoints)

    def _url(self, props: Props) -> str:
        if props.domain:
            return self._domain(props)
        # By the endpoint's name it is found whether the VPC has private DNS or not.
        front = f"-{props.vpc_endpoints[0]}" if props.api == "private" else ""
        return f"https://{self.api.rest_api_id}{front}.execute-api.{Aws.REGION}.{Aws.URL_SUFFIX}/{STAGE}"

    def _domain(self, props: Props) -> str:
        domain = DomainName(
            self,
            "Domain",
            domain_name=props.domain,
            certificate=Certificate.from_certificate_arn(self, "Certificate", props.certificate),
            endpoint_type=EndpointType.REGIONAL,
            security_policy=SecurityPolicy.TLS_1_2,
            mapping=self.api,
        )
        if props.hosted_zone:
            CfnRecordSet(
                self,
                "Record",
                hosted_zone_id=props.hosted_zone,
                name=props.domain,
                type="A",
                alias_target=CfnRecordSet.AliasTargetProperty(
                    dns_name=domain.domain_name_alias_domain_name,
                    hosted_zone_id=domain.domain_name_alias_hosted_zone_id,
                ),
            )
        return f"https://{props.domain}"


def _integration(alias: Alias) -> LambdaIntegration:
    return LambdaIntegration(alias, allow_test_invoke=False, scope_permission_to_method=False)


_AUTHORIZATION = {
    "iam": AuthorizationType.IAM,
    "api-keys": AuthorizationType.NONE,
    "none": AuthorizationType.NONE,
}


def _policy(props: Props) -> PolicyDocument:
    """Requests by the VPC's endpoints, and no others.

    With IAM it lets in the account, whose identities need a right of their own: were it everybody, each of the
    account's identities might call, as the one or the other policy is enough.
    """
    everybody = AnyPrincipal()
    callers: IPrincipal = AccountRootPrincipal() if props.authorization == "iam" else everybody
    elsewhere = {"StringNotEquals": {"aws:SourceVpce": list(props.vpc_endpoints)}}
    invoke, own = ["execute-api:Invoke"], ["execute-api:/*"]
    return PolicyDocument(
        statements=[
            PolicyStatement(principals=[callers], actions=invoke, resources=own),
            PolicyStatement(
                effect=Effect.DENY, principals=[everybody], actions=invoke, resources=own, conditions=elsewhere
            ),
        ]
    )


def _acknowledge(api: RestApi, props: Props) -> None:
    reasons = {
        "APIG2": "the application validates requests, by each model's own signature",
        "APIG6": "each request has a line in the access log, and another one in the function's",
    }
    if not props.web_acl:
        reasons["APIG3"] = "whether there is a WAF, and which, the prop web_acl says"
    if open_reasons := open_routes(props):
        reasons["APIG4"] = "; ".join(open_reasons)
    reasons["COG4"] = "callers have IAM or API keys, and no user pool"
    acknowledge(api, reasons)

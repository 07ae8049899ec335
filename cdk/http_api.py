"""The HTTP API in front of the alias: authorisation, throttling, CORS, access logs, a domain of one's own."""

import json
from collections.abc import Iterable

import jsii
from aws_cdk import Duration
from aws_cdk.aws_apigateway import AccessLogFormat
from aws_cdk.aws_apigatewayv2 import (
    CorsHttpMethod,
    CorsPreflightOptions,
    DomainMappingOptions,
    DomainName,
    HttpApi,
    HttpMethod,
    HttpNoneAuthorizer,
    HttpStage,
    IAccessLogDestination,
    IAccessLogSettings,
    IHttpRouteAuthorizer,
    LogGroupLogDestination,
    ThrottleSettings,
)
from aws_cdk.aws_apigatewayv2_authorizers import HttpIamAuthorizer, HttpJwtAuthorizer
from aws_cdk.aws_apigatewayv2_integrations import HttpLambdaIntegration
from aws_cdk.aws_certificatemanager import Certificate
from aws_cdk.aws_lambda import Alias
from aws_cdk.aws_logs import LogGroup
from aws_cdk.aws_route53 import CfnRecordSet
from constructs import Construct

from cdk.logs import log_group
from cdk.mounts import Mount
from cdk.nag import acknowledge
from cdk.props import Props

# One line for each request; nothing of its body or its credentials.
ACCESS_LOG = {
    "requestId": "$context.requestId",
    "time": "$context.requestTime",
    "ip": "$context.identity.sourceIp",
    "userAgent": "$context.identity.userAgent",
    "method": "$context.httpMethod",
    "path": "$context.path",
    "status": "$context.status",
    "responseLength": "$context.responseLength",
    "latency": "$context.responseLatency",
    "functionLatency": "$context.integrationLatency",
    "functionError": "$context.integrationErrorMessage",
    "authorizerError": "$context.authorizer.error",
    "error": "$context.error.message",
}
# Headers of the protocol that a browser hides from a page unless it is told not to.
EXPOSED = ["Inference-Header-Content-Length", "X-Request-Id"]


@jsii.implements(IAccessLogSettings)
class AccessLogs:
    """jsii reads a Python object through properties, and no mapping will do."""

    def __init__(self, group: LogGroup) -> None:
        self._group = group

    @property
    def destination(self) -> IAccessLogDestination:
        return LogGroupLogDestination(self._group)

    @property
    def format(self) -> AccessLogFormat:
        return AccessLogFormat.custom(json.dumps(ACCESS_LOG))


class InferenceApi(Construct):
    """`url` is where clients send their requests."""

    def __init__(self, scope: Construct, name: str, props: Props, alias: Alias, more: Iterable[Mount]) -> None:
        """`more`: the other functions, where there are several."""
        super().__init__(scope, name)
        origins = list(props.settings.cors_origins)
        integration = HttpLambdaIntegration("Function", alias)
        self.api = HttpApi(
            self,
            "Api",
            api_name=props.stack_name,
            create_default_stage=False,
            default_integration=integration,
            default_authorizer=_authorizer(props),
            cors_preflight=_cors(origins) if origins else None,
        )
        if origins:
            # "$default" would ask a preflight, which has no credentials, for some.
            self.api.add_routes(
                path="/{proxy+}",
                methods=[HttpMethod.OPTIONS],
                integration=integration,
                authorizer=HttpNoneAuthorizer(),
            )
        for mount in more:
            self._mount(mount, has_preflights=bool(origins))
        domain = self._domain(props) if props.domain else None
        self.stage = HttpStage(
            self,
            "Stage",
            http_api=self.api,
            stage_name="$default",
            auto_deploy=True,
            detailed_metrics_enabled=True,
            throttle=ThrottleSettings(rate_limit=props.throttle_rate, burst_limit=props.throttle_burst),
            access_log_settings=AccessLogs(log_group(self, "AccessLogs", props, delivered=True)),
            domain_mapping=DomainMappingOptions(domain_name=domain) if domain else None,
        )
        self.url = f"https://{props.domain}" if domain else self.api.api_endpoint
        if reasons := open_routes(props):
            acknowledge(self.api, {"APIG4": "; ".join(reasons)})

    def _mount(self, mount: Mount, *, has_preflights: bool) -> None:
        # One permission for all routes: a function's policy has 20 KB.
        integration = HttpLambdaIntegration(mount.name, mount.alias, scope_permission_to_route=False)
        for path in (path for front in mount.paths for path in (front, f"{front}/{{proxy+}}")):
            self.api.add_routes(path=path, integration=integration)
            if has_preflights:
                self.api.add_routes(
                    path=path,
                    methods=[HttpMethod.OPTIONS],
                    integration=integration,
                    authorizer=HttpNoneAuthorizer(),
                )

    def _domain(self, props: Props) -> DomainName:
        certificate = Certificate.from_certificate_arn(self, "Certificate", props.certificate)
        domain = DomainName(self, "Domain", domain_name=props.domain, certificate=certificate)
        if props.hosted_zone:
            CfnRecordSet(
                self,
                "Record",
                hosted_zone_id=props.hosted_zone,
                name=props.domain,
                type="A",
                alias_target=CfnRecordSet.AliasTargetProperty(
                    dns_name=domain.regional_domain_name, hosted_zone_id=domain.regional_hosted_zone_id
                ),
            )
        return domain


def _authorizer(props: Props) -> IHttpRouteAuthorizer:
    if props.authorization == "iam":
        return HttpIamAuthorizer()
    if props.authorization == "jwt":
        return HttpJwtAuthorizer("Jwt", props.jwt_issuer, jwt_audience=list(props.jwt_audience))
    return HttpNoneAuthorizer()


def _cors(origins: list[str]) -> CorsPreflightOptions:
    return CorsPreflightOptions(
        allow_origins=origins,
        allow_methods=[CorsHttpMethod.GET, CorsHttpMethod.POST, CorsHttpMethod.OPTIONS],
        allow_headers=["*"],
        expose_headers=EXPOSED,
        max_age=Duration.hours(1),
    )


def open_routes(props: Props) -> list[str]:
    """Why some route needs no credentials at the gateway."""
    reasons = {
        "none": "this environment says authorization none, which has to be said",
        "api-keys": "the application checks the keys, in constant time, on every host alike",
    }
    preflight = ["preflight requests carry no credentials"] if props.settings.cors_origins else []
    return [reason for name, reason in reasons.items() if name == props.authorization] + preflight

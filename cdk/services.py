"""What AWS's own services may do with a resource: on behalf of this account, and of no other."""

from aws_cdk import Aws
from aws_cdk.aws_iam import PolicyStatement, ServicePrincipal


def allow_service(service: str, action: str, resource: str) -> PolicyStatement:
    """The statement of `resource`'s policy that lets `service` ("s3.amazonaws.com") do it."""
    return PolicyStatement(
        principals=[ServicePrincipal(service)],
        actions=[action],
        resources=[resource],
        conditions={"StringEquals": {"aws:SourceAccount": Aws.ACCOUNT_ID}},
    )

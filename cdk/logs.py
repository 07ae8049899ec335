"""Log groups with an end: what is kept for ever is paid for ever."""

from aws_cdk import RemovalPolicy
from aws_cdk.aws_logs import LogGroup, RetentionDays
from constructs import Construct

from cdk.props import RETENTIONS, Props

# The enumeration is in the order of its days; its last member, for ever, has no number.
_DAYS = dict(zip(RETENTIONS, RetentionDays, strict=False))


# "To avoid reaching the CloudWatch Logs resource policy size limit, prefix your CloudWatch Logs log group names":
# https://docs.aws.amazon.com/step-functions/latest/dg/bp-cwl.html, 2026-12-01.
VENDED = "/aws/vendedlogs"


def log_group(scope: Construct, name: str, props: Props, *, delivered: bool = False) -> LogGroup:
    """`delivered`: a service of AWS's delivers to it, which a policy of the account lets in."""
    named = f"{VENDED}/{props.stack_name}/{scope.node.id}{name}" if delivered and props.vended_logs else None
    return LogGroup(
        scope,
        name,
        log_group_name=named,
        retention=_DAYS[props.log_retention],
        removal_policy=RemovalPolicy.RETAIN if props.retain else RemovalPolicy.DESTROY,
    )

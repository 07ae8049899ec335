"""Log groups with an end: what is kept for ever is paid for ever."""

from aws_cdk import RemovalPolicy
from aws_cdk.aws_logs import LogGroup, RetentionDays
from constructs import Construct

from cdk.props import RETENTIONS, Props

# The enumeration is in the order of its days; its last member, for ever, has no number.
_DAYS = dict(zip(RETENTIONS, RetentionDays, strict=False))


def log_group(scope: Construct, name: str, props: Props) -> LogGroup:
    return LogGroup(
        scope,
        name,
        retention=_DAYS[props.log_retention],
        removal_policy=RemovalPolicy.RETAIN if props.retain else RemovalPolicy.DESTROY,
    )

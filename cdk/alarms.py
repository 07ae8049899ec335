"""Alarms and the topic that they go to."""

from aws_cdk import Duration
from aws_cdk.aws_cloudwatch import Alarm, ComparisonOperator, IAlarm, IMetric, TreatMissingData
from aws_cdk.aws_cloudwatch_actions import SnsAction
from aws_cdk.aws_sns import ITopic, Topic
from aws_cdk.aws_sns_subscriptions import EmailSubscription
from constructs import Construct

from cdk.metrics import FunctionMetrics, Metrics
from cdk.props import Props
from cdk.services import allow_service

# Shorter than any rollout: an alarm after it would come too late to stop it.
MINUTE = Duration.minutes(1)
DAY = Duration.days(1)


class FunctionAlarms(Construct):
    """Those of a function. `rollback` are those that stop a deployment; `add` makes more of them."""

    def __init__(
        self, scope: Construct, name: str, props: Props, metrics: FunctionMetrics, topic: ITopic | None = None
    ) -> None:
        """`topic`: another function's; without it, these have one of their own, or that of the props."""
        super().__init__(scope, name)
        self.topic = topic or _topic(self, props)
        self.all: list[IAlarm] = []
        errors = self.add("Errors", metrics.errors_percent(MINUTE), props.max_errors, "% of invocations fail")
        self.rollback: list[IAlarm] = [errors]
        self.add("Throttles", metrics.throttles, 0, "invocations refused for lack of concurrency")
        self.add("Init", metrics.cold_start("Maximum"), props.max_init, "ms took the longest cold start")
        self.add("Cost", metrics.cost(DAY), props.daily_cost, "USD a day is the estimated cost")

    def add(self, name: str, metric: IMetric, limit: float, meaning: str, *, periods: int = 1) -> Alarm:
        """An alarm when `metric` is above `limit` for so many of its periods; no data is good news."""
        alarm = Alarm(
            self,
            name,
            metric=metric,
            threshold=limit,
            evaluation_periods=periods,
            comparison_operator=ComparisonOperator.GREATER_THAN_THRESHOLD,
            treat_missing_data=TreatMissingData.NOT_BREACHING,
            alarm_description=f"More than {limit:g} {meaning}",
        )
        alarm.add_alarm_action(SnsAction(self.topic))
        alarm.add_ok_action(SnsAction(self.topic))
        self.all.append(alarm)
        return alarm


class Alarms(FunctionAlarms):
    """Those of the environment's own function, and of the API."""

    def __init__(self, scope: Construct, name: str, props: Props, metrics: Metrics) -> None:
        super().__init__(scope, name, props, metrics)
        answers = self.add(
            "ServerErrors", metrics.server_errors_percent(MINUTE), props.max_errors, "% of answers are 5xx"
        )
        self.of_api: list[IAlarm] = [answers]
        self.rollback += self.of_api
        self.add("Latency", metrics.latency("p99"), props.max_p99, "ms is the p99 of the API's latency", periods=3)


def _topic(scope: Construct, props: Props) -> ITopic:
    if props.alarm_topic:
        return Topic.from_topic_arn(scope, "Topic", props.alarm_topic)
    topic = Topic(scope, "Topic", display_name=f"Alarms of {props.stack_name}", enforce_ssl=True)
    # A policy takes the place of the one that SNS gives a topic, which lets the account's alarms in.
    topic.add_to_resource_policy(allow_service("cloudwatch.amazonaws.com", "sns:Publish", topic.topic_arn))
    if props.alarm_email:
        topic.add_subscription(EmailSubscription(props.alarm_email))
    return topic

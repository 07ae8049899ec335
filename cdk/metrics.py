"""The metrics of an environment, by name: alarms and the dashboard show the same ones."""

from aws_cdk import Duration
from aws_cdk.aws_cloudwatch import IMetric, MathExpression, Metric
from aws_cdk.aws_logs import FilterPattern, MetricFilter
from constructs import Construct
from inferry.observability import catalogue

from cdk.function import InferenceFunction
from cdk.http_api import InferenceApi
from cdk.props import DAY_SECONDS, Props
from cdk.rest_api import RestInferenceApi

# USD in us-east-1, x86_64, without the free tier: an estimate that is rather too high.
GB_SECOND = 0.0000166667
MILLION_REQUESTS = 0.20
MILLION_API_REQUESTS = {"http": 1.00, "rest": 3.50, "private": 3.50}
RESTORED_GB = 0.0001397998
NAMESPACE = "inferry/lambda"


class FunctionMetrics(Construct):
    """What Lambda measures of one function, and what a log line says of its cold starts."""

    def __init__(self, scope: Construct, name: str, props: Props, function: InferenceFunction, title: str) -> None:
        """`title`: the function's, which no other one of the account has."""
        super().__init__(scope, name)
        self._props = props
        self._alias = function.alias
        self._title = title
        self._app = function.told.app_name
        # Lambda has no metric for them. The field is missing in reports of warm invocations.
        for kind, field in _STARTS.items():
            MetricFilter(
                self,
                kind,
                log_group=function.logs,
                filter_pattern=FilterPattern.number_value(f"$.record.metrics.{field}", ">", 0),
                metric_namespace=NAMESPACE,
                metric_name=f"{kind}-{title}",
                metric_value=f"$.record.metrics.{field}",
            )

    def errors_percent(self, period: Duration) -> IMetric:
        return MathExpression(
            expression="100*errors/invocations",
            using_metrics={"errors": self._alias.metric_errors(), "invocations": self._alias.metric_invocations()},
            period=period,
            label="invocations that fail, %",
        )

    @property
    def throttles(self) -> IMetric:
        return self._alias.metric_throttles()

    @property
    def concurrency(self) -> IMetric:
        return self._alias.metric("ConcurrentExecutions", statistic="Maximum", label="concurrent invocations")

    def duration(self, statistic: str) -> IMetric:
        return self._alias.metric_duration(statistic=statistic, label=f"duration {statistic}, ms")

    def own(self, metric: catalogue.Metric, statistic: str) -> IMetric:
        """What inferry counts itself, and prints for CloudWatch (METRICS_SINKS emf)."""
        return Metric(
            namespace=self._app,
            metric_name=metric.name,
            dimensions_map={"service": self._app},
            statistic=statistic,
            label=f"{metric.name.removeprefix('inferry_')} {statistic}",
        )

    def cold_start(self, statistic: str) -> IMetric:
        """Initialisation, or restoring a snapshot: whichever there was."""
        using = {kind.lower(): self._start(kind, statistic) for kind in _STARTS}
        return MathExpression(
            expression=f"MAX([{','.join(f'FILL({name},0)' for name in using)}])",
            using_metrics=using,
            label=f"cold start {statistic.lower()}, ms",
        )

    def cost(self, period: Duration) -> IMetric:
        """USD in a period: what AWS asks for time, memory and requests, and for what is kept idle."""
        using = self._charged()
        idle = self._props.idle_cost * period.to_seconds() / DAY_SECONDS
        # Decimals: CloudWatch reads the "e" of 1.7e-05 as the name of a metric. A term without data is none of the sum:
        # who is invoked directly has no requests.
        terms = [f"FILL({name},0)*{price:.15f}" for name, (_, price) in using.items()]
        return MathExpression(
            expression="+".join([*terms, f"{idle:.9f}"]),
            using_metrics={name: metric for name, (metric, _) in using.items()},
            period=period,
            label="estimated cost, USD",
        )

    def _charged(self) -> dict[str, tuple[IMetric, float]]:
        """What is paid for by its number, with the price of one in USD."""
        gigabytes = self._props.memory / 1024
        using: dict[str, tuple[IMetric, float]] = {
            "invocations": (self._alias.metric_invocations(), MILLION_REQUESTS / 1e6)
        }
        if not self._props.instances:
            using["duration"] = (self._alias.metric_duration(statistic="Sum"), GB_SECOND / 1000 * gigabytes)
        if self._props.start == "snapstart":
            using["restores"] = (self._start("Restore", "SampleCount"), RESTORED_GB * gigabytes)
        return using

    def _start(self, kind: str, statistic: str) -> IMetric:
        return Metric(namespace=NAMESPACE, metric_name=f"{kind}-{self._title}", statistic=statistic)


class Metrics(FunctionMetrics):
    """Those of the environment's own function, and of the API, which is for all of them."""

    def __init__(
        self,
        scope: Construct,
        name: str,
        props: Props,
        function: InferenceFunction,
        api: InferenceApi | RestInferenceApi,
    ) -> None:
        super().__init__(scope, name, props, function, props.stack_name)
        self._api = api.api

    def server_errors_percent(self, period: Duration) -> IMetric:
        return MathExpression(
            expression="100*failures/requests",
            using_metrics={"failures": self._api.metric_server_error(statistic="Sum"), "requests": self.requests},
            period=period,
            label="answers 5xx, %",
        )

    @property
    def requests(self) -> IMetric:
        return self._api.metric_count(statistic="Sum", label="requests")

    @property
    def client_errors(self) -> IMetric:
        return self._api.metric_client_error(statistic="Sum", label="answers 4xx")

    def latency(self, statistic: str) -> IMetric:
        return self._api.metric_latency(statistic=statistic, label=f"latency {statistic}, ms")

    def _charged(self) -> dict[str, tuple[IMetric, float]]:
        return super()._charged() | {"requests": (self.requests, MILLION_API_REQUESTS[self._props.api] / 1e6)}


_STARTS = {"Init": "initDurationMs", "Restore": "restoreDurationMs"}

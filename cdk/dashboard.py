"""The dashboard of an environment: what its users feel, what its function does, what it costs."""

from collections.abc import Sequence

from aws_cdk import Aws, Duration
from aws_cdk.aws_cloudwatch import AlarmStatusWidget, Dashboard, GraphWidget, IMetric
from constructs import Construct
from inferry.observability.catalogue import DURATION, FAILURES, REQUESTS, ROWS

from cdk.alarms import Alarms
from cdk.functions import MoreFunction
from cdk.metrics import Metrics
from cdk.props import Props

PERIOD = Duration.minutes(5)


class Monitor(Construct):
    """`url` opens the dashboard in AWS's console."""

    def __init__(
        self,
        scope: Construct,
        name: str,
        props: Props,
        metrics: Metrics,
        alarms: Alarms,
        more: Sequence[MoreFunction],
    ) -> None:
        super().__init__(scope, name)
        self.dashboard = Dashboard(self, "Dashboard", default_interval=Duration.hours(3))
        all_alarms = [*alarms.all, *(alarm for function in more for alarm in function.alarms.all)]
        self.dashboard.add_widgets(AlarmStatusWidget(alarms=all_alarms, title=props.stack_name, width=24))
        graphs = [
            _graph("Requests", [metrics.requests, metrics.client_errors]),
            _graph("Failures", [metrics.errors_percent(PERIOD), metrics.server_errors_percent(PERIOD)]),
            _graph("Latency at the API", [metrics.latency(s) for s in ("p50", "p90", "p99")]),
            _graph("Duration in the function", [metrics.duration(s) for s in ("p50", "p90", "p99")]),
            _graph("Predictions", [metrics.own(m, "Sum") for m in (REQUESTS, FAILURES, ROWS)]),
            _graph("Time of a prediction, s", [metrics.own(DURATION, s) for s in ("p50", "p90", "p99")]),
            _graph("Cold starts", [metrics.cold_start("Maximum")]),
            _graph("Concurrency", [metrics.concurrency, metrics.throttles]),
            _graph("Cost per hour", [metrics.cost(Duration.hours(1))]),
        ]
        for function in more:
            graphs += _of_function(function)
        self.dashboard.add_widgets(*graphs)
        self.url = (
            f"https://{Aws.REGION}.console.aws.amazon.com/cloudwatch/home?region={Aws.REGION}"
            f"#dashboards/dashboard/{self.dashboard.dashboard_name}"
        )


def _of_function(function: MoreFunction) -> list[GraphWidget]:
    name, metrics = function.name, function.metrics
    return [
        _graph(f"{name}: failures", [metrics.errors_percent(PERIOD)]),
        _graph(f"{name}: duration", [metrics.duration(s) for s in ("p50", "p90", "p99")]),
        _graph(f"{name}: predictions", [metrics.own(m, "Sum") for m in (REQUESTS, FAILURES, ROWS)]),
        _graph(f"{name}: cold starts", [metrics.cold_start("Maximum")]),
        _graph(f"{name}: concurrency", [metrics.concurrency, metrics.throttles]),
        _graph(f"{name}: cost per hour", [metrics.cost(Duration.hours(1))]),
    ]


def _graph(title: str, metrics: list[IMetric]) -> GraphWidget:
    return GraphWidget(title=title, left=metrics, width=8)

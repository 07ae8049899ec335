"""Writes dashboards/inferry.json for Grafana: `python -m deploy.monitoring.dashboard`."""

import json
from pathlib import Path
from typing import Any, NamedTuple

PAGE = Path(__file__).parent / "dashboards" / "inferry.json"
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
WIDTH, HEIGHT = 8, 7

# What the variables of the dashboard choose: of metrics with a model, and of those without.
_M = 'job=~"$job",model=~"$model"'
_J = 'job=~"$job"'
_OVER = "[$__rate_interval]"
_SECONDS = "($__rate_interval_ms / 1000)"


class Panel(NamedTuple):
    """A chart: its queries by their legend, and Grafana's name of the unit."""

    title: str
    unit: str
    queries: dict[str, str]


def _increase(metric: str, by: str, more: str = _M) -> str:
    return f"sum by ({by}) (increase({metric}{{{more}}}{_OVER}))"


def _rate(metric: str, by: str, more: str = _M) -> str:
    # Not rate(), which VictoriaMetrics divides by the time between samples: rules/recording.yml has more.
    return f"{_increase(metric, by, more)} / {_SECONDS}"


def _ratio(part: str, whole: str, by: str, more: str = _M) -> str:
    return f"{_increase(part, by, more)} / {_increase(whole, by, more)}"


def _quantile(quantile: float) -> str:
    return f"histogram_quantile({quantile}, {_increase('inferry_request_duration_seconds_bucket', 'le')})"


ROWS: dict[str, tuple[Panel, ...]] = {
    "Requests": (
        Panel("Requests", "reqps", {"{{model}}": _rate("inferry_requests_total", "model")}),
        Panel("Failures by reason", "reqps", {"{{reason}}": _rate("inferry_request_failures_total", "reason")}),
        Panel(
            "Failures that callers are not to blame for",
            "percentunit",
            {"{{model}}": f"job_model:inferry_server_failures:ratio5m{{{_M}}}"},
        ),
        Panel("Duration", "s", {"p50": _quantile(0.5), "p95": _quantile(0.95), "p99": _quantile(0.99)}),
        Panel(
            "Duration by phase, average",
            "s",
            {
                "{{phase}}": f"{_increase('inferry_request_phase_seconds_total', 'phase')} "
                "/ ignoring (phase) group_left "
                f"sum(increase(inferry_request_duration_seconds_count{{{_M}}}{_OVER}))"
            },
        ),
        Panel(
            "Error budget: times the rate that 99.9 % allows",
            "short",
            {
                "an hour, {{model}}": f"job_model:inferry_server_failures:ratio1h{{{_M}}} / 0.001",
                "six hours, {{model}}": f"job_model:inferry_server_failures:ratio6h{{{_M}}} / 0.001",
            },
        ),
    ),
    "Load": (
        Panel(
            "HTTP requests by status",
            "reqps",
            {"{{status}}": _rate("inferry_http_requests_total", "status", _J)},
        ),
        Panel(
            "Memory of scraped processes", "bytes", {"{{job}}": f"sum by (job) (process_resident_memory_bytes{{{_J}}})"}
        ),
        Panel("CPU of scraped processes, cores", "short", {"{{job}}": _rate("process_cpu_seconds_total", "job", _J)}),
        Panel(
            "Requests in flight and queued",
            "short",
            {
                "in flight": f"sum(inferry_requests_in_flight{{{_M}}})",
                "queued": f"sum(inferry_requests_queued{{{_M}}})",
            },
        ),
        Panel("Rows", "rowsps", {"{{model}}": _rate("inferry_rows_total", "model")}),
        Panel(
            "Rows of a run, average",
            "short",
            {"{{model}}": _ratio("inferry_batch_size_sum", "inferry_batch_size_count", "model")},
        ),
        Panel(
            "Bytes",
            "Bps",
            {
                "in": f"sum(increase(inferry_request_bytes_total{{{_M}}}{_OVER})) / {_SECONDS}",
                "out": f"sum(increase(inferry_response_bytes_total{{{_M}}}{_OVER})) / {_SECONDS}",
            },
        ),
        Panel(
            "Time lost to requests that failed",
            "s",
            {"{{model}}": _rate("inferry_request_failure_seconds_total", "model")},
        ),
    ),
    "Models": (
        Panel("Size of loaded models", "bytes", {"{{model}}": f"sum by (model) (inferry_model_loaded_bytes{{{_M}}})"}),
        Panel(
            "Loads, since the processes that run began",
            "short",
            {"{{model}}, {{outcome}}": f"sum by (model, outcome) (inferry_model_loads_total{{{_M}}})"},
        ),
        Panel(
            "Time of these loads, average",
            "s",
            {
                "{{model}}": f"sum by (model) (inferry_model_load_seconds_total{{{_M}}}) / sum by (model) "
                f'(inferry_model_loads_total{{{_M},outcome="success"}})'
            },
        ),
        Panel(
            "Requests that found their model loaded",
            "percentunit",
            {
                "{{job}}": f"{_increase('inferry_model_cache_hits_total', 'job', _J)} / "
                f"({_increase('inferry_model_cache_hits_total', 'job', _J)} + "
                f"{_increase('inferry_model_cache_misses_total', 'job', _J)})"
            },
        ),
        Panel("Evictions", "short", {"{{job}}": _rate("inferry_model_cache_evictions_total", "job", _J)}),
    ),
    "Functions and jobs": (
        Panel("Cold starts", "cps", {"{{job}}": _rate("inferry_cold_starts_total", "job", _J)}),
        Panel(
            "Time of a cold start, average",
            "s",
            {"{{job}}": _ratio("inferry_init_seconds_total", "inferry_cold_starts_total", "job", _J)},
        ),
        Panel(
            "Files of batch jobs",
            "short",
            {"{{model}}, {{outcome}}": f"sum by (model, outcome) (increase(inferry_job_files_total{{{_M}}}{_OVER}))"},
        ),
        Panel(
            "Rows of batch jobs",
            "rowsps",
            {
                "{{model}}": _rate("inferry_job_rows_total", "model"),
                "{{model}}, errors": _rate("inferry_job_row_errors_total", "model"),
            },
        ),
    ),
    "Metrics themselves": (
        Panel("Processes by version", "short", {"{{version}}": f"count by (version) (inferry_build_info{{{_J}}})"}),
        Panel(
            "Pushes",
            "cps",
            {
                "{{sink}}": _rate("inferry_metric_flushes_total", "sink", _J),
                "{{sink}}, failed": _rate("inferry_metric_flush_failures_total", "sink", _J),
            },
        ),
        Panel("Samples refused", "short", {"{{sink}}": _rate("inferry_metric_samples_dropped_total", "sink", _J)}),
    ),
}


def dashboard() -> dict[str, Any]:
    """The dashboard as Grafana imports it."""
    return {
        "title": "inferry",
        "uid": "inferry",
        "tags": ["inferry"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": _variables()},
        "panels": _panels(),
    }


def _variables() -> list[dict[str, Any]]:
    choices = {
        "job": "label_values(inferry_build_info, job)",
        "model": 'label_values(inferry_requests_total{job=~"$job"}, model)',
    }
    return [
        {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"},
        *(
            {
                "name": name,
                "label": name.capitalize(),
                "type": "query",
                "datasource": SOURCE,
                "query": {"query": query, "refId": name},
                "refresh": 2,
                "multi": True,
                "includeAll": True,
                "allValue": ".*",
                "current": {"text": "All", "value": "$__all"},
            }
            for name, query in choices.items()
        ),
    ]


def _panels() -> list[dict[str, Any]]:
    panels: list[dict[str, Any]] = []
    y = 0
    for title, row in ROWS.items():
        panels.append({"type": "row", "title": title, "gridPos": {"x": 0, "y": y, "w": 24, "h": 1}})
        y += 1
        for place, panel in enumerate(row):
            x, down = place % 3 * WIDTH, place // 3 * HEIGHT
            panels.append(_chart(panel) | {"gridPos": {"x": x, "y": y + down, "w": WIDTH, "h": HEIGHT}})
        y += -(-len(row) // 3) * HEIGHT
    return [panel | {"id": number} for number, panel in enumerate(panels, 1)]


def _chart(panel: Panel) -> dict[str, Any]:
    return {
        "type": "timeseries",
        "title": panel.title,
        "datasource": SOURCE,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": [
            {"refId": letter, "datasource": SOURCE, "legendFormat": legend, "expr": expression}
            for letter, (legend, expression) in zip("ABC", panel.queries.items(), strict=False)
        ],
    }


def text() -> str:
    return json.dumps(dashboard(), indent=2) + "\n"


if __name__ == "__main__":
    PAGE.write_text(text(), encoding="utf-8")

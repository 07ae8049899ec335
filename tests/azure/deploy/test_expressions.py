"""The configuration's own values, as Terraform evaluates them."""

from typing import Any

import pytest
from configuration import given, values
from evaluation import evaluated
from inferry.settings import Settings

from azure_app import names

BLOBS = "Microsoft.Storage/storageAccounts/blobServices/containers/blobs"
IMAGE = {"container_image": "inferry:1"}
WANTED = {
    "settings": "local.settings",
    "assignments": "local.assignments",
    "alerts": "local.metric_alerts",
    "tags": "local.tags",
    "short": "local.short",
}


@pytest.fixture(scope="module")
def prod(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return evaluated(tmp_path_factory.mktemp("prod"), given("prod") | IMAGE, WANTED)


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return evaluated(tmp_path_factory.mktemp("dev"), given("dev"), WANTED)


def test_app_settings(prod: dict[str, Any]) -> None:
    address = (
        "https://metrics.ingest/dataCollectionRules/dcr-1/streams/Microsoft-PrometheusMetrics/api/v1/write"
        "?api-version=2023-04-24"
    )
    assert prod["settings"] == given("prod")["app_settings"] | {
        "AZURE_STORAGE_ACCOUNT_NAME": "storage_account-data",
        "REMOTE_WRITE_URL": address,
        "STORAGE__blobServiceUri": "https://storage_account-data.blob",
        "STORAGE__queueServiceUri": "https://storage_account-data.queue",
        "STORAGE__credential": "managedidentity",
        "AzureWebJobsStorage__accountName": "storage_account-host",
        "AzureWebJobsStorage__credential": "managedidentity",
        "APPLICATIONINSIGHTS_AUTHENTICATION_STRING": "Authorization=AAD",
        "ORT_DISABLE_TELEMETRY": "1",
    }
    assert Settings.from_env(prod["settings"]).remote_write_url == address


def test_both_hosts_get_the_same_roles(prod: dict[str, Any], dev: dict[str, Any]) -> None:
    by_host: dict[str, dict[str, Any]] = {}
    for name, assignment in prod["assignments"].items():
        host, _, grant = name.partition(": ")
        by_host.setdefault(host, {})[grant] = assignment
    assert {host: {grant["principal"] for grant in grants.values()} for host, grants in by_host.items()} == {
        "function": {"principal of function_app_flex_consumption-main"},
        "container": {"principal of container_app-main"},
    }
    without = {
        host: {name: (grant["scope"], grant["role"]) for name, grant in grants.items()}
        for host, grants in by_host.items()
    }
    assert without["function"] == without["container"]
    assert without["function"]["take jobs"] == ("/storage_queue-jobs", "Storage Queue Data Message Processor")
    assert without["function"].keys() == values()["grants"].keys()
    assert {name: grant["condition"] for name, grant in by_host["function"].items() if "condition" in grant} == {
        "write requests": f"@Resource[{BLOBS}:path] StringLike 'requests/*'"
    }
    assert {name.split(":")[0] for name in dev["assignments"]} == {"function"}


def test_outputs(prod: dict[str, Any], dev: dict[str, Any]) -> None:
    assert prod["url"] == "https://app.azurewebsites.net"
    assert prod["container_url"] == "https://app.containers"
    assert "container_url" not in dev  # null
    assert prod["jobs_queue"] == f"https://storage_account-data.queue/{names.JOBS_QUEUE}"
    assert prod["curl"] == (
        'curl https://app.azurewebsites.net/v2/models -H "x-functions-key: $(az functionapp keys list '
        "--resource-group resource_group-main --name function_app_flex_consumption-main "
        '--query functionKeys.default --output tsv)"'
    )


def test_names_and_tags(prod: dict[str, Any], dev: dict[str, Any]) -> None:
    assert (prod["short"], dev["short"]) == ("inferryprod", "inferrydev")
    assert dev["tags"] == {"Environment": "dev", "Project": "inferry", "ManagedBy": "Terraform"}


def test_alerts_over_azures_own_numbers(prod: dict[str, Any]) -> None:
    assert {name: (alert["metric"], alert["scope"]) for name, alert in prod["alerts"].items()} == {
        "failures": ("requests/failed", "/application_insights-main"),
        "latency": ("requests/duration", "/application_insights-main"),
        "backlog": ("QueueMessageCount", "/storage_account-data/queueServices/default"),
        "undelivered": ("DeadLetteredCount", "/eventgrid_system_topic-data"),
    }

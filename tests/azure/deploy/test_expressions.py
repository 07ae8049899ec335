"""The configuration's own values, as Terraform evaluates them."""

import json
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any

import pytest
from configuration import given, resources, values
from evaluation import evaluated
from inferry.settings import Settings

from azure_app import names

BLOBS = "Microsoft.Storage/storageAccounts/blobServices/containers/blobs"
IMAGE = {"container_image": "inferry:1"}


def expression(value: Any) -> str:
    """What python-hcl2 read, as an expression of Terraform."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{json.dumps(name)} = {expression(item)}' for name, item in value.items())}}}"
    return f'"{value}"' if "${" in str(value) else json.dumps(value)


BUDGET = resources()["azurerm_consumption_budget_resource_group.main"]
START = expression(BUDGET["time_period"][0]["start_date"])
WANTED = {
    "settings": "local.settings",
    "assignments": "local.assignments",
    "alerts": "local.metric_alerts",
    "tags": "local.tags",
    "short": "local.short",
    "function_settings": "local.function_settings",
    "body": expression(resources()["azapi_resource.function"]["body"]),
    "uploads": expression(resources()["azurerm_role_assignment.uploader"]["for_each"]),
    "month": START.replace("plantimestamp()", '"2027-01-31T23:59:59Z"'),
    "this_month": START,
    "group": "local.group.name",
    "private_endpoints": "local.private_endpoints",
    "network_rules": expression(resources()["azurerm_storage_account.main"]["network_rules"][0]),
    "zones": "{ for name, endpoint in local.private_endpoints : name => "
    "[for part, zone in var.private_dns_zones : zone if part == endpoint.part] }",
    "events": expression(resources()["azurerm_role_assignment.events"]["for_each"]),
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
        "function": {"principal of resource-function"},
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
        "--resource-group resource_group-main --name resource-function "
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


def test_the_function_app(prod: dict[str, Any], dev: dict[str, Any]) -> None:
    """The names are those of Microsoft.Web/sites@2024-04-01, which the provider can't check here."""
    settings = prod["function_settings"]
    assert prod["body"] == {
        "kind": "functionapp,linux",
        "properties": {
            "serverFarmId": "/service_plan-main",
            "httpsOnly": True,
            "clientCertEnabled": False,
            "publicNetworkAccess": "Enabled",
            "functionAppConfig": {
                "deployment": {
                    "storage": {
                        "type": "blobContainer",
                        "value": "https://storage_account-host.blob/storage_container-packages",
                        "authentication": {"type": "SystemAssignedIdentity"},
                    }
                },
                "runtime": {"name": "python", "version": "3.12"},
                "scaleAndConcurrency": {
                    "maximumInstanceCount": 100,
                    "instanceMemoryMB": 4096,
                    "alwaysReady": [{"name": "http", "instanceCount": 2}],
                    "triggers": {"http": {"perInstanceConcurrency": 16}},
                },
            },
            "siteConfig": {
                "minTlsVersion": "1.2",
                "scmMinTlsVersion": "1.2",
                "http20Enabled": True,
                "appSettings": [{"name": name, "value": settings[name]} for name in sorted(settings)],
                "ipSecurityRestrictionsDefaultAction": "Allow",
                "scmIpSecurityRestrictionsUseMain": True,
                "ipSecurityRestrictions": [],
            },
        },
    }
    assert dev["body"]["properties"]["functionAppConfig"]["scaleAndConcurrency"]["alwaysReady"] == []


NETWORK = "/subscriptions/s/resourceGroups/hub/providers/Microsoft.Network/virtualNetworks/spoke/subnets"
ZONES = "/subscriptions/s/resourceGroups/hub/providers/Microsoft.Network/privateDnsZones"
PRIVATE = {
    "resource_group": "ml",
    "subnet": f"{NETWORK}/app",
    "private_endpoint_subnet": f"{NETWORK}/endpoints",
    "private_dns_zones": {"blob": f"{ZONES}/blob", "sites": f"{ZONES}/sites"},
}


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return evaluated(tmp_path_factory.mktemp("private"), given("dev") | PRIVATE, WANTED)


@pytest.fixture(scope="module")
def allowing(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Private, but for where deployments come from."""
    allowed = {"allowed_addresses": ["203.0.113.7", "198.51.100.0/24"]}
    return evaluated(tmp_path_factory.mktemp("allowing"), given("dev") | PRIVATE | allowed, WANTED)


def test_a_resource_group_that_there_is_already(dev: dict[str, Any], private: dict[str, Any]) -> None:
    assert (dev["group"], private["group"]) == ("resource_group-main", "resource_group-existing")
    assert private["resource_group"] == "resource_group-existing"


def test_private_endpoints(dev: dict[str, Any], private: dict[str, Any]) -> None:
    """One for each service that the app or its callers use, registered where a zone is named."""
    host, data = "/storage_account-host", "/storage_account-data"
    assert private["private_endpoints"] == {
        "app": {"resource": "/resource-function", "part": "sites"},
        "host-blob": {"resource": host, "part": "blob"},
        "host-queue": {"resource": host, "part": "queue"},
        "host-table": {"resource": host, "part": "table"},
        "data-blob": {"resource": data, "part": "blob"},
        "data-queue": {"resource": data, "part": "queue"},
    }
    assert private["zones"] == {
        "app": [f"{ZONES}/sites"],
        "host-blob": [f"{ZONES}/blob"],
        "host-queue": [],
        "host-table": [],
        "data-blob": [f"{ZONES}/blob"],
        "data-queue": [],
    }
    assert dev["private_endpoints"] == {}


def test_the_app_in_a_network(dev: dict[str, Any], private: dict[str, Any], allowing: dict[str, Any]) -> None:
    """It sends by its subnet, and is reached by its private endpoint and from allowed addresses."""
    assert "virtualNetworkSubnetId" not in dev["body"]["properties"]
    site = private["body"]["properties"]
    assert (site["virtualNetworkSubnetId"], site["publicNetworkAccess"]) == (f"{NETWORK}/app", "Disabled")
    site = allowing["body"]["properties"]
    assert site["publicNetworkAccess"] == "Enabled"
    assert site["siteConfig"]["ipSecurityRestrictionsDefaultAction"] == "Deny"
    assert site["siteConfig"]["scmIpSecurityRestrictionsUseMain"] is True
    assert site["siteConfig"]["ipSecurityRestrictions"] == [
        {"name": "203.0.113.7", "ipAddress": "203.0.113.7/32", "action": "Allow", "priority": 100},
        {"name": "198.51.100.0/24", "ipAddress": "198.51.100.0/24", "action": "Allow", "priority": 100},
    ]


def test_the_firewall_of_storage(dev: dict[str, Any], private: dict[str, Any], allowing: dict[str, Any]) -> None:
    """Event Grid, a trusted service, is let in; nobody else but by private endpoints and from allowed addresses."""
    services = ["AzureServices"]
    assert dev["network_rules"] == {"default_action": "Allow", "bypass": services, "ip_rules": []}
    assert private["network_rules"] == {"default_action": "Deny", "bypass": services, "ip_rules": []}
    assert allowing["network_rules"]["ip_rules"] == ["203.0.113.7", "198.51.100.0/24"]


def test_the_host_s_storage_is_opened_by_its_identity_alone(prod: dict[str, Any]) -> None:
    """AzureWebJobsStorage is a connection string, even when it is empty: it must not be there."""
    expected = {
        "AzureWebJobsStorage__accountName": "storage_account-host",
        "AzureWebJobsStorage__credential": "managedidentity",
    }
    assert {n: v for n, v in prod["function_settings"].items() if n.startswith("AzureWebJobsStorage")} == expected
    more = prod["function_settings"].keys() - prod["settings"].keys()
    assert {name: prod["function_settings"][name] for name in more} == {
        "AUTH_LEVEL": "function",
        "APPLICATIONINSIGHTS_CONNECTION_STRING": "connection of application_insights-main",
    }


def test_a_budget_begins_with_the_month_of_its_first_apply(prod: dict[str, Any]) -> None:
    """Azure takes no start before the current month, and no other day than its first."""
    before = datetime.now(UTC)
    assert prod["month"] == "2027-01-01T00:00:00Z"
    found = datetime.fromisoformat(prod["this_month"])
    assert (found.day, found.time(), found.utcoffset()) == (1, time(), timedelta(0))
    assert before - timedelta(days=32) < found <= before
    # Another month's start would be another budget.
    assert BUDGET["lifecycle"] == [{"ignore_changes": ["time_period"]}]


def test_who_may_upload(prod: dict[str, Any], tmp_path: Path) -> None:
    """Models and files, and nothing else."""
    who = "object of client_config-current"
    assert prod["uploads"] == {f"{who} {part}": {"principal": who, "part": part} for part in ("models", "input")}
    named = evaluated(tmp_path, given("prod") | {"uploaders": ["a", "b"]}, {"uploads": WANTED["uploads"]})["uploads"]
    assert {name: upload["part"] for name, upload in named.items()} == {
        f"{who} {part}": part for who in ("a", "b") for part in ("models", "input")
    }


def test_what_event_grid_may_do(prod: dict[str, Any]) -> None:
    assert prod["events"] == {
        "send jobs": {"scope": "/storage_queue-jobs", "role": "Storage Queue Data Message Sender"},
        "give up": {"scope": "/storage_container-undelivered", "role": "Storage Blob Data Contributor"},
    }

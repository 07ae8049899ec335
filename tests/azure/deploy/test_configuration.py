"""What the Terraform configuration says of Azure, read from its HCL: the provider can't be had without a registry."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from configuration import (
    ENVIRONMENTS,
    ROOT,
    attributes,
    blocks,
    generator,
    given,
    named,
    references,
    resources,
    sources,
    values,
)
from inferry.jobs.deferred import REQUESTS
from inferry.observability.sinks.sink import open_sinks
from inferry.settings import Settings

from azure_app import names

# Resources that Azure gives no tags.
UNTAGGED = {
    "azurerm_storage_container",
    "azurerm_storage_queue",
    "azurerm_storage_management_policy",
    "azurerm_monitor_diagnostic_setting",
    "azurerm_role_assignment",
    "azurerm_eventgrid_system_topic_event_subscription",
    "azurerm_consumption_budget_resource_group",
    "azapi_update_resource",
    "random_string",
}
# Variables of the platform; whatever else the configuration sets for the app is one of its own settings.
PLATFORM = (
    "AzureWebJobs",
    "AZURE_STORAGE_ACCOUNT_NAME",
    "APPLICATIONINSIGHTS_",
    "ORT_",
    "${var.triggers.connection}__",
)


def test_versions() -> None:
    (terraform,) = blocks("terraform")
    assert terraform == {
        "required_version": ">= 1.9",
        "required_providers": [
            {
                "azapi": {"source": "Azure/azapi", "version": "~> 2.4"},
                "azurerm": {"source": "hashicorp/azurerm", "version": "~> 4.81"},
                "random": {"source": "hashicorp/random", "version": "~> 3.6"},
            }
        ],
        "backend": [{"azurerm": {}}],
    }


def test_every_name_is_declared_and_used() -> None:
    declared = {f"var.{name}" for name in named("variable")} | {f"local.{name}" for name in values()}
    found = resources().keys() | {f"data.{address}" for address in resources("data")}
    used = {reference for text in sources().values() for reference in references(text)}
    assert used - found == declared
    assert used <= declared | found


def test_tags() -> None:
    tagged = {address: body.get("tags") for address, body in resources().items()}
    assert {address: tags for address, tags in tagged.items() if address.split(".")[0] not in UNTAGGED} == {
        address: "${local.tags}" for address in tagged if address.split(".")[0] not in UNTAGGED
    }
    assert values()["tags"] == {
        "Environment": "${var.environment}",
        "Project": "${var.project}",
        "ManagedBy": "Terraform",
    }


def test_resource_group() -> None:
    assert values()["name"] == "${var.project}-${var.environment}"
    assert resources()["azurerm_resource_group.main"]["name"] == "${local.name}-rg"
    assert resources("data")["azurerm_resource_group.existing"]["name"] == "${var.resource_group}"
    # Whatever is made is in the one or the other.
    uses = re.findall(r"azurerm_resource_group\.\w+", "\n".join(sources().values()))
    assert uses == ["azurerm_resource_group.main", "azurerm_resource_group.existing"]


def test_generated_files_are_current() -> None:
    for path, text in generator()["files"]().items():
        assert path.read_text() == text, "run python -m deploy.terraform.azure.generate"


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_settings_are_read_back(environment: str) -> None:
    """What Terraform gives the app, the app reads as the settings that were meant."""
    assert Settings.from_env(given(environment)["app_settings"]) == generator()["ENVIRONMENTS"][environment]
    assert Settings.from_env(given(environment)["app_settings"]).environment == environment


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_metrics_have_a_way(environment: str) -> None:
    """With the address that Terraform adds and the identity that Azure adds, the sink opens."""
    address = "https://endpoint.metrics.ingest.monitor.azure.com/dataCollectionRules/dcr/streams/x/api/v1/write"
    settings = Settings.from_env({**given(environment)["app_settings"], "REMOTE_WRITE_URL": address})
    identity = {"IDENTITY_ENDPOINT": "http://127.0.0.1:1/token", "IDENTITY_HEADER": "secret"}
    assert list(open_sinks(settings, identity)) == ["azure_monitor"]


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_variables(environment: str) -> None:
    """An environment gives every variable that has no default, and none that there is not."""
    variables = named("variable")
    assert {name for name, body in variables.items() if "default" not in body} <= given(environment).keys()
    assert given(environment).keys() <= variables.keys()
    assert given(environment)["environment"] == environment


def test_environments_differ_by_their_values_only() -> None:
    """No expression asks which environment it is in: names and the tag are all that is made of it."""
    uses = [line.strip() for text in sources().values() for line in text.splitlines() if "var.environment" in line]
    assert [re.sub(r" +", " ", line) for line in uses if not line.startswith(("condition", "error_message"))] == [
        'name = "${var.project}-${var.environment}"',
        'short = substr("${var.project}${var.environment}", 0, 14)',
        "Environment = var.environment",
    ]
    assert not re.search("terraform.workspace", "\n".join(sources().values()))


def test_settings_that_only_azure_knows() -> None:
    """A variable that Terraform adds is the platform's or a field of Settings: a name that is misspelt is neither."""
    fields = {name.upper() for name in Settings.__dataclass_fields__}
    added = [name for name in added_settings() if not name.startswith(PLATFORM)]
    assert set(added) <= fields


def added_settings() -> Iterator[str]:
    for line in sources()["function.tf"].partition("merge(var.app_settings, {")[2].partition("})")[0].splitlines():
        name, equals, _ = line.partition(" = ")
        if equals and not name.strip().startswith("#"):
            yield name.strip().strip('"')


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_names_are_the_apps(environment: str) -> None:
    variables = given(environment)
    assert sorted(variables["containers"].values()) == sorted(names.CONTAINERS)
    assert variables["queues"] == {"jobs": names.JOBS_QUEUE, "jobs_poison": names.POISON_QUEUE}
    assert variables["triggers"] == {"connection": names.CONNECTION}


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_requests_that_are_answered_later_are_where_the_app_may_write(environment: str) -> None:
    """The folder that the role names is the one that the app makes: below the container itself."""
    variables = given(environment)
    assert variables["app_settings"]["BATCH_INPUT"] == f"az://{variables['containers']['input']}"
    assert variables["requests"] == REQUESTS


def test_names_are_written_once() -> None:
    code = "\n".join(sources().values())
    for name in (names.JOBS_QUEUE, names.POISON_QUEUE, f"{names.CONNECTION}__"):
        assert name not in code


SECURE: dict[str, dict[str, Any]] = {
    "azurerm_storage_account.main": {
        "shared_access_key_enabled": False,
        "allow_nested_items_to_be_public": False,
        "local_user_enabled": False,
        "https_traffic_only_enabled": True,
        "min_tls_version": "TLS1_2",
    },
    "azurerm_container_registry.main": {"admin_enabled": False, "anonymous_pull_enabled": False},
    "azapi_resource.function": {"identity": [{"type": "SystemAssigned"}]},
    "azapi_update_resource.publishing": {
        "for_each": '${toset(["ftp", "scm"])}',
        "type": "Microsoft.Web/sites/basicPublishingCredentialsPolicies@2024-04-01",
        "name": "${each.value}",
        "parent_id": "${azapi_resource.function.id}",
        "body": {"properties": {"allow": False}},
    },
    "azurerm_application_insights.main": {"local_authentication_enabled": False},
}


@pytest.mark.parametrize("address", SECURE)
def test_secure_by_default(address: str) -> None:
    body = resources()[address]
    assert {name: body.get(name) for name in SECURE[address]} == SECURE[address]


def test_private_endpoints_need_nobodys_consent() -> None:
    """Their connections are of the same configuration; what each is for is in test_expressions."""
    endpoint = resources()["azurerm_private_endpoint.main"]
    assert endpoint["private_service_connection"] == [
        {
            "name": "${each.key}",
            "private_connection_resource_id": "${each.value.resource}",
            "subresource_names": ["${each.value.part}"],
            "is_manual_connection": False,
        }
    ]
    assert endpoint["subnet_id"] == "${var.private_endpoint_subnet}"


def test_storage_is_made_through_its_firewall() -> None:
    """By Resource Manager alone: containers and queues by their account's ID, nothing by its data plane."""
    features = blocks("provider")[0]["azurerm"]["features"][0]
    assert features["storage"] == [{"data_plane_available": False}]
    made = [body for address, body in resources().items() if re.match("azurerm_storage_(container|queue)", address)]
    assert all("storage_account_id" in body for body in made)


def test_without_keys_only_behind_entra() -> None:
    """The app asks for no keys where the platform asks for a token, and nowhere else."""
    settings = re.findall(r"AUTH_LEVEL += (.*)", "\n".join(sources().values()))
    assert settings == [
        '"function" # nothing is in front of it',
        'var.entra_client_id == "" ? "function" : "anonymous"',
    ]
    entra = resources()["azapi_update_resource.entra"]
    assert entra["count"] == '${var.entra_client_id == "" ? 0 : 1}'
    properties = entra["body"]["properties"]
    assert properties["platform"] == {"enabled": True}
    assert properties["globalValidation"] == {
        "requireAuthentication": True,
        "unauthenticatedClientAction": "Return401",
        "redirectToProvider": "azureactivedirectory",
        "excludedPaths": ["/health", "/v2/health/live", "/v2/health/ready"],
    }


def test_instances_wait_where_the_variable_says_so() -> None:
    assert {environment: given(environment).get("always_ready", 0) for environment in ENVIRONMENTS} == {
        "dev": 0,
        "staging": 0,
        "prod": 2,
    }


def test_container_app() -> None:
    """It is there where a variable names an image, and asked and probed at the port that the image opens."""
    app = resources()["azurerm_container_app.main"]
    assert (app["count"], values()["containers"]) == ("${local.containers}", '${var.container_image == "" ? 0 : 1}')
    assert f"EXPOSE {values()['port']}\n" in (ROOT / "azure_app" / "Dockerfile").read_text()
    (container,) = app["template"][0]["container"]
    probes = [container[f"{kind}_probe"][0] for kind in ("startup", "readiness", "liveness")]
    assert [app["ingress"][0]["target_port"], *(probe["port"] for probe in probes)] == ["${local.port}"] * 4
    assert [probe["path"] for probe in probes] == ["/v2/health/live", "/v2/health/ready", "/v2/health/live"]


def test_metrics_go_to_the_workspace() -> None:
    rule = resources()["azurerm_monitor_data_collection_rule.main"]
    stream, place = "Microsoft-PrometheusMetrics", "metrics"
    assert rule["destinations"][0]["monitor_account"] == [
        {"name": place, "monitor_account_id": "${azurerm_monitor_workspace.main.id}"}
    ]
    assert rule["data_flow"] == [{"streams": [stream], "destinations": [place]}]
    assert f"/streams/{stream}/" in str(values()["remote_write_url"])


def test_http_concurrency_is_not_pythons_default() -> None:
    """An instance that answers one request at a time batches nothing."""
    assert named("variable")["http_concurrency"]["default"] > 1


def test_roles() -> None:
    """Every role is one that works on data, and on no more than one container, queue or rule; the host's account is
    its own."""
    grants = values()["grants"]
    assert {grant["role"] for grant in grants.values() if grant["scope"] == "${local.host}"} == {
        "Storage Blob Data Owner",
        "Storage Queue Data Contributor",
        "Storage Table Data Contributor",
    }
    narrow = {name: grant for name, grant in grants.items() if grant["scope"] != "${local.host}"}
    assert {name: (grant["role"], scope(grant)) for name, grant in narrow.items()} == {
        "read models": ("Storage Blob Data Reader", "models"),
        "read input": ("Storage Blob Data Reader", "input"),
        "write requests": ("Storage Blob Data Contributor", "input"),
        "write output": ("Storage Blob Data Contributor", "output"),
        "see jobs": ("Storage Queue Data Reader", "jobs"),
        "take jobs": ("Storage Queue Data Message Processor", "jobs"),
        "send jobs": ("Storage Queue Data Message Sender", "jobs"),
        "give up jobs": ("Storage Queue Data Message Sender", "jobs_poison"),
        "send metrics": ("Monitoring Metrics Publisher", "${azurerm_monitor_data_collection_rule.main.id}"),
        "send logs": ("Monitoring Metrics Publisher", "${azurerm_application_insights.main.id}"),
    }


def test_the_app_writes_nothing_into_the_input_but_requests() -> None:
    """What Terraform makes of the condition is in test_expressions."""
    grants = values()["grants"]
    assert [name for name, grant in grants.items() if "condition" in grant] == ["write requests"]
    assignment = resources()["azurerm_role_assignment.app"]
    assert {name: assignment[name] for name in ("condition", "condition_version")} == {
        "condition": "${try(each.value.condition, null)}",
        "condition_version": '${can(each.value.condition) ? "2.0" : null}',
    }


def scope(grant: dict[str, Any]) -> str:
    """The part of the data account, or the resource."""
    return grant["scope"].split('"')[1] if '"' in grant["scope"] else grant["scope"]


def test_no_secret_is_an_output() -> None:
    """The curl line asks for the key when it is run."""
    outputs = named("output")
    assert all("host_keys" not in output["value"] and "key(" not in output["value"] for output in outputs.values())
    assert "$(az functionapp keys list" in outputs["curl"]["value"]
    code = "\n".join(sources().values())
    assert not [word for word in ("access_key.", "primary_connection_string", "admin_password") if word in code]


def test_no_key_of_the_app_is_asked_for() -> None:
    """What Terraform reads is in its state: of the app's keys it reads none, and no data source brings them."""
    assert resources("data").keys() == {"azurerm_client_config.current", "azurerm_resource_group.existing"}
    assert not re.findall(r"host_keys|listkeys|list_keys|webhook_endpoint|code=", "\n".join(sources().values()))


def test_files_that_arrive_become_messages() -> None:
    """Without a key, with nothing of the app to be there before, and for as long as it takes."""
    subscription = resources()["azurerm_eventgrid_system_topic_event_subscription.input"]
    assert "count" not in subscription
    assert subscription["storage_queue_endpoint"] == [
        {
            "storage_account_id": "${local.data.id}",
            "queue_name": '${azurerm_storage_queue.main["jobs"].name}',
            "queue_message_time_to_live_in_seconds": -1,
        }
    ]
    assert subscription["delivery_identity"] == [{"type": "SystemAssigned"}]
    assert subscription["depends_on"] == ["${azurerm_role_assignment.events}"]
    assert subscription["subject_filter"] == [
        {"subject_begins_with": "/blobServices/default/containers/${var.containers.input}/"}
    ]


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_state_is_apart(environment: str) -> None:
    """Each environment has a state of its own, opened with a token."""
    assert attributes(f"environments/{environment}.backend.hcl") == {
        "resource_group_name": "inferry-state-rg",
        "storage_account_name": f"inferrystate{environment}",
        "container_name": "tfstate",
        "key": f"azure/{environment}.tfstate",
        "use_azuread_auth": True,
    }


def variables_table() -> str:
    """The rows of the page's table."""
    rows = ((f"`{name}`", default(body), body["description"]) for name, body in named("variable").items())
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def default(variable: dict[str, Any]) -> str:
    value = variable.get("default", "none")
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return "empty" if value in ("", [], {}) else "none" if value == "none" else f"`{text}`"


def test_page_lists_the_variables() -> None:
    assert variables_table() in (ROOT / "docs" / "deploy-azure.md").read_text()

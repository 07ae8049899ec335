"""`make check-prereqs CLOUD=azure`, with programs that print what az and func print: neither can be had here."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from configuration import ROOT, blocks, resources

from deploy.prereqs import azure
from deploy.prereqs.azure import PROVIDERS, TERRAFORM

ID, OTHER = "00000000-1111-2222-3333-444444444444", "99999999-1111-2222-3333-444444444444"
# As `az account show --output json` prints it, less what nobody reads.
ACCOUNT = {
    "environmentName": "AzureCloud",
    "id": ID,
    "isDefault": True,
    "name": "Pay-As-You-Go",
    "state": "Enabled",
    "tenantId": "55555555-6666-7777-8888-999999999999",
    "user": {"name": "ops@example.com", "type": "user"},
}
READY: dict[str, Any] = {
    "version": {"azure-cli": "2.79.0", "azure-cli-core": "2.79.0", "extensions": {}},
    "account show": ACCOUNT,
    "provider list": list(PROVIDERS),
    "role assignment": ["Owner", "Reader"],
}
# What Terraform's names of resources are in Azure Resource Manager.
NAMESPACES = {
    "application_insights": "Microsoft.Insights",
    "consumption": "Microsoft.Consumption",
    "container_app": "Microsoft.App",
    "container_registry": "Microsoft.ContainerRegistry",
    "eventgrid": "Microsoft.EventGrid",
    "log_analytics": "Microsoft.OperationalInsights",
    "monitor_alert_prometheus_rule_group": "Microsoft.AlertsManagement",
    "monitor_workspace": "Microsoft.Monitor",
    "monitor": "Microsoft.Insights",
    "private_endpoint": "Microsoft.Network",
    "role_assignment": "Microsoft.Authorization",
    "service_plan": "Microsoft.Web",
    "storage": "Microsoft.Storage",
    "user_assigned_identity": "Microsoft.ManagedIdentity",
}

Run = Callable[..., tuple[int, list[str]]]


def program(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """`run(answers, env)`: the exit status and the lines, where az answers so and fails to answer what is None."""

    def go(answers: Mapping[str, Any] | None, env: Mapping[str, str], func: str = "") -> tuple[int, list[str]]:
        program(tmp_path, "terraform", """echo '{"terraform_version": "1.11.4"}'""")
        if func:
            program(tmp_path, "func", f"echo {func}")
        if answers is not None:
            cases = [
                f'"{verb}"*) ' + (f"echo '{json.dumps(said)}'" if said is not None else "echo Refused >&2; exit 1")
                for verb, said in answers.items()
            ]
            program(tmp_path, "az", f'case "$*" in {";; ".join(cases)};; esac')
        command = [sys.executable, "-m", "deploy.prereqs", "azure"]
        given = {"PATH": f"{tmp_path}{os.pathsep}/usr/bin{os.pathsep}/bin", **env}
        done = subprocess.run(command, cwd=ROOT, env=given, capture_output=True, text=True, timeout=60)
        assert done.stderr == ""
        return done.returncode, done.stdout.splitlines()

    return go


def test_a_subscription_that_is_ready(run: Run) -> None:
    assert run(READY, {"ARM_SUBSCRIPTION_ID": ID}, func="4.2.1") == (
        0,
        [
            "ok       Terraform: 1.11.4",
            "ok       az: 2.79.0",
            f"ok       subscription: Pay-As-You-Go ({ID})",
            "ok       providers: all are registered",
            "ok       rights: Owner",
            "ok       func: 4.2.1",
        ],
    )


def test_without_func(run: Run) -> None:
    status, lines = run(READY, {"ARM_SUBSCRIPTION_ID": ID})
    assert (status, lines[-1]) == (0, "ok       func: not there, and not needed: az publishes the package")


def test_without_az(run: Run) -> None:
    assert run(None, {}) == (
        1,
        [
            "ok       Terraform: 1.11.4",
            "missing  az: there is no program az",
            "         -> install the Azure CLI: https://aka.ms/azure-cli",
        ],
    )


def test_nobody_is_logged_in(run: Run) -> None:
    status, lines = run({**READY, "account show": None}, {})
    assert (status, lines[2:]) == (1, ["missing  subscription: nobody is logged in", "         -> az login"])


SUBSCRIPTIONS: dict[str, tuple[dict[str, Any], dict[str, str], list[str]]] = {
    "no variable": (
        ACCOUNT,
        {},
        [
            f"missing  subscription: Pay-As-You-Go ({ID}), but Terraform needs it in a variable",
            f"         -> export ARM_SUBSCRIPTION_ID={ID}",
        ],
    ),
    "another one": (
        ACCOUNT,
        {"ARM_SUBSCRIPTION_ID": OTHER},
        [
            f"missing  subscription: az is in Pay-As-You-Go ({ID}), and ARM_SUBSCRIPTION_ID is {OTHER}",
            f"         -> az account set --subscription {OTHER}",
        ],
    ),
    "disabled": (
        {**ACCOUNT, "state": "Disabled"},
        {"ARM_SUBSCRIPTION_ID": ID},
        [
            f"missing  subscription: Pay-As-You-Go ({ID}) is Disabled",
            "         -> az account set --subscription ANOTHER",
        ],
    ),
}


@pytest.mark.parametrize("case", SUBSCRIPTIONS)
def test_subscriptions(run: Run, case: str) -> None:
    account, env, said = SUBSCRIPTIONS[case]
    status, lines = run({**READY, "account show": account}, env)
    assert (status, lines[2:4]) == (1, said)


def test_providers_that_are_not_registered(run: Run) -> None:
    some = [name for name in PROVIDERS if name not in ("Microsoft.EventGrid", "Microsoft.Web")]
    status, lines = run({**READY, "provider list": some}, {"ARM_SUBSCRIPTION_ID": ID})
    assert (status, lines[3:5]) == (
        1,
        [
            "missing  providers: not registered: Microsoft.EventGrid, Microsoft.Web",
            "         -> for name in Microsoft.EventGrid Microsoft.Web; "
            "do az provider register --wait --namespace $name; done",
        ],
    )


def test_what_is_not_to_be_seen(run: Run) -> None:
    """No reason to stop: Azure says so itself when it comes to it."""
    status, lines = run({**READY, "provider list": None, "role assignment": ["Reader"]}, {"ARM_SUBSCRIPTION_ID": ID})
    assert (status, lines[3:7]) == (
        0,
        [
            "note     providers: not known: Refused",
            "         -> az provider list says which are registered",
            "note     rights: whether ops@example.com may assign roles is not to be seen",
            "         -> have one of these assigned: Owner, Role Based Access Control Administrator, "
            "User Access Administrator",
        ],
    )


SUBNETS = "/subscriptions/s/resourceGroups/hub/providers/Microsoft.Network/virtualNetworks/spoke/subnets"
NAMED = {
    "resource_group": "ml",
    "subnet": f"{SUBNETS}/app",
    "private_endpoint_subnet": f"{SUBNETS}/endpoints",
}
DELEGATED: dict[str, Any] = {"delegations": [{"name": "apps", "serviceName": "Microsoft.App/environments"}]}
WEB: dict[str, Any] = {"delegations": [{"name": "apps", "serviceName": "Microsoft.Web/serverFarms"}]}
EMPTY: dict[str, Any] = {"delegations": []}
NETWORKS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "as it should be": (
        {"group exists": True, NAMED["subnet"]: DELEGATED, NAMED["private_endpoint_subnet"]: EMPTY},
        [f"ok {name}: {value}" for name, value in NAMED.items()],
    ),
    "nothing there": (
        {"group exists": False, NAMED["subnet"]: None, NAMED["private_endpoint_subnet"]: None},
        [f"missing {name}: {value} is not there" for name, value in NAMED.items()],
    ),
    "delegated to others": (
        {"group exists": True, NAMED["subnet"]: WEB, NAMED["private_endpoint_subnet"]: DELEGATED},
        [
            "ok resource_group: ml",
            "missing subnet: it is delegated to Microsoft.Web/serverFarms",
            "missing private_endpoint_subnet: it is delegated to Microsoft.App/environments",
        ],
    ),
    "delegated to nothing": (
        {"group exists": True, NAMED["subnet"]: EMPTY, NAMED["private_endpoint_subnet"]: EMPTY},
        [
            "ok resource_group: ml",
            "missing subnet: it is delegated to nothing",
            f"ok private_endpoint_subnet: {NAMED['private_endpoint_subnet']}",
        ],
    ),
}


@pytest.mark.parametrize("case", NETWORKS)
def test_what_an_environment_names(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    """Of the file of its values; what it doesn't name is not asked for."""
    answers, said = NETWORKS[case]
    monkeypatch.setattr(azure, "ENVIRONMENTS", tmp_path)
    (tmp_path / "test.tfvars").write_text("".join(f'{name:<24}= "{value}"\n' for name, value in NAMED.items()))
    (tmp_path / "other.tfvars").write_text('environment = "other"\n')
    asking = "network vnet subnet show --ids "
    given = {f"{asking}{name}" if name in NAMED.values() else name: answer for name, answer in answers.items()}
    run({**READY, **given}, {"ARM_SUBSCRIPTION_ID": ID})
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/usr/bin{os.pathsep}/bin")

    def found(environment: str) -> list[str]:
        asked = azure.findings(["--context", f"environment={environment}"], {"ARM_SUBSCRIPTION_ID": ID})
        return [f"{item.state} {item.name}: {item.said}" for item in asked if item.name in NAMED]

    assert found("test") == said
    assert found("other") == []


def test_the_providers_are_those_of_the_resources() -> None:
    kinds = {
        address.split(".")[0].removeprefix("azurerm_") for address in resources() if address.startswith("azurerm_")
    }
    kinds -= {"resource_group"}
    types = [body["type"] for address, body in resources().items() if address.startswith("azapi_")]
    starts = [next(start for start in NAMESPACES if kind.startswith(start)) for kind in kinds]
    assert {NAMESPACES[start] for start in starts} | {kind.split("/")[0] for kind in types} == set(PROVIDERS)


def test_the_version_of_terraform_is_the_configuration_s() -> None:
    (terraform,) = blocks("terraform")
    assert terraform["required_version"] == f">= {'.'.join(map(str, TERRAFORM))}"


def test_another_cloud() -> None:
    command = [sys.executable, "-m", "deploy.prereqs", "gcp"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (1, "CLOUD is aws or azure, got 'gcp'\n")

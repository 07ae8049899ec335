"""What a deployment to Azure needs: Terraform and az, a subscription, its providers, rights, and a way to publish."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from deploy.prereqs.findings import Finding, missing, note, ok
from deploy.prereqs.programs import ask

TERRAFORM = (1, 9)
# Of the resources in deploy/terraform/azure.
PROVIDERS = (
    "Microsoft.AlertsManagement",
    "Microsoft.App",
    "Microsoft.Authorization",
    "Microsoft.Consumption",
    "Microsoft.ContainerRegistry",
    "Microsoft.EventGrid",
    "Microsoft.Insights",
    "Microsoft.ManagedIdentity",
    "Microsoft.Monitor",
    "Microsoft.Network",
    "Microsoft.OperationalInsights",
    "Microsoft.Storage",
    "Microsoft.Web",
)
ASSIGNERS = {"Owner", "Role Based Access Control Administrator", "User Access Administrator"}


ENVIRONMENTS = Path(__file__).parents[1] / "terraform" / "azure" / "environments"
# What Flex Consumption's subnets are delegated to.
DELEGATED = "Microsoft.App/environments"


def findings(arguments: Sequence[str], env: Mapping[str, str]) -> Iterator[Finding]:
    """`arguments` name the environment: --context environment=dev."""
    yield _terraform()
    version = ask("az", "version", "--output", "json")
    if version.status is None:
        yield missing("az", "there is no program az", "install the Azure CLI: https://aka.ms/azure-cli")
        return
    yield ok("az", str(_read(version.output, {}).get("azure-cli", "?")))
    account = _read(ask("az", "account", "show", "--output", "json").output, {})
    if not account:
        yield missing("subscription", "nobody is logged in", "az login")
        return
    yield _subscription(account, env.get("ARM_SUBSCRIPTION_ID", ""))
    yield _providers()
    yield _rights(account)
    yield from _named(_values(arguments))
    yield _func()


def _terraform() -> Finding:
    needed = ".".join(map(str, TERRAFORM))
    said = ask("terraform", "version", "-json")
    version = str(_read(said.output, {}).get("terraform_version", ""))
    if version and tuple(map(int, re.findall(r"\d+", version)[:2])) >= TERRAFORM:
        return ok("Terraform", version)
    return missing("Terraform", version or "there is no program terraform", f"install Terraform {needed} or newer")


def _subscription(account: Mapping[str, Any], chosen: str) -> Finding:
    known = f"{account['name']} ({account['id']})"
    if account.get("state", "Enabled") != "Enabled":
        return missing("subscription", f"{known} is {account['state']}", "az account set --subscription ANOTHER")
    if not chosen:
        remedy = f"export ARM_SUBSCRIPTION_ID={account['id']}"
        return missing("subscription", f"{known}, but Terraform needs it in a variable", remedy)
    if chosen.lower() != account["id"].lower():
        said = f"az is in {known}, and ARM_SUBSCRIPTION_ID is {chosen}"
        return missing("subscription", said, f"az account set --subscription {chosen}")
    return ok("subscription", known)


def _providers() -> Finding:
    query = "[?registrationState=='Registered'].namespace"
    said = ask("az", "provider", "list", "--query", query, "--output", "json")
    if said.status != 0:
        return note("providers", f"not known: {said.error}", "az provider list says which are registered")
    registered = {name.lower() for name in _read(said.output, [])}
    if absent := [name for name in PROVIDERS if name.lower() not in registered]:
        remedy = f"for name in {' '.join(absent)}; do az provider register --wait --namespace $name; done"
        return missing("providers", f"not registered: {', '.join(absent)}", remedy)
    return ok("providers", "all are registered")


def _rights(account: Mapping[str, Any]) -> Finding:
    """Terraform gives the app its roles, which takes the right to."""
    user, scope = account.get("user", {}).get("name", ""), f"/subscriptions/{account['id']}"
    names = ("--assignee", user, "--scope", scope, "--include-inherited", "--include-groups")
    said = ask("az", "role", "assignment", "list", *names, "--query", "[].roleDefinitionName", "--output", "json")
    found = ASSIGNERS.intersection(_read(said.output, []))
    if found:
        return ok("rights", ", ".join(sorted(found)))
    remedy = f"have one of these assigned: {', '.join(sorted(ASSIGNERS))}"
    return note("rights", f"whether {user} may assign roles is not to be seen", remedy)


def _values(arguments: Sequence[str]) -> dict[str, str]:
    """The texts in the environment's file of values; those of the command line are Terraform's own business."""
    environment = "".join(re.findall(r"environment=(\w+)", " ".join(arguments))[:1])
    file = ENVIRONMENTS / f"{environment}.tfvars"
    text = file.read_text(encoding="utf-8") if file.exists() else ""
    return dict(re.findall(r'^(\w+) *= *"(.*)"$', text, re.MULTILINE))


def _named(values: Mapping[str, str]) -> Iterator[Finding]:
    """What the values name, and the configuration doesn't make."""
    if name := values.get("resource_group"):
        said = ask("az", "group", "exists", "--name", name)
        remedy = f"az group create --name {name} --location LOCATION, or mend the value resource_group"
        is_there = said.output == "true"
        yield ok("resource_group", name) if is_there else missing("resource_group", f"{name} is not there", remedy)
    for variable, delegation in (("subnet", DELEGATED), ("private_endpoint_subnet", "")):
        if name := values.get(variable):
            yield _subnet(variable, name, delegation)


def _subnet(variable: str, name: str, delegation: str) -> Finding:
    said = ask("az", "network", "vnet", "subnet", "show", "--ids", name, "--output", "json")
    if said.status != 0:
        return missing(variable, f"{name} is not there", f"make it, or mend the value {variable}")
    found = [item["serviceName"] for item in _read(said.output, {}).get("delegations", [])]
    if found != [delegation] * bool(delegation):
        remedy = f"az network vnet subnet update --ids {name} " + (
            f"--delegations {delegation}" if delegation else "--remove delegations"
        )
        return missing(variable, f"it is delegated to {', '.join(found) or 'nothing'}", remedy)
    return ok(variable, name)


def _func() -> Finding:
    said = ask("func", "--version")
    if said.status == 0:
        return ok("func", said.output)
    return ok("func", "not there, and not needed: az publishes the package")


def _read(text: str, otherwise: Any) -> Any:
    return json.loads(text) if text else otherwise

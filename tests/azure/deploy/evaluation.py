"""What Terraform makes of the locals and the outputs, over stand-ins for what Azure would say of the resources."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from configuration import FOLDER, ROOT, resources, sources, terraform, values

_BLOCK = r"(?ms)^{kind} \{{.*?^\}}\n"
_RESOURCE = re.compile(r"(?<![\w.])(?:data\.)?(?:azapi|azurerm|random)_\w+\.\w+")


def standin(address: str, key: str = "") -> dict[str, Any]:
    """What an output of any resource may be asked for; every value names its resource."""
    name = f"{address.split('.')[-2].removeprefix('azurerm_').removeprefix('azapi_')}-{key or address.split('.')[-1]}"
    return {
        "id": f"/{name}",
        "name": name,
        "result": "abc123",
        "output": {"properties": {"defaultHostName": "app.azurewebsites.net"}},
        "object_id": f"object of {name}",
        "connection_string": f"connection of {name}",
        "tenant_id": "tenant",
        "primary_blob_endpoint": f"https://{name}.blob/",
        "primary_queue_endpoint": f"https://{name}.queue/",
        "metrics_ingestion_endpoint": "https://metrics.ingest",
        "immutable_id": "dcr-1",
        "login_server": "registry.azurecr.io",
        "query_endpoint": "https://query",
        "location": "westeurope",
        "identity": [{"principal_id": f"principal of {name}"}],
        "ingress": [{"fqdn": "app.containers"}],
    }


def standins(variables: Mapping[str, Any]) -> dict[str, Any]:
    """By address; a resource with for_each is a map, and one with count a list."""
    keys = {
        "local.accounts": list(values()["accounts"]),
        "var.containers": list(variables["containers"]),
        "var.queues": list(variables["queues"]),
    }
    existing = int(bool(variables.get("resource_group")))
    counts = {
        "local.containers": int(bool(variables.get("container_image"))),
        "local.own_group": 1 - existing,
        "1 - local.own_group": existing,
    }
    found: dict[str, Any] = {}
    for address, body in {**resources(), **{f"data.{a}": b for a, b in resources("data").items()}}.items():
        if "for_each" in body:
            each = keys.get(str(body["for_each"]).strip("${}"), [])
            found[address] = {key: standin(address, key) for key in each}
        elif "count" in body:
            found[address] = [standin(address)] * counts.get(body["count"].strip("${}"), 0)
        else:
            found[address] = standin(address)
    return found


def evaluated(folder: Path, variables: Mapping[str, Any], wanted: Mapping[str, str]) -> dict[str, Any]:
    """What Terraform makes of the outputs, and of more expressions by their names."""
    folder = folder / FOLDER.relative_to(ROOT)
    folder.mkdir(parents=True)
    (folder.parents[1] / "monitoring").symlink_to(ROOT / "deploy" / "monitoring")
    text = "\n".join(sources().values())
    blocks = [block for kind in ("locals", r'output "\w+"') for block in re.findall(_BLOCK.format(kind=kind), text)]
    more = [f'output "{name}" {{\n  value = {expression}\n}}\n' for name, expression in wanted.items()]
    code = _RESOURCE.sub(lambda found: f'local.standins["{found[0]}"]', "\n".join([*blocks, *more]))
    path = folder / "standins.json"
    path.write_text(json.dumps(standins(variables)))
    (folder / "main.tf").write_text(f'locals {{\n  standins = jsondecode(file("{path}"))\n}}\n{code}')
    (folder / "variables.tf").write_text(sources()["variables.tf"])
    (folder / "all.auto.tfvars.json").write_text(json.dumps(variables))
    for command in (["init"], ["apply", "-auto-approve"]):
        done = terraform(*command, folder=folder)
        assert done.returncode == 0, done.stderr
    outputs = json.loads(terraform("output", "-json", folder=folder).stdout)
    return {name: output["value"] for name, output in outputs.items()}

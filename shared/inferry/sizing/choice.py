"""The size that was chosen, where deployments read it: cdk.json, or a *.tfvars.json of Terraform."""

import json
from pathlib import Path
from typing import Any

from inferry.errors import InvalidRequest
from inferry.sizing.sizes import Size

# Of an instance of Flex Consumption, in MB, by its CPUs.
FLEX = {1: 2048, 2: 4096}


def write(file: str, size: Size, environment: str) -> str:
    """Writes it; what was written, for people. InvalidRequest when the file is none of the two, or can't be read."""
    path = Path(file)
    if path.name.endswith(".tfvars.json"):
        value = _read(path) if path.exists() else {}
        value["instance_memory"] = FLEX[1] if size.cpus <= 1 and size.memory <= FLEX[1] else FLEX[2]
        _write(path, value)
        return f"instance_memory = {value['instance_memory']}"
    if path.name != "cdk.json":
        raise InvalidRequest(f"can't tell what {file} is for: give a cdk.json, or a file that ends in .tfvars.json")
    value = _read(path)
    environments = value.get("context", {}).get("environments", {})
    if environment not in environments:
        raise InvalidRequest(f"environment {environment!r} is none of {file}'s: {', '.join(sorted(environments))}")
    environments[environment]["memory"] = size.memory
    _write(path, value)
    return f"memory of environment {environment} = {size.memory}"


def _read(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except OSError as exc:
        raise InvalidRequest(f"can't read {path}: {exc.strerror or exc}") from exc
    except ValueError as exc:
        raise InvalidRequest(f"{path} is no JSON: {exc}") from exc
    if not isinstance(value, dict):
        raise InvalidRequest(f"{path} must hold a JSON object")
    return value


def _write(path: Path, value: dict[str, Any]) -> None:
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text(json.dumps(value, indent=2) + "\n")
    temporary.replace(path)

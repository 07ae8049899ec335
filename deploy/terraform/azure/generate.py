"""Writes what Terraform needs to know of the app: `python -m deploy.terraform.azure.generate`.

A file for each environment with the app's settings, as `Settings.to_env` writes them, and the names that
azure_app/names.py gives to queues, containers and triggers.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from inferry.jobs.deferred import REQUESTS
from inferry.settings import Settings

from azure_app import names

FOLDER = Path(__file__).parent / "environments"
COMMON = Settings(
    model_path=f"az://{names.MODELS}",
    model_refresh=300,
    metrics_sinks=("azure_monitor",),
    log_format="json",
    batch_input=f"az://{names.INPUT}",
    batch_output=f"az://{names.OUTPUT}",
)
ENVIRONMENTS = {
    "dev": replace(COMMON, environment="dev", model_refresh=60, log_level="DEBUG"),
    "staging": replace(COMMON, environment="staging"),
    "prod": replace(COMMON, environment="prod"),
}


def variables(settings: Settings) -> dict[str, Any]:
    """The values of Terraform's variables that come from the app."""
    return {
        "app_settings": settings.to_env(),
        "containers": {"models": names.MODELS, "input": names.INPUT, "output": names.OUTPUT},
        "requests": REQUESTS,
        "queues": {"jobs": names.JOBS_QUEUE, "jobs_poison": names.POISON_QUEUE},
        "triggers": {"connection": names.CONNECTION},
    }


def files() -> dict[Path, str]:
    """What is in each of the files."""
    return {
        FOLDER / f"{name}.app.tfvars.json": json.dumps(variables(settings), indent=2) + "\n"
        for name, settings in ENVIRONMENTS.items()
    }


if __name__ == "__main__":
    for path, text in files().items():
        path.write_text(text, encoding="utf-8")

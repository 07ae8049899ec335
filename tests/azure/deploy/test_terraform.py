"""Terraform itself over what needs no provider: the format, and every environment's variables with their checks."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from configuration import ENVIRONMENTS, FOLDER, ROOT, given, named, terraform


def test_format() -> None:
    done = terraform("fmt", "-check", "-recursive", folder=FOLDER)
    assert (done.returncode, done.stdout) == (0, ""), "terraform fmt"


@pytest.fixture(scope="module")
def variables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration that has the variables and puts each out again."""
    folder = tmp_path_factory.mktemp("variables")
    shutil.copy(FOLDER / "variables.tf", folder)
    outputs = (f'output "{name}" {{\n  value = var.{name}\n}}\n' for name in named("variable"))
    (folder / "outputs.tf").write_text("".join(outputs))
    assert terraform("init", folder=folder).returncode == 0
    return folder


def files(environment: str) -> list[str]:
    return [f"-var-file={FOLDER}/environments/{environment}{end}" for end in (".tfvars", ".app.tfvars.json")]


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_environment(variables: Path, environment: str) -> None:
    """Terraform takes both files of an environment; what they leave out has its default."""
    done = terraform("apply", "-auto-approve", *files(environment), folder=variables)
    assert done.returncode == 0, done.stderr
    outputs = json.loads(terraform("output", "-json", folder=variables).stdout)
    defaults = {name: body["default"] for name, body in named("variable").items() if "default" in body}
    assert {name: output["value"] for name, output in outputs.items()} == {**defaults, **given(environment)}


SUBNETS = "/subscriptions/s/resourceGroups/hub/providers/Microsoft.Network/virtualNetworks/spoke/subnets"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"subnet": "app", "private_endpoint_subnet": "app"}, "must be another one than subnet"),
        (
            {"subnet": "app", "private_endpoint_subnet": "endpoints", "container_image": "inferry:1"},
            "container_image can't be with private_endpoint_subnet",
        ),
    ],
)
def test_values_that_contradict_another(variables: Path, values: dict[str, str], message: str) -> None:
    named = {name: f"{SUBNETS}/{value}" if "subnet" in name else value for name, value in values.items()}
    done = terraform(
        "plan", *files("dev"), *(f"-var={name}={value}" for name, value in named.items()), folder=variables
    )
    assert done.returncode == 1
    assert message in " ".join(done.stderr.replace("│", " ").split())


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("project=Inferry", "project has 2 to 10 small letters and digits"),
        ("environment=production", "environment has 2 to 7 small letters and digits"),
        ("python_version=3.10", "python_version must be 3.11, 3.12 or 3.13"),
        ("instance_memory=1024", "instance_memory must be 2048 or 4096"),
        ("subnet=app", "subnet must be the ID of a subnet"),
        (f"private_endpoint_subnet={SUBNETS}/endpoints", "private_endpoint_subnet needs subnet"),
        ('private_dns_zones={"blob":"zone"}', "private_dns_zones belong to private_endpoint_subnet"),
        ('private_dns_zones={"blobs":"zone"}', "private_dns_zones are of blob, queue, table and sites"),
        ('allowed_addresses=["203.0.113.7"]', "allowed_addresses belong to private_endpoint_subnet"),
        ('containers={"models":"models"}', 'attributes "input" and "output" are required'),
    ],
)
def test_bad_value(variables: Path, value: str, message: str) -> None:
    done = terraform("plan", *files("dev"), f"-var={value}", folder=variables)
    assert done.returncode == 1
    assert message in " ".join(done.stderr.replace("│", " ").split())


def test_azure_plan(tmp_path: Path) -> None:
    """What `make azure-plan` asks Terraform for; the provider, which it would need to answer, can't be had here."""
    program, asked = tmp_path / "terraform", tmp_path / "asked"
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$*" >> {asked}\n')
    program.chmod(0o755)
    env = {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "HOME": str(tmp_path)}
    subprocess.run(["make", "azure-plan", "ENV=staging", "PLAN_ARGS=-out=plan"], cwd=ROOT, env=env, check=True)
    folder = "-chdir=deploy/terraform/azure"
    assert asked.read_text().splitlines() == [
        f"{folder} init -input=false -reconfigure -backend-config=environments/staging.backend.hcl",
        f"{folder} validate",
        f"{folder} plan -input=false -var-file=environments/staging.tfvars "
        "-var-file=environments/staging.app.tfvars.json -out=plan",
    ]


def test_azure_deploy(tmp_path: Path) -> None:
    """Its steps in their order: what a later one needs, an earlier one has made. A role that is new is waited for."""
    asked = tmp_path / "asked"
    programs = {
        "terraform": 'case "$*" in *"output -raw "*) for name; do :; done; printf "the-$name";; esac',
        "az": 'case "$*" in *upload-batch*) [ -e "$0.tried" ] || { touch "$0.tried"; exit 1; };; esac',
        "python": ":",
    }
    for name, answer in programs.items():
        (tmp_path / name).write_text(f'#!/bin/sh\nprintf "%s\\n" "{name} $*" >> {asked}\n{answer}\n')
        (tmp_path / name).chmod(0o755)
    env = {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "HOME": str(tmp_path)}
    given = [f"BIN={tmp_path}", "AZURE_PYTHON=python", "WAIT=0", "ENV=staging", "MODEL_PATH=my models"]
    command = ["make", "--no-print-directory", "--old-file=.venv/bin/python", "azure-deploy", *given]
    done = subprocess.run(command, cwd=ROOT, env=env, check=True, capture_output=True, text=True)
    folder = "terraform -chdir=deploy/terraform/azure"
    uploads = [
        "az storage blob upload-batch --auth-mode login --overwrite --destination models --source my models "
        "--account-name the-storage_account"
    ]
    assert [line for line in asked.read_text().splitlines() if " output -raw " not in line] == [
        "python -m deploy.prereqs azure --context environment=staging",
        f"{folder} init -input=false -reconfigure -backend-config=environments/staging.backend.hcl",
        f"{folder} apply -var-file=environments/staging.tfvars -var-file=environments/staging.app.tfvars.json",
        "python deploy/azure/package.py --python the-python_version --models  dist/staging.zip",
        *uploads * 2,
        "az functionapp deployment source config-zip --src dist/staging.zip "
        "--resource-group the-resource_group --name the-function_app",
    ]
    assert done.stdout.splitlines()[-1] == "the-curl"

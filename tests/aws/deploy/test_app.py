"""The CDK's command line over cdk.json, as `make deploy` calls it, in a project that has what the image needs."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from account import CDK
from assemblies import ROOT, sources


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not CDK.exists():
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(f"{CDK.relative_to(ROOT)} is missing")
    folder = sources(tmp_path_factory.mktemp("project"))
    for name in ("cdk", "cdk.json", "Makefile", "node_modules", ".venv"):
        (folder / name).symlink_to(ROOT / name)
    return folder


def synth(project: Path, *context: str) -> "subprocess.CompletedProcess[str]":
    command = [str(CDK), "synth", "--quiet", "--no-color", "--ci", *(f"--context={item}" for item in context)]
    environment = {
        # The app is run by "python".
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(project),
        "CDK_DISABLE_CLI_TELEMETRY": "1",
        "JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION": "18,20",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    return subprocess.run(
        command, cwd=project, env=environment, check=False, capture_output=True, text=True, timeout=120
    )


@pytest.mark.parametrize("environment", ["staging", "prod"])
def test_environment(project: Path, environment: str) -> None:
    done = synth(project, f"environment={environment}", "memory=3538")
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stdout + done.stderr
    template = (project / "cdk.out" / f"inferry-{environment}.template.json").read_text()
    assert '"MemorySize": 3538' in template


def test_a_value_that_cannot_be(project: Path) -> None:
    done = synth(project, "memory=64")
    assert done.returncode != 0
    assert "InvalidProps: memory must be from 128 to 10240, got 64" in done.stdout + done.stderr


@pytest.mark.parametrize("verb", ["bootstrap", "deploy", "diff", "destroy"])
def test_verbs(project: Path, verb: str) -> None:
    """What `make VERB ENV=prod` runs; the stamps are up to date, so that nothing is installed."""
    stamps = [f"--old-file={name}" for name in (".venv/cdk", "node_modules/.bin/cdk")]
    # Below another make, as in make test-aws, it would say which folder it is in.
    command = [
        "make",
        "--dry-run",
        "--no-print-directory",
        *stamps,
        verb,
        "ENV=prod",
        "MODEL_PATH=my models",
        "CDK_ARGS=--context tracing=true",
    ]
    done = subprocess.run(command, cwd=project, check=True, capture_output=True, text=True)
    context = '--context environment=prod --context "model_path=my models" --context tracing=true'
    *before, last = done.stdout.splitlines()
    assert last.endswith(f"node_modules/.bin/cdk {verb} {context}")
    # Nothing is made before this has passed.
    assert before == ([f".venv/bin/python -m deploy.prereqs aws {context}"] if verb == "deploy" else [])


def test_the_page_s_first_commands_bring_what_they_need(tmp_path: Path) -> None:
    """In a fresh clone: each is a verb that installs the CDK for Python and, where it runs that, its command line."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt", "package.json"):
        shutil.copy(ROOT / name, tmp_path)
    block = re.search(r"```sh\n(.*?)```", (ROOT / "docs" / "deploy-aws.md").read_text(), re.DOTALL)
    assert block
    commands = [shlex.split(line, comments=True) for line in block[1].splitlines()]
    assert [command[:2] for command in commands] == [
        ["make", verb] for verb in ("check-prereqs", "bootstrap", "diff", "deploy", "destroy")
    ]
    for program, *arguments in commands:
        dry = [program, "--dry-run", "--no-print-directory", *arguments]
        done = subprocess.run(dry, cwd=tmp_path, check=True, capture_output=True, text=True).stdout
        assert "--editable . --group cdk" in done
        assert ("npm install" in done) == ("node_modules/.bin/cdk " in done) == (arguments != ["check-prereqs"])

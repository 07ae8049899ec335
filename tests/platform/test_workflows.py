"""The workflows under the linters that know them, and what each may do: they hold no logic, and no right too many."""

import json
import os
import re
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
BIN = ROOT / ".tools" / "platform" / "bin"
FOLDER = ROOT / ".github" / "workflows"
WORKFLOWS = {path.stem: path for path in sorted(FOLDER.glob("*.yml"))}
VERBS = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
PYTHONS = ["3.11", "3.12", "3.13", "3.14"]
LINTERS = {
    "actionlint": ("actionlint",),
    "check-jsonschema": ("check-jsonschema", "--builtin-schema", "vendor.github-workflows"),
    "zizmor": ("zizmor", "--offline", "--no-progress", "--persona", "auditor"),
}
# What each job may do with the repository, besides reading it.
RIGHTS = {
    ("deliver", "deploy"): {"id-token": "write"},
    ("deliver", "previous"): {"deployments": "read"},
    ("deliver", "rollback"): {"id-token": "write"},
    ("deliver", "test"): {"security-events": "write"},
    ("deploy", "deploy"): {"id-token": "write"},
    ("deploy", "plan"): {"id-token": "write"},
    ("test", "scan"): {"security-events": "write"},
}


def linted(linter: str, *paths: Path) -> subprocess.CompletedProcess[str]:
    program, *options = LINTERS[linter]
    if not (BIN / program).exists():
        pytest.fail(f"{program} is missing: make test-platform installs it")
    if linter == "actionlint" and not shutil.which("shellcheck"):
        pytest.fail("shellcheck is missing, without which no script is looked at: .ci/install installs it")
    return subprocess.run([str(BIN / program), *options, *paths], capture_output=True, text=True, timeout=120)


def read(name: str) -> Any:
    # YAML 1.1 takes `on` for true.
    return yaml.safe_load(WORKFLOWS[name].read_text().replace("\non:\n", "\n'on':\n"))


def jobs() -> Iterator[tuple[str, str, Any]]:
    for name in WORKFLOWS:
        for job, content in read(name)["jobs"].items():
            yield name, job, content


def steps() -> Iterator[tuple[str, Any]]:
    for name, job, content in jobs():
        for step in content.get("steps", ()):
            yield f"{name}.{job}", step


@pytest.mark.parametrize("linter", LINTERS)
def test_linters_find_nothing(linter: str) -> None:
    done = linted(linter, *WORKFLOWS.values())
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("linter", "old", "new"),
    [
        ("actionlint", "ubuntu-24.04", "ubuntu-18.04"),
        ("check-jsonschema", "timeout-minutes", "timeout-hours"),
        ("zizmor", "permissions: {}", "permissions: write-all"),
        ("zizmor", "persist-credentials: false", "persist-credentials: true"),
    ],
)
def test_linters_find_what_is_wrong(linter: str, old: str, new: str, tmp_path: Path) -> None:
    path = tmp_path / ".github" / "workflows" / "test.yml"
    path.parent.mkdir(parents=True)
    path.write_text(WORKFLOWS["test"].read_text().replace(old, new))
    assert linted(linter, path).returncode != 0


def test_dependabot() -> None:
    command = [str(BIN / "check-jsonschema"), "--builtin-schema", "vendor.dependabot", ".github/dependabot.yml"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_every_step_is_a_verb() -> None:
    """Of the Makefile, and nothing around it but who runs it and where its output goes."""
    runs = [step["run"] for _, step in steps() if "run" in step]
    rings = [ring for _, _, job in jobs() for ring in job.get("strategy", {}).get("matrix", {}).get("ring", ())]
    form = r'(?:sudo (?:env "PATH=\$PATH" CI=true )?)?make (?:--silent )?("\$RING"|[a-z-]+)(?: >> "\$GITHUB_OUTPUT")?'
    found = [re.fullmatch(form, run) for run in runs]
    assert [run for run, match in zip(runs, found, strict=True) if not match] == []
    assert ({match[1] for match in found if match} - {'"$RING"'}) | set(rings) <= VERBS
    assert len(runs) > 10


def test_every_ring_of_ci_is_run() -> None:
    """By the workflow as by .ci/run."""
    run = set(re.findall(r"^ *ring ([a-z-]+)", (ROOT / ".ci" / "run").read_text(), re.MULTILINE))
    test = read("test")["jobs"]
    assert run == {"check", "test", *test["ring"]["strategy"]["matrix"]["ring"]}
    assert test["test"]["strategy"]["matrix"]["python"] == PYTHONS


def test_actions_are_pinned_by_commit() -> None:
    lines = [line for path in WORKFLOWS.values() for line in path.read_text().splitlines() if "uses:" in line]
    others = [line for line in lines if not re.search(r"uses: [\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line)]
    assert {line.split()[-1] for line in others} == {"$/.github/workflows/test.yml", "$/.github/workflows/deploy.yml"}
    # One commit of an action, everywhere.
    pins = {tuple(re.findall(r"uses: (\S+)@(\S+) # (\S+)", line)[0]) for line in lines if line not in others}
    assert len({name for name, *_ in pins}) == len(pins)


def test_nobody_may_do_more_than_is_needed() -> None:
    assert [read(name)["permissions"] for name in WORKFLOWS] == [{}] * len(WORKFLOWS)
    given = {(name, job): content["permissions"] for name, job, content in jobs()}
    assert all(rights["contents"] == "read" for rights in given.values())
    rights = {key: {name: right for name, right in found.items() if name != "contents"} for key, found in given.items()}
    assert {key: found for key, found in rights.items() if found} == RIGHTS


def test_no_secret_is_kept() -> None:
    """Clouds give credentials for the workflow's own token; GitHub's is there for asking GitHub."""
    texts = "".join(path.read_text() for path in WORKFLOWS.values())
    assert "secrets." not in texts
    assert len(re.findall(r"github\.token", texts)) == 1


def test_every_variable_is_listed() -> None:
    """In .env.example, which names what GitHub has to know; MODEL_PATH is a setting."""
    used = set(re.findall(r"\bvars\.(\w+)", "".join(path.read_text() for path in WORKFLOWS.values())))
    (section,) = re.findall(r"^# For the workflows alone.*?(?=^# For |\Z)", example(), re.MULTILINE | re.DOTALL)
    assert used == {*re.findall(r"^#([A-Z_]+)=", section, re.MULTILINE), "CLOUD", "MODEL_PATH"}


def test_every_variable_of_the_makefile_is_read() -> None:
    (section,) = re.findall(r"^# For the Makefile alone.*?(?=^# For )", example(), re.MULTILINE | re.DOTALL)
    listed = dict(re.findall(r"^#([A-Z_]+)=(.*)$", section, re.MULTILINE))
    makefile = (ROOT / "Makefile").read_text()
    defaults = dict(re.findall(r"^([A-Z_]+) \?= (.*)$", makefile, re.MULTILINE))
    assert listed == {name: "" if name == "TAG" else defaults[name] for name in listed}
    assert all(f"$({name})" in makefile for name in listed)


def example() -> str:
    return (ROOT / ".env.example").read_text()


def test_a_deployment_waits_for_the_tests_and_goes_back_when_it_fails() -> None:
    deliver, deploy = read("deliver")["jobs"], read("deploy")["jobs"]
    assert deliver["deploy"]["needs"] == ["test", "previous"]
    assert deliver["rollback"]["needs"] == ["previous", "deploy"]
    assert "failure()" in deliver["rollback"]["if"]
    assert deliver["rollback"]["with"]["ref"] == "${{ needs.previous.outputs.commit }}"
    assert deploy["deploy"]["needs"] == "plan"
    assert [deploy[job]["environment"] for job in ("plan", "deploy")] == [
        "${{ inputs.environment }}-plan",
        "${{ inputs.environment }}",
    ]
    assert [step["run"] for step in deploy["deploy"]["steps"] if "run" in step][-1] == "make smoke"


def test_who_deploys_by_hand_chooses_the_environment_and_the_cloud() -> None:
    for name in ("deliver", "deploy"):
        inputs = read(name)["on"]["workflow_dispatch"]["inputs"]
        assert inputs["environment"]["options"] == ["dev", "staging", "prod"]
        assert inputs["cloud"]["options"] == ["aws", "azure", "both"]


def test_scans_write_sarif() -> None:
    """Each scanner's file is SARIF, and none has a finding that nobody has thought about."""
    done = make("scan")
    assert done.returncode == 0, done.stdout + done.stderr
    found = {path.stem: json.loads(path.read_text()) for path in (ROOT / "dist" / "scan").glob("*.sarif")}
    assert sorted(found) == ["results_sarif", "ruff", "zizmor"]
    for name, sarif in found.items():
        assert sarif["version"] == "2.1.0", name
        results = [result for run in sarif["runs"] for result in run["results"]]
        # What is skipped has its reason beside it.
        assert [result["ruleId"] for result in results if not result.get("suppressions")] == [], name


def program(folder: Path, name: str, script: str) -> None:
    """A stand-in for a program that needs an account."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def make(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    command = ["make", "--no-print-directory", "--silent", *arguments]
    known = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return subprocess.run(command, cwd=ROOT, env={**known, **env}, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize(
    ("cloud", "expected"),
    [
        ("aws", "aws ecr get-login-password\ndocker login --username AWS --password-stdin r.example < token\n"),
        ("azure", "az acr login --name r.example\n"),
    ],
)
def test_login(cloud: str, expected: str, tmp_path: Path) -> None:
    program(tmp_path, "aws", 'echo "aws $*" >>"$LOG"; echo token')
    program(tmp_path, "az", 'echo "az $*" >>"$LOG"')
    program(tmp_path, "docker", 'read -r password; echo "docker $* < $password" >>"$LOG"')
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    done = make("login", f"CLOUD={cloud}", "REGISTRY=r.example", PATH=path, LOG=str(tmp_path / "log"))
    assert done.returncode == 0, done.stderr
    assert sorted((tmp_path / "log").read_text().splitlines()) == sorted(expected.splitlines())


def deployments(*states: tuple[str, str]) -> str:
    nodes = [{"commitOid": commit, "latestStatus": {"state": state} if state else None} for commit, state in states]
    return json.dumps({"data": {"repository": {"deployments": {"nodes": nodes}}}})


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        # Of two clouds, the later success makes the earlier one inactive.
        ([("a", "INACTIVE"), ("a", "SUCCESS"), ("b", "SUCCESS"), ("b", "FAILURE")], "a"),
        ([("a", "INACTIVE"), ("b", "INACTIVE"), ("b", "SUCCESS")], "b"),
        ([("a", "SUCCESS"), ("b", "IN_PROGRESS")], "a"),
        ([("a", "SUCCESS"), ("b", "")], "a"),
        ([("a", "ERROR")], ""),
        ([], ""),
    ],
)
def test_deployed(states: list[tuple[str, str]], expected: str, tmp_path: Path) -> None:
    program(tmp_path, "gh", f"test \"$1 $2\" = 'api graphql' && echo '{deployments(*states)}'")
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    done = make("deployed", "ENV=dev", PATH=path, GITHUB_REPOSITORY="o/n")
    assert (done.returncode, done.stdout) == (0, f"commit={expected}\n"), done.stderr


def test_deployed_without_an_answer(tmp_path: Path) -> None:
    program(tmp_path, "gh", "echo 'HTTP 401' >&2; exit 1")
    done = make("deployed", PATH=f"{tmp_path}{os.pathsep}{os.environ['PATH']}", GITHUB_REPOSITORY="o/n")
    assert done.returncode != 0
    assert "gh can't tell what is deployed: HTTP 401" in done.stderr

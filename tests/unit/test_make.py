"""The Makefile's verbs: what they would run, and the first request to a deployment."""

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from loopback import listening

ROOT = Path(__file__).parents[2]
MAKEFILE = (ROOT / "Makefile").read_text()
VERBS = re.findall(r"^([a-z-]+):.*##", MAKEFILE, re.MULTILINE)


def make(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    command = ["make", "--no-print-directory", *arguments]
    known = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return subprocess.run(command, cwd=ROOT, env={**known, **env}, capture_output=True, text=True, timeout=60)


def dry(*arguments: str, **env: str) -> str:
    done = make("--dry-run", *arguments, **env)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_help_lists_every_verb() -> None:
    said = make("help").stdout
    assert [line.split()[0] for line in said.splitlines()] == VERBS
    (phony,) = re.findall(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)
    assert sorted(phony.split()) == sorted(VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_can_be_read(verb: str) -> None:
    """By the environment alone, too."""
    dry(verb, "CLOUD=azure", "ENV=staging")
    dry(verb, CLOUD="aws", ENV="prod")


def test_an_image_is_tagged_by_git() -> None:
    tag = subprocess.run(["git", "describe", "--tags", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
    assert f'--tag "localhost/inferry-server:{tag.stdout.strip()}"' in dry("image")
    assert '--tag "r.example/inferry-server:1.2"' in dry("push", "REGISTRY=r.example", TAG="1.2")


def test_environments_and_clouds_are_variables() -> None:
    assert "--context environment=staging" in dry("diff", "ENV=staging")
    assert "environments/prod.tfvars" in dry("azure-plan", ENV="prod")
    assert "deploy.prereqs azure" in dry("check-prereqs", "CLOUD=azure")
    assert "--stack-name inferry-prod" in dry("smoke", "ENV=prod")


@pytest.mark.parametrize("verb", ["login", "smoke"])
def test_a_cloud_that_there_is_not(verb: str) -> None:
    assert 'CLOUD is aws or azure, got "gcp"' in make("--dry-run", verb, "CLOUD=gcp").stderr
    dry("help", "CLOUD=gcp")


@contextmanager
def deployment(folder: Path, program: str, statuses: list[int]) -> Iterator[dict[str, str]]:
    """An environment in which the program, asked for its deployment's line, names a server with these answers."""
    left = iter(statuses)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(next(left))
            self.send_header("Content-Length", "5")
            self.end_headers()
            self.wfile.write(b"hello")

        def log_message(self, *_: object) -> None:
            pass

    with listening(Handler) as url:
        path = folder / program
        path.write_text(f"#!/bin/sh\necho 'curl {url}/v2/models -H \"x-key: $(printf secret)\"'\n")
        path.chmod(0o755)
        yield {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", "WAIT": "0"}
    assert list(left) == []


@pytest.mark.parametrize(("cloud", "program"), [("aws", "aws"), ("azure", "terraform")])
def test_smoke_waits_for_an_answer(tmp_path: Path, cloud: str, program: str) -> None:
    with deployment(tmp_path, program, [503, 403, 200]) as env:
        done = make("smoke", f"CLOUD={cloud}", **env)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "hello")


def test_smoke_gives_up(tmp_path: Path) -> None:
    with deployment(tmp_path, "aws", [500] * 21) as env:
        assert make("smoke", **env).returncode != 0


def test_smoke_without_a_deployment(tmp_path: Path) -> None:
    (tmp_path / "aws").write_text("#!/bin/sh\nexit 254\n")
    (tmp_path / "aws").chmod(0o755)
    assert make("smoke", PATH=f"{tmp_path}{os.pathsep}{os.environ['PATH']}").returncode != 0


@pytest.mark.parametrize(
    ("on_path", "of_pyenv", "expected"),
    [
        (["3.11", "3.12"], [], "3.12 python3.12"),
        (["3.12"], ["3.13.0", "3.11.7"], "3.13 {home}/.pyenv/versions/3.13.0/bin/python3.13"),
        (["3.14"], ["3.13.0"], "3.14 python3.14"),
        (["3.11"], ["3.11.7"], ""),
    ],
)
def test_ci_counts_lines_with_the_newest_python(
    tmp_path: Path, on_path: list[str], of_pyenv: list[str], expected: str
) -> None:
    names = [f"bin/python{version}" for version in on_path]
    names += [f".pyenv/versions/{version}/bin/python{version.rpartition('.')[0]}" for version in of_pyenv]
    for name in names:
        program = tmp_path / name
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
    (function,) = re.findall(r"^newest\(\) \{.*?^\}$", (ROOT / ".ci/run").read_text(), re.MULTILINE | re.DOTALL)
    env = {"HOME": str(tmp_path), "PATH": str(tmp_path / "bin")}
    done = subprocess.run(["/bin/bash", "-c", f"{function}\nnewest"], env=env, capture_output=True, text=True)
    assert done.stdout.strip() == expected.format(home=tmp_path)
    assert (done.returncode == 0) is bool(expected)

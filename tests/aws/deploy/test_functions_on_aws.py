"""Two functions behind one API in the emulated account, each with models, settings and a rollout of its own."""

import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
import tritonclient.http as triton
from account import Account
from assemblies import ROOT
from codedeploy import CodeDeploy
from deployed import HANDLER, Environment, digits
from emulator import emulated as running

NEWSLINE = ROOT / "models" / "newsline"
CARD = json.loads((NEWSLINE / "config.json").read_text())
REQUEST = {"inputs": CARD["example"]["inputs"]}


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The models of the other function."""
    folder = tmp_path_factory.mktemp("text")
    shutil.copytree(NEWSLINE, folder / "newsline")
    return folder


@pytest.fixture(scope="module")
def environment(
    account: Account, codedeploy: CodeDeploy, text: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Environment]:
    with ExitStack() as emulators:
        told = {"MODEL_PATH": str(text), "APP_NAME": "several-dev-text"}
        function = emulators.enter_context(running(HANDLER, sys.executable, timeout=29, memory=1769, **told))
        folder, others = tmp_path_factory.mktemp("deployed"), {"MoretextFunction": function.url}
        yield Environment(account, codedeploy, folder, emulators, "several-dev", others)


def deploy(environment: Environment, text: Path, models: Path, version: str) -> "tuple[int, str]":
    """The version is all that changes of the function in MiniStack, which runs no image."""
    functions = {"text": {"model_path": str(text), "memory": 2048, "settings": {"APP_VERSION": version}}}
    context = {"project": "several", "authorization": "none", "functions": functions}
    return environment.deploy(models, context)


def ask(environment: Environment, path: str, content: Any = None) -> httpx.Response:
    address = f"http://{environment.address}{path}"
    with httpx.Client(trust_env=False, timeout=60) as client:
        return client.post(address, json=content) if content else client.get(address)


# One story, told in the order of these tests.


def test_each_answers_for_its_models(environment: Environment, text: Path, tmp_path: Path) -> None:
    status, said = deploy(environment, text, digits(tmp_path, 1), "1")
    assert status == 0, said
    assert environment.predict() == {"version": "1", "label": [7]}
    answer = ask(environment, "/v2/models/newsline/infer", REQUEST)
    assert answer.status_code == 200, answer.text
    outputs = {output["name"]: output["data"] for output in answer.json()["outputs"]}
    assert outputs["label"] == ["weather"]
    assert ask(environment, "/v2/models/newsline/ready").json() == {"name": "newsline", "ready": True}


def test_all_of_a_function_is_below_its_name(environment: Environment) -> None:
    """By an unmodified client, whose base URL has a path."""
    assert ask(environment, "/text/v2").json()["name"] == "several-dev-text"
    assert ask(environment, "/v2").json()["name"] == "several-dev"
    assert ask(environment, "/text/v1/models/newsline").status_code == 200
    with triton.InferenceServerClient(f"{environment.address}/text") as client:
        assert [model["name"] for model in client.get_model_repository_index()] == ["newsline"]
        assert client.is_model_ready("newsline")
    assert ask(environment, "/text/v2/models/digits/infer", REQUEST).status_code == 404


def test_a_version_that_fails_its_check(environment: Environment, text: Path, tmp_path: Path) -> None:
    """That of the one function: neither gets a request that is not checked."""
    card = {**CARD, "example": {**CARD["example"], "expect": {"label": ["sport"]}}}
    (text / "newsline" / "config.json").write_text(json.dumps(card))
    status, said = deploy(environment, text, digits(tmp_path, 1), "2")
    assert status != 0
    assert "newsline: label is ['weather'], and its card says ['sport']" in said
    assert environment.status == "UPDATE_ROLLBACK_COMPLETE"
    assert ask(environment, "/v2/models/newsline/infer", REQUEST).status_code == 200


def test_destroy(environment: Environment) -> None:
    status, said = environment.destroy()
    assert status == 0, said

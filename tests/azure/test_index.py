"""What Microsoft's runtime library finds in the app, and what keeps it from finding anything."""

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import servers
from functionhosts import ROOT, standin

OUT = {"direction": "OUT", "type": "http", "name": "$return"}
PROBE = ["GET", "HEAD"]


def http(route: str, level: str, methods: Sequence[str]) -> list[dict[str, Any]]:
    trigger = {"direction": "IN", "type": "httpTrigger", "name": "req", "route": route, "authLevel": level}
    return [{**trigger, "methods": list(methods)}, OUT]


EVERY = ["GET", "POST", "DELETE", "HEAD", "PATCH", "PUT", "OPTIONS"]
HEALTH = {
    "health": http("health", "ANONYMOUS", PROBE),
    "probes": http("v2/health/{probe}", "ANONYMOUS", PROBE),
}


def index(folder: Path, cwd: Path, **env: str) -> "subprocess.CompletedProcess[str]":
    command, its_env = standin(ROOT / "models", ["--index"])
    command[command.index(str(ROOT))] = str(folder)
    env = servers.environment(its_env | {"MODEL_CACHE_SIZE": "1", "DEFAULT_MODEL": "diabetes"} | env)
    return subprocess.run(command, env=env, cwd=cwd, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("level", ["FUNCTION", "ANONYMOUS", "ADMIN"])
def test_functions_triggers_levels_and_routes(tmp_path: Path, level: str) -> None:
    env = {} if level == "FUNCTION" else {"AUTH_LEVEL": level.lower()}
    done = index(ROOT, tmp_path, **env)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"api": http("{*route}", level, EVERY), **HEALTH}


def test_probes_are_open_below_a_proxys_path_too(tmp_path: Path) -> None:
    done = index(ROOT, tmp_path, BASE_PATH="/ml/")
    assert done.returncode == 0, done.stderr
    below = {
        "base_health": http("ml/health", "ANONYMOUS", PROBE),
        "base_probes": http("ml/v2/health/{probe}", "ANONYMOUS", PROBE),
    }
    assert json.loads(done.stdout) == {"api": http("{*route}", "FUNCTION", EVERY), **HEALTH, **below}


STORAGE = {"connection": "STORAGE"}
AGAIN = {"direction": "OUT", "type": "queue", **STORAGE, "queueName": "inferry-jobs"}
TRIGGERS = {
    "jobs": [
        {"direction": "IN", "type": "queueTrigger", "name": "message", **STORAGE, "queueName": "inferry-jobs"},
        {**AGAIN, "name": "again"},
        {**AGAIN, "name": "dead_letters", "queueName": "inferry-jobs-poison"},
    ],
}
PLACES = {
    "files and messages": ({"BATCH_INPUT": "az://input/new/"}, ["jobs"]),
    "messages": ({}, ["jobs"]),
    "files in another cloud": ({"BATCH_INPUT": "s3://input"}, ["jobs"]),
}


@pytest.mark.parametrize("name", PLACES)
def test_triggers_are_there_where_their_results_have_a_place(tmp_path: Path, name: str) -> None:
    env, triggers = PLACES[name]
    done = index(ROOT, tmp_path, BATCH_OUTPUT="az://output", **env)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found.keys() == {"api", *HEALTH, *triggers}
    bindings = {trigger: sorted(found[trigger], key=lambda one: one["name"]) for trigger in triggers}
    assert bindings == {trigger: sorted(TRIGGERS[trigger], key=lambda one: one["name"]) for trigger in triggers}


FAILURES = {
    "AUTH_LEVEL": ({"AUTH_LEVEL": "public"}, "AUTH_LEVEL must be function, anonymous or admin, got 'public'"),
    "MODEL_PATH": ({"MODEL_PATH": "nowhere"}, f"{ROOT / 'nowhere'} does not exist"),
    "a loop": (
        {"BATCH_INPUT": "az://files", "BATCH_OUTPUT": "az://files/results"},
        "BATCH_OUTPUT: the output az://files/results is inside of the input az://files",
    ),
    "a setting": ({"MODEL_CACHE_SIZE": "many"}, "MODEL_CACHE_SIZE must be a whole number, got 'many'"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_an_app_that_can_not_start_says_why(tmp_path: Path, name: str) -> None:
    env, text = FAILURES[name]
    done = index(ROOT, tmp_path, **env)
    assert (done.returncode, text in done.stderr) == (1, True), done.stderr


APP = "import azure.functions as func\n\napp = func.AsgiFunctionApp(None)\n"
# The traps that a test client doesn't show; they are why the app is built as it is.
TRAPS = {
    "two apps": (APP + "other = func.AsgiFunctionApp(None)\n", "More than one"),
    "one app under two names": (APP + "function = app\n", "More than one"),
    "no app": ("", "Could not find top level function app instances"),
}


@pytest.mark.parametrize("name", TRAPS)
def test_the_runtime_refuses(tmp_path: Path, name: str) -> None:
    source, text = TRAPS[name]
    (tmp_path / "function_app.py").write_text(source)
    done = index(tmp_path, tmp_path)
    assert (done.returncode, text in done.stderr) == (1, True), done.stderr


def test_without_function_app_there_is_nothing_and_no_error(tmp_path: Path) -> None:
    done = index(tmp_path, tmp_path)
    assert done.stderr.splitlines()[-1] == f"no functions in {tmp_path}"

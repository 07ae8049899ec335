"""The image of the Functions app: Microsoft's runtime library, from outside of it, finds and invokes it in there."""

import json

import pytest
from containers import LIMITS, ROOT, Image, inspect, podman

RUNTIME = ROOT / ".tools" / "azure"
DRIVER = ROOT / "tests" / "azure"
APP = "/home/site/wwwroot"
CARD = json.loads((ROOT / "models" / "digits" / "config.json").read_text())["example"]


def test_the_app_is_indexed_and_predicts(built: dict[str, Image], capsys: pytest.CaptureFixture[str]) -> None:
    volumes = ("--volume", f"{RUNTIME}:/runtime:ro", "--volume", f"{DRIVER}:/driver:ro")
    body = json.dumps({"inputs": CARD["inputs"]})
    command = ("/driver/isolated.py", APP, "/runtime", body)
    said = json.loads(podman("run", "--rm", *LIMITS, *volumes, "--entrypoint", "python3", built["azure"].tag, *command))
    assert (said["functions"], said["status"]) == (["api", "health", "probes"], "200")
    assert {"name": "label", "datatype": "INT64", "shape": [1], "data": CARD["expect"]["label"]} in said["answer"][
        "outputs"
    ]
    with capsys.disabled():
        print(
            f"\nimage azure: first prediction {said['seconds']:.2f} s after its start, {said['peak_mb']:.0f} MB at most"
        )
    assert said["seconds"] < 30


def test_what_the_host_is_told(built: dict[str, Image]) -> None:
    config = inspect(built["azure"])["Config"]
    env = dict(entry.split("=", 1) for entry in config["Env"])
    assert (env["AzureWebJobsScriptRoot"], config["WorkingDir"], config["User"]) == (APP, APP, "65532:65532")
    assert (env["ASPNETCORE_URLS"], list(config["ExposedPorts"])) == ("http://+:8080", ["8080/tcp"])

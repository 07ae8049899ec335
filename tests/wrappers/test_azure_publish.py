"""What `func azure functionapp publish` sends from here: current requirements, and nothing that is secret."""

import json
import re
import runpy
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from pathspec import GitIgnoreSpec

ROOT = Path(__file__).parents[2]
FUNCIGNORE = (ROOT / ".funcignore").read_text()
FILES = {"function_app.py", "host.json", "requirements.txt"}
FOLDERS = ("azure_app/", "models/", "shared/")
# Beside a checkout's own files: what lies about on a developer's disk.
PLANTED = (
    ".env",
    ".env.production",
    ".git/config",
    ".tools/azure/installed",
    ".venv/bin/python",
    ".vscode/settings.json",
    "id_rsa",
    "local.settings.json",
    "models.private/model.onnx",
    "node_modules/azurite/package.json",
    "secrets/key.pem",
    "shared-keys/key.pem",
    "terraform.tfstate",
)


def core_tools(rules: str) -> Callable[[str], bool]:
    """Whether Core Tools publish a path. Their rules are prefixes from the root, and what is let in wins."""
    lines = [line.strip() for line in rules.splitlines() if line.strip() and not line.strip().startswith("#")]
    let_in = _prefixes([line[1:] for line in lines if line.startswith("!")])
    left_out = _prefixes([line for line in lines if not line.startswith("!")])
    never = {".funcignore", ".gitignore", "local.settings.json", "project.lock.json"}

    def published(path: str) -> bool:
        *folders, name = path.split("/")
        if name in never or {".git", ".vscode"} & set(folders):
            return False
        return bool(let_in.match(path)) or not left_out.match(path)

    return published


def _prefixes(patterns: Sequence[str]) -> "re.Pattern[str]":
    """A pattern's stars: ** is anything, * is anything within a folder."""
    escaped = [
        re.escape(pattern.removeprefix("/")).replace(r"\*\*", ".+").replace(r"\*", "[^/]+") for pattern in patterns
    ]
    return re.compile("|".join(f"(?:{one})" for one in sorted(escaped)) if escaped else "$^")


def as_git(rules: str) -> Callable[[str], bool]:
    spec = GitIgnoreSpec.from_lines(rules.splitlines())
    return lambda path: not spec.match_file(path)


@pytest.fixture(scope="module")
def tracked() -> set[str]:
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True)
    return {path for path in done.stdout.split("\0") if path}


@pytest.mark.parametrize("rules", [core_tools, as_git])
def test_what_is_published(tracked: set[str], rules: Callable[[str], Callable[[str], bool]]) -> None:
    published = set(filter(rules(FUNCIGNORE), tracked | set(PLANTED)))
    assert published == {path for path in tracked if path in FILES or path.startswith(FOLDERS)}
    assert FILES | {"azure_app/function_app.py", "shared/inferry/app.py", "models/digits/2/model.onnx"} <= published


SECRETS = re.compile(rb"PRIVATE KEY-----|AccountKey=|SharedAccessSignature=|[?&]sig=|AKIA[0-9A-Z]{16}")


def test_nothing_that_is_published_is_a_test_or_looks_like_a_secret(tracked: set[str]) -> None:
    published = list(filter(core_tools(FUNCIGNORE), tracked))
    assert [path for path in published if re.search("(^|/)(tests?/|test_|conftest)", path)] == []
    assert [path for path in published if SECRETS.search((ROOT / path).read_bytes())] == []


def test_a_naive_list_publishes_secrets() -> None:
    """The reason for a list of what may go: this is the rule that tools write by themselves."""
    published = core_tools(".git*\n.vscode\nlocal.settings.json\ntest\n.venv\n")
    assert [path for path in PLANTED if published(path)][:2] == [".env", ".env.production"]


def test_the_requirements_are_current() -> None:
    script = runpy.run_path(str(ROOT / "deploy" / "azure" / "requirements.py"))
    assert (ROOT / "requirements.txt").read_text() == script["text"](), "run: python deploy/azure/requirements.py"


def test_the_requirements_are_pinned_for_every_python() -> None:
    lines = (ROOT / "requirements.txt").read_text().splitlines()[1:]
    assert all(re.fullmatch(r"[a-z0-9-]+==[\w.]+( ; python_full_version (<|>=) '3\.1[23]')?", line) for line in lines)
    names = {line.partition("==")[0] for line in lines}
    assert {
        "azure-functions",
        "fastapi",
        "numpy",
        "obstore",
        "onnxruntime",
        "orjson",
        "pysimdjson",
        "werkzeug",
    } <= names
    assert not names & {"uvicorn", "mangum", "boto3", "aws-lambda-powertools"}


def test_the_host_is_told() -> None:
    host = json.loads((ROOT / "host.json").read_text())
    assert (host["version"], host["telemetryMode"]) == ("2.0", "OpenTelemetry")
    bundle = {"id": "Microsoft.Azure.Functions.ExtensionBundle", "version": "[4.0.0, 5.0.0)"}
    assert host["extensionBundle"] == bundle
    http, queues = (host["extensions"][name] for name in ("http", "queues"))
    assert http["routePrefix"] == ""
    assert 1 < http["maxConcurrentRequests"] <= http["maxOutstandingRequests"]
    docs = (ROOT / "docs" / "azure.md").read_text()
    assert (queues["visibilityTimeout"], "delivers it again after 30 s" in docs) == ("00:00:30", True)
    assert (queues["maxDequeueCount"], "after five tries" in docs) == (5, True)
    at_once = queues["batchSize"] + queues["newBatchThreshold"]
    assert (at_once, "up to six at once" in docs) == (6, True)
    # The app takes plain text as well as base64; the host would put all but the latter aside and say nothing.
    assert queues["messageEncoding"] == "none"


def test_the_example_of_local_settings_holds_no_secret() -> None:
    local = json.loads((ROOT / "local.settings.json.example").read_text())
    assert local["Values"]["AzureWebJobsStorage"] == "UseDevelopmentStorage=true"
    assert "key" not in json.dumps(local).lower()

"""Who imports what: the layers of the package, an owner for each third-party package, and a light cold start."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import inferry
import onnx_models
import pytest

PACKAGE = Path(inferry.__file__).parent

# A package imports only those of the lines above its own; modules of the root are packages of themselves.
LEVELS = [
    "__init__",
    "errors concurrency process",
    "settings storage cloud",
    "cpus protocol observability",
    "runtime observability.sinks observability.request_log capture",
    "repository response_cache jobs.formats",
    "service prepare",
    "jobs",
    "http jobs.runs",
    "app worker",
    "server sizing origins",
    "grpc",
    "cli",
    "__main__",
]

OWNERS = {
    "PIL": {"runtime"},
    "aws_lambda_powertools": {"observability.sinks"},
    "azure": {"jobs.runs", "storage"},
    "boto3": {"jobs.runs"},
    "botocore": {"jobs.runs", "storage"},
    "deltalake": {"jobs.formats"},
    "fastapi": {"http"},
    "google": {"grpc"},
    "grpc": {"grpc"},
    "grpc_health": {"grpc"},
    "grpc_reflection": {"grpc"},
    "httptools": {"server"},
    "matplotlib": {"sizing"},
    "obstore": {"storage"},
    "onnx": {"runtime"},
    "onnxruntime": {"runtime"},
    "opentelemetry": {"observability", "observability.sinks"},
    "psycopg": {"observability.request_log"},
    "pyarrow": {"jobs.formats"},
    "pydantic": {"http"},
    "pyiceberg": {"jobs.formats"},
    "redis": {"response_cache"},
    "shtab": {"cli"},
    "simdjson": {"jobs.formats", "protocol"},
    "starlette": {"http"},
    "uvicorn": {"server"},
    "yaml": {"repository"},
}
# Data formats, which belong to nobody.
COMMON = {"numpy", "orjson"}

# What a first prediction doesn't need.
HEAVY = (
    "PIL",
    "aws_lambda_powertools",
    "azure",
    "boto3",
    "fastapi",
    "google.protobuf",
    "grpc",
    "httpx",
    "matplotlib",
    "obstore",
    "onnx",
    "opentelemetry",
    "psycopg",
    "pyarrow",
    "pydantic",
    "redis",
    "simdjson",
    "starlette",
    "uvicorn",
    "yaml",
    "http.client",
)


class Import(NamedTuple):
    """`module` imports `target`: within the package, a module's name; `lazy`: inside a function."""

    module: str
    target: str
    ours: bool
    lazy: bool


def imports() -> Iterator[Import]:
    for module, path in sorted(MODULES.items()):
        yield from _imports(module, ast.parse(path.read_text()), False)


def _module(path: Path) -> str:
    """`stats`, `sinks.prometheus`; a folder's `__init__` has the folder's name, the package's own has its own."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


MODULES = {_module(path): path for path in PACKAGE.rglob("*.py")}


def _imports(module: str, node: ast.AST, lazy: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            targets = [alias.name for alias in child.names]
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, f"{module} has a relative import"
            targets = [f"{child.module}.{alias.name}" for alias in child.names]
        else:
            yield from _imports(module, child, lazy or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef))
            continue
        for target in targets:
            top, *rest = target.split(".")
            if top == "inferry":
                named = (".".join(rest[:length]) for length in range(len(rest), 0, -1))
                yield Import(module, next((name for name in named if name in MODULES), "__init__"), True, lazy)
            elif top not in sys.stdlib_module_names:
                yield Import(module, top, False, lazy)


LEVEL = {package: number for number, line in enumerate(LEVELS) for package in line.split()}


def package(module: str) -> str:
    """The package that a module is in: `jobs.formats`, `jobs`, or a module of the root itself."""
    parents = (".".join(module.split(".")[:length]) for length in range(module.count(".") + 1, 0, -1))
    return next(parent for parent in parents if parent in LEVEL)


def test_imports_go_one_way() -> None:
    packages = {(package(i.module), package(i.target)) for i in imports() if i.ours}
    assert {(user, used) for user, used in packages if user != used and LEVEL[used] >= LEVEL[user]} == set()
    assert {user for user, _ in packages} | {used for _, used in packages} == LEVEL.keys()


def test_third_party_packages_have_owners() -> None:
    found: dict[str, set[str]] = {}
    for item in imports():
        if not item.ours and item.target not in COMMON:
            found.setdefault(item.target, set()).add(package(item.module))
    assert found == OWNERS


ROOT = Path(__file__).parents[2]
LEAVES = ("functions", "azure_app", "cdk")


def imports_below(folder: str) -> Iterator[Import]:
    for path in sorted((ROOT / folder).rglob("*.py")):
        yield from _imports(str(path.relative_to(ROOT)), ast.parse(path.read_text()), False)


@pytest.mark.parametrize("leaf", LEAVES)
def test_leaves_know_nothing_of_each_other(leaf: str) -> None:
    others = {*LEAVES} - {leaf}
    assert [item for item in imports_below(leaf) if not item.ours and item.target in others] == []


LOOKS = "cdk/models.py"


def test_the_stack_knows_names_only() -> None:
    """What a deployment imports of inferry imports nothing that isn't Python's own, but where it looks at models that
    go into the image."""
    by_file = {(item.module, item.target) for item in imports_below("cdk") if item.ours}
    assert {target for module, target in by_file if module == LOOKS} == {
        "errors",
        "repository.metadata",
        "repository.repository",
    }
    found = {target for module, target in by_file if module != LOOKS}
    assert found == {
        "errors",
        "http.routes",
        "observability.catalogue",
        "observability.sinks.cloudwatch_names",
        "settings",
    }
    assert {item.target for item in imports() if item.module in found} <= {*found, "__init__"}


def test_the_check_of_new_versions_needs_nothing_that_is_not_in_lambda() -> None:
    assert {item.target for item in imports_below("cdk/check")} == {"boto3"}


COLD_START = """
import asyncio, json, sys
import inferry.app
from inferry.service import Service
from inferry.settings import Settings

async def infer(app, body):
    sent = []
    async def receive():
        return {"type": "http.request", "body": body}
    async def send(message):
        sent.append(message)
    scope = {"type": "http", "method": "POST", "path": "/v2/models/m/infer", "headers": []}
    await app(scope, receive, send)
    return sent[0]["status"], sent[1]["body"].decode()

service = Service.from_settings(Settings(model_path=sys.argv[1]))
answer = asyncio.run(infer(inferry.app.create_app(service), sys.argv[2].encode()))
service.close()
heavy = [name for name in json.loads(sys.argv[3]) if name in sys.modules]
print(json.dumps([*answer, heavy]))
"""


@pytest.mark.parametrize(("padding", "needed"), [("", []), (" " * 5000, ["simdjson"])], ids=["small", "large"])
def test_a_first_prediction_imports_nothing_heavy(tmp_path: Path, padding: str, needed: list[str]) -> None:
    onnx_models.write(tmp_path, {"m/1/model.onnx": onnx_models.identity()})
    body = padding + '{"inputs":[{"name":"x","shape":[1,3],"datatype":"FP32","data":[1,2,3]}]}'
    command = [sys.executable, "-c", COLD_START, str(tmp_path), body, json.dumps(HEAVY)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    status, answer, heavy = json.loads(output)
    assert (status, heavy) == (200, needed)
    assert json.loads(answer)["outputs"] == [{"name": "y", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]}]


def test_importing_the_package_imports_nothing() -> None:
    """`inferry.__version__` is read by tools that need no more."""
    script = (
        "import sys, inferry; print(*sorted({name.split('.')[0] for name in sys.modules} - sys.stdlib_module_names))"
    )
    command = [sys.executable, "-S", "-c", f"import sys; sys.path.insert(0, {str(PACKAGE.parent)!r}); {script}"]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert output.split() == ["__main__", "inferry"] or output.split() == ["inferry"]

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

# A module imports only modules of the lines above its own.
LAYERS = [
    "__init__ errors waiting threads backlog protobuf batch batch.pipeline",
    "numerics",
    "allocator settings tensors compression config context modelfile catalogue watchdog routes stored keys document",
    "stats batch.report logs fetched npy verdicts cancellation cpus guard",
    "content",
    "store",
    "metrics observation",
    "sinks sinks.prometheus sinks.wire traces requestline",
    "sinks.posting sinks.series sinks.workers sinks.port sinks.emf pushing",
    "sinks.remote_write sinks.sigv4 sinks.entra",
    "sinks.amp sinks.azure_monitor",
    "remote jsontensors classification layout asgi batch.casting batch.texts batch.files batch.storagequeue",
    "protocol batch.remotefiles observing uploads conversion",
    "signature references textbodies connection",
    "session class_names batch.blocks row_proof server",
    "model batching batch.lines batch.numbering",
    "entry columns",
    "repository rows execution batch.predictor batch.numberlines batch.keptcolumns batch.npyanswers",
    "batch.jsonanswers batch.tableanswers",
    "refresher",
    "service description batch.gathering batch.kept",
    "batch.tables batch.jsonlines batch.npyrows",
    "batch.csvrows batch.parquetrows",
    "batch.formats",
    "batch.results batch.names",
    "batch.making batch.places",
    "jobs batch.progress batch.runs",
    "deferred batch.merging batch.onaws batch.onazure batch.planning",
    "app inputs inspection openapi batch.command messages scraping",
    "documentation",
    "management worker",
    "fanout batch.elsewhere",
    "cli",
    "__main__",
]
# Upwards, and only when it is needed: `app` hands over what is not the data plane, the others what is no local folder.
UPWARDS = {("app", "management"), ("store", "remote"), ("batch.files", "batch.remotefiles")}

OWNERS = {
    "aws_lambda_powertools": {"sinks.emf"},
    "fastapi": {"documentation", "management"},
    "obstore": {"batch.remotefiles", "remote"},
    "onnxruntime": {"session"},
    "opentelemetry": {"traces"},
    "pyarrow": {
        f"batch.{name}"
        for name in ("csvrows", "formats", "keptcolumns", "lines", "parquetrows", "tableanswers", "tables")
    },
    "pydantic": {"openapi"},
    "simdjson": {"batch.numberlines", "document"},
    "starlette": {"documentation", "management"},
    "uvicorn": {"connection", "server"},
}
# Data formats, which belong to nobody.
COMMON = {"numpy", "orjson"}

# What a first prediction doesn't need.
HEAVY = (
    "aws_lambda_powertools",
    "boto3",
    "fastapi",
    "httpx",
    "obstore",
    "onnx",
    "opentelemetry",
    "pyarrow",
    "pydantic",
    "simdjson",
    "starlette",
    "uvicorn",
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


LAYER = {module: number for number, line in enumerate(LAYERS) for module in line.split()}


def test_every_module_has_a_layer() -> None:
    assert sorted(LAYER) == sorted(MODULES)


def test_directions() -> None:
    upwards = {(i.module, i.target, i.lazy) for i in imports() if i.ours and LAYER[i.target] >= LAYER[i.module]}
    # errors is with __init__, which imports nothing.
    assert upwards == {(module, target, True) for module, target in UPWARDS}


def test_third_party_packages_have_owners() -> None:
    found: dict[str, set[str]] = {}
    for item in imports():
        if not item.ours and item.target not in COMMON:
            found.setdefault(item.target, set()).add(item.module)
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
    assert {target for module, target in by_file if module == LOOKS} == {"description", "errors", "repository"}
    found = {target for module, target in by_file if module != LOOKS}
    assert found == {"catalogue", "errors", "settings"}
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

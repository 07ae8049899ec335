"""The docs say what is true: every name has its line, every link leads somewhere, every example does what it shows."""

import argparse
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path

import pytest
from contract.servers import EXAMPLES, Server, environment, serving
from examples import Block, alike, blocks, commands, without_code
from inferry import errors
from inferry.cli.main import _parser
from inferry.http.errors import STATUS
from inferry.http.routes import ROUTES
from inferry.protocol.tensors import DATATYPES
from inferry.runtime import model_config
from inferry.settings import Settings
from inferry.storage.backends import BACKENDS

ROOT = Path(__file__).parents[2]
PAGES = {
    str(path.relative_to(ROOT)): path
    for path in (*(ROOT / f"{name}.md" for name in ("README", "CHANGELOG", "CONTRIBUTING")), *ROOT.glob("docs/*.md"))
}
BLOCKS = [block for name, path in sorted(PAGES.items()) for block in blocks(path, name)]
ADDRESS = "127.0.0.1:8000"
# The folder of data on the pages; each run of the tests has its own.
DATA = "/tmp/inferry-docs"
COMMANDS = next(a for a in _parser()._actions if isinstance(a, argparse._SubParsersAction)).choices
VERBS = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))


def text(page: str) -> str:
    return PAGES[page].read_text()


def in_language(*languages: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("block", [b for b in BLOCKS if b.language in languages], ids=str)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def server(data: str) -> Iterator[Server]:
    """The example models, as the pages have them; only models.md loads and unloads."""
    places = {"DATA_PREFIXES": data, "BATCH_INPUT": f"{data}/in", "BATCH_OUTPUT": f"{data}/out"}
    with serving(EXAMPLES, MODEL_CONTROL="true", **places) as server:
        yield server


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where examples run: a folder with the example models in it, and a curl that shows no progress."""
    folder = tmp_path_factory.mktemp("docs")
    (folder / "models").symlink_to(EXAMPLES)
    (folder / ".curlrc").write_text("silent\nshow-error\n")
    return folder


def run(command: list[str], folder: Path, given: str = "") -> str:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = environment({"PATH": path, "HOME": str(folder), "LOG_LEVEL": "CRITICAL"})
    done = subprocess.run(
        command,
        input=given,
        cwd=folder,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
    )
    return done.stdout


def compare(block: Block, said: str, real: str) -> None:
    if not alike(said, real):
        pytest.fail(f"{block} says\n{said}\nbut it is\n{real}", pytrace=False)


@in_language("console")
def test_console(block: Block, server: Server, folder: Path, data: str) -> None:
    if "curl " in block.text and shutil.which("curl") is None:
        pytest.skip("curl is missing")
    for command, said in commands(block.text):
        real = run(["sh", "-c", command.replace(ADDRESS, server.address).replace(DATA, data)], folder)
        compare(block, said, real.replace(server.address, ADDRESS).replace(data, DATA))


# Importing a client takes longer than what it does: all blocks run in one process.
RUNNER = """
import contextlib, io, json, sys, traceback

printed = []
for source in json.load(sys.stdin):
    with contextlib.redirect_stdout(io.StringIO()) as output:
        try:
            exec(source, {"__name__": "__main__"})
        except BaseException:
            traceback.print_exc(file=output)
    printed.append(output.getvalue())
print(json.dumps(printed))
"""


def missing(block: Block) -> list[str]:
    """The packages that a Python block imports and that are not installed."""
    names = re.findall(r"^(?:import|from) (\w+)", block.text, re.MULTILINE)
    return [name for name in names if not find_spec(name)]


@pytest.fixture(scope="module")
def printed(server: Server, folder: Path) -> dict[Block, str]:
    """What the Python blocks print."""
    found = [block for block in BLOCKS if block.language == "python" and not missing(block)]
    sources = [block.text.replace(ADDRESS, server.address) for block in found]
    output = run([sys.executable, "-c", RUNNER], folder, json.dumps(sources))
    return dict(zip(found, json.loads(output.splitlines()[-1]), strict=True))


@in_language("python")
def test_python(block: Block, printed: dict[Block, str]) -> None:
    if missing(block):
        pytest.skip(f"{missing(block)[0]} is not installed: it brings too much for one example")
    compare(block, block.output or "", printed[block])


@in_language("sh")
def test_sh(block: Block) -> None:
    """These can't be run here, but their commands, verbs and settings exist."""
    for line in block.text.splitlines():
        words = line.partition(" #")[0].split()
        while words and "=" in words[0]:
            assert known_variable(words.pop(0).partition("=")[0]), line
        if words[:1] == ["inferry"]:
            _parser().parse_args(words[1:])
        elif words[:1] == ["make"]:
            assert words[1] in VERBS, line


def known_variable(name: str) -> bool:
    return name.lower() in {f.name for f in fields(Settings)} or name.startswith(("AWS_", "AZURE_", "GOOGLE_", "OTEL_"))


@in_language("json")
def test_config_json(block: Block) -> None:
    """JSON by itself is a config.json."""
    model_config.parse_config(block.text.encode(), "m")


@pytest.mark.parametrize("page", PAGES)
def test_other_languages(page: str) -> None:
    """A block in another language is an example that nobody runs; text is a drawing, or what Python prints."""
    found = re.findall(r"^ *```(.+)$", text(page), re.MULTILINE)
    assert set(found) <= {"console", "python", "sh", "json", "text"}


def test_readme_shows_what_serve_prints(server: Server) -> None:
    block = next(b for b in BLOCKS if b.page == "README.md" and b.language == "console")
    printed = [line.split("predict", 1)[1].strip() for line in server.output.splitlines() if "  predict " in line]
    assert printed == [next(commands(block.text))[0].replace(ADDRESS, server.address)]


GENERATED = runpy.run_path(str(ROOT / "docs" / "generate.py"))


@pytest.mark.parametrize("page", GENERATED["TABLES"])
def test_tables_are_current(page: str) -> None:
    assert text(f"docs/{page}") == GENERATED["page"](page, text(f"docs/{page}")), "run python docs/generate.py"


def test_routes() -> None:
    """The first column of protocol.md holds every route; [...] is a part that may be left out."""
    column = "".join(re.findall(r"^\| (`(?:GET|POST) .*?) \|", text("docs/protocol.md"), re.MULTILINE))
    found = [expanded for route in re.findall(r"`([^`]*)`", column) for expanded in expand(route)]
    assert sorted(found) == sorted(f"{route.method} {route.path}" for route in ROUTES)


def expand(route: str) -> list[str]:
    if "[" not in route:
        return [route]
    return [re.sub(r"\[.*?\]", "", route), re.sub(r"[\[\]]", "", route)]


def test_statuses() -> None:
    rows = re.findall(r"^\| (\d{3}) \| `(\w+)` \|", text("docs/protocol.md"), re.MULTILINE)
    assert sorted(rows) == sorted((str(status), error.__name__) for error, status in STATUS.items())


@pytest.mark.parametrize("name", [name for name, value in vars(errors).items() if isinstance(value, type)])
def test_errors(name: str) -> None:
    assert f"`{name}`" in text("docs/protocol.md")


def test_datatypes() -> None:
    assert first_column("docs/protocol.md", "Datatypes") == list(DATATYPES)


def test_config_keys() -> None:
    nested = [f"dynamic_batching.{f.name}" for f in fields(model_config.DynamicBatching)]
    expected = [f.name for f in fields(model_config.ModelConfig)] + nested
    assert sorted(first_column("docs/models.md", "config.json")) == sorted(expected)


def first_column(page: str, heading: str) -> list[str]:
    return re.findall(r"^\| `([^`]*)` \|", section(page, heading), re.MULTILINE)


def section(page: str, heading: str) -> str:
    """The text under a heading, up to the next one of its level."""
    found = re.search(rf"^(#+) {re.escape(heading)}\n(.*?)(?=^\1 |\Z)", text(page), re.MULTILINE | re.DOTALL)
    assert found, f"{page} has no heading {heading!r}"
    return found[2]


def test_commands_have_sections() -> None:
    assert re.findall(r"^## inferry (\w+)$", text("docs/cli.md"), re.MULTILINE) == list(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_options(command: str) -> None:
    about = section("docs/cli.md", f"inferry {command}")
    for action in COMMANDS[command]._actions:
        if not isinstance(action, argparse._HelpAction):
            for name in action.option_strings or [action.metavar]:
                assert f"`{name}" in about


@pytest.mark.parametrize("scheme", ["file", "memory", *BACKENDS])
def test_stores(scheme: str) -> None:
    assert f"`{scheme}://" in text("docs/models.md")


def test_packages() -> None:
    """The architecture page has a row for each package, and the lines of levels that the test of the imports proves."""
    levels = runpy.run_path(str(ROOT / "tests" / "unit" / "test_imports.py"))["LEVELS"]
    named = re.findall(r"^\| `([\w.]+)` \|", text("docs/architecture.md"), re.MULTILINE)
    assert sorted([*named, "__init__", "__main__"]) == sorted(" ".join(levels).split())
    drawings = [block.text for block in BLOCKS if block.page == "docs/architecture.md" and block.language == "text"]
    assert "\n".join(reversed(levels)) in [drawing.strip() for drawing in drawings]


def test_bench() -> None:
    table = re.search(r"^ROWS\b.*?^}", (ROOT / "bench" / "__main__.py").read_text(), re.MULTILINE | re.DOTALL)
    assert table
    rows = re.findall(r"^\| `(\w+)` \|", text("docs/bench.md").partition("## Servers")[0], re.MULTILINE)
    assert rows == re.findall(r'"(\w+)":', table[0])


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_verbs(verb: str) -> None:
    assert f"`make {verb}`" in text("CONTRIBUTING.md")


@pytest.mark.parametrize("page", PAGES)
def test_links(page: str) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", without_code(text(page))):
        if not link.startswith(("https://", "http://")):
            path, _, anchor = link.partition("#")
            target = (PAGES[page].parent / path).resolve() if path else PAGES[page]
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), link


def anchors(path: Path) -> set[str]:
    """As GitHub makes them from headings."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [page for page in PAGES if page != "README.md"])
def test_readme_leads_to_every_page(page: str) -> None:
    assert f"]({page})" in text("README.md")


@pytest.mark.parametrize(
    ("said", "real", "expected"),
    [
        ('{"a": [1.0]}', '{"a":[1.00001]}', True),
        ('{"a": [1.0]}', '{"a":[1.001]}', False),
        ('{"a": [1.0, 2.0]}', '{"a":[1.0]}', False),
        ('{"a": 1}', '{"a":true}', False),
        ('{"a": "0.995296:3"}', '{"a":"0.995295:3"}', True),
        ('{"a":[0.5,...]}', '{"a":[0.50001,0.2]}', True),
        ('{"a":[0.5,...]}', '{"b":[0.50001,0.2]}', False),
        ("model  127.0.0.1 sha 12ab", "model 127.0.0.1 sha 12ab", True),
        ("model sha 12ab", "model sha 12ac", False),
        ("[7] 0.99", "[7] 0.9899999\n", True),
        ("", "Traceback", False),
    ],
)
def test_alike(said: str, real: str, expected: bool) -> None:
    assert alike(said, real) is expected

"""The docs say what is true: every name has its line, every link leads somewhere, every example does what it shows."""

import argparse
import json
import os
import re
import runpy
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import pytest
from contract.servers import EXAMPLES, Server, environment, serving
from examples import Block, alike, blocks, commands, without_code
from inferry import errors
from inferry.cli.parser import make_parser
from inferry.http.errors import STATUS
from inferry.http.routes import ROUTES
from inferry.protocol.tensors import DATATYPES
from inferry.runtime import model_config
from inferry.settings import Settings
from inferry.storage.backends import BACKENDS
from loopback import free_port

ROOT = Path(__file__).parents[2]
PAGES = {
    str(path.relative_to(ROOT)): path
    for path in (*(ROOT / f"{name}.md" for name in ("README", "CHANGELOG", "CONTRIBUTING")), *ROOT.glob("docs/*.md"))
}
# The first page of the site, where GitHub has the README.
SITE = "docs/index.md"
BLOCKS = [block for name, path in sorted(PAGES.items()) for block in blocks(path, name)]
ADDRESS = "127.0.0.1:8000"
GRPC_ADDRESS = "127.0.0.1:8001"
# The folder of data on the pages; each run of the tests has its own.
DATA = "/tmp/inferry-docs"
COMMANDS = next(a for a in make_parser()._actions if isinstance(a, argparse._SubParsersAction)).choices
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
    places["GRPC_PORT"] = str(free_port())
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
    sources = [block.text.replace(ADDRESS, server.address).replace(GRPC_ADDRESS, server.grpc) for block in found]
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
            make_parser().parse(words[1:])
        elif words[:1] == ["make"]:
            assert words[1] in VERBS, line


def known_variable(name: str) -> bool:
    return name.lower() in {f.name for f in fields(Settings)} or name.startswith(("AWS_", "AZURE_", "GOOGLE_", "OTEL_"))


# A state machine, which tests/aws/deploy/test_state_machine.py runs, and a policy.
OF_AWS = ({"StartAt", "States"}, {"Version", "Statement"})


@in_language("json")
def test_config_json(block: Block) -> None:
    """Other JSON by itself is a config.json."""
    if json.loads(block.text).keys() in OF_AWS:
        return
    model_config.parse_config(block.text.encode(), "m")


@pytest.mark.parametrize("page", PAGES)
def test_other_languages(page: str) -> None:
    """A block in another language is an example that nobody runs; text is a drawing, or what Python prints."""
    found = re.findall(r"^ *```(.+)$", text(page), re.MULTILINE)
    assert set(found) <= {"console", "python", "sh", "json", "text"} | ({"{toctree}"} if page == SITE else set())


def test_readme_shows_what_serve_prints(server: Server) -> None:
    block = next(b for b in BLOCKS if b.page == "README.md" and b.language == "console")
    printed = [line.split("predict", 1)[1].strip() for line in server.output.splitlines() if "  predict " in line]
    assert printed == [next(commands(block.text))[0].replace(ADDRESS, server.address)]


def test_the_first_screen_works_as_written(tmp_path: Path) -> None:
    """The commands of the README's first block in one shell, then its first request and its Python example.

    Nothing is downloaded: the new environment finds what pip would fetch in that of the tests, by a path.
    """
    first, request, example = (
        next(block for block in BLOCKS if block.page == "README.md" and block.language == language)
        for language in ("sh", "console", "python")
    )
    installed = f"{first.text}{metadata.requires('inferry')}"
    imported = set(re.findall(r"^(?:import|from) (\w+)", example.text, re.MULTILINE)) - sys.stdlib_module_names
    assert [name for name in imported if name not in installed] == []
    for name in ("LICENSE", "README.md", "CHANGELOG.md", "pyproject.toml", "models"):
        (tmp_path / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "shared", tmp_path / "shared", ignore=shutil.ignore_patterns("__pycache__"))
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "python3").symlink_to(sys._base_executable)  # type: ignore[attr-defined]
    path = os.pathsep.join([str(programs), "/usr/bin", "/bin"])
    pip = {"PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0", "PIP_REQUIRE_VIRTUALENV": "1", "PIP_NO_CACHE_DIR": "1"}
    env = environment({"PATH": path, "HOME": str(tmp_path), "PORT": "0", **pip})
    make, *others = first.text.splitlines(keepends=True)
    subprocess.run(["sh", "-c", make], cwd=tmp_path, env=env, check=True, timeout=60)
    (packages,) = tmp_path.glob(".venv/lib/python3*/site-packages")
    (packages / "tests.pth").write_text(sysconfig.get_path("purelib"))
    with served_by(["sh", "-ec", "".join(others)], tmp_path, env) as address:
        ((command, said),) = commands(request.text)
        done = subprocess.run(
            ["sh", "-c", command.replace("curl ", "curl --silent ").replace(ADDRESS, address)],
            capture_output=True,
            text=True,
            timeout=60,
        )
        compare(request, said, done.stdout)
        python = [str(tmp_path / ".venv/bin/python"), "-c", example.text.replace(ADDRESS, address)]
        done = subprocess.run(python, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60)
        compare(example, example.output or "", done.stdout + done.stderr)


@contextmanager
def served_by(command: list[str], folder: Path, env: dict[str, str]) -> Iterator[str]:
    """The address that a command prints which ends in `inferry serve`."""
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=folder, env=env, stdout=output, stderr=output, start_new_session=True)
    try:
        deadline = time.monotonic() + 120
        while not (found := re.search(r" at http://(127\.0\.0\.1:\d+)\n", log.read_text())):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield found[1]
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def test_the_speed_in_the_readme_is_that_of_the_results() -> None:
    numbers = re.findall(r"\d[\d.,]*(?: ms| us| MB|x)", section("README.md", "Speed"))
    assert len(numbers) >= 5
    results = text("docs/bench-results.md")
    assert [number for number in numbers if f" {number} " not in results and f" {number}," not in results] == []


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
    nested = [f"dynamic_batching.{name}" for name in model_config.DynamicBatching._fields]
    nested += [f"response_cache.{name}" for name in model_config.ResponseCache._fields]
    expected = [*model_config.ModelConfig._fields, *nested]
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


@pytest.mark.parametrize("page", [page for page in PAGES if page not in ("README.md", SITE)])
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

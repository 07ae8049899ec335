"""What every image has in common. Its build has run a prediction of each model already."""

import json
import re
from pathlib import Path

import pytest
from containers import FUNCTIONS, IMAGES, ROOT, Image, build, inside, inspect, megabytes

CODE = """
import importlib.util, json, os, pathlib, sys
source = importlib.util.find_spec("inferry.app").origin
flags = pathlib.Path(importlib.util.cache_from_source(source)).read_bytes()[4]
def refused(path):
    try:
        pathlib.Path(path).write_text("")
    except OSError as exc:
        return exc.strerror
print(json.dumps({
    "root": 0 in (os.getuid(), os.getgid()),
    "capabilities": [line.split()[1] for line in open("/proc/self/status") if line.startswith(("CapEff", "CapBnd"))],
    "telemetry": os.environ["ORT_DISABLE_TELEMETRY"],
    "bytecode": flags,
    "writes": [refused(path) for path in (os.path.join(os.getcwd(), "x"), "/x", "/tmp/x")],
}))
"""


LEFT = "import pathlib, sys; print(*[path for glob in sys.argv[1:] for path in pathlib.Path().glob(glob)])"


def test_it_runs_with_little(image: Image) -> None:
    assert json.loads(inside(image, "python3", "-c", CODE)) == {
        "root": False,
        "capabilities": ["0" * 16] * 2,
        "telemetry": "1",
        # PEP 552: 1 is by hash, 2 would be to check it.
        "bytecode": 1,
        "writes": ["Read-only file system", "Read-only file system", None],
    }


def test_it_holds_what_it_needs_and_nothing_else(image: Image) -> None:
    root = inspect(image)["Config"]["WorkingDir"]
    found = inside(image, "python3", "-c", f"import os; print(*sorted(os.listdir({root!r})))").split()
    assert {"inferry", "numpy", "onnxruntime", *image.own} <= set(found)
    others = {name for other in IMAGES.values() for name in other.own} - image.own
    assert not {"tests", "docs", "bench", "cdk", ".git", ".env", "pip", "boto3", *others} & set(found)
    assert {"models", "pyarrow"} & set(found) == ({"models", "pyarrow"} if image.name in FUNCTIONS else set())
    left = inside(image, "python3", "-c", LEFT, "**/tests", "**/*.pyi", "models/*.py")
    assert left.split() == []


def test_its_size(image: Image, capsys: pytest.CaptureFixture[str]) -> None:
    size = megabytes(image)
    with capsys.disabled():
        print(f"\nimage {image.name}: {size:.0f} MB on top of its base")
    assert size < image.megabytes


# The page with an image's table.
DOCS = {"lambda": "aws.md", "server": "server.md"}
# A row of the table of what takes the room: folders in backticks, and their megabytes.
ROOM = re.compile(r"^\| (`.+|everything else) \| (\d+) \|$", re.MULTILINE)
SIZES = """
import json, pathlib
def size(path):
    return sum(file.lstat().st_size for file in (path.rglob("*") if path.is_dir() else [path]) if not file.is_dir())
print(json.dumps({path.name: size(path) for path in pathlib.Path().iterdir()}))
"""


@pytest.mark.parametrize("name", DOCS)
def test_what_takes_the_room(built: dict[str, Image], name: str, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = json.loads(inside(built[name], "python3", "-c", SIZES))
    rows = ROOM.findall((ROOT / "docs" / DOCS[name]).read_text())
    # The last row has no names, and what no other row has.
    measured = [sum(sizes.pop(name) for name in re.findall("`(.+?)`", part) or [*sizes]) / 1e6 for part, _ in rows]
    with capsys.disabled():
        print(*(f"\n{size:6.1f} MB {part}" for size, (part, _) in zip(measured, rows, strict=True)), end="")
    assert sizes == {}
    assert [int(said) for _, said in rows] == pytest.approx(measured, abs=1)


def test_a_build_is_reproducible(image: Image, tmp_path: Path) -> None:
    assert build(image, "--no-cache") == inspect(image)["Id"]

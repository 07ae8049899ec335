"""Builds .tools/lambda: an environment with the function's pins for each Python. Run by make."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
TOOLS = ROOT / ".tools" / "lambda"
# Those that Lambda has and inferry runs on.
PYTHONS = ("3.11", "3.12", "3.13")


def main() -> None:
    """Makes everything anew; a Python that isn't on this machine is said, and left out."""
    shutil.rmtree(TOOLS, ignore_errors=True)
    TOOLS.mkdir(parents=True)
    for version in PYTHONS:
        if python := interpreter(version):
            install_function(version, python)
        else:
            print(f"Python {version} is missing: the tests of the function under it will be skipped")


def install_function(version: str, python: str) -> None:
    uv = (str(Path(sys.executable).with_name("uv")), "--quiet", "--no-python-downloads")
    folder = TOOLS / version
    subprocess.run([*uv, "venv", "--python", python, str(folder)], check=True)
    # As the image has it.
    what = ("--constraint", "constraints.txt", "--editable", ".[aws,batch]")
    subprocess.run([*uv, "pip", "install", "--python", str(folder), *what], cwd=ROOT, check=True)


def interpreter(version: str) -> str | None:
    """The path of a Python that starts; pyenv's stand-ins don't where another version is chosen."""
    return next((path for path in candidates(version) if starts(path)), None)


def candidates(version: str) -> Iterator[str]:
    if found := shutil.which(f"python{version}"):
        yield found
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    yield from map(str, sorted(pyenv.glob(f"versions/{version}.*/bin/python"), reverse=True))


def starts(path: str) -> bool:
    return subprocess.run([path, "-c", ""], capture_output=True).returncode == 0


if __name__ == "__main__":
    main()

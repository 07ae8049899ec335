"""Makes the zip for `func azure functionapp publish APP --no-build`: `python deploy/azure/package.py [FILE]`.

The options: `--models FOLDER` takes other models than the examples, or with an empty FOLDER none; `--prepare one`, or
many, makes forms of them that start sooner (docs/prepared-models.md); `--python VERSION` is the app's, and refuses to
make what the app can't run.

The code that .funcignore lets out, with its dependencies for the Python that runs this, pruned, and compiled: an
instance starts without the platform's build, and without compiling. Run it on Linux with the app's version of Python.
"""

import argparse
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[2]
MODELS = "models"
# Where the Python worker looks for an app's packages.
PACKAGES = Path(".python_packages", "lib", "site-packages")
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
# Deflate has no earlier date; the same files make the same zip.
EPOCH = (1980, 1, 1, 0, 0, 0)


def build(target: Path, models: Path | None = ROOT / MODELS, prepare: str = "none") -> None:
    """Writes the zip, with a folder of models or none. CalledProcessError when a dependency can't be had."""
    with TemporaryDirectory() as folder:
        app = Path(folder)
        copy_code(app, models)
        install(app / PACKAGES)
        # As the images are; what was pruned too far, test_package.py finds.
        _run(str(ROOT / "images" / "prune.py"), str(app / PACKAGES))
        if models is not None and prepare != "none":
            prepare_models(app, prepare)
        compile_all(app)
        write(app, target)


def copy_code(app: Path, models: Path | None) -> None:
    """What .funcignore lets out, with these models."""
    lines = (ROOT / ".funcignore").read_text(encoding="utf-8").split()
    for name in (line[2:].rstrip("/") for line in lines if line.startswith("!/")):
        source = models if name == MODELS else ROOT / name
        if source is None:
            continue
        if source.is_dir():
            shutil.copytree(source, app / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, app / name)


def install(packages: Path) -> None:
    """The pinned requirements, which are all of them: nothing else is looked for."""
    pip = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile", "--no-deps")
    requirements = str(ROOT / "requirements.txt")
    _run(*pip, "--only-binary=:all:", "--target", str(packages), "--requirement", requirements)


def prepare_models(app: Path, processes: str) -> None:
    """Puts prepared models in the place of those that are there, with the packages of the app."""
    packages = f"PYTHONPATH={app / PACKAGES}:{ROOT / 'shared'}"
    command = (sys.executable, "-m", "inferry", "prepare", str(app / MODELS), str(app / "prepared"), "--for", processes)
    subprocess.run(["/usr/bin/env", packages, "ORT_DISABLE_TELEMETRY=1", *command], check=True)  # noqa: S603
    shutil.rmtree(app / MODELS)
    (app / "prepared").rename(app / MODELS)


def compile_all(app: Path) -> None:
    """Bytecode that is taken as it is, whatever dates the unpacked files have."""
    _run("-m", "compileall", "-q", "-j", "0", "--invalidation-mode", "unchecked-hash", "-s", str(app), str(app))


def write(app: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(path for path in app.rglob("*") if path.is_file()):
            entry = zipfile.ZipInfo(str(path.relative_to(app)), EPOCH)
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, path.read_bytes())


def _run(*arguments: str) -> None:
    subprocess.run([sys.executable, *arguments], check=True)  # noqa: S603


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", nargs="?", type=Path, default=ROOT / "dist" / f"inferry-azure-python{VERSION}.zip")
    parser.add_argument("--models", default=str(ROOT / MODELS))
    parser.add_argument("--prepare", choices=("none", "one", "many"), default="none")
    parser.add_argument("--python", default=VERSION)
    options = parser.parse_args()
    if options.python != VERSION:
        said = f"the app has Python {options.python}, and this one is {VERSION}"
        parser.error(f"{said}: make ... AZURE_PYTHON=python{options.python}")
    if options.models and not Path(options.models).is_dir():
        parser.error(f"--models is a folder of models, and {options.models} is none: see docs/models.md#layout")
    return options


if __name__ == "__main__":
    options = _options()
    build(options.file, Path(options.models) if options.models else None, options.prepare)
    with zipfile.ZipFile(options.file) as made:
        unpacked = sum(entry.file_size for entry in made.infolist())
    size = options.file.stat().st_size / 2**20
    print(f"{options.file}: {size:.1f} MB, unpacked {unpacked / 2**20:.1f} MB, for Python {VERSION}")

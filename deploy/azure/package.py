"""Makes the zip for `func azure functionapp publish APP --no-build`: `python deploy/azure/package.py [FILE]`.

The code that .funcignore lets out, with its dependencies for the Python that runs this, pruned, and compiled: an
instance starts without the platform's build, and without compiling. Run it on Linux with the app's version of Python.
"""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[2]
# Where the Python worker looks for an app's packages.
PACKAGES = Path(".python_packages", "lib", "site-packages")
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
# Deflate has no earlier date; the same files make the same zip.
EPOCH = (1980, 1, 1, 0, 0, 0)


def build(target: Path) -> None:
    """Writes the zip. CalledProcessError when a dependency can't be had."""
    with TemporaryDirectory() as folder:
        app = Path(folder)
        copy_code(app)
        install(app / PACKAGES)
        # As the images are; what was pruned too far, test_package.py finds.
        _run(str(ROOT / "images" / "prune.py"), str(app / PACKAGES))
        compile_all(app)
        write(app, target)


def copy_code(app: Path) -> None:
    """What .funcignore lets out."""
    lines = (ROOT / ".funcignore").read_text(encoding="utf-8").split()
    for name in (line[2:] for line in lines if line.startswith("!/")):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, app / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, app / name)


def install(packages: Path) -> None:
    """The pinned requirements, which are all of them: nothing else is looked for."""
    pip = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile", "--no-deps")
    requirements = str(ROOT / "requirements.txt")
    _run(*pip, "--only-binary=:all:", "--target", str(packages), "--requirement", requirements)


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


if __name__ == "__main__":
    file = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "dist" / f"inferry-azure-python{VERSION}.zip"
    build(file)
    with zipfile.ZipFile(file) as made:
        unpacked = sum(entry.file_size for entry in made.infolist())
    print(f"{file}: {file.stat().st_size / 2**20:.1f} MB, unpacked {unpacked / 2**20:.1f} MB, for Python {VERSION}")

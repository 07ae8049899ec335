"""Deletes from a folder of installed packages what no prediction and no batch job needs: prune.py FOLDER.

predict.py and jobs.py run over what is left: a line too many here fails the build.
"""

import shutil
import sys
from pathlib import Path
from py_compile import PycInvalidationMode
from py_compile import compile as compile_module

from elf import loaded, renamed

# Why something is not needed, and what that is: paths below the folder, as globs. Licences stay.
UNUSED = {
    "it is for those who build, test or type-check": (
        "**/__pycache__",
        "**/tests",
        "**/testing",
        "**/*.pyi",
        "**/*.pxd",
        "**/*.pxi",
        "**/*.pyx",
        "**/*.h",
        "**/*.hpp",
        "**/*.a",
        "**/mypy.py",
        "**/testclient.py",
        "anyio/pytest_plugin.py",
        "bin",
        "numpy/_core/_simd.*",
        "numpy/_core/_*_tests.*",
        "numpy/f2py",
        "pyarrow/_pyarrow_cpp_tests*",
        "pyarrow/include",
        "pyarrow/src",
        "simdjson/simdjson.cpp",
    ),
    "it lists what was installed, which is no longer what is there": ("*.dist-info/RECORD",),
    "it is the engine once more, for programs that aren't Python": ("onnxruntime/capi/libonnxruntime.so*",),
    "it prepares models": (
        "onnxruntime/backend",
        "onnxruntime/datasets",
        "onnxruntime/quantization",
        "onnxruntime/tools",
        "onnxruntime/transformers",
    ),
    "entries of one server are all that we want of Redis": (
        "redis/asyncio/http",
        "redis/asyncio/multidb",
        "redis/commands/bf",
        "redis/commands/json",
        "redis/commands/search",
        "redis/commands/timeseries",
        "redis/commands/vectorset",
        "redis/http",
        "redis/multidb",
    ),
    "only what prepares models imports it": ("flatbuffers", "google", "packaging"),
    "arrays are made and changed, and nothing of this is done to them": (
        "numpy/fft",
        "numpy/polynomial",
        "numpy/random",
    ),
    "JPEG and PNG are all that we use of Pillow": (
        "PIL/_avif*",
        "PIL/_imagingcms*",
        "PIL/_imagingft*",
        "PIL/_imagingmath*",
        "PIL/_imagingmorph*",
        "PIL/_imagingtk*",
        "PIL/_webp*",
        "pillow.libs/libavif*",
        "pillow.libs/libbrotli*",
        "pillow.libs/libfreetype*",
        "pillow.libs/libharfbuzz*",
        "pillow.libs/liblcms2*",
        "pillow.libs/libpng16*",
        "pillow.libs/libsharpyuv*",
        "pillow.libs/libwebp*",
    ),
    "arrays, CSV, Parquet, ORC and IPC are all that we use of Arrow": (
        "pyarrow/_acero*",
        "pyarrow/_azurefs*",
        "pyarrow/_dataset*",
        "pyarrow/_feather*",
        "pyarrow/_flight*",
        "pyarrow/_gcsfs*",
        "pyarrow/_hdfs*",
        "pyarrow/_json*",
        "pyarrow/_parquet_encryption*",
        "pyarrow/_s3fs*",
        "pyarrow/_substrait*",
        "pyarrow/interchange",
        "pyarrow/libarrow_flight*",
        "pyarrow/libarrow_python_flight*",
        "pyarrow/libarrow_python_parquet_encryption*",
        "pyarrow/libarrow_s3*",
    ),
    # Programs ask for the one that is left.
    "it is the same library under another name": (
        "pyarrow/libarrow_python.so",
        "pyarrow/libarrow_python.so.*.*.*",
    ),
    "the application is our own; Powertools is there for batches, logs and metrics": (
        "aws_lambda_powertools/event_handler",
        "aws_lambda_powertools/utilities/auth_alpha",
        "aws_lambda_powertools/utilities/circuit_breaker",
        "aws_lambda_powertools/utilities/data_masking",
        "aws_lambda_powertools/utilities/feature_flags",
        "aws_lambda_powertools/utilities/idempotency",
        "aws_lambda_powertools/utilities/kafka",
        "aws_lambda_powertools/utilities/parameters",
    ),
    "FastAPI does without it": ("pydantic/v1",),
    "asyncio's are the loops here": ("anyio/_backends/_trio.py",),
    "of the names that may change, OpenTelemetry itself has those of otel_attributes and otel_metrics": (
        "opentelemetry/semconv/_incubating/*/[a-np-z]*.py",
        "opentelemetry/semconv/_incubating/*/o[a-su-z]*.py",
    ),
    "only anyio would import it, for names of hosts that aren't ASCII": ("idna",),
}

# Of these, what stays where somebody is who needs it.
NEEDED = {"google": ("grpc", "opentelemetry/proto"), "idna": ("requests",)}

# Of these only the bytecode stays: their sources are documentation, for the most part, and nobody debugs them here.
SOURCELESS = ("numpy",)

# Libraries that Arrow's others ask the loader for without calling anything in them, and the one to ask for instead.
# LD_BIND_NOW=1 in the build makes the loader find every function at once, or fail.
UNCALLED = {
    "libarrow_acero": "libarrow",
    "libarrow_dataset": "libarrow",
    "libarrow_substrait": "libarrow",
}


def main(folder: Path) -> None:
    """Says what it gained."""
    before = size(folder)
    for pattern in (pattern for patterns in UNUSED.values() for pattern in patterns):
        if any((folder / user).exists() for user in NEEDED.get(pattern, ())):
            continue
        for path in sorted(folder.glob(pattern)):
            delete(path)
    unlink_uncalled(folder / "pyarrow")
    for package in SOURCELESS:
        leave_bytecode(folder, package)
    for library in libraries(folder):
        library.write_bytes(loaded(library.read_bytes()))
    print(f"pruned {folder}: {before / 1e6:.0f} MB to {size(folder) / 1e6:.0f} MB")


def unlink_uncalled(folder: Path) -> None:
    """Deletes the libraries that nobody calls, and has the others do without them."""
    for name, instead in UNCALLED.items():
        for path in sorted(folder.glob(f"{name}.so*")):
            delete(path)
            for library in libraries(folder):
                library.write_bytes(renamed(library.read_bytes(), path.name, path.name.replace(name, instead)))


def leave_bytecode(folder: Path, package: str) -> None:
    """Modules as Python takes them without a source; a traceback names the file and the line all the same."""
    for path in sorted((folder / package).rglob("*.py")):
        told = str(path.relative_to(folder))
        mode = PycInvalidationMode.UNCHECKED_HASH
        compile_module(str(path), str(path.with_suffix(".pyc")), told, doraise=True, invalidation_mode=mode)
        path.unlink()


def libraries(folder: Path) -> list[Path]:
    """Shared libraries, Python's extension modules among them."""
    return sorted(path for path in folder.rglob("*.so*") if path.is_file() and not path.is_symlink())


def delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def size(path: Path) -> int:
    """Bytes of the files below."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.lstat().st_size for file in files if not file.is_dir())


if __name__ == "__main__":
    main(Path(sys.argv[1]))

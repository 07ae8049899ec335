"""Deletes from a folder of installed packages what no prediction and no batch job needs: prune.py FOLDER.

predict.py runs over what is left: a line too many here fails the build.
"""

import shutil
import sys
from pathlib import Path

# Paths below the folder, as globs.
UNUSED = (
    # Not for running.
    "**/__pycache__",
    "**/tests",
    "**/testing",
    "**/*.pyi",
    "**/*.pxd",
    "**/*.pyx",
    "**/*.h",
    "**/*.hpp",
    "bin",
    # The engine once more, for programs that aren't Python; and what prepares models.
    "onnxruntime/capi/libonnxruntime.so*",
    "onnxruntime/backend",
    "onnxruntime/datasets",
    "onnxruntime/quantization",
    "onnxruntime/tools",
    "onnxruntime/transformers",
    # Only those need these.
    "flatbuffers",
    "google",
    "numpy/f2py",
    # Arrow's parts beside arrays, CSV, JSON and Parquet.
    "pyarrow/_flight*",
    "pyarrow/_substrait*",
    "pyarrow/_orc*",
    "pyarrow/_gcsfs*",
    "pyarrow/_s3fs*",
    "pyarrow/_azurefs*",
    "pyarrow/_hdfs*",
    "pyarrow/_pyarrow_cpp_tests*",
    "pyarrow/*.pxi",
    "pyarrow/include",
    "pyarrow/libarrow_flight*",
    "pyarrow/libarrow_python_flight*",
    "pyarrow/libarrow_s3*",
    "pyarrow/src",
    # The same library under three names: programs ask for the one that is left.
    "pyarrow/libarrow_python.so",
    "pyarrow/libarrow_python.so.*.*.*",
)


def main(folder: str) -> None:
    """Says what it gained."""
    before = size(Path(folder))
    for pattern in UNUSED:
        for path in sorted(Path(folder).glob(pattern)):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.is_symlink() or path.exists():
                path.unlink()
    after = size(Path(folder))
    print(f"pruned {folder}: {before / 1e6:.0f} MB to {after / 1e6:.0f} MB")
    for part in sorted(Path(folder).iterdir(), key=size, reverse=True)[:8]:
        print(f"  {size(part) / 1e6:6.1f} MB {part.name}")


def size(path: Path) -> int:
    """Bytes of the files below."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.lstat().st_size for file in files if not file.is_dir())


if __name__ == "__main__":
    main(sys.argv[1])

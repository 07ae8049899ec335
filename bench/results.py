"""The page of results: docs/bench-results.md."""

import os
import platform
import sysconfig
from collections.abc import Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path

from .table import Row, as_markdown

PAGE = Path(__file__).parents[1] / "docs" / "bench-results.md"
PACKAGES = ("numpy", "onnxruntime", "orjson", "pysimdjson", "uvicorn", "uvloop", "httptools")
MEDIANS = "Medians; a ratio is the median of the ratios of measurements next to each other."


def page(rows: Sequence[Row], conditions: str, day: date) -> str:
    """The whole page: when, where and with what it was measured, and the table."""
    head = f"Written by `make bench` on {day.isoformat()}. [bench.md](bench.md) says what is measured, and how."
    return "\n\n".join(("# Benchmark results", head, f"{conditions}.", as_markdown(rows), MEDIANS)) + "\n"


def machine() -> str:
    """Where this is measured, and with what."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())
    optimised = "--enable-optimizations" in str(sysconfig.get_config_var("CONFIG_ARGS"))
    python = f"Python {platform.python_version()} ({'with' if optimised else 'without'} PGO)"
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return f"{cpu}, {os.cpu_count()} cores, {platform.system()} {platform.release()}; {python}; {packages}"

"""`python -m bench [NAME...]`: measure, and print one table."""

import argparse
import os
import platform
import sys
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from importlib.metadata import version
from pathlib import Path
from typing import TypeAlias

from .batching import batching
from .changing import changing
from .decoding import binary, json
from .files import files
from .functions import functions
from .growth import growth
from .invocations import init, warm
from .loading import loading
from .measure import ChildFailed
from .metrics import metrics
from .overhead import overhead
from .peers.errors import PeerError
from .rows import rows
from .rps import rps
from .stall import stall
from .start import cold, memory
from .table import Row, as_markdown, as_text, unavailable
from .trees import trees

Measure: TypeAlias = Callable[[bool], Iterator[Row]]

ROWS: dict[str, Measure] = {
    "cold": cold,
    "overhead": overhead,
    "json": json,
    "binary": binary,
    "rps": rps,
    "batching": batching,
    "stall": stall,
    "memory": memory,
    "growth": growth,
    "changing": changing,
    "trees": trees,
    "loading": loading,
    "metrics": metrics,
    "files": files,
    "rows": rows,
    "functions": functions,
    "init": init,
    "warm": warm,
}
PACKAGES = ("numpy", "onnxruntime", "orjson", "pysimdjson", "uvicorn", "uvloop", "httptools")


def main() -> int:
    """Measures what is asked for; exit status 1 when something could not be measured."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure inferry beside its peers.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"rows to measure, all by default: {', '.join(ROWS)}")
    parser.add_argument("--quick", action="store_true", help="fewer repetitions: a look, not a measurement")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    options = parser.parse_args()
    if unknown := set(options.names) - ROWS.keys():
        parser.error(f"there is no row {', '.join(sorted(unknown))}; there are {', '.join(ROWS)}")
    # Every process that is measured inherits it.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    load = os.getloadavg()[0]
    failed, table = False, []
    for name in options.names or ROWS:
        try:
            # The peers report on stdout what they install, which is the table's alone.
            with redirect_stdout(sys.stderr):
                table += list(ROWS[name](options.quick))
        except (ChildFailed, PeerError) as exc:
            failed = True
            table.append(unavailable(name, str(exc)))
    print(f"{machine()}; load average at the start {load:.1f}\n")
    print(as_markdown(table) if options.markdown else as_text(table))
    print("\nMedians; a ratio is the median of the ratios of measurements next to each other.")
    if options.quick:
        print("--quick: too short to judge by.")
    return int(failed)


def machine() -> str:
    """Where this was measured, and with what."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())
    optimised = "--enable-optimizations" in str(sysconfig.get_config_var("CONFIG_ARGS"))
    python = f"Python {platform.python_version()} ({'with' if optimised else 'without'} PGO)"
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return f"{cpu}, {os.cpu_count()} cores, {platform.system()} {platform.release()}; {python}; {packages}"


if __name__ == "__main__":
    sys.exit(main())

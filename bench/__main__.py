"""`python -m bench [NAME...]`: measure, and print one table; all of it goes into docs/bench-results.md too."""

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from datetime import UTC, datetime
from typing import TypeAlias

from .batching import batching
from .cache import cache
from .calls import grpc
from .changing import changing
from .decoding import binary, json
from .engines import engines
from .files import files
from .functions import functions
from .growth import growth
from .invocations import init, warm
from .lines import lines
from .loading import loading
from .measure import ChildFailed
from .metrics import metrics
from .overhead import overhead
from .peers.errors import PeerError
from .prepared import prepared
from .results import MEDIANS, PAGE, machine, page
from .rows import rows
from .rps import rps
from .sizing import sizing
from .stall import stall
from .start import cold, memory
from .table import Row, as_markdown, as_text, unavailable
from .tables import tables
from .trees import trees

Measure: TypeAlias = Callable[[bool], Iterator[Row]]

ROWS: dict[str, Measure] = {
    "cold": cold,
    "overhead": overhead,
    "json": json,
    "binary": binary,
    "rps": rps,
    "grpc": grpc,
    "batching": batching,
    "cache": cache,
    "stall": stall,
    "memory": memory,
    "growth": growth,
    "changing": changing,
    "trees": trees,
    "loading": loading,
    "prepared": prepared,
    "sizing": sizing,
    "metrics": metrics,
    "files": files,
    "engines": engines,
    "lines": lines,
    "tables": tables,
    "rows": rows,
    "functions": functions,
    "init": init,
    "warm": warm,
}


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
    conditions = f"{machine()}; load average at the start {os.getloadavg()[0]:.1f}"
    failed, table = False, []
    for name in options.names or ROWS:
        try:
            # The peers report on stdout what they install, which is the table's alone.
            with redirect_stdout(sys.stderr):
                for row in ROWS[name](options.quick):
                    table.append(row)
                    # A measurement that is ended early has shown what it found.
                    print(as_text([row]).splitlines()[-1], file=sys.stderr)
        except (ChildFailed, PeerError) as exc:
            failed = True
            table.append(unavailable(name, str(exc)))
    print(f"{conditions}\n")
    print(as_markdown(table) if options.markdown else as_text(table))
    print(f"\n{MEDIANS}")
    if options.quick:
        print("--quick: too short to judge by.")
    if not (options.quick or options.names or failed):
        PAGE.write_text(page(table, conditions, datetime.now(UTC).date()))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())

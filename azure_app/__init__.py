"""The Azure Functions app: wrappers that turn triggers into what inferry knows."""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]

# Code that `func` publishes installs its requirements, which inferry is none of: its source lies beside this package.
sys.path.append(str(ROOT / "shared"))

"""alone.py with azure.functions imported, which every Functions app has to: functions_alone.py MODEL_FILE VALUES."""

import runpy
from pathlib import Path

import azure.functions  # noqa: F401

runpy.run_path(str(Path(__file__).with_name("alone.py")))

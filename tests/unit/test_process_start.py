"""inferry/process.py: imports without searches for garbage, and without a library's lines about CPUs."""

import gc
import subprocess
import sys
from pathlib import Path

import pytest
from inferry.process import importing


def test_nothing_is_searched_for_garbage_while_modules_are_imported() -> None:
    with importing():
        assert not gc.isenabled()
    assert gc.isenabled()


def test_it_is_searched_for_again_after_an_import_that_failed() -> None:
    with pytest.raises(ImportError), importing():
        raise ImportError
    assert gc.isenabled()


def test_what_was_imported_is_not_searched_afterwards() -> None:
    with importing():
        kept: list[list[int]] = [[] for _ in range(10_000)]
    assert not any(found is kept for found in gc.get_objects())
    gc.unfreeze()


# As onnxruntime 1.32.0 writes them on arm64 without /sys/devices/system/cpu.
OF_CPUS = """\
Error in cpuinfo: failed to parse the list of possible processors in /sys/devices/system/cpu/possible
Error in cpuinfo: failed to parse the list of present processors in /sys/devices/system/cpu/present
Error in cpuinfo: failed to parse both lists of possible and present processors
onnxruntime cpuid_info warning: Failed to initialize PyTorch cpuinfo library. May cause CPU EP performance degradation \
due to undetected CPU features.
onnxruntime cpuid_info warning: Unknown CPU vendor. cpuinfo_vendor value: 0
onnxruntime warning: cpuinfo_initialize failed. May cause CPU EP performance degradation due to undetected CPU features.
"""
OTHERS = "a line of another's\nError in cpuinfo: another\nhalf a line"
SCRIPT = """
import os, sys
from inferry import process

machine, process._CPUS, said = sys.argv[1:4]
os.uname = lambda: os.uname_result(("Linux", "", "", "", machine))
try:
    with process.without_cpu_warnings():
        os.write(2, said.encode())
        if sys.argv[4:]:
            raise ImportError
except ImportError:
    os.write(2, b"failed")
os.write(2, b"after")
"""


def written(machine: str, cpus: str, *more: str) -> str:
    """What comes out where a library writes of CPUs, and another line."""
    command = [sys.executable, "-c", SCRIPT, machine, cpus, OF_CPUS + OTHERS, *more]
    return subprocess.run(command, check=True, capture_output=True, text=True).stderr


def test_only_what_is_said_of_cpus_is_left_out() -> None:
    assert written("aarch64", "/nowhere") == f"{OTHERS}after"
    assert written("aarch64", "/nowhere", "failing") == f"{OTHERS}failedafter"


@pytest.mark.parametrize("machine", ["aarch64", "x86_64"])
def test_elsewhere_everything_is_written(machine: str, tmp_path: Path) -> None:
    cpus = str(tmp_path) if machine == "aarch64" else "/nowhere"
    assert written(machine, cpus) == f"{OF_CPUS}{OTHERS}after"

"""The memory that runs take: ONNX Runtime's arena, one for all sessions, and when it goes back to the system.

PP-OCR's detection over 41 images of 320 to 960 px, in MB resident afterwards and at most, and seconds of CPU:

    no arena, freed blocks below 32 MiB stay in the heap    249-282   384-484    7.8
    no arena, those below 8 MiB                             196-215   272-299   10.2
    this one, beside the same heap                          121-128   251-254    7.2-9.0
    ONNX Runtime alone, its arena                           283-323   292-323    5.8
    ONNX Runtime alone, no arena and glibc as it is         135-249   312-412    7.5

Shrunk after each run, the arena costs a batch that takes 20 MB 12 % of its time, in page faults. So it is shrunk when
more than `KEPT` came since it was shrunk last, and nothing runs.
"""

import os
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from inferry import process
from inferry.protocol.tensors import Array

# Before the import: onnxruntime >= 1.29 writes to the home directory and starts a thread otherwise.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

# Servers and functions import it here first.
with process.without_cpu_warnings():
    import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as binding

KEPT = 32 << 20
"""Bytes that the process may hold for the next run beyond what it held when it gave memory back last."""

# `y` = `x`, a bool, of opset 13: a session shares its arena with all others, and a run of any shrinks it.
_IDENTITY = (
    b'\x08\x08:/\n\x10\n\x01x\x12\x01y"\x08Identity\x12\x01gZ\x0b\n\x01x\x12\x06\n\x04\x08\t\x12\x00'
    b"b\x0b\n\x01y\x12\x06\n\x04\x08\t\x12\x00B\x04\n\x00\x10\r"
)

ort.create_and_register_allocator(
    binding.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT), None
)


def share(session: Any) -> None:
    """Has a session of these `SessionOptions` use the arena for what its runs take, and for nothing that stays."""
    session.add_session_config_entry("session.use_env_allocators", "1")
    session.add_session_config_entry("session.use_device_allocator_for_initializers", "1")
    # A pattern is kept for every shape ever seen, and its block is the size of all that a run takes.
    session.enable_mem_pattern = False


class Held:
    """What the process holds for runs to come."""

    def __init__(self) -> None:
        self._settled = 0

    def release(self, arrays: list[Array], is_idle: Callable[[], bool]) -> list[Array]:
        """After a run, with its outputs: the same values, in memory of their own if the arena shrank."""
        if not is_idle() or _resident() <= self._settled + KEPT:
            return arrays
        copies = [array.copy() for array in arrays]
        arrays.clear()  # the arena keeps whole regions of which an output has a part
        _shrink()
        self._settled = _resident()
        return copies


def _shrink() -> None:
    session, options = _shrinking()
    session.run(None, {"x": np.array(True)}, options)


@lru_cache
def _shrinking() -> tuple[Any, Any]:
    settings = ort.SessionOptions()
    settings.intra_op_num_threads = 1
    share(settings)
    options = ort.RunOptions()
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    return ort.InferenceSession(_IDENTITY, settings, providers=["CPUExecutionProvider"]), options


def _resident() -> int:
    """Bytes; 0 where Linux's /proc is missing."""
    try:
        with open("/proc/self/statm", "rb", buffering=0) as statm:  # noqa: PTH123 - a third of what pathlib takes
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0

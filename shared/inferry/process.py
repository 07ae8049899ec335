"""What the interpreter and the C library do for a process that runs models: imports, allocation."""

import ctypes
import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# Numbers of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8

_MIB = 1 << 20

# Where cpuinfo, a part of ONNX Runtime, looks for CPUs on arm64. Lambda has none there.
_CPUS = "/sys/devices/system/cpu/possible"
# How the lines begin that it and ONNX Runtime write for that.
_NO_CPUS = (
    b"Error in cpuinfo: failed to parse ",
    b"onnxruntime cpuid_info warning: ",
    b"onnxruntime warning: cpuinfo_initialize failed",
)


@contextmanager
def importing() -> Iterator[None]:
    """Inside, nothing is searched for garbage: imports leave none, and the searches cost a start 7 % of its CPU time.

    Python 3.11, row `cold` of `make bench`. What is there afterwards is not searched either: it stays.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def settle() -> None:
    """Keeps freed memory for the next request, in one heap; does nothing where the C library is not glibc.

    A request allocates megabytes and frees them again. Given back to the kernel, each page costs a fault in the next
    one. Blocks of 8 MiB and more do go back at once: in the heap whatever lies behind them would keep them, and
    `runtime.arena` keeps what runs take. A heap for each thread grows for itself, and together they only ever grow
    under requests of changing shapes; the interpreter's lock leaves little for several heaps to win.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    mallopt(_M_ARENA_MAX, 1)
    mallopt(_M_MMAP_THRESHOLD, 8 * _MIB)
    mallopt(_M_TRIM_THRESHOLD, 64 * _MIB)


@contextmanager
def reused_blocks() -> Iterator[None]:
    """Inside, blocks below 32 MiB that are freed are used again at once; afterwards they go back.

    A session over a native form packs every weight to compare it with the packed one in the file, and frees it. Given
    back each time, its pages fault again for the next: 270 ms of CPU instead of 160 for 435 MB.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        yield
        return
    mallopt(_M_MMAP_THRESHOLD, 32 * _MIB)  # the most that glibc takes
    try:
        yield
    finally:
        mallopt(_M_MMAP_THRESHOLD, 8 * _MIB)
        trim()


def trim() -> None:
    """Gives all freed memory back at once: what a load took besides is more than the next request needs."""
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if malloc_trim is not None:
        malloc_trim(0)


@contextmanager
def without_cpu_warnings() -> Iterator[None]:
    """Inside, where ONNX Runtime is imported, nothing is written of CPUs that /sys doesn't list on arm64.

    cpuinfo writes to the descriptor itself, and no setting of it or of ONNX Runtime stops that: eight lines in each
    process. Every other line is written when the block ends.
    """
    if sys.platform != "linux" or os.uname().machine != "aarch64" or os.path.exists(_CPUS):  # noqa: PTH110  at each start
        yield
        return
    errors, written = os.dup(2), os.memfd_create("stderr")
    os.dup2(written, 2)
    try:
        yield
    finally:
        os.dup2(errors, 2)
        with open(written, "rb") as file:  # noqa: PTH123  a descriptor
            file.seek(0)
            os.write(2, b"".join(line for line in file if not line.startswith(_NO_CPUS)))
        os.close(errors)

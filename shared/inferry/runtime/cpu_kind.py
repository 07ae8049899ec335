"""Which kind of CPU this is, as far as ONNX Runtime chooses its kernels and the layout of packed weights by it."""

import os
from collections.abc import Iterator
from functools import lru_cache

# What MLAS, ONNX Runtime's library of kernels, asks a CPU of x86 for; AMX and the last of AVX change packed weights.
_X86 = (
    *("avx", "avx2", "fma", "avx512f", "avx512bw", "avx512dq", "avx512vl"),
    *("avx512_vnni", "avx_vnni", "avx_vnni_int8", "amx_tile", "amx_int8"),
)
# Of <asm/hwcap.h> of arm64: the vector of the auxiliary values, and the bit in it.
_AT_HWCAP, _AT_HWCAP2 = 16, 26
_ARM = {
    "asimdhp": (_AT_HWCAP, 10),
    "asimddp": (_AT_HWCAP, 20),
    "sve": (_AT_HWCAP, 22),
    "svei8mm": (_AT_HWCAP2, 9),
    "i8mm": (_AT_HWCAP2, 13),
    "bf16": (_AT_HWCAP2, 14),
    "sme": (_AT_HWCAP2, 23),
    "sme2": (_AT_HWCAP2, 37),
}
# Enough for the first processor: with 64 of them the whole takes milliseconds.
_ENOUGH = 4096


@lru_cache
def kind() -> str:
    """The architecture, and in their order those of its features that kernels are chosen by: "x86_64 avx avx2 fma".

    Empty where nothing tells the features.
    """
    machine = os.uname().machine
    if machine == "aarch64":
        return " ".join((machine, *_arm()))
    flags = _flags()
    return " ".join((machine, *(flag for flag in _X86 if flag in flags))) if flags else ""


def architecture() -> str:
    """The architecture of this CPU, as `uname -m` has it."""
    return os.uname().machine


def _flags() -> frozenset[str]:
    """Those of the first processor; none where /proc is missing."""
    try:
        with open("/proc/cpuinfo", "rb", buffering=0) as file:  # noqa: PTH123 - a third of what pathlib takes
            text = file.read(_ENOUGH)
    except OSError:
        return frozenset()
    _, _, rest = text.partition(b"\nflags")
    return frozenset(rest.partition(b"\n")[0].decode("ascii", "replace").split())


def _arm() -> Iterator[str]:
    from ctypes import CDLL, c_ulong

    auxiliary = CDLL(None).getauxval
    auxiliary.restype, auxiliary.argtypes = c_ulong, [c_ulong]
    for name, (vector, bit) in _ARM.items():
        if auxiliary(vector) >> bit & 1:
            yield name

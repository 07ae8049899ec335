"""The C library's allocator, told how a process that runs models uses memory."""

import ctypes

# Numbers of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8

_MIB = 1 << 20


def settle() -> None:
    """Keeps freed memory for the next request, in one heap; does nothing where the C library is not glibc.

    A run allocates megabytes and frees them again. Given back to the kernel, each page costs a fault in the next run,
    which doubles the time of a large batch. A heap for each thread grows for itself, and together they only ever grow
    under requests of changing shapes; the interpreter's lock leaves little for several heaps to win.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    mallopt(_M_ARENA_MAX, 1)
    mallopt(_M_MMAP_THRESHOLD, 32 * _MIB)  # the most that glibc allows
    mallopt(_M_TRIM_THRESHOLD, 64 * _MIB)

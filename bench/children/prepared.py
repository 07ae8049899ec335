"""A session of ONNX Runtime's alone, with one thread, as everyone loads a model: prepared.py ONNX LEVEL.

LEVEL is all or none, of what it optimises. Prints {"cpu": seconds of a load, "wall": of that and a first prediction,
"private": bytes of the process's own, "read": bytes of the file and its weights that were read until then}.
"""

import ctypes
import json
import mmap
import os
import sys
import time
from pathlib import Path

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy as np
import onnxruntime as ort

PAGE = os.sysconf("SC_PAGE_SIZE")


def feed(session: ort.InferenceSession) -> dict[str, np.ndarray]:
    """A row: of an encoder 8 tokens, of the others numbers."""
    (spec,) = session.get_inputs()
    shape = [8 if length == "sequence" else 1 if isinstance(length, str) else length for length in spec.shape]
    count = int(np.prod(shape))
    if spec.type == "tensor(int64)":
        return {spec.name: (np.arange(count) * 131 % 3000 + 1).reshape(shape)}
    return {spec.name: (np.arange(count) % 17 / 16).reshape(shape).astype(np.float32)}


def private() -> int:
    """Bytes that no other process shares and no file holds."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Private_Dirty:"))


def cached(folder: Path) -> int:
    """Bytes of the files in a folder that are in memory."""
    found = 0
    libc = ctypes.CDLL(None)
    for path in folder.iterdir():
        size = path.stat().st_size
        if not path.is_file() or not size:
            continue
        with path.open("rb") as file:
            # A private one that could be written to: ctypes takes no address of another.
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        pages = (ctypes.c_ubyte * ((size + PAGE - 1) // PAGE))()
        start = ctypes.c_void_p(ctypes.addressof(ctypes.c_char.from_buffer(mapped)))
        libc.mincore(start, ctypes.c_size_t(size), pages)
        found += sum(page & 1 for page in pages) * PAGE
    return found


def drop(folder: Path) -> None:
    """Has the system forget what it holds of the files in a folder."""
    for path in folder.iterdir():
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


def main(onnx: Path, level: str, cold: bool) -> None:
    """Loads and runs once."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if level == "none":
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    if cold:
        drop(onnx.parent)
    before, cpu, wall = private(), time.process_time(), time.perf_counter()
    session = ort.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
    cpu = time.process_time() - cpu
    own = private() - before
    session.run(None, feed(session))
    wall = time.perf_counter() - wall
    read = cached(onnx.parent) if cold else 0
    print(json.dumps({"cpu": cpu, "wall": wall, "private": own, "read": read}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], "cold" in sys.argv[3:])

"""A model of 435 MB, made or loaded: loading.py make FOLDER, or loading.py WAY FOLDER CACHE.

FOLDER is a repository that holds `m/1/model.onnx` with its external data, and `whole/1/model.onnx` without. A load
begins with a line on stdin, prints `{"cpu": seconds, "wall": seconds, "private": bytes}`, and stays until stdin ends.
"""

import json
import os
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOCATION = "weights.bin"
# BERT's base model: 12 layers of 768.
SIZES = {"VOCABULARY": 30522, "POSITIONS": 512, "WIDTH": 768, "HEADS": 12, "HIDDEN": 3072, "LAYERS": 12}


def make(folder: Path) -> None:
    """Writes both models."""
    sys.path.insert(0, str(ROOT / "models"))
    import encoder_graph
    import onnx

    for name, size in SIZES.items():
        setattr(encoder_graph, name, size)
    model = encoder_graph.make_graph(encoder_graph.make_weights())
    for name in ("whole", "m"):
        (folder / name / "1").mkdir(parents=True)
    onnx.save(model, folder / "whole/1/model.onnx")
    onnx.save(model, folder / "m/1/model.onnx", save_as_external_data=True, location=LOCATION)


def load(way: str, folder: Path, cache: Path) -> object:
    """The loaded model, with one thread as each of several workers has; whoever gets it keeps it."""
    from inferry.repository import content
    from inferry.repository.store import LocalStore
    from inferry.runtime import onnx_file
    from inferry.runtime.session import Session, SessionOptions
    from inferry.storage.stored import VersionFiles

    name = "whole" if way == "whole" else "m"
    if way == "in memory":
        return in_memory(folder / "m/1")
    store = LocalStore(folder, str(folder), cache)
    files = tuple(file for file in store.list() if file.path.startswith(f"{name}/1/"))
    if way == "in place":
        onnx = folder / name / "1/model.onnx"
        found = content.mapped(onnx, onnx_file.read(onnx), ("model.onnx", LOCATION))
    else:
        found = store.fetch(VersionFiles(f"{name}/1", "model.onnx", files), None)
    return Session(found.model, found.file, "m", SessionOptions(1))


def in_memory(folder: Path) -> object:
    """ONNX Runtime's other way to leave files alone: external data as bytes."""
    import hashlib

    import onnxruntime as ort

    data, model = ((folder / name).read_bytes() for name in (LOCATION, "model.onnx"))
    for content in (data, model):
        hashlib.sha256(content).digest()
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.enable_mem_pattern = options.enable_cpu_mem_arena = False
    options.add_external_initializers_from_files_in_memory([LOCATION], [data], [len(data)])
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    session._model_bytes = None
    return session


def private() -> int:
    """Bytes that no other process shares and no file holds."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Private_Dirty:"))


def main(way: str, folder: Path, cache: Path) -> None:
    """Loads when told to, and stays."""

    sys.stdin.readline()
    wall, cpu = time.perf_counter(), time.process_time()
    loaded = load(way, folder, cache)
    spent = {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall, "private": private()}
    print(json.dumps(spent), flush=True)
    sys.stdin.read()
    del loaded
    os._exit(0)


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make(Path(sys.argv[2]))
    else:
        main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))

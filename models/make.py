"""Builds the example models: `python models/make.py [--missing] [NAME...]`.

The same pinned packages give the same bytes, on every machine and at every time.
"""

import argparse
import hashlib
import importlib
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
from cards import Built, dumps

BUILDERS = {
    "digits": "digits_models:build",
    "digits-conv": "digits_conv:build",
    "diabetes": "diabetes_table:build",
    "newsline": "newsline_text:build",
    "encoder": "encoder_graph:build",
}
HERE = Path(__file__).parent
IR_VERSION = 8  # the one that came with opset 17; readers newer than that accept it


def main(argv: Sequence[str] | None = None) -> None:
    """Builds the models that the command line names, all of them without a name."""
    parser = argparse.ArgumentParser(description="Build the example models.")
    parser.add_argument("names", metavar="NAME", nargs="*", help=f"one of {', '.join(BUILDERS)}")
    parser.add_argument("--missing", action="store_true", help="build only what is not there")
    arguments = parser.parse_args(argv)
    if unknown := set(arguments.names) - BUILDERS.keys():
        parser.error(f"no model {', '.join(sorted(unknown))}; there are {', '.join(BUILDERS)}")
    for name in arguments.names or BUILDERS:
        if not (arguments.missing and is_complete(HERE / name)):
            report(name, HERE)


def is_complete(folder: Path) -> bool:
    """Whether the folder has a card and each of the model files that the card gives a digest for."""
    card = folder / "config.json"
    digests = json.loads(card.read_text(encoding="utf-8")).get("sha256", {}) if card.exists() else {}
    return bool(digests) and all((folder / version / "model.onnx").exists() for version in digests)


def report(name: str, repository: Path) -> None:
    """Builds a model and prints one line about it."""
    start = time.perf_counter()
    size = write(name, build(name), repository)
    print(f"{name}: {size / 1000:.1f} kB in {time.perf_counter() - start:.1f} s", flush=True)


def build(name: str) -> Built:
    """Builds one model; its module is imported here because only the encoder does without scikit-learn."""
    module, function = BUILDERS[name].split(":")
    built: Built = getattr(importlib.import_module(module), function)()
    return built


def write(name: str, built: Built, repository: Path) -> int:
    """Writes the versions and the card with their digests; returns the bytes of the model files."""
    files = {version: serialise(name, version, proto) for version, proto in built.versions.items()}
    for version, content in files.items():
        replace(repository / name / version / "model.onnx", content)
    digests = {version: hashlib.sha256(content).hexdigest() for version, content in files.items()}
    card: Mapping[str, Any] = {**built.card, "sha256": digests}
    replace(repository / name / "config.json", (dumps(card) + "\n").encode())
    return sum(map(len, files.values()))


def replace(path: Path, content: bytes) -> None:
    """Writes a file at once: `--missing` would take half a file for a model that is there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_bytes(content)
    part.replace(path)


def serialise(name: str, version: str, proto: onnx.ModelProto) -> bytes:
    """The model's bytes, with the header fields that the exporters would fill differently."""
    proto.ir_version = IR_VERSION
    proto.producer_name = "inferry"
    proto.producer_version = ""
    proto.domain = ""
    proto.graph.name = name
    proto.model_version = int(version)
    onnx.checker.check_model(proto, full_check=True)
    content: bytes = proto.SerializeToString(deterministic=True)
    return content


if __name__ == "__main__":
    main()

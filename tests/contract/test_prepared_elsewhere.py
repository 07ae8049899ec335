"""Prepared models on another kind of CPU than that which they were prepared on, which qemu emulates."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import emulated
import numpy as np
import onnx_models
import prepare_by_table
import prepared_models
import pytest
from emulated import Cpu
from inferry.repository.repository import open_repository
from inferry.runtime import cpu_kind

# Blocks of convolutions have 16 channels with AVX-512, and 8 without, on any other CPU.
WIDE = "avx512f" in cpu_kind.kind()
# A kind that this machine is not, with AVX2 if that is possible.
OTHER = Cpu("Haswell-noTSX" if WIDE else "Nehalem")
# The host's /proc/cpuinfo, as qemu shows it unless it is told otherwise: flags of a CPU that this is not.
DISGUISED = OTHER._replace(own_flags=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if reason := emulated.missing():
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(f"NO OTHER CPU IS TESTED: {reason}")
    return tmp_path_factory.mktemp("elsewhere")


@pytest.fixture(scope="module")
def plain(folder: Path) -> Path:
    models = {
        "conv/1/model.onnx": prepared_models.convolutions(),
        "product/1/model.onnx": prepared_models.products(),
        "qdq/1/model.onnx": prepared_models.quantised(),
    }
    return onnx_models.write(folder / "plain", models)


@pytest.fixture(scope="module")
def prepared(folder: Path, plain: Path) -> Path:
    command = (sys.executable, prepare_by_table.__file__, str(plain), str(folder / "prepared"))
    subprocess.run(command, env={**os.environ, "MODEL_CACHE_DIR": str(folder / "cache")}, check=True)
    return folder / "prepared"


@pytest.fixture(scope="module")
def there(folder: Path, plain: Path) -> Mapping[str, Any]:
    """What the models themselves say on the other CPU."""
    return OTHER.serve(folder, plain)


def kinds(repository: Path, name: str) -> set[str]:
    return {form["kind"] for form in json.loads((repository / name / "1/prepared.json").read_bytes())["forms"]}


def test_another_kind_of_cpu_gets_the_portable_form(folder: Path, prepared: Path, there: Mapping[str, Any]) -> None:
    assert "native" in kinds(prepared, "conv")
    said = OTHER.serve(folder, prepared)
    assert {name: form for name, (form, _, _) in said.items()} == dict.fromkeys(said, "portable")
    assert said["conv"][1] == ["its native form is for other kinds of CPU"]
    for name, (_, _, outputs) in said.items():
        assert outputs == there[name][2], name  # the same bits as the model's own there


def test_products_of_int8_are_exact_there(folder: Path, plain: Path, there: Mapping[str, Any]) -> None:
    """Where the model's own would saturate, if inferry did not widen them."""
    here = outputs_here(plain)
    assert np.abs(here["qdq"]).max() > 1
    assert np.allclose(here["qdq"], there["qdq"][2], rtol=1e-5, atol=1e-5)


def outputs_here(repository: Path) -> dict[str, Any]:
    """What each model says on this CPU."""
    models = open_repository(str(repository), threads=1)
    found = {}
    for name in models.names():
        session = models.get(name).session
        (found[name],) = session.run({"x": prepared_models.INPUTS[name]}, ["y"], time.monotonic() + 60)
    return found


@pytest.mark.skipif(not WIDE, reason="blocks have 8 channels here as well")
def test_the_canary_needs_no_flags(folder: Path, prepared: Path, there: Mapping[str, Any]) -> None:
    form, why, outputs = DISGUISED.serve(folder, prepared)["conv"]
    assert (form, outputs) == ("portable", there["conv"][2])
    assert "it was made on another kind of CPU" in why[-1]


@pytest.mark.skipif(not WIDE, reason="blocks have 8 channels here as well")
def test_without_the_canary_answers_are_wrong(folder: Path, prepared: Path, there: Mapping[str, Any]) -> None:
    """The check, broken: what it is for. Blocks of 16 channels are read as blocks of 8, and nobody says a word."""
    broken = Path(shutil.copytree(prepared / "conv", folder / "broken/conv")).parent
    manifest = broken / "conv/1/prepared.json"
    value = json.loads(manifest.read_bytes())
    for form in value["forms"]:
        form["canary"] = None
    manifest.write_text(json.dumps(value))
    form, why, outputs = DISGUISED.serve(folder, broken)["conv"]
    assert (form, why) == ("native", [""])
    right = np.array(there["conv"][2])
    assert np.abs(np.array(outputs) - right).max() > np.abs(right).mean()

"""Prepared models between kinds of x86 CPUs, in both directions: `make test-cpus`, which takes many minutes.

tests/contract/test_prepared_elsewhere.py has the part of it that is tested with every change.
"""

import json
import os
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
from emulated import FLAGS, Cpu
from inferry.repository.repository import open_repository
from inferry.runtime import cpu_kind

from bench.children import loading

CPUS = [Cpu(name) for name in FLAGS]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if reason := emulated.missing():
        pytest.fail(f"NO OTHER CPU IS TESTED: {reason}")
    return tmp_path_factory.mktemp("cpus")


@pytest.fixture(scope="module")
def plain(folder: Path) -> Path:
    models = {
        "conv/1/model.onnx": prepared_models.convolutions(),
        "product/1/model.onnx": prepared_models.products(),
        "qdq/1/model.onnx": prepared_models.quantised(),
    }
    loading.make(folder / "encoder")
    (folder / "plain").mkdir()
    (folder / "encoder/whole").rename(folder / "plain/encoder")
    return onnx_models.write(folder / "plain", models)


@pytest.fixture(scope="module")
def prepared(folder: Path, plain: Path) -> Path:
    command = (sys.executable, "-m", "inferry", "prepare", str(plain), str(folder / "prepared"))
    subprocess.run(command, env={**os.environ, "MODEL_CACHE_DIR": str(folder / "cache")}, check=True)
    return folder / "prepared"


@pytest.fixture(scope="module")
def eight_bits(folder: Path) -> Path:
    """A static and a dynamic model with 8-bit weights."""
    samples, models = folder / "samples.npy", folder / "floats"
    np.save(samples, np.random.default_rng(4).uniform(-2, 2, (40, 1024)).astype(np.float32))
    onnx_models.write(models, {"product/1/model.onnx": prepared_models.products()})
    for method in ("static", "dynamic"):
        options = ("--quantize", method, "--agreement", "0", "--samples", str(samples))
        command = (sys.executable, prepare_by_table.__file__, str(models), str(folder / method), *options)
        subprocess.run(command, env={**os.environ, "MODEL_CACHE_DIR": str(folder / "cache")}, check=True)
    return folder


@pytest.fixture(scope="module", params=CPUS, ids=lambda cpu: cpu.name)
def cpu(request: pytest.FixtureRequest) -> Cpu:
    found: Cpu = request.param
    return found


@pytest.fixture(scope="module")
def there(cpu: Cpu, folder: Path, plain: Path) -> Mapping[str, Any]:
    """What the models themselves say on the CPU."""
    return cpu.serve(folder, plain)


@pytest.fixture(scope="module")
def theirs(cpu: Cpu, folder: Path, plain: Path) -> Path:
    """A repository that was prepared on the CPU."""
    out = folder / f"prepared-on-{cpu.name}"
    cpu.run(folder, "prepare", str(plain), str(out))
    return out


def outputs(said: Mapping[str, Any]) -> dict[str, Any]:
    return {name: values for name, (_, _, values) in said.items()}


def kinds(said: Mapping[str, Any]) -> set[str]:
    return {form for form, _, _ in said.values()}


def here(repository: Path) -> dict[str, tuple[str, Any]]:
    """The form and the answers of each model on this CPU."""
    models = open_repository(str(repository), threads=1, cache=repository.parent / "cache-here")
    found = {}
    for name in models.names():
        model = models.get(name)
        feed = {next(iter(model.session.signature.inputs)): prepared_models.INPUTS[name]}
        (y,) = model.session.run(feed, list(model.session.signature.outputs), time.monotonic() + 600)
        found[name] = model.form.kind if model.form else "", y
    return found


def test_forms_of_this_cpu_there(cpu: Cpu, folder: Path, prepared: Path, there: Mapping[str, Any]) -> None:
    said = cpu.serve(folder, prepared)
    assert kinds(said) == {"portable"}
    assert outputs(said) == outputs(there)


@pytest.mark.parametrize("method", ["static", "dynamic"])
def test_8_bit_weights_are_exact_there(method: str, cpu: Cpu, folder: Path, eight_bits: Path) -> None:
    """As far as floats are: sums of integers are the same on every CPU."""
    manifest = json.loads((eight_bits / method / "product/1/prepared.json").read_bytes())
    assert [each["method"] for each in manifest["source"]["quantised"]["variants"]] == ["float", method]
    said = cpu.serve(folder, eight_bits / method)
    _, own = here(eight_bits / method)["product"]
    assert np.abs(own).max() > 1
    assert np.allclose(said["product"][2], own, rtol=1e-4, atol=1e-4)


def test_forms_of_that_cpu_there(cpu: Cpu, folder: Path, theirs: Path, there: Mapping[str, Any]) -> None:
    said = cpu.serve(folder, theirs)
    assert outputs(said) == outputs(there)
    assert said["conv"][0] == "native"


def test_forms_of_that_cpu_here(theirs: Path, plain: Path) -> None:
    found, own = here(theirs), here(plain)
    assert {form for form, _ in found.values()} == {"portable"}
    for name, (_, values) in found.items():
        assert values.tobytes() == own[name][1].tobytes(), name


def test_the_canary_of_that_cpu_here(theirs: Path, plain: Path) -> None:
    """Its flags say that this is the CPU; blocks of 8 channels are not those of AVX-512."""
    if "avx512f" not in cpu_kind.kind():
        pytest.skip("blocks have 8 channels here as well")
    manifest = theirs / "conv/1/prepared.json"
    before = manifest.read_bytes()
    value = json.loads(before)
    for form in value["forms"]:
        form["cpu"] = form["cpu"] and cpu_kind.kind()
    manifest.write_text(json.dumps(value))
    try:
        form, values = here(theirs)["conv"]
    finally:
        manifest.write_bytes(before)
    assert form == "portable"
    assert np.array_equal(values, here(plain)["conv"][1])

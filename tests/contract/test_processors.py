"""Products of 8-bit integers on other kinds of x86 CPUs, which qemu emulates: the same integers on all of them."""

import json
import os
import platform
import shutil
import site
import subprocess
import sys
from pathlib import Path
from typing import Any

import eight_bits
import inferry
import numpy as np
import pytest

QEMU = "qemu-x86_64-static"
ROOT = Path(inferry.__file__).parents[1]
# AVX2 without VNNI, and without AVX2; qemu has none with VNNI, which many a host of these tests has.
SATURATES, PLAIN = "Haswell-noTSX", "Nehalem"
# What ONNX Runtime can't help: a pair that it doesn't know of, and both uint8 x int8 and int8 x int8 in one model.
DIFFERENT = {"ConvInteger-int8-uint8-8", "Both-uint8-int8-8"}
SATURATED = "MatMulInteger-uint8-int8-8"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    reason = missing()
    if reason:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(f"NO OTHER CPU IS TESTED: {reason}")
    found = tmp_path_factory.mktemp("eight_bits")
    eight_bits.write(found)
    return found


def missing() -> str:
    """Why nothing can be tested; empty when it can."""
    if platform.machine() != "x86_64":
        return f"this Python is one for {platform.machine()}"
    return "" if shutil.which(QEMU) else f"{QEMU} is missing: .ci/install installs it"


@pytest.fixture(scope="module")
def emulated(folder: Path) -> dict[str, dict[str, Any]]:
    """What each CPU makes of each model: [ONNX Runtime alone, inferry's session, its notes]."""
    path = os.pathsep.join([str(ROOT), *site.getsitepackages(), *sys.path])
    environment = {"PYTHONPATH": path, "ORT_DISABLE_TELEMETRY": "1", "HOME": str(folder)}
    command = [os.path.realpath(sys.executable), eight_bits.__file__, str(folder)]
    running = {
        cpu: subprocess.Popen([QEMU, "-cpu", cpu, *command], stdout=-1, stderr=-1, env=environment)
        for cpu in (SATURATES, PLAIN)
    }
    found = {}
    for cpu, process in running.items():
        said, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors.decode()
        found[cpu] = json.loads(said)
    return found


@pytest.fixture(scope="module")
def here(folder: Path) -> dict[str, Any]:
    return eight_bits.outputs(folder)


def differ(one: Any, other: Any) -> bool:
    """But for last digits: CPUs have other kernels for floats."""
    return not np.allclose(one, other, rtol=1e-5, atol=1e-5)


def test_which_pairs_saturate(emulated: dict[str, dict[str, Any]]) -> None:
    """Of the integers themselves, without inferry: one pair of four, and for convolutions the opposite one."""
    wrong: dict[str, set[str]] = {SATURATES: set(), PLAIN: set()}
    for a, b in eight_bits.PAIRS:
        for bits in (8, 7):
            pair = f"MatMulInteger-{a.__name__}-{b.__name__}-{bits}"
            x = eight_bits.values(a, (eight_bits.ROWS, eight_bits.DEPTH)).astype(np.int64)
            w = eight_bits.values(b, (eight_bits.DEPTH, eight_bits.WIDTH), bits).astype(np.int64)
            zeros = (128 if a is np.uint8 else 0), (0 if b is np.int8 else 2 ** (bits - 1))
            exact = (x - zeros[0]) @ (w - zeros[1])
            for cpu, found in emulated.items():
                plain, session, _ = found[pair]
                assert session == exact.tolist()
                if plain != exact.tolist():
                    wrong[cpu].add(pair)
    assert wrong == {SATURATES: {SATURATED}, PLAIN: set()}


def test_inferry_has_the_same_on_all_of_them(emulated: dict[str, dict[str, Any]], here: dict[str, Any]) -> None:
    """But for what is named as different there."""
    names = set(here)
    assert all(found.keys() == names for found in emulated.values())
    # What runs the tests has VNNI, or saturates as well.
    saturates = differ(here[SATURATED][0], emulated[PLAIN][SATURATED][0])
    alike, other = (SATURATES, PLAIN) if saturates else (PLAIN, SATURATES)
    assert {name for name in names if differ(emulated[other][name][1], here[name][1])} == DIFFERENT
    assert {name for name in names if differ(emulated[alike][name][1], here[name][1])} == set()


def test_every_model_that_saturates_is_named(emulated: dict[str, dict[str, Any]], here: dict[str, Any]) -> None:
    """On each kind of CPU, and no other."""
    saturates = {name for name in here if differ(emulated[SATURATES][name][0], emulated[PLAIN][name][0])}
    assert len(saturates) > 8
    for found in (*emulated.values(), here):
        assert {name for name, (_, _, notes) in found.items() if notes} == saturates
    assert {name for name in here if "OTHER RESULTS" in "".join(here[name][2])} == DIFFERENT

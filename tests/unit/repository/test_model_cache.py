"""The folder of fetched models: what goes from it, and when."""

import multiprocessing
import os
import shutil
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import obstore.store
import onnx_models
import pytest
from inferry.errors import InvalidModel, StoreError
from inferry.repository import loader, model_cache
from inferry.repository.remote_store import RemoteStore, memory_store
from inferry.repository.repository import Repository
from inferry.runtime.model import Model

DAY = 24 * 60 * 60


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    folder = tmp_path / "cache"
    folder.mkdir()
    return folder


def aged(folder: Path, seconds: float) -> Path:
    os.utime(folder, (time.time() - seconds,) * 2)
    return folder


def kept(cache: Path) -> str:
    """The first letters of what is in the cache, one for each file."""
    return "".join(sorted(file.read_text()[:1] for file in cache.rglob("*") if file.is_file()))


def limit(cache: Path, size: int) -> None:
    """Room for `size` bytes in whole models."""

    def usage(path: Path) -> Any:
        used = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        return shutil.disk_usage("/")._replace(free=size - used)

    model_cache.disk_usage = usage  # type: ignore[assignment]


@pytest.fixture(autouse=True)
def _disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_cache, "disk_usage", shutil.disk_usage)  # as it was, behind each test


def test_the_longest_unused_makes_room(cache: Path) -> None:
    limit(cache, 25_000)
    opened = memory_store({f"{name}/1/model.onnx": name.encode() * 10_000 for name in "abc"}, cache)

    def fetch(name: str) -> Path:
        return opened.download(f"{name}/1", [file for file in opened.list() if file.path[0] == name], None)

    a, b = aged(fetch("a"), 10), aged(fetch("b"), 20)
    assert fetch("b") == b  # a use
    fetch("c")
    assert kept(cache) == "bc"
    assert not a.exists()
    fetch("a")
    assert kept(cache) == "ac"


def test_what_never_fits_costs_nobody_his_room(cache: Path) -> None:
    limit(cache, 25_000)
    opened = memory_store({"a/1/model.onnx": b"a" * 10_000, "z/1/model.onnx": b"z" * 30_000}, cache)
    opened.download("a/1", opened.list()[:1], None)
    with pytest.raises(StoreError, match=r"no space in .*: 30000 bytes are needed, 15000 free, 15000 missing"):
        opened.download("z/1", opened.list()[1:], None)
    assert kept(cache) == "a"


def test_what_is_not_of_a_model_stays(cache: Path) -> None:
    opened = memory_store({"a.onnx": b"a" * 10_000}, cache)
    (cache / "theirs").mkdir()
    (cache / "theirs" / "file").write_text("x" * 20_000)
    aged(cache / "theirs", 30 * DAY)
    limit(cache, 25_000)
    with pytest.raises(StoreError, match="no space"):
        opened.download("", opened.list(), None)
    assert kept(cache) == "x"


def test_what_was_not_used_for_a_week_goes(cache: Path) -> None:
    opened = memory_store({"m.onnx": b"one"}, cache)
    first = aged(opened.download("", opened.list(), None), 8 * DAY)
    assert opened.download("", opened.list(), None) == first  # a use
    opened.backend.put("m.onnx", b"two")
    second = aged(opened.download("", opened.list(), None), 6 * DAY)
    assert kept(cache) == "ot"
    aged(first, 8 * DAY)
    opened.backend.put("m.onnx", b"3")
    third = opened.download("", opened.list(), None)
    assert sorted(cache.iterdir()) == sorted([second, third])


@pytest.mark.parametrize("comes_back", [False, True])
def test_what_goes_while_it_is_loaded_is_fetched_again(
    cache: Path, monkeypatch: pytest.MonkeyPatch, comes_back: bool
) -> None:
    repository = Repository(memory_store({"a.onnx": onnx_models.scaled(2.0)}, cache))
    load, left = loader.load, [True]

    def interrupted(*arguments: Any) -> Model:
        if left.pop():
            folder = arguments[2].model.parent
            shutil.rmtree(folder)
            if comes_back:  # fetched by yet another process, too late for this one
                onnx_models.write(folder, {"a.onnx": onnx_models.scaled(2.0)})
                folder.chmod(0o700)
                raise InvalidModel("model.onnx failed. File doesn't exist")
        return load(*arguments)

    left[:] = [False, True, True]
    monkeypatch.setattr(loader, "load", interrupted)
    assert factor(repository) == 2
    assert left == []
    repository.unload("a")
    left[:] = [True, True, True]
    with pytest.raises(StoreError, match=r"were removed while it was loaded: is the cache too small"):
        repository.load("a")
    left[:] = [False]
    assert factor(repository) == 2  # it is not the model's fault


def factor(repository: Repository, name: str = "a") -> float:
    session = repository.get(name).session
    (output,) = session.run({"x": np.ones((1, 3), np.float32)}, ["y"], time.monotonic() + 30)
    return float(output[0, 0])


def join(barrier: Any) -> None:
    globals()["barrier"] = barrier


def load_in_turn(source: str, cache: Path) -> list[float]:
    """Loads two models again and again, into a cache that has room for one."""
    limit(cache, 25_000)
    store = RemoteStore("s3://test/models", obstore.store.LocalStore(source), cache, "test")
    repository = Repository(store, cache_size=1)
    globals()["barrier"].wait(30)
    factors: list[float] = []
    end = time.monotonic() + 60
    while len(factors) < 10 and time.monotonic() < end:
        try:
            factors.append(factor(repository, "ab"[len(factors) % 2]))
        except StoreError:  # the other process was faster, three times
            continue
    return factors


def test_processes_that_take_each_others_room(tmp_path: Path, cache: Path) -> None:
    for name, factor in (("a", 2.0), ("b", 3.0)):
        model, weights = onnx_models.external(factor, ballast=15_000)
        onnx_models.write(tmp_path / "models", {f"{name}/1/model.onnx": model, f"{name}/1/weights.bin": weights})
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, spawn, join, (spawn.Barrier(2),)) as pool:
        answers = list(pool.map(load_in_turn, [str(tmp_path / "models")] * 2, [cache] * 2))
    assert answers == [[2.0, 3.0] * 5] * 2

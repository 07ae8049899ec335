"""The repository: loading once, keeping what is used, and never replacing what works by what doesn't."""

import hashlib
import json
import logging
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_models
import pytest
from inferry.errors import InvalidModel, ModelNotFound, ModelUnavailable, StoreError
from inferry.observability.catalogue import MODEL
from inferry.observability.registry import Metrics
from inferry.repository import loader
from inferry.repository.refresh import Refresher
from inferry.repository.remote_store import memory_store
from inferry.repository.repository import Repository, open_repository
from inferry.repository.store import LocalStore
from inferry.repository.version import READY, UNAVAILABLE, UNKNOWN
from inferry.runtime.model import Model
from inferry.runtime.model_config import ModelConfig

DOUBLE, TRIPLE = onnx_models.scaled(2.0), onnx_models.scaled(3.0)
BROKEN = b"this is not a model"


def write(folder: Path, path: str, content: bytes) -> None:
    """Replaces a file as careful people do: atomically, so that a reader sees the old or the new one."""
    target = folder / path
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}")
    temporary.write_bytes(content)
    temporary.rename(target)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "models"
    root.mkdir()
    return root


def factor(model: Model) -> float:
    (output,) = model.session.run({"x": np.ones((1, 3), np.float32)}, ["y"], time.monotonic() + 30)
    return float(output[0, 0])


def states(repository: Repository) -> dict[tuple[str, str], str]:
    return {(entry.name, entry.version): entry.state for entry in repository.entries()}


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the models loaded, in order; each load takes 50 ms."""
    names: list[str] = []
    load = loader.load

    def counted(name: str, *arguments: Any) -> Model:
        names.append(name)
        time.sleep(0.05)
        return load(name, *arguments)

    monkeypatch.setattr(loader, "load", counted)
    return names


def test_versions_names_and_defaults(folder: Path) -> None:
    for path in ("a/1/model.onnx", "a/2/model.onnx", "a/10/model.onnx", "a/beta/model.onnx", "b.onnx"):
        write(folder, path, DOUBLE)
    repository = open_repository(str(folder))
    assert repository.names() == ["a", "b"]
    assert repository.versions("a") == ["10", "2", "1", "beta"]
    assert repository.get("a").version == "10"
    assert repository.get("a", "beta").version == "beta"
    assert repository.get("b").version == "1"


def test_the_config_names_the_default_version(folder: Path) -> None:
    write(folder, "a/1/model.onnx", DOUBLE)
    write(folder, "a/2/model.onnx", TRIPLE)
    write(folder, "a/config.json", b'{"default_version": "1"}')
    assert factor(open_repository(str(folder)).get("a")) == 2


def test_a_config_has_its_own_threads_and_labels(folder: Path) -> None:
    write(folder, "a/1/model.onnx", DOUBLE)
    write(folder, "a/config.json", b'{"threads": 3, "labels": {"y": ["one", "two", "three"]}}')
    write(folder, "b.onnx", onnx_models.zipmap(("no", "yes")))
    repository = open_repository(str(folder), threads=2)
    models = [repository.get(name) for name in "ab"]
    assert [model.session._session.get_session_options().intra_op_num_threads for model in models] == [3, 2]
    assert models[0].labels("y") == ("one", "two", "three")
    assert models[1].labels("probabilities") == ("no", "yes")


def test_a_default_version_that_is_not_there(folder: Path) -> None:
    write(folder, "a/1/model.onnx", DOUBLE)
    write(folder, "a/config.json", b'{"default_version": "7"}')
    with pytest.raises(InvalidModel, match="default_version '7', but its versions are 1"):
        open_repository(str(folder)).get("a", "1")


@pytest.mark.parametrize(
    ("name", "version", "text"),
    [
        ("nothing", None, "unknown model 'nothing'; the repository has: a"),
        ("../a", None, "unknown model '../a'"),
        ("a", "2", "unknown version '2' of model 'a'; it has 1"),
        ("a", "../1", "unknown version '../1'"),
    ],
)
def test_unknown_names(folder: Path, name: str, version: str | None, text: str) -> None:
    write(folder, "a/1/model.onnx", DOUBLE)
    with pytest.raises(ModelNotFound, match=text):
        open_repository(str(folder)).get(name, version)


def test_one_file_is_a_repository(folder: Path) -> None:
    write(folder, "a.onnx", DOUBLE)
    write(folder, "b.onnx", BROKEN)
    repository = open_repository(f"{folder}/a.onnx")
    assert repository.names() == ["a"]
    assert factor(repository.get("a")) == 2


@pytest.mark.parametrize("slash", ["", "/"])
def test_a_models_own_folder(folder: Path, slash: str) -> None:
    write(folder, "iris/1/model.onnx", DOUBLE)
    write(folder, "iris/2/model.onnx", TRIPLE)
    write(folder, "iris/config.json", b'{"default_version": "1"}')
    repository = open_repository(f"{folder}/iris{slash}")
    assert (repository.names(), repository.versions("iris"), repository.problems) == (["iris"], ["2", "1"], [])
    assert (factor(repository.get("iris")), factor(repository.get("iris", "2"))) == (2, 3)


@pytest.mark.parametrize("path", ["", "/net.onnx"])
def test_the_only_model_is_called_as_it_is_told(folder: Path, path: str) -> None:
    write(folder, "net.onnx", DOUBLE)
    repository = open_repository(f"{folder}{path}", "rose")
    assert (repository.names(), factor(repository.get("rose"))) == (["rose"], 2)
    write(folder, "net.onnx", TRIPLE)
    repository.refresh()
    assert factor(repository.get("rose")) == 3


def test_concurrent_first_requests_load_a_model_once(folder: Path, loads: list[str]) -> None:
    write(folder, "a.onnx", DOUBLE)
    repository = open_repository(str(folder))
    with ThreadPoolExecutor(16) as pool:
        models = list(pool.map(lambda _: repository.get("a"), range(32)))
    assert loads == ["a"]
    assert len({id(model) for model in models}) == 1


def test_the_least_recently_used_model_is_evicted(folder: Path, loads: list[str]) -> None:
    for name in "abc":
        write(folder, f"{name}.onnx", DOUBLE)
    repository = open_repository(str(folder), cache_size=2)
    for name in "ab":
        repository.get(name)
    assert repository.peek("a", None) is not None  # a use
    repository.get("c")
    assert [repository.peek(name, None) is not None for name in "abc"] == [True, False, True]
    repository.get("b")
    assert loads == ["a", "b", "c", "b"]


def test_a_model_in_use_is_not_evicted(folder: Path) -> None:
    for name in "ab":
        write(folder, f"{name}.onnx", DOUBLE)
    repository = open_repository(str(folder), cache_size=1)

    def loaded() -> list[str]:
        return [entry.name for entry in repository.entries() if entry.model is not None]

    with repository.get("a").in_use():
        repository.get("b")
        assert loaded() == ["a", "b"]
    repository.peek("b", None)
    assert loaded() == ["b"]


def test_many_threads_and_a_small_cache(folder: Path) -> None:
    for name in "abcd":
        write(folder, f"{name}.onnx", DOUBLE)
    repository = open_repository(str(folder), cache_size=2)

    def use(number: int) -> float:
        model = repository.get("abcd"[number % 4])
        with model.in_use():
            return factor(model)

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(use, range(400))) == {2.0}
    repository.get("a")
    assert sum(repository.peek(name, None) is not None for name in "abcd") <= 2


def test_a_model_that_is_evicted_while_another_thread_is_about_to_keep_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "ab":
        write(folder, f"{name}.onnx", DOUBLE)
    repository = open_repository(str(folder), cache_size=1)
    repository.get("a")
    keep = repository._keep

    def late(entry: Any) -> None:
        monkeypatch.setattr(repository, "_keep", keep)
        repository.get("b")
        keep(entry)

    monkeypatch.setattr(repository, "_keep", late)
    assert factor(repository.get("a")) == 2
    assert [factor(repository.get(name)) for name in "bab"] == [2, 2, 2]


def test_a_model_that_is_evicted_and_loaded_while_another_thread_gets_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What that thread got is not what is loaded, and not what others get from then on."""
    for name in "abc":
        write(folder, f"{name}.onnx", DOUBLE)
    repository = open_repository(str(folder), cache_size=2)
    ready, others = repository._ready, iter("bca")

    def slow(entry: Any) -> Any:
        model = ready(entry)
        for name in others:
            repository.get(name)
        return model

    monkeypatch.setattr(repository, "_ready", slow)
    got = repository.get("a")
    assert repository.peek("a", None) is not got
    assert factor(got) == 2.0
    repository.get("b")
    repository.get("c")
    assert repository.peek("a", None) is None


def test_a_broken_model_is_unavailable_and_the_others_serve(folder: Path) -> None:
    write(folder, "good.onnx", DOUBLE)
    write(folder, "broken.onnx", BROKEN)
    write(folder, "typo/1/model.onnx", DOUBLE)
    write(folder, "typo/config.json", b'{"max_batchsize": 2}')
    repository = open_repository(str(folder))
    for name, text in (("broken", "can't be loaded"), ("typo", "unknown key 'max_batchsize'")):
        for _ in range(2):
            with pytest.raises(ModelUnavailable, match=text):
                repository.get(name)
    assert factor(repository.get("good")) == 2
    assert states(repository) == {("broken", "1"): UNAVAILABLE, ("good", "1"): READY, ("typo", "1"): UNAVAILABLE}


@pytest.mark.parametrize("failure", ["too long", "unreadable"])
def test_a_config_that_can_not_be_read_is_its_own_models_problem(
    folder: Path, failure: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder, "good.onnx", DOUBLE)
    write(folder, "bad/1/model.onnx", DOUBLE)
    write(folder, "bad/config.json", b" " * (2**20 + 1) if failure == "too long" else b"{}")
    if failure == "unreadable":

        def denied(*_: Any) -> bytes:
            raise StoreError("can't read models: Permission denied")

        monkeypatch.setattr(LocalStore, "read", denied)
    repository = open_repository(str(folder))
    text = "1048577 bytes, more than 1048576" if failure == "too long" else "Permission denied"
    with pytest.raises(ModelUnavailable, match=text):
        repository.get("bad")
    assert factor(repository.get("good")) == 2
    monkeypatch.undo()
    write(folder, "bad/config.json", b"{}")
    repository.refresh()
    assert factor(repository.get("bad")) == 2


def test_a_broken_newest_version_leaves_the_one_before(folder: Path) -> None:
    write(folder, "a/1/model.onnx", DOUBLE)
    write(folder, "a/2/model.onnx", BROKEN)
    repository = open_repository(str(folder))
    assert repository.get("a").version == "1"
    with pytest.raises(ModelUnavailable):
        repository.get("a", "2")
    assert states(repository) == {("a", "2"): UNAVAILABLE, ("a", "1"): READY}
    assert (repository.versions("a"), repository.offered("a")) == (["2", "1"], ["1"])


def test_a_wrong_digest_is_refused(folder: Path) -> None:
    write(folder, "a/1/model.onnx", DOUBLE)
    write(folder, "a/config.json", json.dumps({"sha256": {"1": "0" * 64}}).encode())
    with pytest.raises(InvalidModel, match=f"but its config.json names {'0' * 64}"):
        open_repository(str(folder)).get("a")


def test_an_example_that_does_not_run_is_said_when_it_warms_up(folder: Path) -> None:
    example = {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]}
    write(folder, "a/1/model.onnx", DOUBLE)
    write(folder, "a/config.json", json.dumps({"warm_up": True, "example": example}).encode())
    with pytest.raises(InvalidModel, match=r"example in config.json of model 'a' can't be run: unexpected shape"):
        open_repository(str(folder)).get("a")


class TestRefresh:
    def test_new_changed_and_removed_models(self, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO, "inferry")
        write(folder, "a.onnx", DOUBLE)
        write(folder, "gone.onnx", DOUBLE)
        repository = open_repository(str(folder))
        repository.get("gone")
        before = repository.get("a")
        write(folder, "a.onnx", TRIPLE)
        write(folder, "new.onnx", DOUBLE)
        (folder / "gone.onnx").unlink()
        repository.refresh()
        assert repository.names() == ["a", "new"]
        assert "model 'gone' version 1 is gone from the repository" in caplog.messages
        assert factor(repository.get("a")) == 3
        assert factor(before) == 2  # a request that has it may end
        with pytest.raises(ModelNotFound):
            repository.get("gone")

    def test_what_did_not_change_is_not_loaded_again(self, folder: Path, loads: list[str]) -> None:
        write(folder, "a.onnx", DOUBLE)
        write(folder, "broken/1/model.onnx", BROKEN)
        repository = open_repository(str(folder))
        model = repository.get("a")
        with pytest.raises(ModelUnavailable):
            repository.get("broken")
        repository.refresh()
        assert repository.peek("a", None) is model
        assert loads == ["a", "broken"]

    def test_a_newer_version_is_served(self, folder: Path) -> None:
        write(folder, "a/1/model.onnx", DOUBLE)
        repository = open_repository(str(folder))
        repository.get("a")
        write(folder, "a/2/model.onnx", TRIPLE)
        repository.refresh()
        model = repository.peek("a", None)  # loaded before it is served
        assert model is not None
        assert (model.version, factor(model)) == ("2", 3)

    @pytest.mark.parametrize("path", ["a/1/model.onnx", "a/2/model.onnx"])
    def test_a_broken_new_file_does_not_replace_what_works(
        self, folder: Path, path: str, loads: list[str], caplog: pytest.LogCaptureFixture
    ) -> None:
        write(folder, "a/1/model.onnx", DOUBLE)
        repository = open_repository(str(folder))
        model = repository.get("a")
        write(folder, path, BROKEN)
        for _ in range(2):
            repository.refresh()
            assert repository.peek("a", None) is model
        reasons = [entry.reason for entry in repository.entries() if entry.reason]
        assert len(reasons) == 1
        assert "can't be loaded" in reasons[0]
        # Once: a server that looks every few seconds must not say so every few seconds.
        assert loads == ["a", "a"]
        assert len([record for record in caplog.records if record.levelname == "ERROR"]) == 1

    def test_a_broken_config_does_not_replace_what_works(self, folder: Path) -> None:
        write(folder, "a/1/model.onnx", DOUBLE)
        repository = open_repository(str(folder))
        model = repository.get("a")
        write(folder, "a/config.json", b"{")
        repository.refresh()
        assert repository.peek("a", None) is model

    @pytest.mark.parametrize("mended", [b"{}", None])
    def test_a_broken_config_is_told_and_a_mended_one_taken(self, folder: Path, mended: bytes | None) -> None:
        write(folder, "a/1/model.onnx", DOUBLE)
        repository = open_repository(str(folder))
        repository.get("a")
        write(folder, "a/config.json", b"{")
        with pytest.raises(InvalidModel, match=r"version 1 is served, as .*: config.json of model 'a' is not JSON"):
            repository.load("a")
        fresh = open_repository(str(folder))
        with pytest.raises(InvalidModel, match="not JSON"):
            fresh.get("a")
        if mended is None:
            (folder / "a/config.json").unlink()
        else:
            write(folder, "a/config.json", mended)
        for mending in (repository, fresh):
            mending.refresh()
            assert factor(mending.get("a")) == 2
            assert [(entry.state, entry.reason) for entry in mending.entries()] == [(READY, "")]

    def test_a_mended_model_is_served(self, folder: Path) -> None:
        write(folder, "a.onnx", BROKEN)
        repository = open_repository(str(folder))
        with pytest.raises(ModelUnavailable):
            repository.get("a")
        write(folder, "a.onnx", DOUBLE)
        repository.refresh()
        assert factor(repository.get("a")) == 2

    def test_requests_during_refreshes_always_find_a_model(self, folder: Path) -> None:
        write(folder, "a.onnx", DOUBLE)
        repository = open_repository(str(folder))
        repository.get("a")
        stop = threading.Event()
        seen: set[float] = set()
        errors: list[Exception] = []

        def ask() -> None:
            while not stop.is_set():
                try:
                    seen.add(factor(repository.peek("a", None) or repository.get("a")))
                except Exception as exc:  # noqa: BLE001  whatever it is, the test shows it
                    errors.append(exc)

        threads = [threading.Thread(target=ask) for _ in range(2)]
        for thread in threads:
            thread.start()
        for turn in range(10):
            write(folder, "a.onnx", (TRIPLE, DOUBLE, BROKEN)[turn % 3])
            repository.refresh()
        stop.set()
        for thread in threads:
            thread.join()
        assert not errors
        assert seen == {2.0, 3.0}

    def test_polling_happens_when_requests_come(self, folder: Path) -> None:
        write(folder, "a.onnx", DOUBLE)
        repository = open_repository(str(folder))
        repository.get("a")
        now = 100.0
        refresher = Refresher(repository, 10, clock=lambda: now)
        write(folder, "a.onnx", TRIPLE)
        refresher.poll()
        assert not [thread for thread in threading.enumerate() if thread.name == "inferry-refresh"]
        now = 110.0
        refresher.poll()
        end = time.monotonic() + 10
        while factor(repository.get("a")) != 3 and time.monotonic() < end:
            time.sleep(0.01)
        assert factor(repository.get("a")) == 3
        write(folder, "a.onnx", DOUBLE)
        refresher.poll()  # only after another 10 s
        Refresher(repository, 0, clock=lambda: now).poll()  # never
        assert not [thread for thread in threading.enumerate() if thread.name == "inferry-refresh"]

    def test_a_store_that_can_not_be_looked_at_is_told(self, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
        write(folder, "a.onnx", DOUBLE)
        repository = open_repository(str(folder))
        assert factor(repository.get("a")) == 2
        folder.rename(folder.with_name("elsewhere"))
        Refresher(repository, 10)._refresh()
        assert [record.levelname for record in caplog.records if "can't look for changed models" in record.message] == [
            "WARNING"
        ]
        assert factor(repository.get("a")) == 2


def labels_of(metrics: Metrics) -> set[tuple[str, ...]]:
    """The models and versions that have a series."""
    return {labels[:2] for family in metrics.collect() if family.metric.labels[:2] == MODEL for labels in family.series}


class TestControl:
    def test_load_notices_a_change_and_says_when_it_is_broken(self, folder: Path) -> None:
        write(folder, "a/1/model.onnx", DOUBLE)
        repository = open_repository(str(folder))
        repository.get("a")
        write(folder, "a/1/model.onnx", TRIPLE)
        repository.load("a")
        assert factor(repository.get("a")) == 3
        write(folder, "a/2/model.onnx", BROKEN)
        with pytest.raises(InvalidModel, match=r"version 1 is served, as .*can't be loaded"):
            repository.load("a")
        assert factor(repository.get("a")) == 3
        (folder / "a/2/model.onnx").unlink()
        repository.load("a")

    def test_load_of_a_model_that_came_later(self, folder: Path) -> None:
        repository = open_repository(str(folder))
        with pytest.raises(ModelNotFound):
            repository.load("a")
        write(folder, "a.onnx", DOUBLE)
        repository.load("a")
        assert states(repository) == {("a", "1"): READY}

    def test_nothing_is_kept_of_a_model_that_is_not_there(self, folder: Path) -> None:
        class Name(str):
            __slots__ = ("__weakref__",)

        repository, name = open_repository(str(folder)), Name("a")
        kept = weakref.ref(name)
        for ask in (repository.load, repository.unload, repository.get):
            with pytest.raises(ModelNotFound):
                ask(name)
        del name
        assert kept() is None

    def test_unload_and_load(self, folder: Path) -> None:
        write(folder, "a.onnx", DOUBLE)
        repository = open_repository(str(folder))
        repository.get("a")
        repository.unload("a")
        assert repository.peek("a", None) is None
        with pytest.raises(ModelUnavailable, match="unloaded; load it with POST /v2/repository/models/a/load"):
            repository.get("a")
        repository.load("a")
        assert factor(repository.get("a")) == 2

    def test_a_config_given_with_load_holds_until_the_next_load(self, folder: Path) -> None:
        write(folder, "a.onnx", DOUBLE)
        repository = open_repository(str(folder))
        repository.load("a", ModelConfig(max_batch_size=4))
        assert repository.get("a").config.max_batch_size == 4
        repository.refresh()
        assert repository.get("a").config.max_batch_size == 4
        repository.load("a")
        assert repository.get("a").config.max_batch_size == 0

    def test_files_given_with_load(self, folder: Path, tmp_path: Path) -> None:
        write(folder, "a.onnx", DOUBLE)
        repository = open_repository(str(folder), cache=tmp_path / "cache")
        repository.load("a", ModelConfig(), {"7/model.onnx": TRIPLE})
        assert factor(repository.get("a")) == 3
        assert repository.versions("a") == ["7"]
        repository.load("a")
        assert factor(repository.get("a")) == 2

    def test_external_data_given_with_load(self, folder: Path, tmp_path: Path) -> None:
        repository = open_repository(str(folder), cache=tmp_path / "cache")
        model, weights = onnx_models.external(5.0)
        with pytest.raises(InvalidModel, match=r"model.onnx has external data in 'weights\.bin', which is not one of"):
            repository.load("a", ModelConfig(), {"1/model.onnx": model})
        repository.load("a", ModelConfig(), {"1/model.onnx": model, "1/weights.bin": weights})
        assert factor(repository.get("a")) == 5

    def test_loads_of_one_model_at_a_time_are_answered_for_themselves(self, folder: Path, tmp_path: Path) -> None:
        repository = open_repository(str(folder), cache=tmp_path / "cache")
        uploads = [{"1/model.onnx": content} for content in (DOUBLE, TRIPLE, BROKEN)]

        def answer(files: dict[str, bytes]) -> str:
            try:
                repository.load("a", ModelConfig(), files)
            except InvalidModel as exc:
                return str(exc)
            return "loaded"

        with ThreadPoolExecutor(3) as pool:
            for _ in range(20):
                *good, bad = pool.map(answer, uploads)
                assert good == ["loaded", "loaded"]
                assert "a.onnx is not an ONNX file" in bad or "model.onnx is not an ONNX file" in bad
                assert factor(repository.get("a")) in (2, 3)

    @pytest.mark.parametrize("served", [False, True], ids=["a new one", "in place of one that is served"])
    def test_a_load_waits_for_one_of_the_same_model_and_for_no_other(
        self, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, served: bool
    ) -> None:
        repository = open_repository(str(folder), cache=tmp_path / "cache")
        if served:
            repository.load("a", ModelConfig(), {"1/model.onnx": TRIPLE})
        load, under_way, go_on = loader.load, threading.Event(), threading.Event()

        def held_up(name: str, *arguments: Any) -> Model:
            if name == "a":
                under_way.set()
                assert go_on.wait(30)
            return load(name, *arguments)

        monkeypatch.setattr(loader, "load", held_up)
        with ThreadPoolExecutor(2) as pool:
            first = pool.submit(repository.load, "a", ModelConfig(), {"1/model.onnx": DOUBLE})
            assert under_way.wait(30)
            repository.load("b", ModelConfig(), {"1/model.onnx": TRIPLE})
            unloaded = pool.submit(repository.unload, "a")
            assert not unloaded.done()
            go_on.set()
            first.result(30)
            unloaded.result(30)
        # What was uploaded goes with its unload.
        assert states(repository) == {("b", "1"): READY}

    def test_what_a_load_found_is_not_undone_by_an_older_look(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write(folder, "a.onnx", DOUBLE)
        repository = open_repository(str(folder))
        assert factor(repository.get("a")) == 2
        scan, looked, go_on = repository._scan, threading.Event(), threading.Event()

        def held_up() -> Any:
            found = scan()
            looked.set()
            assert go_on.wait(30)
            return found

        monkeypatch.setattr(repository, "_scan", held_up)
        with ThreadPoolExecutor(1) as pool:
            refreshed = pool.submit(repository.refresh)
            assert looked.wait(30)
            monkeypatch.setattr(repository, "_scan", scan)
            write(folder, "b.onnx", TRIPLE)
            repository.load("b")
            go_on.set()
            refreshed.result(30)
        assert states(repository) == {("a", "1"): READY, ("b", "1"): READY}

    def test_a_refused_upload_leaves_the_one_before(self, folder: Path, tmp_path: Path) -> None:
        write(folder, "b.onnx", DOUBLE)
        repository = open_repository(str(folder), cache=tmp_path / "cache")
        for name in "ab":
            repository.load(name, ModelConfig(max_batch_size=4), {"7/model.onnx": TRIPLE})
            with pytest.raises(InvalidModel, match="is not an ONNX file"):
                repository.load(name, ModelConfig(), {"7/model.onnx": BROKEN})
            repository.refresh()
            assert (factor(repository.get(name)), repository.get(name).config.max_batch_size) == (3, 4)
            assert [entry.reason for entry in repository.entries() if entry.name == name] == [""]

    def test_unload_takes_along_what_was_uploaded(self, folder: Path, tmp_path: Path) -> None:
        """Its files, its entries, and the series that only it has."""
        write(folder, "a.onnx", DOUBLE)
        metrics = Metrics()
        cache = tmp_path / "cache"
        repository = open_repository(str(folder), cache=cache, metrics=metrics)
        for name in "ab":
            repository.load(name, ModelConfig(), {"7/model.onnx": TRIPLE})
            assert factor(repository.get(name)) == 3
        assert {("a", "7"), ("b", "7")} <= labels_of(metrics)
        repository.unload("b")
        repository.unload("a")
        assert list(cache.iterdir()) == []
        assert repository.names() == ["a"]
        assert states(repository) == {("a", "1"): UNAVAILABLE}
        assert labels_of(metrics) == set()
        with pytest.raises(ModelNotFound):
            repository.unload("b")
        repository.load("a")
        assert factor(repository.get("a")) == 2
        assert labels_of(metrics) == {("a", "1")}

    def test_uploads_that_are_replaced_or_fail_leave_nothing(self, folder: Path, tmp_path: Path) -> None:
        write(folder, "a.onnx", DOUBLE)
        metrics = Metrics()
        cache = tmp_path / "cache"
        repository = open_repository(str(folder), cache=cache, metrics=metrics)
        repository.load("b", ModelConfig(), {"1/model.onnx": DOUBLE})
        repository.load("b", ModelConfig(), {"2/model.onnx": TRIPLE})
        assert labels_of(metrics) == {("b", "2")}
        assert len(list(cache.iterdir())) == 1
        for name in "bc":
            with pytest.raises(InvalidModel):
                repository.load(name, ModelConfig(), {"3/model.onnx": BROKEN})
        # The one before a failed one stays.
        assert len(list(cache.iterdir())) == 1
        assert factor(repository.get("b")) == 3
        assert (repository.names(), labels_of(metrics)) == (["a", "b"], {("b", "2")})

    def test_a_config_of_a_load_goes_with_its_unload(self, folder: Path) -> None:
        write(folder, "a.onnx", DOUBLE)
        metrics = Metrics()
        repository = open_repository(str(folder), metrics=metrics)
        repository.load("a", ModelConfig(max_batch_size=4))
        repository.unload("a")
        assert states(repository) == {("a", "1"): UNAVAILABLE}
        # The store still has it: its counters go on.
        assert labels_of(metrics) == {("a", "1")}

    @pytest.mark.parametrize("path", ["../../evil", "1/../../../evil", "/evil", "1/model.onnx\0"])
    def test_names_of_uploaded_files_never_become_paths(self, folder: Path, tmp_path: Path, path: str) -> None:
        write(folder, "a.onnx", DOUBLE)
        repository = open_repository(str(folder), cache=tmp_path / "cache")
        before = {file for file in tmp_path.rglob("*") if "cache" not in file.parts}
        with pytest.raises((ModelNotFound, StoreError, ModelUnavailable)):
            repository.load("b", ModelConfig(), {path: TRIPLE})
        assert {file for file in tmp_path.rglob("*") if "cache" not in file.parts} == before
        assert factor(repository.get("a")) == 2


class TestRemote:
    def test_fetched_once_and_kept_by_digest(self, tmp_path: Path) -> None:
        cache = tmp_path / "cache"
        store = memory_store({"a/1/model.onnx": DOUBLE, "b.onnx": TRIPLE}, cache)
        repository = Repository(store, cache=cache)
        assert [factor(repository.get(name)) for name in "ab"] == [2, 3]
        assert sum(file.suffix == ".onnx" for file in cache.rglob("*")) == 2

    def test_a_file_replaced_after_it_was_listed_is_fetched_as_it_is(self, tmp_path: Path) -> None:
        store = memory_store({"a/1/model.onnx": DOUBLE}, tmp_path / "cache")
        repository = Repository(store)
        store.backend.put("a/1/model.onnx", TRIPLE + b"")
        assert factor(repository.get("a")) == 3

    def test_a_store_that_fails_is_asked_again(self, tmp_path: Path) -> None:
        store = memory_store({"a/1/model.onnx": DOUBLE}, tmp_path / "cache")
        repository = Repository(store)
        store.backend.delete("a/1/model.onnx")
        with pytest.raises(StoreError):
            repository.get("a")
        assert states(repository) == {("a", "1"): UNKNOWN}
        store.backend.put("a/1/model.onnx", DOUBLE)
        assert factor(repository.get("a")) == 2


def test_external_data_and_its_digest(folder: Path) -> None:
    proto = onnx.load_from_string(DOUBLE)
    for initializer in proto.graph.initializer:  # only raw data goes to a file
        initializer.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(initializer), initializer.name))
    (folder / "a/1").mkdir(parents=True)
    onnx.save(proto, folder / "a/1/model.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    files = ("model.onnx", "weights.bin")
    sums = [f"{hashlib.sha256((folder / 'a/1' / file).read_bytes()).hexdigest()}  {file}\n" for file in files]
    model = open_repository(str(folder)).get("a")
    assert factor(model) == 2
    assert model.digest == hashlib.sha256("".join(sums).encode()).hexdigest()

"""The data plane: which model a request means, how long it may take, and what its model is safe from meanwhile."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import onnx_models
import pytest
from inferry.concurrency import Threads
from inferry.errors import InferenceTimeout, InvalidRequest, ModelNotFound, ModelUnavailable
from inferry.observability import catalogue
from inferry.observability.sinks import prometheus
from inferry.observability.stats import Timings
from inferry.protocol import classification
from inferry.protocol.tensors import DATATYPES, Tensor
from inferry.protocol.types import InferRequest, InferResponse, RequestedOutput
from inferry.repository.version import LOADING, ModelVersion
from inferry.runtime.scheduler import _covers, kind_of
from inferry.service import Service
from inferry.settings import Settings

Make = Callable[..., Service]
DOUBLE, TRIPLE = onnx_models.scaled(2.0), onnx_models.scaled(3.0)
SLOW = {"slow.onnx": onnx_models.slow()}


@pytest.fixture
def service(repository: Callable[..., str]) -> Iterator[Make]:
    """`service({"a.onnx": DOUBLE}, default_model="a")` serves these files with these settings."""
    with ExitStack() as stack:

        def make(files: dict[str, bytes], **settings: Any) -> Service:
            made = Service.from_settings(Settings(model_path=repository(files), **settings))
            stack.callback(made.close)
            return made

        yield make


def turns(count: int, timeout: float | None = None) -> InferRequest:
    tensor = Tensor("turns", DATATYPES["INT64"], np.array([count], np.int64))
    return InferRequest({"turns": tensor}, timeout=timeout)


def rows(*values: float) -> InferRequest:
    array = np.array([[value] * 3 for value in values], np.float32)
    return InferRequest({"x": Tensor("x", DATATYPES["FP32"], array)})


async def infer(subject: Service, name: str, request: InferRequest) -> InferResponse:
    return await subject.infer(await subject.model(name), request)


def factor(subject: Service, name: str = "a") -> float:
    return float(asyncio.run(infer(subject, name, rows(1))).outputs[0].array[0, 0])


def test_what_requests_cost_by_the_settings(service: Make) -> None:
    subject = service({"a.onnx": DOUBLE}, price_request=0.5)
    subject.metrics.model("a", "1").in_flight += 1
    subject.metrics.model("a", "1").succeeded(Timings(1, 1, 1, 1), 1, time.perf_counter_ns(), 0, 0)
    (family,) = [family for family in subject.metrics.collect() if family.metric is catalogue.COST]
    assert family.series == {("a", "1"): 0.5}


@pytest.mark.parametrize(("timeout", "limit"), [(0.2, 30.0), (None, 0.2), (60.0, 0.2)])
def test_the_shorter_of_the_requests_time_and_the_settings_counts(
    service: Make, timeout: float | None, limit: float
) -> None:
    subject = service(SLOW, model_timeout=limit)
    start = time.monotonic()
    with pytest.raises(InferenceTimeout, match="model 'slow'"):
        asyncio.run(infer(subject, "slow", turns(10**9, timeout)))
    assert 0.2 <= time.monotonic() - start < 20
    assert asyncio.run(infer(subject, "slow", turns(1))).outputs[0].array.tolist() == [1.0]


def test_a_model_is_in_use_while_it_runs(service: Make) -> None:
    subject = service(SLOW | {"a.onnx": DOUBLE}, model_cache_size=1)

    async def scenario() -> None:
        slow = await subject.model("slow")
        run = asyncio.ensure_future(subject.infer(slow, turns(10**9, 1.0)))
        while not (slow.users or run.done()):
            await asyncio.sleep(0.001)
        await subject.model("a")
        assert [model.name for model in subject.repository.loaded()] == ["a", "slow"]
        with pytest.raises(InferenceTimeout):
            await run
        assert slow.users == 0
        await subject.model("a")
        assert [model.name for model in subject.repository.loaded()] == ["a"]

    asyncio.run(scenario())


def test_a_model_is_in_use_while_its_batch_runs(service: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    config = b'{"max_batch_size": 4, "dynamic_batching": {}, "rows": "joined"}'
    subject = service({"a/1/model.onnx": DOUBLE, "a/config.json": config})
    model = asyncio.run(subject.model("a"))
    run, users = model.session.run, list[int]()

    def watched(*arguments: Any) -> Any:
        users.append(model.users)
        return run(*arguments)

    monkeypatch.setattr(model.session, "run", watched)
    assert factor(subject) == 2
    assert (users, model.users) == ([1], 0)


def test_requests_have_changed_models_noticed(service: Make, tmp_path: Path) -> None:
    subject = service({"a.onnx": DOUBLE}, model_refresh=0.01)
    assert factor(subject) == 2
    onnx_models.write(tmp_path / "models", {"a.onnx": TRIPLE})
    end = time.monotonic() + 20
    while factor(subject) != 3 and time.monotonic() < end:
        time.sleep(0.01)
    assert factor(subject) == 3


def test_without_refresh_they_have_not(service: Make, tmp_path: Path) -> None:
    subject = service({"a.onnx": DOUBLE})
    assert factor(subject) == 2
    onnx_models.write(tmp_path / "models", {"b.onnx": TRIPLE})
    for _ in range(3):
        factor(subject)
    assert [thread for thread in threading.enumerate() if thread.name == "inferry-refresh"] == []
    assert subject.repository.names() == ["a"]


def test_models_are_loaded_until_the_cache_is_full_the_default_first(service: Make) -> None:
    files = {f"{name}.onnx": DOUBLE for name in "abcd"} | {"broken.onnx": b"not a model"}
    subject = service(files, model_cache_size=2, default_model="d")
    subject.preload()
    assert [model.name for model in subject.repository.loaded()] == ["a", "d"]


READINESS: dict[str, tuple[dict[str, bytes], dict[str, Any], str]] = {
    "all well": ({"a.onnx": DOUBLE, "b.onnx": DOUBLE}, {}, ""),
    "broken": ({"a.onnx": DOUBLE, "b.onnx": b"not a model"}, {}, "a model can't be served"),
    "a broken version beside one that serves": (
        {"a/1/model.onnx": DOUBLE, "a/2/model.onnx": b"not a model"},
        {},
        "a model can't be served",
    ),
    "nothing": ({"README.md": b"soon"}, {}, "there are no models"),
    "no default": ({"a.onnx": DOUBLE}, {"default_model": "b"}, "DEFAULT_MODEL is missing"),
    "not the model": ({"a.onnx": DOUBLE, "b.onnx": DOUBLE}, {"model_name": "c"}, "MODEL_NAME is missing"),
}


@pytest.mark.parametrize("name", READINESS)
def test_strict_readiness(service: Make, name: str) -> None:
    files, settings, reason = READINESS[name]
    for strict in (True, False):
        subject = service(files, strict_readiness=strict, **settings)
        subject.preload()
        assert subject.not_ready() == (reason if strict else "")


def test_a_model_that_loads_or_was_unloaded(service: Make) -> None:
    subject = service({"a.onnx": DOUBLE}, strict_readiness=True)
    entry = subject.repository.entry("a", "1")
    entry.state = LOADING
    assert subject.not_ready() == "a model is loading"
    subject.preload()
    subject.repository.unload("a")
    assert subject.not_ready() == ""


def test_a_model_that_was_evicted_keeps_nobody_from_the_others(service: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else one client that asks for more models than the cache holds would have a pod taken out of its service."""
    subject = service({"a.onnx": DOUBLE, "b.onnx": DOUBLE}, strict_readiness=True, model_cache_size=1)
    subject.preload()
    subject.repository.get("b")
    opened, seen = ModelVersion.open, []

    def watched(entry: ModelVersion, *arguments: Any) -> Any:
        seen.append((entry.name, subject.not_ready()))
        return opened(entry, *arguments)

    monkeypatch.setattr(ModelVersion, "open", watched)
    subject.repository.get("a")
    subject.repository.get("b")
    assert seen == [("a", ""), ("b", "")]


def test_who_waits_for_one_model_keeps_nobody_from_another(service: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many they are; and for what is not there nobody waits."""
    subject = service({"a.onnx": DOUBLE, "b.onnx": DOUBLE}, model_cache_size=1)
    subject._loaders = Threads(2, "inferry-load")  # as with two CPUs
    opened, go_on = ModelVersion.open, threading.Event()

    def held_up(entry: ModelVersion, *arguments: Any) -> Any:
        assert entry.name == "b" or go_on.wait(60)
        return opened(entry, *arguments)

    monkeypatch.setattr(ModelVersion, "open", held_up)

    async def scenario() -> None:
        waiting = [asyncio.ensure_future(subject.model("a")) for _ in range(6)]
        await asyncio.sleep(0)
        waiting[0].cancel()  # whose client has left
        for _ in range(3):
            with pytest.raises(ModelNotFound):
                await subject.model("c")
            with pytest.raises(ModelNotFound):
                await subject.model("b", "7")
        assert (await subject.model("b")).name == "b"
        go_on.set()
        found = await asyncio.gather(*waiting[1:])
        assert {model.name for model in found} == {"a"}

    asyncio.run(asyncio.wait_for(scenario(), 60))


def test_a_service_is_not_ready_until_its_models_are_loaded(service: Make) -> None:
    made = service({"a.onnx": b"not a model"})
    subject = Service(made.repository, preloaded=False)
    assert subject.not_ready() == "the models are being loaded"
    subject.preload()
    assert subject.not_ready() == ""


def test_models_that_can_not_be_loaded_do_not_stop_the_others(service: Make) -> None:
    subject = service({"a.onnx": b"not a model", "b.onnx": DOUBLE})
    subject.preload()
    assert [model.name for model in subject.repository.loaded()] == ["b"]
    with pytest.raises(ModelUnavailable):
        asyncio.run(subject.model("a"))


@pytest.mark.parametrize(
    ("models", "default", "asked", "meant"),
    [
        ("ab", "a", "b", "b"),
        ("ab", "a", None, "a"),
        ("ab", "a", "", "a"),
        ("ab", "a", "default", "a"),
        ("b", "", None, "b"),
        ("b", "", "default", "b"),
        (("default", "b"), "b", "default", "default"),
        ("ab", "a", "unknown", "unknown"),
    ],
)
def test_the_default_model(service: Make, models: str, default: str, asked: str | None, meant: str) -> None:
    subject = service({f"{name}.onnx": DOUBLE for name in models}, default_model=default)
    assert subject.default_model(asked) == meant


@pytest.mark.parametrize("asked", [None, "", "default"])
def test_no_default_model(service: Make, asked: str | None) -> None:
    with pytest.raises(InvalidRequest, match=r"name a model .* the repository has: a, b$"):
        service({"a.onnx": DOUBLE, "b.onnx": DOUBLE}).default_model(asked)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (b"{}", ["4.000000:1:b", "4.000000:4", "2.000000:0:a"]),
        (
            b'{"max_batch_size": 4}',
            [["4.000000:1:b", "2.000000:0:a", "0.000000:2:c"], ["4.000000:1:b", "0.000000:0:a", "0.000000:2:c"]],
        ),
    ],
)
def test_the_best_classes_are_of_a_row_where_there_are_rows(service: Make, config: bytes, expected: Any) -> None:
    labels = config[:-1] + (b", " if len(config) > 2 else b"") + b'"labels": {"y": ["a", "b", "c"]}}'
    subject = service({"a/1/model.onnx": DOUBLE, "a/config.json": labels})
    request = rows(0, 0)
    request.inputs["x"].array[:] = [[1, 2, 0], [0, 2, 0]]
    request.outputs = (RequestedOutput("y", False, 3),)
    (output,) = classification.applied(asyncio.run(infer(subject, "a", request)))
    assert output.array.tolist() == expected


def test_what_finds_its_model_loaded_is_counted(service: Make) -> None:
    subject = service({"a.onnx": DOUBLE, "b.onnx": DOUBLE}, model_cache_size=1)
    for name in "aabab":
        factor(subject, name)
    text = prometheus.text(subject.metrics)
    counts = dict(line.rsplit(" ", 1) for line in text.splitlines() if line.startswith("inferry_model_cache_"))
    assert counts == {
        "inferry_model_cache_hits_total": "1",
        "inferry_model_cache_misses_total": "4",
        "inferry_model_cache_evictions_total": "3",
    }


def test_quick_models_need_no_thread(service: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    subject = service({"a.onnx": DOUBLE})
    for _ in range(20):  # the first run of a session is a slow one
        factor(subject)

    def refuse(*_: Any) -> None:
        raise AssertionError("a thread")

    monkeypatch.setattr(subject._threads, "pool", refuse)
    assert factor(subject) == 2


LONG = {"long": ["a" * 40_000], "many characters": ["a" * 1_000] * 40, "many": [""] * 5_000}


@pytest.mark.parametrize("name", LONG)
def test_long_strings_never_run_on_the_event_loop(service: Make, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """However quickly as many short ones are done, or the same string was."""
    subject = service({"a.onnx": onnx_models.identity("BYTES", ("n",))})
    model = asyncio.run(subject.model("a"))
    run, threads = model.session.run, list[threading.Thread]()

    def watched(*arguments: Any) -> Any:
        threads.append(threading.current_thread())
        return run(*arguments)

    monkeypatch.setattr(model.session, "run", watched)

    def asked(*values: str) -> threading.Thread:
        tensor = Tensor("x", DATATYPES["BYTES"], np.array(values, object))
        (output,) = asyncio.run(subject.infer(model, InferRequest({"x": tensor}))).outputs
        assert [str(value) for value in output.array] == [*values]
        return threads.pop()

    short, main = ["a"] * len(LONG[name]), threading.current_thread()
    for _ in range(20):  # the first run of a session is a slow one
        asked(*short)
        asked(*LONG[name])
    assert asked(*LONG[name]) is not main
    assert any(asked(*short) is main for _ in range(20)) == (len(short) < 5_000)


def test_the_kind_of_a_run_is_what_its_time_depends_on() -> None:
    def of(*texts: str, y: int = 3, outputs: tuple[str, ...] = ("z",)) -> Any:
        return kind_of({"x": np.array(texts, object), "y": np.zeros(y, np.float32)}, outputs)

    assert of("abcde", "a") == of("fghij", "b") == of("fghijk", "b")
    different = [of("a", "b"), of("abcde", "a"), of("abc", "abc"), of("a"), of("a", y=4), of("a", outputs=("z", "u"))]
    assert len({*different}) == len(different)
    assert of("a" * 5000) is None
    assert of(*["a"] * 5000) is None
    assert of(*[""] * 5000) is None


def test_the_order_of_inputs_says_nothing_of_a_run() -> None:
    x, y, texts = np.zeros((2, 3)), np.zeros(4), np.array(["ab"], object)
    known = kind_of({"x": x, "y": y, "texts": texts}, ("z",))
    assert known is not None
    for feed, covered in (
        ({"texts": texts, "y": y[:3], "x": x}, True),
        ({"y": y, "texts": texts, "x": x[:1]}, True),
        ({"y": x, "texts": texts, "x": y}, False),
        ({"y": y, "texts": np.array(["abcd"], object), "x": x}, False),
        ({"y": y, "x": x}, False),
        ({"y": y, "texts": texts, "other": x}, False),
    ):
        kind = kind_of(feed, ("z",))
        assert kind is not None
        assert _covers(known, kind) == covered

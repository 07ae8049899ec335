"""Responses that are kept: which requests are the same, whose they are, and what is never kept."""

import asyncio
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import onnx_models
import pytest
import row_models
from inferry.errors import InferryError, InvalidSettings, extra
from inferry.observability.stats import Timings
from inferry.protocol.tensors import DATATYPES, Array, Tensor
from inferry.protocol.types import InferRequest, InferResponse, RequestedOutput
from inferry.repository import metadata
from inferry.response_cache import entries
from inferry.response_cache.memory import OVERHEAD, Memory
from inferry.runtime.model import Model
from inferry.service import Service
from inferry.settings import Settings
from onnx import TensorProto, helper

Make = Callable[..., Service]
KEEPS = b'{"response_cache": {"enable": true}}'
DOUBLE = onnx_models.scaled(2.0)


@pytest.fixture
def service(repository: Callable[..., str]) -> Iterator[Make]:
    """`service({"a.onnx": DOUBLE})` serves these files, and keeps the responses of each."""
    with ExitStack() as stack:

        def make(files: Mapping[str, bytes], config: bytes = KEEPS, **settings: Any) -> Service:
            whole = {f"{name}/1/model.onnx": content for name, content in files.items()}
            whole |= {f"{name}/config.json": config for name in files}
            made = Service.from_settings(Settings(model_path=repository(whole), **settings))
            stack.callback(made.close)
            return made

        yield make


def request(*values: float, name: str = "x", datatype: str = "FP32", **members: Any) -> InferRequest:
    array = np.array([values], DATATYPES[datatype].dtype)
    return InferRequest({name: Tensor(name, DATATYPES[datatype], array)}, **members)


def ask(subject: Service, asked: InferRequest, name: str = "a", owner: str | None = "") -> tuple[InferResponse, bool]:
    """The response, and whether it was kept."""
    timings = Timings()
    response = asyncio.run(_ask(subject, asked, name, owner, timings))
    assert timings.cached == (timings.infer == 0)
    assert (timings.cache > 0) == (owner is not None)
    return response, timings.cached


async def _ask(subject: Service, asked: InferRequest, name: str, owner: str | None, timings: Timings) -> InferResponse:
    return await subject.infer(await subject.model(name), asked, timings, owner=owner)


def plain(response: InferResponse) -> dict[str, Any]:
    return {tensor.name: (tensor.datatype.name, tensor.array.tolist()) for tensor in response.outputs}


def lookups(subject: Service, name: str = "a") -> tuple[int, int]:
    """Hits and misses, as Triton counts them."""
    found = subject.metrics.model(name, "1").as_dict()["inference_stats"]
    return found["cache_hit"]["count"], found["cache_miss"]["count"]


def test_the_same_request_runs_once(service: Make) -> None:
    subject = service({"a": DOUBLE})
    first, was_kept = ask(subject, request(1, 2, 3, id="first"))
    again, is_kept = ask(subject, request(1, 2, 3, id="again"))
    assert (was_kept, is_kept) == (False, True)
    assert plain(first) == plain(again) == {"y": ("FP32", [[2, 4, 6]])}
    # It carries the id of its own request.
    assert (first.id, again.id) == ("first", "again")
    assert again.outputs[0].array.dtype == np.float32
    assert lookups(subject) == (1, 1)


def test_what_was_kept_neither_waited_nor_ran(service: Make) -> None:
    subject = service({"a": DOUBLE})
    ask(subject, request(1, 2, 3))
    timings = Timings(queue=5, infer=7)  # of the row before
    asyncio.run(_ask(subject, request(1, 2, 3), "a", "", timings))
    assert (timings.cached, timings.queue, timings.infer) == (True, 0, 0)


def test_without_a_config_nothing_is_kept(service: Make) -> None:
    subject = service({"a": DOUBLE}, config=b"{}")
    for _ in range(2):
        timings = Timings()
        asyncio.run(_ask(subject, request(1, 2, 3), "a", "", timings))
        assert (timings.cached, timings.cache) == (False, 0)
    assert subject._response_cache is None
    assert lookups(subject) == (0, 0)


def of_shape(*shape: int) -> InferRequest:
    return InferRequest({"x": Tensor("x", DATATYPES["FP32"], np.ones(shape, np.float32))})


def with_factor(factor: float) -> InferRequest:
    more = request(1, 1, 1)
    more.inputs["factor"] = Tensor("factor", DATATYPES["FP32"], np.array([factor], np.float32))
    return more


# No two of these have one response.
DIFFERENT: dict[str, Callable[[], InferRequest]] = {
    "plain": lambda: request(1, 1, 1),
    "another value": lambda: request(1, 1, 2),
    "another last bit": lambda: request(1, 1, float(np.nextafter(np.float32(1), np.float32(2)))),
    "a negative zero": lambda: request(-0.0, 1, 1),
    "a zero": lambda: request(0.0, 1, 1),
    "another shape": lambda: of_shape(2, 3),
    "no rows": lambda: of_shape(0, 3),
    "an optional input": lambda: with_factor(2),
    "another optional input": lambda: with_factor(3),
}


def test_other_requests_have_other_responses(service: Make) -> None:
    subject = service({"a": DOUBLE})
    alone = service({"b": DOUBLE}, config=b"{}")
    for make in DIFFERENT.values():
        response, was_kept = ask(subject, make())
        assert not was_kept
        assert plain(response) == plain(asyncio.run(_ask(alone, make(), "b", None, Timings())))
    for make in DIFFERENT.values():
        response, is_kept = ask(subject, make())
        assert is_kept
        assert plain(response) == plain(asyncio.run(_ask(alone, make(), "b", None, Timings())))


def test_strings_don_t_run_into_each_other(service: Make) -> None:
    subject = service({"a": onnx_models.identity("BYTES", ("batch", 2))})
    texts: list[list[str]] = [["ab", "c"], ["a", "bc"], ["abc", ""], ["", "abc"], ["ab\0", "c"], ["é", "c"]]
    for expected in (False, True):
        for pair in texts:
            array = np.array([pair], object)
            response, kept = ask(subject, InferRequest({"x": Tensor("x", DATATYPES["BYTES"], array)}))
            assert (kept, plain(response)) == (expected, {"y": ("BYTES", [pair])})


def test_outputs_that_are_asked_for(service: Make) -> None:
    """Others are another response; how they are sent is not."""
    subject = service({"a": onnx_models.echo({"x": ("FP32", (1, 3)), "z": ("FP32", (1, 3))})})

    def asked(*outputs: RequestedOutput) -> InferRequest:
        both = request(3, 1, 2)
        both.inputs["z"] = request(6, 5, 4, name="z").inputs["z"]
        both.outputs = outputs
        return both

    x, z = RequestedOutput("x_out", False), RequestedOutput("z_out", False)
    values = {"x_out": ("FP32", [[3, 1, 2]]), "z_out": ("FP32", [[6, 5, 4]])}
    for expected in (False, True):
        for outputs in ((x,), (z,), (z, x), ()):
            response, kept = ask(subject, asked(*outputs))
            names = [output.name for output in outputs] or ["x_out", "z_out"]
            assert (kept, plain(response)) == (expected, {name: values[name] for name in names})
            assert [tensor.name for tensor in response.outputs] == names


def test_how_a_response_is_sent_is_its_own(service: Make) -> None:
    """Classes and bytes are made of what is kept, for each request anew."""
    subject = service({"a": DOUBLE})
    first, _ = ask(subject, request(3, 1, 2))
    assert (first.binary, first.classes) == (frozenset(), None)
    response, kept = ask(subject, request(3, 1, 2, outputs=(RequestedOutput("y", True, 2),)))
    assert kept
    assert response.binary == {"y"}
    assert response.classes is not None
    assert response.classes["y"].k == 2


def test_the_order_of_inputs_is_no_difference(service: Make) -> None:
    subject = service({"a": onnx_models.add(shape=(1, 1))})
    a, b = request(1, name="a").inputs, request(2, name="b").inputs
    assert [ask(subject, InferRequest(inputs))[1] for inputs in (a | b, b | a)] == [False, True]
    swapped = {"a": Tensor("a", DATATYPES["FP32"], b["b"].array), "b": Tensor("b", DATATYPES["FP32"], a["a"].array)}
    assert not ask(subject, InferRequest(swapped))[1]


def test_each_owner_has_their_own(service: Make) -> None:
    subject = service({"a": DOUBLE})
    kept = [ask(subject, request(1, 2, 3), owner=owner)[1] for owner in ("", "f" * 64, "e" * 64, "f" * 64, "")]
    assert kept == [False, False, False, True, True]
    # Who says no owner has no part in it.
    timings = Timings()
    asyncio.run(_ask(subject, request(1, 2, 3), "a", None, timings))
    assert (timings.cached, timings.cache) == (False, 0)


def test_each_model_has_its_own(service: Make) -> None:
    """Of the same file under two names as well."""
    subject = service({"a": DOUBLE, "b": DOUBLE, "c": onnx_models.scaled(3.0)})
    found = {name: ask(subject, request(1, 2, 3), name) for name in "abc"}
    assert {name: (plain(response)["y"][1], kept) for name, (response, kept) in found.items()} == {
        "a": ([[2, 4, 6]], False),
        "b": ([[2, 4, 6]], False),
        "c": ([[3, 6, 9]], False),
    }


def test_a_changed_file_has_its_own(service: Make, tmp_path: Path) -> None:
    subject = service({"a": DOUBLE})
    ask(subject, request(1, 2, 3))
    onnx_models.write(tmp_path / "models", {"a/1/model.onnx": onnx_models.scaled(3.0)})
    subject.repository.load("a")
    response, kept = ask(subject, request(1, 2, 3))
    assert (plain(response), kept) == ({"y": ("FP32", [[3, 6, 9]])}, False)


@pytest.mark.parametrize("threads", ["1", "2"])
def test_what_else_the_bits_depend_on(service: Make, threads: str) -> None:
    from inferry.response_cache import keys

    subject = service({"a": DOUBLE}, config=b'{"response_cache": {"enable": true}, "threads": %s}' % threads.encode())
    identity = keys.identity(asyncio.run(subject.model("a")))
    assert identity.endswith(b",%s]]" % threads.encode())


def dropout(training: bool) -> bytes:
    """FP32 `y` is `x` [1, 64], half of it dropped where it trains."""
    constants = [
        helper.make_tensor("ratio", TensorProto.FLOAT, [], [0.5]),
        helper.make_tensor("training", TensorProto.BOOL, [], [True]),
    ]
    node = helper.make_node("Dropout", ["x", "ratio", "training"] if training else ["x"], ["y"])
    inputs, outputs = [onnx_models.tensor("x", "FP32", (1, 64))], [onnx_models.tensor("y", "FP32", (1, 64))]
    return onnx_models.model([node], inputs, outputs, constants if training else [])


def in_a_branch() -> bytes:
    """FP32 `y` [1, 4] is random, out of a graph in the graph."""
    y = onnx_models.tensor("y", "FP32", (1, 4))
    node = helper.make_node("RandomUniform", [], ["y"], shape=[1, 4])
    branches = {name: helper.make_graph([node], name, [], [y]) for name in ("then_branch", "else_branch")}
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
        helper.make_node("Cast", ["sum"], ["condition"], to=TensorProto.BOOL),
        helper.make_node("If", ["condition"], ["y"], **branches),
    ]
    return onnx_models.model(nodes, [onnx_models.tensor("x", "FP32", (1, 4))], [y])


RANDOM = {
    "RandomNormalLike": (row_models.noisy(), 4),
    "RandomUniform": (in_a_branch(), 4),
    "Dropout": (dropout(True), 64),
}


@pytest.mark.parametrize("operator", RANDOM)
def test_random_operators(service: Make, operator: str, caplog: pytest.LogCaptureFixture) -> None:
    """A model with one is served, and each response is its own."""
    content, width = RANDOM[operator]
    subject = service({"a": content})
    said = [plain(asyncio.run(_ask(subject, request(*[1] * width), "a", "", Timings()))) for _ in range(2)]
    assert said[0] != said[1]
    assert lookups(subject) == (0, 0)
    assert f"no responses of model 'a' version 1 are kept, as its config.json asks: {operator} gives" in caplog.text
    model = asyncio.run(subject.model("a"))
    assert metadata.metadata(model, ["1"])["properties"]["response_cache"] == f"off, because of {operator}"
    assert metadata.config(model)["response_cache"] == {"enable": False}


def test_dropout_that_does_not_train_is_not_random(service: Make) -> None:
    subject = service({"a": dropout(False)})
    assert [ask(subject, request(*[1] * 64))[1] for _ in range(2)] == [False, True]
    model = asyncio.run(subject.model("a"))
    assert metadata.metadata(model, ["1"])["properties"]["response_cache"] == "on"
    assert metadata.config(model)["response_cache"] == {"enable": True}


def test_errors_are_not_kept(service: Make) -> None:
    subject = service({"a": onnx_models.failing()})
    flat = {"x": Tensor("x", DATATYPES["FP32"], np.ones(3, np.float32))}
    for _ in range(2):
        with pytest.raises(InferryError):
            ask(subject, InferRequest(flat))
    assert lookups(subject) == (0, 0)


def test_responses_over_the_bound_are_not_kept(service: Make) -> None:
    subject = service({"a": DOUBLE}, response_cache_entry_bytes=64)
    assert [ask(subject, of_shape(1, 3))[1] for _ in range(2)] == [False, True]
    assert [ask(subject, of_shape(6, 3))[1] for _ in range(2)] == [False, False]
    assert lookups(subject) == (1, 3)


def test_strings_over_the_bound_are_not_kept(service: Make) -> None:
    subject = service({"a": onnx_models.identity("BYTES", ("batch",))}, response_cache_entry_bytes=64)
    for text, expected in {"x": True, "x" * 64: False}.items():
        array = np.array([text], object)
        kept = [ask(subject, InferRequest({"x": Tensor("x", DATATYPES["BYTES"], array)}))[1] for _ in range(2)]
        assert kept == [False, expected]


def test_requests_by_reference_have_no_part_in_it(service: Make, tmp_path: Path) -> None:
    place = tmp_path / "data"
    place.mkdir()
    subject = service({"a": DOUBLE}, data_prefixes=(str(place),))

    def by_reference() -> InferRequest:
        return request(1, 2, 3, outputs=(RequestedOutput("y", False, 0, f"{place}/y"),), by_reference=True)

    ask_plain = request(1, 2, 3)
    for asked in (by_reference(), by_reference(), ask_plain):
        timings = Timings()
        asyncio.run(_ask(subject, asked, "a", "", timings))
        assert not timings.cached
    assert lookups(subject) == (0, 1)


def test_large_inputs_are_hashed_in_a_thread(service: Make) -> None:
    subject = service({"a": DOUBLE}, response_cache_entry_bytes=2**23)
    assert [ask(subject, of_shape(2**17, 3))[1] for _ in range(2)] == [False, True]


def test_of_many_strings_nothing_is_kept(service: Make) -> None:
    subject = service({"a": onnx_models.identity("BYTES", ("batch",))})
    for count, expected in {4096: [False, True], 4097: [False, False]}.items():
        array = np.full(count, "x", object)
        kept = []
        for _ in range(2):
            timings = Timings()
            asked = InferRequest({"x": Tensor("x", DATATYPES["BYTES"], array)})
            asyncio.run(_ask(subject, asked, "a", "", timings))
            kept.append(timings.cached)
        assert kept == expected
    assert lookups(subject) == (1, 1)


ARRAYS: dict[str, tuple[str, Any]] = {
    "numbers": ("FP32", np.arange(6, dtype=np.float32).reshape(2, 3)),
    "a scalar": ("INT64", np.array(7)),
    "nothing": ("FP64", np.empty((0, 3))),
    "bools": ("BOOL", np.array([True, False])),
    "bfloat16": ("BF16", np.array([1, 2], np.uint16)),
    "halves": ("FP16", np.array([[0.5]], np.float16)),
    "not numbers": ("FP32", np.array([np.nan, np.inf, -0.0], np.float32)),
    "texts": ("BYTES", np.array([["a", ""], ["é\0", "b"]], object)),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_entries(name: str) -> None:
    datatype, array = DATATYPES[ARRAYS[name][0]], ARRAYS[name][1]
    other: Array = np.ones(3, np.float32)
    entry = entries.encode([array, other], [datatype, DATATYPES["FP32"]])
    found, behind = entries.decode(entry, [datatype, DATATYPES["FP32"]])
    assert (found.dtype, found.shape) == (array.dtype, array.shape)
    assert found.tolist() == array.tolist() if datatype.dtype.hasobject else found.tobytes() == array.tobytes()
    assert behind.tolist() == [1, 1, 1]
    for end in range(len(entry)):
        with pytest.raises(ValueError):
            entries.decode(entry[:end], [datatype, DATATYPES["FP32"]])
    with pytest.raises(ValueError):
        entries.decode(entry + b"\0", [datatype, DATATYPES["FP32"]])


@pytest.mark.parametrize(
    "head",
    [
        b"{}",
        b"[]",
        b"[[1]]",
        b"[[[1],4],[[1],4]]",
        b'[["1",4]]',
        b"[[[-1],4]]",
        b"[[[1],-4]]",
        b"[[[1e3],4]]",
        b"[null]",
        b"[[[4611686018427387904,0],0]]",
        b"[[[1],null]]",
        b"[[null,4]]",
        b"[[[1]," + b"9" * 400 + b"]]",
        b"[",
    ],
)
def test_entries_that_are_none(head: bytes) -> None:
    entry = len(head).to_bytes(4, "little") + head + bytes(4)
    with pytest.raises(ValueError):
        entries.decode(entry, [DATATYPES["FP32"]])


def test_strings_that_are_no_text_are_not_kept() -> None:
    with pytest.raises(ValueError):
        entries.encode([np.array(["\ud800"], object)], [DATATYPES["BYTES"]])


def test_memory_keeps_to_its_bytes_and_drops_what_was_not_used() -> None:
    from inferry.observability.registry import Metrics

    metrics = Metrics()
    memory = Memory(3 * (100 + OVERHEAD), 60, metrics)

    async def scenario() -> None:
        for key in (b"a", b"b", b"c"):
            await memory.set(key, bytes(100))
        assert memory.size == 3 * (100 + OVERHEAD)
        assert await memory.get(b"a") == bytes(100)
        await memory.set(b"d", bytes(50))
        assert [await memory.get(key) is not None for key in (b"a", b"b", b"c", b"d")] == [True, False, True, True]
        await memory.set(b"d", bytes(60))
        assert memory.size == 2 * (100 + OVERHEAD) + 60 + OVERHEAD
        # What has no room at all takes that of no other.
        await memory.set(b"e", bytes(4 * (100 + OVERHEAD)))
        assert [await memory.get(key) is not None for key in (b"a", b"c", b"d", b"e")] == [True, True, True, False]

    asyncio.run(scenario())
    (family,) = [one for one in metrics.collect() if one.metric.name == "inferry_response_cache_evictions_total"]
    assert family.series == {(): 1}


def test_memory_forgets(monkeypatch: pytest.MonkeyPatch) -> None:
    from inferry.observability.registry import Metrics
    from inferry.response_cache import memory as module

    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    memory = Memory(10_000, 5, Metrics())

    async def scenario() -> None:
        await memory.set(b"a", b"entry")
        now[0] = 104.9
        assert await memory.get(b"a") == b"entry"
        now[0] = 105.0
        assert await memory.get(b"a") is None
        assert memory.size == 0

    asyncio.run(scenario())


def test_what_is_counted(service: Make) -> None:
    """Triton's names and ours; what was kept is no inference, and no run."""
    subject = service({"a": DOUBLE}, config=b'{"response_cache": {"enable": true}, "max_batch_size": 8}')
    model: Model = asyncio.run(subject.model("a"))
    stats = model.stats

    async def go(asked: InferRequest) -> Timings:
        from inferry.service import Account

        with Account(model, None) as account:
            account.decoded(asked)
            await subject.infer(model, asked, account, owner="")
            account.inferred()
            account.answered(2)
        return account

    async def scenario() -> list[Timings]:
        return [await go(of_shape(2, 3)), await go(of_shape(2, 3)), await go(of_shape(2, 3))]

    ran, *kept = asyncio.run(scenario())
    assert [one.cached for one in (ran, *kept)] == [False, True, True]
    found = stats.as_dict()
    assert (found["inference_count"], found["execution_count"]) == (2, 1)
    parts = found["inference_stats"]
    assert {name: part["count"] for name, part in parts.items()} == {
        "success": 3,
        "queue": 3,
        "compute_input": 1,
        "compute_infer": 1,
        "compute_output": 1,
        "fail": 0,
        "cache_hit": 2,
        "cache_miss": 1,
    }
    whole = [one.decode + one.queue + one.infer + one.encode + one.cache for one in (ran, *kept)]
    assert parts["success"]["ns"] == sum(whole)
    assert (parts["compute_input"]["ns"], parts["compute_output"]["ns"]) == (ran.decode, ran.encode)
    assert parts["cache_miss"]["ns"] == ran.cache
    assert parts["cache_hit"]["ns"] == sum(one.cache for one in kept)
    assert [(one["batch_size"], one["compute_infer"]["count"]) for one in found["batch_stats"]] == [(2, 1)]
    ours: dict[str, Any] = {family.metric.name: dict(family.series) for family in subject.metrics.collect()}
    assert ours["inferry_response_cache_lookups_total"] == {("a", "1", "hit"): 2, ("a", "1", "miss"): 1}
    assert ours["inferry_rows_total"] == {("a", "1"): 6}
    assert ours["inferry_request_phase_seconds_total"]["a", "1", "cache"] == sum(o.cache for o in (ran, *kept)) / 1e9
    assert ours["inferry_request_duration_seconds"]["a", "1"].total == pytest.approx(sum(whole) / 1e9)
    assert ours["inferry_response_cache_bytes"][()] > OVERHEAD
    tritons = {family.metric.name: dict(family.series) for family in subject.metrics.triton()}
    assert {name: series["a", "1"] for name, series in tritons.items() if name.startswith("nv_cache")} == {
        "nv_cache_num_hits_per_model": 2,
        "nv_cache_num_misses_per_model": 1,
        "nv_cache_hit_duration_per_model": parts["cache_hit"]["ns"] // 1000,
        "nv_cache_miss_duration_per_model": parts["cache_miss"]["ns"] // 1000,
    }
    assert tritons["nv_inference_count"]["a", "1"] == 2
    assert tritons["nv_inference_request_success"]["a", "1"] == 3


def test_the_extra_is_named_where_it_is_missing(service: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the start, and not at the first request."""
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(InvalidSettings) as failed:
        service({"a": DOUBLE}, response_cache_url="redis://:secret@127.0.0.1")
    assert str(failed.value) == f"RESPONSE_CACHE_URL needs Redis' client: {extra('redis')}"


def test_rows_that_run_alone_are_kept_alone(service: Make) -> None:
    subject = service({"a": row_models.with_mean()})
    model = asyncio.run(subject.model("a"))
    spec = next(iter(model.signature.inputs.values()))

    def rows(*values: float) -> InferRequest:
        shape = (len(values), *(1 if length == -1 else length for length in spec.shape[1:]))  # type: ignore[index]
        array = np.ones(shape, spec.datatype.dtype) * np.reshape(values, (len(values), *[1] * (len(shape) - 1)))
        return InferRequest({spec.name: Tensor(spec.name, spec.datatype, array.astype(spec.datatype.dtype))})

    async def scenario(*values: float) -> Timings:
        timings = Timings()
        await subject.infer_rows(model, rows(*values), len(values), timings, owner="")
        return timings

    assert not asyncio.run(scenario(1, 2)).cached
    before = lookups(subject, "a")
    mixed = asyncio.run(scenario(3, 2))
    after = lookups(subject, "a")
    assert not mixed.cached
    assert (after[0] - before[0], after[1] - before[1]) == (1, 1)
    assert asyncio.run(scenario(1, 2, 3)).cached

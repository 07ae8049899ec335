"""Blocks through a model: batches, order, and rows that fail by themselves."""

import itertools
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_models
import pytest
from inferry.errors import InferenceFailed, NotSupported
from inferry.jobs.formats.blocks import Block, Cursor, Group, numbers
from inferry.jobs.predictor import Predictor
from inferry.repository.repository import open_repository
from inferry.runtime.model import Model

Load = Callable[..., Model]


@pytest.fixture
def load(repository: Callable[..., str]) -> Load:
    """`load(bytes, max_batch_size=4)` is that model."""

    def go(content: bytes, **config: Any) -> Model:
        files = {"m/1/model.onnx": content, "m/config.json": str(config).replace("'", '"').encode()}
        model = open_repository(repository(files), threads=1).get("m")
        model.prove_rows()
        return model

    return go


def block(*groups: Group, count: int) -> Block:
    return Block(Cursor(10, 0), Cursor(10 + count, 0), numbers(10, count), list(groups), raw=lambda position: position)


def sizes(model: Model, monkeypatch: pytest.MonkeyPatch, fails: Callable[[Any], bool] = lambda x: False) -> list[int]:
    """The rows of each run from now on; those that `fails` says fail."""
    found: list[int] = []
    real = model.session.run

    def run(feed: Any, names: Any, deadline: float) -> Any:
        found.append(len(feed["x"]))
        if fails(feed["x"]):
            raise InferenceFailed("no luck")
        return real(feed, names, deadline)

    monkeypatch.setattr(model.session, "run", run)
    return found


X = np.arange(30, dtype=np.float32).reshape(10, 3)


@pytest.mark.parametrize(
    ("config", "batch_size", "expected"),
    [({}, 0, [10]), ({"max_batch_size": 4}, 0, [4, 4, 2]), ({"max_batch_size": 4}, 3, [3, 3, 3, 1]), ({}, 8, [8, 2])],
)
def test_batches(
    load: Load, monkeypatch: pytest.MonkeyPatch, config: Any, batch_size: int, expected: list[int]
) -> None:
    model = load(onnx_models.scaled(2, 3), **config)
    found = sizes(model, monkeypatch)
    predicted = Predictor(model, batch_size, 10).predict(block(Group({"x": X}), count=10))
    assert found == expected
    assert predicted.positions.tolist() == list(range(10))
    np.testing.assert_array_equal(predicted.outputs["y"], X * 2)


def test_large_rows_run_one_by_one(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load(onnx_models.identity("FP32", ("n", "k")))
    found = sizes(model, monkeypatch)
    Predictor(model, 0, 10).predict(block(Group({"x": np.zeros((3, 140_000), np.float32)}), count=3))
    assert found == [1, 1, 1]


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Callable[[Model, int], list[int]]:
    """`slow(model, 100)` has each row take so many nanoseconds; the rows of each run from then on."""
    now = 0

    def go(model: Model, nanoseconds: int) -> list[int]:
        found: list[int] = []
        real = model.session.run

        def run(feed: Any, names: Any, deadline: float) -> Any:
            nonlocal now
            found.append(len(feed["x"]))
            now += len(feed["x"]) * nanoseconds
            return real(feed, names, deadline)

        monkeypatch.setattr(model.session, "run", run)
        return found

    monkeypatch.setattr(time, "perf_counter_ns", lambda: now)
    return go


@pytest.mark.parametrize(
    ("nanoseconds", "batch_size", "expected"),
    [
        (100, 0, [2048, 4096, 8192, 8192, 7472]),
        (600, 0, [2048] * 14 + [1328]),
        (100, 16_000, [16_000, 14_000]),
    ],
)
def test_quick_runs_become_larger(
    load: Load, slow: Callable[[Model, int], list[int]], nanoseconds: int, batch_size: int, expected: list[int]
) -> None:
    model = load(onnx_models.scaled(2, 3))
    found = slow(model, nanoseconds)
    x = np.arange(90_000, dtype=np.float32).reshape(30_000, 3)
    predicted = Predictor(model, batch_size, 10).predict(block(Group({"x": x}), count=30_000))
    assert found == expected
    np.testing.assert_array_equal(predicted.outputs["y"], x * 2)


def test_large_runs_that_are_slow_become_smaller(load: Load, slow: Callable[[Model, int], list[int]]) -> None:
    model = load(onnx_models.scaled(2, 3))
    x = block(Group({"x": np.zeros((20_000, 3), np.float32)}), count=20_000)
    predictor = Predictor(model, 0, 10)
    slow(model, 100)
    predictor.predict(x)
    found = slow(model, 1000)
    predictor.predict(x)
    assert found == [8192, 4096, *[2048] * 3, 1568]


@pytest.mark.parametrize(
    ("rows", "nanoseconds", "max_batch_size", "expected"),
    [
        ([2048, 4096], [100, 100], 0, [True, True]),
        ([2048, 2048], [3000, 3000], 0, [False, False]),
        # What is less than a full run says nothing of one.
        ([64, 2048, 64], [100, 100, 100], 0, [False, True, True]),
        # Side by side they take longer.
        ([64, 8, 8, 8], [500_000, 2_000_000, 3_000_000, 1_000_000], 8, [True, True, False, False]),
    ],
)
def test_short_runs_may_be_side_by_side(
    load: Load,
    slow: Callable[[Model, int], list[int]],
    rows: list[int],
    nanoseconds: list[int],
    max_batch_size: int,
    expected: list[bool],
) -> None:
    model = load(onnx_models.scaled(2, 3), max_batch_size=max_batch_size)
    real, predictor, found = model.session.run, Predictor(model, 0, 10), []
    for count, each in zip(rows, nanoseconds, strict=True):
        model.session.run = real  # type: ignore[method-assign]
        slow(model, each)
        predictor.predict(block(Group({"x": np.zeros((count, 3), np.float32)}), count=count))
        found.append(predictor.is_quick)
    assert found == expected


def test_blocks_of_short_runs_are_short(
    load: Load, slow: Callable[[Model, int], list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of others take about a second."""
    model, now = load(onnx_models.scaled(2, 3), max_batch_size=10), itertools.count(0, 0.005)
    slow(model, 100)
    monkeypatch.setattr(time, "perf_counter", lambda: next(now))
    predictor, paces = Predictor(model, 0, 10), []
    for quick in (True, False):
        predictor.is_quick = quick
        predictor.predict(block(Group({"x": np.zeros((9, 3), np.float32)}), count=9))
        paces.append(predictor.pace.rows)
    assert paces == [10, 320]


def test_the_first_block_is_as_large_as_the_model_is_quick(load: Load) -> None:
    model = load(onnx_models.scaled(2, 3))
    paces = []
    for nanoseconds in (None, 10_000, 1_000_000, 10_000_000, 100_000_000, 1_000_000_000, 60_000_000_000):
        model.warm_run = (nanoseconds, None) if nanoseconds else None
        paces.append(Predictor(model, 0, 10).pace.rows)
    assert paces == [64, 2048, 100, 64, 10, 1, 1]


@pytest.mark.parametrize(
    ("rows", "seconds", "expected"), [(0, 0.0, 64), (10, 0.0, 64), (1000, 1.0, 64), (10, 2.0, 5), (3, 60.0, 1)]
)
def test_the_first_block_is_what_earlier_runs_took_a_second_for(
    load: Load, rows: int, seconds: float, expected: int
) -> None:
    predictor = Predictor(load(onnx_models.scaled(2, 3)), 0, 10)
    predictor.expect(rows, seconds)
    assert predictor.pace.rows == expected


@pytest.mark.parametrize("most", [1, 8])
def test_no_block_has_more_rows_than_it_may(load: Load, most: int) -> None:
    """However quick those before were."""
    predictor, paces = Predictor(load(onnx_models.scaled(2, 3), max_batch_size=512), 0, 10, most), []
    for _ in range(3):
        paces.append(predictor.pace.rows)
        predictor.predict(block(Group({"x": X[:1]}), count=1))
    assert paces == [most] * 3


def test_groups_come_back_in_the_order_of_their_rows(load: Load) -> None:
    model = load(onnx_models.identity("FP32", ("n", "k")))
    odd, even = Group({"x": X[1::2]}, np.arange(1, 10, 2)), Group({"x": X[::2, :2].copy()}, np.arange(0, 10, 2))
    predicted = Predictor(model, 0, 10).predict(block(odd, even, count=10))
    expected = [X[row, :2].tolist() if row % 2 == 0 else X[row].tolist() for row in range(10)]
    assert [row.tolist() for row in predicted.outputs["y"]] == expected


def test_a_row_that_fails_is_found(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load(onnx_models.scaled(2, 3))
    found = sizes(model, monkeypatch, lambda x: bool((x[:, 0] == 12).any()))
    predicted = Predictor(model, 0, 10).predict(block(Group({"x": X}), count=10))
    assert predicted.positions.tolist() == [0, 1, 2, 3, 5, 6, 7, 8, 9]
    np.testing.assert_array_equal(predicted.outputs["y"], np.delete(X, 4, 0) * 2)
    assert [(item.row, item.reason, item.data) for item in predicted.rejected] == [(15, "no luck", 4)]
    assert found == [10, 5, 2, 3, 1, 2, 1, 1, 5]


def test_batches_that_take_too_long_become_smaller(load: Load) -> None:
    """No time at all: every row fails by itself, and the next block isn't tried as a whole."""
    predictor = Predictor(load(onnx_models.scaled(2, 3)), 0, 0.0)
    for _ in range(2):
        predicted = predictor.predict(block(Group({"x": X}), count=10))
        assert len(predicted.rejected) == 10
        assert "the time for a prediction" in predicted.rejected[0].reason
    assert predictor._limit == 1


def test_the_pace_follows_the_size_of_outputs(load: Load) -> None:
    predictor = Predictor(load(onnx_models.identity("FP32", ("n", "k"))), 0, 10)
    predictor.predict(block(Group({"x": np.zeros((8, 1_000_000), np.float32)}), count=8))
    assert predictor.pace.rows <= 4


def test_a_model_of_fixed_batches(load: Load) -> None:
    with pytest.raises(NotSupported, match=r"takes no rows, as the first axis of input 'x' is fixed: \[4, 3\]"):
        Predictor(load(onnx_models.identity("FP32", (4, 3))), 0, 10).check_rows()

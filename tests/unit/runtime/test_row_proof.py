"""Whether rows may run together: what models show, what their axes say, what is kept, and what ends it."""

import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx_models
import pytest
import row_models
from inferry.errors import InferenceFailed
from inferry.protocol.signature import Feed
from inferry.repository.repository import open_repository
from inferry.runtime.row_proof import RowProof, compared, declared
from inferry.runtime.session import Session
from inferry.runtime.verdicts import NONE, PROVEN, SINGLE, UNPROVEN, Verdict, Verdicts

Load = Callable[..., Session]
EVER = float("inf")


def rows(*shape: int, dtype: str = "f4") -> np.ndarray[Any, Any]:
    """Some of either sign."""
    return np.random.default_rng(0).integers(-9, 9, shape).astype(dtype)


PAIRS = {"ids": np.array([[1, 2], [3, 4]]), "mask": np.array([[1, 0], [1, 1]])}
BFLOATS = np.array([[0x3FC0, 0xC000], [0x4000, 0]], np.uint16)
X = rows(5, 4)
# A model, rows, the verdict, words of its reason, and the outputs that have rows.
CASES: dict[str, tuple[bytes, Feed, str, str, str]] = {
    "plain": (onnx_models.identity("FP32", ("n", 4)), {"x": X}, PROVEN, "", "y"),
    "text": (onnx_models.identity("BYTES", ("n", 1)), {"x": np.array([["a"], ["bb"]], object)}, PROVEN, "", "y"),
    "half": (onnx_models.identity("FP16", ("n", 4)), {"x": rows(5, 4, dtype="f2")}, PROVEN, "", "y"),
    "bfloat": (onnx_models.identity("BF16", ("n", 2)), {"x": BFLOATS}, PROVEN, "", "y"),
    "not a number": (onnx_models.identity("FP32", ("n", 1)), {"x": np.full((3, 1), np.nan, "f4")}, PROVEN, "", "y"),
    "classes": (onnx_models.zipmap(), {"x": rows(5, 2)}, PROVEN, "", "label probabilities"),
    "axes without names": (onnx_models.identity("FP32", (None, None)), {"x": X}, PROVEN, "", "y"),
    "a mask's own batch": (row_models.masked(), PAIRS, PROVEN, "", "sum"),
    "a row per row under a fixed axis": (row_models.label(), {"x": X}, PROVEN, "", "label"),
    "another length than declared": (row_models.misdeclared(), {"x": rows(4, 3, 2)}, PROVEN, "", "y"),
    "time first": (row_models.turned(), {"x": rows(8, 8, 2)}, SINGLE, "'time', which is another axis of input 'x'", ""),
    "time first, unnamed": (row_models.turned(None, None), {"x": rows(3, 3, 2)}, SINGLE, "'y' has the shape", ""),
    "hits": (row_models.hits(), {"x": X}, SINGLE, "'num_hits', which no input has", ""),
    "hits, unnamed": (row_models.hits(None), {"x": np.eye(4, dtype="f4")}, SINGLE, "'hits' has the shape", ""),
    "a place in the batch": (row_models.placed(), {"x": X}, SINGLE, "'place' has other values", "place"),
    "a mean beside rows": (row_models.with_mean(), {"x": X}, SINGLE, "'mean' is a scalar", "twice"),
    "folded": (row_models.folded(), {"x": rows(4, 3, 2)}, SINGLE, "begins with the axis '3*batch'", ""),
    "folded, unnamed": (row_models.folded("Reshapey_dim_0"), {"x": rows(4, 3, 2)}, SINGLE, "'y' has the shape", ""),
    "inferred": (row_models.relu("Relu_459_o0__d0"), {"x": X}, PROVEN, "", "y"),
    "folded, inferred": (row_models.folded("Reshape_7_o0__d0"), {"x": rows(4, 3, 2)}, SINGLE, "'y' has the shape", ""),
    "a condition": (row_models.conditional(), {"x": X}, SINGLE, "'y' differs by", "y"),
    "a condition that these rows hide": (row_models.conditional(), {"x": abs(X) + 1}, SINGLE, "'y' differs by", "y"),
    "one scale for all rows": (row_models.quantised(), {"x": X * 7}, SINGLE, "'y' differs by", "y"),
    "random": (row_models.noisy(), {"x": X}, SINGLE, "'y' differs by", "y"),
    "one row at a time": (onnx_models.identity("FP32", (1, 4)), {"x": X}, SINGLE, "shape [1, 4]", "y"),
    "a scalar": (onnx_models.add("FP32", ()), {"a": X[:, 0], "b": X[:, 0]}, SINGLE, "shape []", ""),
    "two rows, ever": (onnx_models.identity("FP32", (2, 4)), {"x": X}, NONE, "'x' is fixed: [2, 4]", ""),
    "a state": (row_models.stateful(), {}, NONE, "'state' is fixed: [2, -1, 3]", ""),
}


@pytest.mark.parametrize("case", CASES)
def test_verdicts(session: Load, case: str) -> None:
    content, feed, expected, reason, outputs = CASES[case]
    proof = RowProof(session(content), "", joined=False)
    assert proof.joins(feed, EVER) is (expected == PROVEN)
    verdict = proof.verdict
    assert (verdict.rows, verdict.outputs) == (expected, frozenset(outputs.split()))
    assert reason in verdict.reason
    assert (verdict.reason == "") is (expected == PROVEN)


@pytest.mark.parametrize("case", [name for name, (*_, expected, _, _) in CASES.items() if expected in (PROVEN, SINGLE)])
def test_random_rows_show_the_same(session: Load, case: str) -> None:
    content, _, expected, _, _ = CASES[case]
    assert RowProof(session(content), "", joined=False).by_example(None, EVER).rows == expected


@pytest.mark.parametrize("case", ["plain", "text", "half", "bfloat"])
def test_random_rows_without_numpy_s_generators(session: Load, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in the images, which leave numpy.random out."""
    loaded = session(CASES[case][0])
    monkeypatch.delattr(np, "random")
    monkeypatch.setitem(sys.modules, "numpy.random", None)
    assert RowProof(loaded, "", joined=False).by_example(None, EVER).rows == PROVEN


def test_rows_alike_show_nothing_by_themselves(session: Load) -> None:
    """Why rows of other signs and sizes are asked as well."""
    loaded = session(row_models.conditional())
    verdict, _ = compared(loaded, {"x": np.ones((3, 4), np.float32)}, EVER)
    assert verdict.rows == PROVEN
    assert not RowProof(loaded, "", joined=False).joins({"x": np.ones((3, 4), np.float32)}, EVER)


@pytest.mark.parametrize(
    ("datatype", "first"), [("FP32", [[math.nan] * 2] * 2), ("INT64", [[0, 0]] * 2), ("INT64", [[5, 5]] * 2)]
)
def test_rows_whose_outputs_are_alike_do_not_decide_for_others(session: Load, datatype: str, first: Any) -> None:
    """The first client's rows hide that the model takes the mean of a batch off."""
    loaded = session(row_models.centred(datatype))
    feed = {"x": np.array(first, "f4" if datatype == "FP32" else "i8")}
    verdict, silent = compared(loaded, feed, EVER)
    assert (verdict.rows, silent) == (PROVEN, frozenset("y"))
    proof = RowProof(loaded, "", joined=False)
    assert not proof.joins(feed, EVER)
    assert proof.verdict.rows == SINGLE


def test_rows_alike_prove_nothing_where_random_ones_fail(session: Load) -> None:
    """The next that come are asked again."""
    proof = RowProof(session(row_models.centred_lookup()), "", joined=False)
    assert not proof.joins({"id": np.array([0, 0])}, EVER)
    assert proof.verdict.rows == UNPROVEN
    assert not proof.joins({"id": np.array([0, -2])}, EVER)
    assert proof.verdict.rows == SINGLE


def test_the_most_different_rows_are_asked(session: Load) -> None:
    """Of a thousand rows one is negative."""
    x = np.ones((1000, 4), np.float32)
    x[700] = -5
    loaded = session(row_models.conditional())
    asked: list[Any] = []
    real = loaded.run

    def run(feed: Feed, names: Any, deadline: float) -> Any:
        asked.append(feed["x"].copy())
        return real(feed, names, deadline)

    loaded.run = run  # type: ignore[assignment,method-assign]
    assert not RowProof(loaded, "", joined=False).joins({"x": x}, EVER)
    assert asked[0][:3, 0].tolist() == [-5.0, 1.0, 1.0]


def test_rows_that_fail_prove_nothing(session: Load) -> None:
    proof = RowProof(session(row_models.lookup()), "", joined=False)
    assert not proof.joins({"id": np.array([0, 99])}, EVER)
    assert proof.verdict.rows == UNPROVEN
    assert proof.joins({"id": np.array([0, 3])}, EVER)


def test_a_model_that_runs_with_no_random_row(session: Load) -> None:
    loaded = session(onnx_models.failing())
    assert RowProof(loaded, "", joined=False).by_example(None, EVER).rows == UNPROVEN
    assert RowProof(loaded, "", joined=False).by_example({"x": np.zeros(1, np.float32)}, EVER).rows == UNPROVEN


def test_an_example_of_one_row_becomes_others(session: Load) -> None:
    proof = RowProof(session(row_models.conditional()), "", joined=False)
    verdict = proof.by_example({"x": np.ones((1, 4), np.float32)}, EVER)
    assert verdict.rows == SINGLE
    assert RowProof(session(row_models.masked()), "", joined=False).by_example(
        {"ids": np.array([[7, 8, 9]]), "mask": np.array([[1, 1, 0]])}, EVER
    ) == Verdict(PROVEN, "", frozenset({"sum"}))


def test_one_scale_for_all_rows_is_seen_in_the_file(repository: Callable[..., str]) -> None:
    """Rows may happen to be alike all the same: these have the same largest and least value."""
    model = open_repository(repository({"m.onnx": row_models.quantised()})).get("m")
    assert not model.row_proof.joins({"x": np.tile(X[:1], (3, 1))}, EVER)
    reason = "DynamicQuantizeLinear has one scale for all rows of a run"
    assert model.row_proof.verdict == Verdict(SINGLE, reason, frozenset({"y"}))


def test_the_config_overrules_it(session: Load) -> None:
    proof = RowProof(session(row_models.quantised()), "", joined=True)
    assert proof.verdict == Verdict(PROVEN, 'config.json says "rows": "joined"', frozenset({"y"}))
    assert proof.joins({"x": X}, EVER)
    state = RowProof(session(row_models.stateful()), "", joined=True)
    assert state.verdict.rows == NONE


def test_a_run_without_a_row_per_row_ends_it(session: Load, caplog: pytest.LogCaptureFixture) -> None:
    proof = RowProof(session(onnx_models.echo({"x": ("FP32", ("n", 4)), "z": ("FP32", ("n", 4))})), "", joined=False)
    assert proof.joins({"x": X, "z": X}, EVER)
    assert not proof.refute({"x_out": X, "z_out": X}, 5)
    assert proof.verdict.rows == PROVEN
    assert proof.refute({"x_out": X, "z_out": X[:2]}, 5)
    reason = "a run of 5 rows gave output 'z_out' of the shape [2, 4], which has not a row per row"
    assert proof.verdict == Verdict(SINGLE, reason, frozenset({"x_out"}))
    assert not proof.joins({"x": X, "z": X}, EVER)
    assert caplog.messages == [f"model 'm': its rows are not joined any more: {reason}"]


def test_no_time_proves_nothing(session: Load) -> None:
    proof = RowProof(session(onnx_models.identity("FP32", ("n", 4))), "", joined=False)
    assert not proof.joins({"x": X}, time.monotonic() - 1)
    assert proof.verdict.rows == UNPROVEN


class TestKept:
    """From one process to the next, by digest."""

    def test_it_is_found_again(self, session: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        loaded = session(row_models.quantised())
        first = RowProof(loaded, "ab12", joined=False, verdicts=Verdicts("1.0", tmp_path / "rows"))
        first.joins({"x": X}, EVER)

        def fails(*_: Any) -> Any:
            raise InferenceFailed("it was asked again")

        monkeypatch.setattr(loaded, "run", fails)
        again = RowProof(loaded, "ab12", joined=False, verdicts=Verdicts("1.0", tmp_path / "rows"))
        assert again.verdict == first.verdict != declared(loaded.signature)
        shipped = RowProof(loaded, "ab12", joined=False, verdicts=Verdicts("1.0", None, tmp_path / "rows"))
        assert shipped.verdict == first.verdict

    @pytest.mark.parametrize(("digest", "runtime"), [("cd34", "1.0"), ("ab12", "1.1")])
    def test_another_file_or_runtime_is_asked(self, tmp_path: Path, digest: str, runtime: str) -> None:
        Verdicts("1.0", tmp_path).write("ab12", Verdict(PROVEN, "", frozenset({"y"})))
        assert Verdicts("1.0", tmp_path).read("ab12") == Verdict(PROVEN, "", frozenset({"y"}))
        assert Verdicts(runtime, tmp_path).read(digest) is None

    @pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"rows":"none","reason":"","outputs":[]}', b"\xff"])
    def test_a_broken_file_counts_for_nothing(self, tmp_path: Path, content: bytes) -> None:
        Verdicts("1.0", tmp_path).write("ab12", Verdict(PROVEN, "", frozenset()))
        (file,) = tmp_path.iterdir()
        file.write_bytes(content)
        assert Verdicts("1.0", tmp_path).read("ab12") is None

    def test_a_disk_that_takes_nothing(self) -> None:
        Verdicts("1.0", Path("/proc/rows")).write("ab12", Verdict(PROVEN, "", frozenset()))

    def test_what_ended_joining_is_kept(self, session: Load, tmp_path: Path) -> None:
        verdicts = Verdicts("1.0", tmp_path)
        loaded = session(onnx_models.identity("FP32", ("n", 4)))
        RowProof(loaded, "ab12", joined=False, verdicts=verdicts).refute({"y": X}, 3)
        assert RowProof(loaded, "ab12", joined=False, verdicts=verdicts).verdict.rows == SINGLE

"""`inferry prepare --quantize` over real models: what is chosen, what stays float, and what the server gives then."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_models
import prepare_by_table
import pytest
from inferry.cli import main as cli
from inferry.prepare.agreement import accuracy, agreement
from inferry.prepare.quantising import Variant, judge
from inferry.prepare.trials import Cost
from inferry.repository.repository import open_repository
from onnx import helper, numpy_helper
from sklearn.datasets import load_digits

ROOT = Path(__file__).parents[3]
RNG = np.random.default_rng(5)


def steep(*, is_alone: bool = False) -> bytes:
    """FP32 `scores` [batch, 4] of `x` [batch, 64] by two products.

    What decides lies in the low part of the first one's sums, below values a thousand times as large that the second
    leaves out: with one scale for all of them nothing of it is left.
    """
    first = np.eye(64, dtype=np.float32)
    first[0, 0] = 5000
    second = RNG.standard_normal((64, 4)).astype(np.float32)
    second[0] = 0
    nodes = [
        helper.make_node("MatMul", ["x", "first"], ["hidden"], name="plain"),
        helper.make_node("MatMul", ["hidden", "second"], ["scores"], name="sensitive"),
    ]
    weights = [numpy_helper.from_array(first, "first"), numpy_helper.from_array(second, "second")]
    if is_alone:
        nodes, weights = [helper.make_node("MatMul", ["x", "second"], ["scores"])], weights[1:]
    tensors = [onnx_models.tensor("x", "FP32", ("batch", 64)), onnx_models.tensor("scores", "FP32", ("batch", 4))]
    return onnx_models.model(nodes, tensors[:1], tensors[1:], weights)


def two_layers(wide: int = 512) -> bytes:
    """FP32 `scores` [batch, 2] of `x` [batch, 64]: of the mean of the first half and of the second half, by weights of
    a megabyte."""
    first = np.repeat(np.eye(64, dtype=np.float32), wide // 64, axis=1)
    middle = np.eye(wide, dtype=np.float32)
    last = np.zeros((wide, 2), np.float32)
    last[: wide // 2, 0] = last[wide // 2 :, 1] = 1 / wide
    nodes = [
        helper.make_node("MatMul", ["x", "first"], ["a"]),
        helper.make_node("MatMul", ["a", "middle"], ["b"]),
        helper.make_node("MatMul", ["b", "last"], ["scores"]),
    ]
    weights = [numpy_helper.from_array(w, n) for n, w in (("first", first), ("middle", middle), ("last", last))]
    tensors = [onnx_models.tensor("x", "FP32", ("batch", 64)), onnx_models.tensor("scores", "FP32", ("batch", 2))]
    return onnx_models.model(nodes, tensors[:1], tensors[1:], weights)


def halves(rows: int) -> np.ndarray[Any, Any]:
    """Rows [rows, 64] whose one half is the larger, in turns."""
    values = RNG.uniform(0, 1, (rows, 64)).astype(np.float32)
    values[::2, :32] += 1
    values[1::2, 32:] += 1
    return RNG.permutation(values)


def write(folder: Path, model: bytes, samples: np.ndarray[Any, Any]) -> Path:
    np.save(folder / "samples.npy", samples)
    return onnx_models.write(folder / "models", {"m/1/model.onnx": model})


def prepare(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = (sys.executable, prepare_by_table.__file__, str(folder / "models"), str(folder / "out"), *options)
    environment = {**os.environ, "MODEL_CACHE_DIR": str(folder / "cache")}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def prepared(folder: Path, *options: str) -> dict[str, Any]:
    done = prepare(folder, "--json", "--samples", str(folder / "samples.npy"), *options)
    assert done.returncode == 0, done.stderr
    model: dict[str, Any] = json.loads(done.stdout)["models"][0]
    return model


def variants(said: dict[str, Any]) -> list[tuple[str, list[str], str]]:
    return [(each["method"], each["left_out"], each["reason"]) for each in said["quantised"]["variants"]]


def test_static_weights_are_served(tmp_path: Path) -> None:
    samples = halves(200)
    models = write(tmp_path, two_layers(1024), samples)
    said = prepared(tmp_path, "--quantize", "static")
    assert (said["status"], variants(said)) == ("prepared", [("float", [], ""), ("static", [], "")])
    plain, served = (
        open_repository(str(folder), threads=1, cache=tmp_path / "cache").get("m")
        for folder in (models, tmp_path / "out")
    )
    assert served.digest != plain.digest
    wanted, (got,) = (model.session.run({"x": samples}, ["scores"], time.monotonic() + 60) for model in (plain, served))
    assert np.array_equal(got.argmax(-1), wanted[0].argmax(-1))
    assert not np.array_equal(got, wanted[0])
    assert sum(path.stat().st_size for path in (tmp_path / "out/m/1").rglob("weights.bin")) < len(two_layers(1024))
    served.prove_rows()
    assert served.row_proof.verdict.rows != "single"


def test_the_manifest_has_all_that_was_tried(tmp_path: Path) -> None:
    models = write(tmp_path, two_layers(), halves(200))
    said = prepared(tmp_path, "--quantize", "any")
    manifest = json.loads((tmp_path / "out/m/1/prepared.json").read_bytes())
    kept = manifest["source"]["quantised"]
    assert {key: kept[key] for key in ("variants", "failed")} == said["quantised"]
    assert kept["sha256"] == open_repository(str(models), threads=1).get("m").digest
    assert [each["method"] for each in kept["variants"]] == ["float", "static", "dynamic"]
    for each in kept["variants"]:
        assert each.keys() >= {"size", "load", "run", "private", "agreement", "is_best"}
    assert prepared(tmp_path, "--quantize", "any")["status"] == "unchanged"
    assert prepared(tmp_path, "--quantize", "any", "--agreement", "0.9")["status"] == "quantised"
    assert prepared(tmp_path)["status"] == "prepared"
    assert "quantised" not in json.loads((tmp_path / "out/m/1/prepared.json").read_bytes())["source"]


@pytest.mark.parametrize("method", ["static", "dynamic"])
def test_products_are_exact_on_every_cpu(method: str, tmp_path: Path) -> None:
    """uint8 by uint8: no pairing of the two types is left, which inspect would say of it."""
    write(tmp_path, two_layers(), halves(100))
    prepared(tmp_path, "--quantize", method)
    graph = onnx.load(tmp_path / "out/m/1/model.onnx").graph
    assert {"DequantizeLinear", "MatMulInteger"} & {node.op_type for node in graph.node}
    types = {numpy_helper.to_array(initializer).dtype for initializer in graph.initializer}
    assert np.dtype(np.uint8) in types
    assert np.dtype(np.int8) not in types


def test_rows_of_a_dynamic_one_run_alone(tmp_path: Path) -> None:
    """Its scale is that of all rows of a run."""
    write(tmp_path, two_layers(), halves(100))
    prepared(tmp_path, "--quantize", "dynamic")
    model = open_repository(str(tmp_path / "out"), threads=1, cache=tmp_path / "cache").get("m")
    model.prove_rows()
    assert model.row_proof.verdict.rows == "single"


def test_what_does_not_hold_stays_float(tmp_path: Path) -> None:
    samples = RNG.uniform(-1, 1, (400, 64)).astype(np.float32)
    samples[:, 0] = 1
    write(tmp_path, steep(), samples)
    said = prepared(tmp_path, "--quantize", "static")
    whole, less = said["quantised"]["variants"][1:]
    assert whole["agreement"] < 0.9
    assert whole["reason"].endswith("of its answers agree, less than 0.99")
    assert (less["left_out"], less["reason"]) == (["sensitive"], "")
    assert less["agreement"] >= 0.99


def test_nothing_holds(tmp_path: Path) -> None:
    """The only product is the one that needs its floats."""
    samples = RNG.uniform(-1, 1, (400, 64)).astype(np.float32)
    samples[:, 0] = 5000
    models = write(tmp_path, steep(is_alone=True), samples)
    said = prepared(tmp_path, "--quantize", "any")
    assert said["status"] == "copied"
    assert [reason[-36:] for _, _, reason in variants(said)] == ["", *["of its answers agree, less than 0.99"] * 2]
    assert (tmp_path / "out/m/1/model.onnx").read_bytes() == (models / "m/1/model.onnx").read_bytes()


def digits(folder: Path, wrong: int = 0) -> None:
    """The example model, pixels as CSV, and labels, so many of them wrong."""
    content = (ROOT / "models/digits-conv/1/model.onnx").read_bytes()
    onnx_models.write(folder / "models", {"m/1/model.onnx": content})
    pixels, targets = load_digits(return_X_y=True)
    lines = [json.dumps({"image": [row.reshape(8, 8).tolist()]}) for row in pixels[:300]]
    (folder / "samples.jsonl").write_text("\n".join(lines))
    labels = [int(target) for target in targets[:300]]
    labels[:wrong] = [10] * wrong
    (folder / "labels.json").write_text(json.dumps(labels))


def test_accuracy_against_labels(tmp_path: Path) -> None:
    digits(tmp_path, wrong=100)
    files = ("--samples", str(tmp_path / "samples.jsonl"), "--labels", str(tmp_path / "labels.json"))
    done = prepare(tmp_path, "--json", "--quantize", "static", *files)
    assert done.returncode == 0, done.stderr
    plain, static = json.loads(done.stdout)["models"][0]["quantised"]["variants"]
    assert 0.6 < plain["accuracy"] < 0.67  # a third of the labels are wrong
    assert abs(static["accuracy"] - plain["accuracy"]) <= 0.01
    assert static["reason"] == ""


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--quantize", "static"], "--quantize takes samples of what the model is asked"),
        (["--quantize", "static", "--samples", "few.npy"], "20 rows at least, got 3: give --samples m=FILE"),
        (["--quantize", "static", "--samples", "samples.txt"], "can't tell the format of samples.txt"),
        (["--quantize", "static", "--samples", "missing.csv"], "can't read missing.csv: No such file"),
        (["--quantize", "static", "--samples", "bad.jsonl"], "row 2 of bad.jsonl is no input of model 'm'"),
        (["--labels", "labels.json"], "--labels is for --quantize"),
        (
            ["--quantize", "static", "--samples", "samples.npy", "--labels", "labels.json"],
            "--labels has 2 labels for 40 samples",
        ),
        (["--quantize", "static", "--samples", "samples.npy", "--labels", "no.json"], "no.json is no array of labels"),
    ],
)
def test_what_is_refused(
    options: Sequence[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, two_layers(64), halves(40))
    np.save("few.npy", halves(3))
    Path("samples.txt").write_text("x")
    Path("bad.jsonl").write_text(json.dumps({"x": [0.0] * 64}) + '\n{"x": "no"}\n')
    Path("labels.json").write_text("[1, 2]")
    Path("no.json").write_text("1")
    assert cli.main(["prepare", "models", "out", *options]) == 1
    assert said in capsys.readouterr().err
    assert not Path("out/m").exists()


def test_a_pinned_model_stays_what_it_is(tmp_path: Path) -> None:
    models = write(tmp_path, two_layers(), halves(100))
    digest = open_repository(str(models), threads=1).get("m").digest
    (models / "m/config.json").write_text(json.dumps({"sha256": {"1": digest}}))
    done = prepare(tmp_path, "--quantize", "static", "--samples", str(tmp_path / "samples.npy"))
    assert done.returncode == 1
    assert "its config.json names its SHA-256, and one with 8-bit weights has another" in done.stdout


def variant(method: str, run: float, agreed: float, size: int = 10, accuracy: float | None = None) -> Variant:
    return Variant(method, (), 3, size, Cost(0.1, run, 10e6), agreed, accuracy)


def test_the_bound_decides_and_then_the_run() -> None:
    tried = [
        variant("float", 0.010, 1.0, 40),
        variant("quick", 0.004, 0.98),
        variant("quicker of those that hold", 0.006, 0.99),
        variant("slower", 0.008, 1.0),
        variant("costs more", 0.011, 1.0),
    ]
    judged, chosen = judge(tried, 0.99)
    assert chosen == 2
    assert [each.reason for each in judged] == [
        "",
        "0.98 of its answers agree, less than 0.99",
        "",
        "another one is quicker",
        "its run is 1.10 times the model's own",
    ]
    assert [each.is_best for each in judged] == [False, True, True, True, False]
    assert judge(tried[:2], 0.99)[1] is None


def test_accuracy_may_fall_by_what_the_bound_lacks() -> None:
    tried = [variant("float", 1, 1, accuracy=0.95), variant("a", 0.5, 0, accuracy=0.94), variant("b", 0.1, 1, 10, 0.93)]
    judged, chosen = judge(tried, 0.985)
    assert chosen == 1
    assert judged[2].reason == "its accuracy is 0.93, less than 0.935"


def test_what_agrees() -> None:
    theirs = {
        "0 s": np.array([[0.1, 0.9]]),
        "1 s": np.array([[0.6, 0.4]]),
        "0 v": np.array([[0.0]]),
        "1 v": np.array([[100.0]]),
        "0 l": np.array(["a"], object),
        "1 l": np.array(["b"], object),
    }
    close = {**theirs, "0 s": np.array([[0.4, 0.6]]), "1 v": np.array([[99.1]])}
    assert agreement(close, theirs, (0, 1)) == 1
    assert agreement({**close, "1 v": np.array([[98.9]])}, theirs, (0, 1)) == 0.5
    assert agreement({**close, "0 s": np.array([[0.6, 0.4]])}, theirs, (0, 1)) == 0.5
    assert agreement({**close, "0 l": np.array(["c"], object)}, theirs, (0, 1)) == 0.5
    assert accuracy(theirs, {0: "a", 1: "c"}, ["s", "v", "l"]) == 0.5
    assert accuracy(theirs, {0: 1, 1: 1}, ["s", "v"]) == 0.5
    with pytest.raises(ValueError, match="no output has classes"):
        accuracy(theirs, {0: 1}, ["v"])

"""`inferry import`: what scikit-learn and ONNX files become, and what is refused. tests/models has other frameworks."""

import json
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import onnx
import onnx_models
import pyarrow as pa
import pytest
from inferry.cli.main import main
from onnx import helper
from servers import serving
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import IsolationForest, RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

X = np.random.default_rng(0).normal(size=(120, 4)).astype(np.float32)
CLASSES = (X[:, 0] > 0).astype(int) + (X[:, 1] > 0)
WORDS = np.array(["no", "maybe", "yes"])[CLASSES]
TEXTS, KINDS = ["a good day", "bad rain", "good sun", "bad wind"], ["g", "b", "g", "b"]

Import = Callable[..., tuple[int, str, str]]


@pytest.fixture
def importing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Import:
    """Exit status, stdout and stderr of the command, run in `tmp_path`; models go to `out`."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        return main(["import", *arguments, "--models", "out"]), *capfd.readouterr()

    return run


def config(name: str) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(Path("out", name, "config.json").read_text())
    return read


ESTIMATORS = {
    "pipeline": (make_pipeline(StandardScaler(), LogisticRegression()), WORDS, {"label", "probabilities"}),
    "forest": (RandomForestClassifier(10, random_state=0), CLASSES, {"label", "probabilities"}),
    "linear": (LinearRegression(), X @ [1, 2, 3, 4], {"variable"}),
    "scaler": (StandardScaler(), None, {"variable"}),
    "outliers": (IsolationForest(n_estimators=5, random_state=0), None, {"label", "scores"}),
    "targets": (
        MultiOutputClassifier(LogisticRegression()),
        np.stack([CLASSES, CLASSES > 0], 1),
        {"label", "probabilities_0", "probabilities_1"},
    ),
}


@pytest.mark.parametrize("name", ESTIMATORS)
def test_estimators_of_scikit_learn(importing: Import, name: str) -> None:
    estimator, target, outputs = ESTIMATORS[name]
    joblib.dump(estimator.fit(X) if target is None else estimator.fit(X, target), "m.joblib")
    status, said, errors = importing("m.joblib", "--trust")
    assert (status, errors) == (0, ""), said
    assert {line.split()[1].rstrip(":") for line in said.splitlines() if line.startswith("  answers")} == outputs
    assert "1, 2 and 3 rows: the same together as alone" in said
    assert config("m")["max_batch_size"] == 32


def test_a_server_answers_as_the_original(importing: Import, tmp_path: Path) -> None:
    estimator = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, WORDS)
    joblib.dump(estimator, "m.joblib")
    assert importing("m.joblib", "--trust", "--rename", "probabilities=scores")[0] == 0
    assert config("m")["labels"] == {"scores": ["maybe", "no", "yes"]}
    with serving(tmp_path / "out") as server:
        found = server.post("/predict", {"features": X[:5].tolist()}).json
    np.testing.assert_allclose([p["scores"] for p in found["predictions"]], estimator.predict_proba(X[:5]), atol=1e-6)
    assert [p["label"] for p in found["predictions"]] == estimator.predict(X[:5]).tolist()


NAMES = ["alcohol", "ash", "hue", "malic acid"]


def table(names: list[str], rows: np.ndarray = X) -> pa.Table:
    """What an estimator takes names of columns from, as it does from a DataFrame."""
    return pa.table({name: rows[:, index] for index, name in enumerate(names)})


def test_columns_of_a_data_frame(importing: Import, tmp_path: Path) -> None:
    estimator = make_pipeline(StandardScaler(), LogisticRegression()).fit(table(NAMES), WORDS)
    joblib.dump(estimator, "m.joblib")
    Path("t.csv").write_text("hue,malic acid,ash,class,alcohol\n0.5,-1.25,2,yes,3\n1,2,3,no,4\n")
    status, said, errors = importing("m.joblib", "--trust", "--samples", "t.csv")
    assert (status, errors) == (0, ""), said
    assert "  columns   alcohol, ash, hue, malic acid\n" in said
    assert config("m")["columns"] == NAMES
    inputs = [{"name": "X", "shape": [1, 4], "datatype": "FP32", "data": [3, 2, 0.5, -1.25]}]
    assert config("m")["example"] == {"inputs": inputs}
    row = [3, 2, 0.5, -1.25]
    with serving(tmp_path / "out") as server:
        found = server.post("/predict", {"features": [dict(zip(NAMES, row, strict=True))]}).json
    expected = estimator.predict_proba(table(NAMES, np.array([row])))
    np.testing.assert_allclose([p["probabilities"] for p in found["predictions"]], expected, atol=1e-6)


def test_an_example_of_the_samples(importing: Import) -> None:
    joblib.dump(LogisticRegression().fit(X, WORDS), "m.joblib")
    made_up = "  example   random values: put in your own\n"
    assert made_up in importing("m.joblib", "--trust")[1]
    np.save("x.npy", np.array([[0.1, 2, 3, 4.5], [5, 6, 7, 8]], np.float32))
    assert made_up not in importing("m.joblib", "--trust", "--samples", "x.npy", "--force")[1]
    assert config("m")["example"]["inputs"][0]["data"] == [0.1, 2, 3, 4.5]
    Path("texts.json").write_text(
        '{"inputs": [{"name": "text", "shape": [1, 1], "datatype": "BYTES", "data": ["good"]}]}'
    )
    joblib.dump(make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(TEXTS, KINDS), "t.joblib")
    assert importing("t.joblib", "--trust", "--input", "text=BYTES[1]", "--samples", "texts.json")[0] == 0
    assert config("t")["example"]["inputs"][0]["data"] == ["good"]


@pytest.mark.parametrize("name", ["m.joblib", "m.pkl"])
def test_packages_that_are_missing_are_named_at_once(
    importing: Import, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    joblib.dump(LogisticRegression().fit(X, WORDS), name)
    monkeypatch.setitem(sys.modules, "skl2onnx", None)
    status, _, errors = importing(name, "--trust")
    assert (status, errors.endswith("what is missing: pip install skl2onnx\n")) == (1, True), errors
    for module in [each for each in sys.modules if each.partition(".")[0] == "sklearn"]:
        monkeypatch.setitem(sys.modules, module, None)
    status, _, errors = importing(name, "--trust")
    assert status == 1
    assert f"{name} needs scikit-learn, skl2onnx: run inferry in the environment that the model was trained" in errors
    assert errors.endswith("what is missing: pip install scikit-learn skl2onnx\n")


def test_samples_are_looked_at_before_any_work(importing: Import, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("m.onnx").write_bytes(linear())
    assert importing("m.onnx", "--samples", "t.csv")[1:] == (
        "",
        "inferry: there is no file t.csv, which --samples names\n",
    )
    Path("t.csv").write_text("x\n1\n")
    monkeypatch.delitem(sys.modules, "inferry.jobs.formats.csv_reader", raising=False)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    status, said, errors = importing("m.onnx", "--samples", "t.csv")
    assert (status, said) == (1, "")
    assert "reading CSV needs pyarrow: install the extra 'batch'" in errors


def test_a_module_of_ones_own_that_is_missing(importing: Import) -> None:
    Path("m.pkl").write_bytes(b"cmodule_of_mine\nThing\n.")
    errors = importing("m.pkl", "--trust")[2]
    assert "No module named 'module_of_mine'. Run inferry in the environment that the model was trained in" in errors
    assert "pip install" not in errors


@pytest.mark.parametrize("names", [["X", "Y", "a", "b"], ["", "Y", "a", "b"]])
def test_names_that_tell_no_columns(importing: Import, names: list[str]) -> None:
    joblib.dump(LogisticRegression().fit(table(names), WORDS), "m.joblib")
    status, said, _ = importing("m.joblib", "--trust", "--input", "X=FP32[4]")
    assert (status, "columns" in said, "columns" in config("m")) == (0, False, False)


def test_a_column_of_the_inputs_name(importing: Import) -> None:
    joblib.dump(LogisticRegression().fit(table(["X", "Y", "a", "b"]), WORDS), "m.joblib")
    assert importing("m.joblib", "--trust")[0] == 0
    assert config("m")["columns"] == ["X", "Y", "a", "b"]
    assert config("m")["example"]["inputs"][0]["name"] == "X_"


class Boom:
    """Leaves a trace when it is loaded."""

    def __reduce__(self) -> Any:
        return Path.touch, (Path("loaded"),)


@pytest.mark.parametrize("name", ["m.pkl", "m.pickle", "m.joblib"])
def test_a_pickle_is_not_loaded_without_the_users_word(importing: Import, name: str) -> None:
    Path(name).write_bytes(pickle.dumps(Boom()))
    status, _, errors = importing(name)
    assert (status, Path("loaded").exists()) == (1, False)
    assert "--trust" in errors
    assert "skops" in errors
    assert importing(name, "--trust")[0] == 1
    assert Path("loaded").exists()


def test_what_is_in_a_pickle_must_be_an_estimator(importing: Import) -> None:
    Path("m.pkl").write_bytes(pickle.dumps({"weights": [1]}))
    assert "m.pkl holds a dict, and no estimator" in importing("m.pkl", "--trust")[2]
    Path("m.pkl").write_bytes(b"no pickle")
    assert "m.pkl can't be loaded" in importing("m.pkl", "--trust")[2]


def test_inputs_that_the_file_does_not_tell(importing: Import) -> None:
    joblib.dump(make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(TEXTS * 3, KINDS * 3), "m.joblib")
    assert "--input 'text=BYTES[1]'" in importing("m.joblib", "--trust")[2]
    Path("t.csv").write_text("text\ngood sun\nbad rain rain\n")
    status, said, _ = importing("m.joblib", "--trust", "--input", "text=BYTES[1]", "--samples", "t.csv")
    assert status == 0, said
    assert "probabilities: within" in said


def test_all_inputs_of_a_table_are_named(importing: Import) -> None:
    rows = np.array([[0.5, "a", 1, 2, "good day"], [1.5, "b", 2, 3, "bad rain"]] * 6, object)
    parts = [
        ("scaled", StandardScaler(), [0]),
        ("kinds", make_pipeline(OneHotEncoder(handle_unknown="ignore")), [1]),
        ("levels", OrdinalEncoder(categories=[np.array([1, 2])]), [2]),
        ("left out", "drop", [3]),
        ("words", TfidfVectorizer(), 4),
    ]
    joblib.dump(ColumnTransformer(parts).fit(rows), "m.joblib")
    wanted = "--input 'x0=FP32[1]' --input 'x1=BYTES[1]' --input 'x2=INT64[1]' --input 'x4=BYTES[1]'\n"
    assert importing("m.joblib", "--trust")[2].endswith(f"such as {wanted}")
    joblib.dump(ColumnTransformer([("scaled", StandardScaler(), [0, 1])]).fit(X), "m.joblib")
    assert importing("m.joblib", "--trust")[2].endswith("such as --input 'X=FP32[4]'\n")


def test_other_answers_than_the_originals_are_not_imported(importing: Import, monkeypatch: pytest.MonkeyPatch) -> None:
    joblib.dump(LogisticRegression().fit(X, CLASSES > 0), "m.joblib")  # whose classes are False and True
    monkeypatch.setattr(LogisticRegression, "predict_proba", lambda self, data: np.full((len(data), 2), 0.5))
    status, said, errors = importing("m.joblib", "--trust")
    assert status == 1
    assert "not imported: output 'probabilities' differs by" in errors
    assert not Path("out").exists()
    assert importing("m.joblib", "--trust", "--tolerance", "1")[0] == 0, said


def linear(batch: str | int = "n") -> bytes:
    """FP32 `linear_13` [batch, 2] of `x` [batch, 3], with what PyTorch leaves at nodes."""
    weights = np.arange(6, dtype=np.float32).reshape(3, 2)
    node = helper.make_node("MatMul", ["x", "w"], ["linear_13"], doc_string="File /home/me/train.py, line 3")
    return onnx_models.model(
        [node],
        [onnx_models.tensor("x", "FP32", (batch, 3))],
        [onnx_models.tensor("linear_13", "FP32", (batch, 2))],
        [onnx.numpy_helper.from_array(weights, "w")],
    )


def test_an_onnx_file(importing: Import) -> None:
    Path("m.onnx").write_bytes(linear())
    Path("config.json").write_text(json.dumps({"id2label": {"0": "no", "1": "yes"}}))
    status, said, errors = importing("m.onnx", "--rename", "linear_13=logits")
    assert (status, errors) == (0, "")
    content = Path("out/m/1/model.onnx").read_bytes()
    assert b"train.py" not in content
    assert "stripped" in said
    graph = onnx.load_from_string(content).graph
    assert [output.name for output in graph.output] == ["logits"]
    assert config("m").keys() == {"labels", "max_batch_size", "dynamic_batching", "example"}
    assert config("m")["labels"] == {"logits": ["no", "yes"]}
    with serving("out") as server:
        answer = server.infer("m", {"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]})
    assert answer.json["outputs"] == [{"name": "logits", "datatype": "FP32", "shape": [1, 2], "data": [16, 22]}]


@pytest.mark.parametrize(
    ("renaming", "error"),
    [("y=z", "there is no output 'y'; the outputs are linear_13"), ("linear_13=x", "x")],
)
def test_names_that_do_not_fit(importing: Import, renaming: str, error: str) -> None:
    Path("m.onnx").write_bytes(linear())
    status, _, errors = importing("m.onnx", "--rename", renaming)
    assert status == 1
    assert error in errors
    assert not Path("out").exists()


def test_only_the_files_that_the_graph_names_are_copied(importing: Import) -> None:
    model, weights = onnx_models.external(location="data/weights.bin")
    Path("from/data").mkdir(parents=True)
    Path("from/m.onnx").write_bytes(model)
    Path("from/data/weights.bin").write_bytes(weights)
    Path("from/data/other.bin").write_bytes(b"other")
    assert importing("from/m.onnx")[0] == 0
    files = sorted(str(path.relative_to("out/m/1")) for path in Path("out/m/1").rglob("*") if path.is_file())
    assert files == ["data/weights.bin", "model.onnx"]


@pytest.mark.parametrize("location", ["../secret", "/etc/hostname", "missing.bin"])
def test_weights_that_are_not_beside_the_file(importing: Import, location: str) -> None:
    Path("from").mkdir()
    Path("secret").write_bytes(bytes(12))
    Path("from/m.onnx").write_bytes(onnx_models.external(location=location)[0])
    status, _, errors = importing("from/m.onnx")
    assert (status, Path("out").exists()) == (1, False)
    assert f"names its weights '{location}', which is no file beside it" in errors


def test_a_fixed_batch_is_said_with_the_call_that_leaves_it_free(importing: Import) -> None:
    proto = onnx.load_from_string(linear(2))
    proto.producer_name = "pytorch"
    Path("m.onnx").write_bytes(proto.SerializeToString())
    status, said, _ = importing("m.onnx")
    assert status == 0
    assert "its own number of rows" in said
    assert "torch.onnx.export" in said
    assert "dynamic_batching" not in config("m")


def hidden() -> bytes:
    """FP32 `y` [n, length] of `x` [n, length] is `x` for a length of 1, and has the sum of its rows for others."""
    return onnx_models.model(
        [
            helper.make_node("Shape", ["x"], ["length"], start=1),
            helper.make_node("Sub", ["length", "one"], ["less"]),
            helper.make_node("Cast", ["less"], ["factor"], to=onnx.TensorProto.FLOAT),
            helper.make_node("ReduceSum", ["x", "zero"], ["sum"]),
            helper.make_node("Mul", ["sum", "factor"], ["more"]),
            helper.make_node("Add", ["x", "more"], ["y"]),
        ],
        [onnx_models.tensor("x", "FP32", ("n", "length"))],
        [onnx_models.tensor("y", "FP32", ("n", "length"))],
        [onnx.numpy_helper.from_array(np.array([v], np.int64), name) for name, v in (("one", 1), ("zero", 0))],
    )


def test_rows_that_hold_at_one_length_only_are_not_joined(importing: Import) -> None:
    Path("m.onnx").write_bytes(hidden())
    status, said, _ = importing("m.onnx")
    assert status == 0
    assert "1, 2 and 3 rows with length=1: the same together as alone" in said
    assert "length=2: output 'y' differs by" in said
    assert "dynamic_batching" not in config("m")


def against(x: np.ndarray, y: np.ndarray, **more: Any) -> None:
    np.savez("against.npz", x=x, **({"linear_13": y} | more))


def test_answers_that_the_framework_gave(importing: Import) -> None:
    Path("m.onnx").write_bytes(linear())
    x = X[:7, :3]
    y = x @ np.arange(6, dtype=np.float32).reshape(3, 2)
    against(x, y)
    status, said, _ = importing("m.onnx", "--against", "against.npz")
    assert (status, "  answers   linear_13: " in said) == (0, True)
    status, said, _ = importing("m.onnx", "--against", "against.npz", "--rename", "linear_13=logits", "--name", "n")
    assert (status, "  answers   logits: " in said) == (0, True)
    against(x, y[:, ::-1])
    status, _, errors = importing("m.onnx", "--against", "against.npz", "--force")
    assert "not imported: output 'linear_13' differs by" in errors
    against(x, y[:3])
    assert (
        "has the shape [7, 2], and [3, 2] at its origin"
        in importing("m.onnx", "--against", "against.npz", "--force")[2]
    )
    against(x.astype(np.float64), y)
    assert "'x' is float64, and the model takes FP32" in importing("m.onnx", "--against", "against.npz", "--force")[2]
    against(x, y, other=y)
    assert "has the array 'other'" in importing("m.onnx", "--against", "against.npz", "--force")[2]
    # In the order of outputs, and the inputs apart.
    np.savez("against.npz", y)
    np.save("x.npy", x)
    assert importing("m.onnx", "--against", "against.npz", "--samples", "x.npy", "--force")[0] == 0


def test_a_pickle_among_the_answers_is_not_loaded(importing: Import) -> None:
    Path("m.onnx").write_bytes(linear())
    np.savez("against.npz", x=np.array([Boom()], object), allow_pickle=True)
    status, _, errors = importing("m.onnx", "--against", "against.npz")
    assert (status, Path("loaded").exists()) == (1, False)
    assert "can't read against.npz" in errors


def test_what_is_there_is_not_written_over(importing: Import) -> None:
    Path("m.onnx").write_bytes(linear())
    assert importing("m.onnx")[0] == 0
    assert "there is already out/m/1: --force writes over it" in importing("m.onnx")[2]
    assert importing("m.onnx", "--force")[0] == 0
    assert importing("m.onnx", "--name", "other")[0] == 0


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        ("m.pth", b"", "torch.onnx.export"),
        ("m.bin", b"", "can't import m.bin: give a file in .onnx"),
        ("m.onnx", b"no model", "m.onnx is not an ONNX file"),
        ("m.txt", b"some text", "no model of LightGBM"),
        ("m.json", b"{}", "no model of XGBoost"),
        ("m.cbm", b"", "no model of CatBoost"),
        ("m.skops", b"PK", "m.skops needs skops"),
    ],
)
def test_other_files(importing: Import, name: str, content: bytes, error: str) -> None:
    Path(name).write_bytes(content)
    status, _, errors = importing(name)
    assert (status, error in errors) == (1, True), errors


def test_a_file_that_is_not_there(importing: Import) -> None:
    assert "there is no file m.skops" in importing("m.skops")[2]


@pytest.mark.parametrize("option", [("--input", "x"), ("--input", "x=FLOAT[3]"), ("--rename", "a")])
def test_options_that_are_wrong(importing: Import, option: tuple[str, str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        importing("m.onnx", *option)

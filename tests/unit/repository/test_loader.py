"""The example models: what make.py builds is what is committed, and it predicts what its cards say."""

import hashlib
import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

MODELS = Path(__file__).parents[3] / "models"
NAMES = ["diabetes", "digits", "digits-conv", "encoder", "newsline"]
COMMITTED = [name for name in NAMES if name != "encoder"]
VERSIONS = [(name, "1") for name in NAMES] + [("digits", "2")]
DTYPES = {"FP32": np.float32, "INT64": np.int64, "BYTES": object}

SIGNATURES = {
    ("diabetes", "1"): (
        [
            (column, "tensor(float)", ["batch", 1])
            for column in ("age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6")
        ],
        [("progression", "tensor(float)", ["batch", 1])],
    ),
    ("digits", "1"): (
        [("pixels", "tensor(float)", ["batch", 64])],
        [
            ("output_label", "tensor(int64)", ["batch"]),
            ("output_probability", "seq(map(int64,tensor(float)))", []),
        ],
    ),
    ("digits", "2"): (
        [("pixels", "tensor(float)", ["batch", 64])],
        [("label", "tensor(int64)", ["batch"]), ("probabilities", "tensor(float)", ["batch", 10])],
    ),
    ("digits-conv", "1"): (
        [("image", "tensor(float)", ["batch", 1, 8, 8])],
        [("logits", "tensor(float)", ["batch", 10]), ("probabilities", "tensor(float)", ["batch", 10])],
    ),
    ("encoder", "1"): (
        [("input_ids", "tensor(int64)", ["batch", "sequence"])],
        [("embedding", "tensor(float)", ["batch", 192])],
    ),
    ("newsline", "1"): (
        [("text", "tensor(string)", ["batch", 1])],
        [("label", "tensor(string)", ["batch"]), ("probabilities", "tensor(float)", ["batch", 4])],
    ),
}


@pytest.fixture(scope="module", autouse=True)
def importable():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(MODELS)
        yield


@pytest.fixture(scope="module")
def rebuilt(importable, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for name in NAMES:
        import_module("make").report(name, folder)
    return folder


@pytest.fixture(scope="module")
def digits(importable):
    """The held-out pixels and their digits."""
    data = import_module("sklearn.datasets").load_digits(return_X_y=True)
    _, held, _, targets = import_module("training").split(*data)
    return held.astype(np.float32), targets


def read_files(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.name in ("model.onnx", "config.json")
    }


def read_card(name):
    return json.loads((MODELS / name / "config.json").read_text(encoding="utf-8"))


def open_session(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def run(path, inputs):
    session = open_session(path)
    return dict(zip([output.name for output in session.get_outputs()], session.run(None, inputs), strict=True))


def as_array(tensor):
    return np.array(tensor["data"], DTYPES[tensor["datatype"]]).reshape(tensor["shape"])


@pytest.mark.parametrize("name", COMMITTED)
def test_a_rebuild_gives_the_committed_bytes(rebuilt, name):
    assert read_files(rebuilt / name) == read_files(MODELS / name)


def test_a_rebuild_of_the_encoder_gives_the_committed_card_and_digest(rebuilt):
    files = read_files(rebuilt / "encoder")
    assert sorted(files) == ["1/model.onnx", "config.json"]
    assert files["config.json"] == (MODELS / "encoder" / "config.json").read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_the_card_names_the_digest_of_each_version(rebuilt, name):
    files = {path.parent.name: path.read_bytes() for path in (rebuilt / name).glob("*/model.onnx")}
    assert read_card(name)["sha256"] == {
        version: hashlib.sha256(content).hexdigest() for version, content in files.items()
    }


@pytest.mark.parametrize(("name", "version"), VERSIONS)
def test_signature(rebuilt, name, version):
    session = open_session(rebuilt / name / version / "model.onnx")
    found = tuple(
        [(value.name, value.type, value.shape) for value in values]
        for values in (session.get_inputs(), session.get_outputs())
    )
    assert found == SIGNATURES[name, version]


@pytest.mark.parametrize(("name", "version"), VERSIONS)
def test_header(rebuilt, name, version):
    proto = onnx.load(rebuilt / name / version / "model.onnx")
    opsets = {opset.domain: opset.version for opset in proto.opset_import}
    assert (proto.ir_version, proto.producer_name, proto.graph.name) == (8, "inferry", name)
    assert proto.model_version == int(version)
    assert {"": 17}.items() <= opsets.items() <= {"": 17, "ai.onnx.ml": 3, "com.microsoft": 1}.items()


@pytest.mark.parametrize("name", NAMES)
def test_the_example_gives_what_the_card_expects(rebuilt, name):
    card = read_card(name)
    version = card.get("default_version", max(card["sha256"], key=int))
    inputs = {tensor["name"]: as_array(tensor) for tensor in card["example"]["inputs"]}
    outputs = run(rebuilt / name / version / "model.onnx", inputs)
    assert outputs.keys() == card["example"]["expect"].keys()
    for output, expected in card["example"]["expect"].items():
        found = outputs[output].ravel()
        if found.dtype == np.float32:
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4)
        else:
            assert found.tolist() == expected


def test_digits_version_1_answers_with_a_sequence_of_maps(digits):
    pixels, _ = digits
    outputs = run(MODELS / "digits" / "1" / "model.onnx", {"pixels": pixels[:3]})
    assert [list(probabilities) for probabilities in outputs["output_probability"]] == [list(range(10))] * 3
    assert [max(row, key=row.get) for row in outputs["output_probability"]] == outputs["output_label"].tolist()


@pytest.mark.parametrize(
    ("model", "input_name", "shape", "output"),
    [
        ("digits/1", "pixels", (-1, 64), "output_label"),
        ("digits/2", "pixels", (-1, 64), "label"),
        ("digits-conv/1", "image", (-1, 1, 8, 8), "probabilities"),
    ],
)
def test_digits_held_out_accuracy_is_the_one_on_the_card(digits, model, input_name, shape, output):
    pixels, targets = digits
    found = run(MODELS / model / "model.onnx", {input_name: pixels.reshape(shape)})[output]
    accuracy = np.mean((found if found.ndim == 1 else found.argmax(axis=1)) == targets)
    assert accuracy > 0.95
    assert f"{accuracy:.3f}" in read_card(model.split("/")[0])["description"]


def test_newsline_held_out_accuracy_is_the_one_on_the_card():
    corpus = import_module("newsline_text").read_corpus()
    _, headlines, _, sections = import_module("training").split(*corpus)
    text = np.array(headlines, object).reshape(-1, 1)
    outputs = run(MODELS / "newsline" / "1" / "model.onnx", {"text": text})
    accuracy = np.mean(outputs["label"] == sections)
    assert accuracy > 0.8
    assert f"{accuracy:.3f}" in read_card("newsline")["description"]


def test_newsline_labels_name_the_columns_of_the_probabilities():
    headlines = ["Bank profit falls", "Scientists find a planet", "Late goal wins the CUP", "Été: heavy rain", ""]
    outputs = run(MODELS / "newsline" / "1" / "model.onnx", {"text": np.array(headlines, object).reshape(-1, 1)})
    labels = read_card("newsline")["labels"]["probabilities"]
    assert [labels[column] for column in outputs["probabilities"].argmax(axis=1)] == outputs["label"].tolist()
    assert outputs["label"].tolist()[:4] == labels


def test_newsline_does_not_need_a_locale_of_the_machine():
    proto = onnx.load(MODELS / "newsline" / "1" / "model.onnx")
    (normaliser,) = (node for node in proto.graph.node if node.op_type == "StringNormalizer")
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in normaliser.attribute}
    assert attributes == {"case_change_action": b"LOWER", "is_case_sensitive": 0, "locale": b"C"}


def test_diabetes_held_out_r2_is_the_one_on_the_card():
    data = import_module("sklearn.datasets").load_diabetes(scaled=False)
    _, held, _, targets = import_module("training").split(data.data, data.target, stratify=False)
    columns = read_card("diabetes")["columns"]
    inputs = {name: held[:, [index]].astype(np.float32) for index, name in enumerate(columns)}
    found = run(MODELS / "diabetes" / "1" / "model.onnx", inputs)["progression"]
    r2 = 1 - np.sum((found[:, 0] - targets) ** 2) / np.sum((targets - targets.mean()) ** 2)
    assert r2 > 0.3
    assert f"{r2:.3f}" in read_card("diabetes")["description"]


@pytest.mark.parametrize("name", COMMITTED)
def test_committed_models_are_small(name):
    assert all(len(content) < 200_000 for content in read_files(MODELS / name).values())


def test_the_encoder_is_of_the_size_that_the_benchmarks_want(rebuilt):
    assert 4_000_000 < (rebuilt / "encoder" / "1" / "model.onnx").stat().st_size < 6_000_000


@pytest.mark.parametrize("shape", [(1, 1), (3, 17), (1, 256)])
def test_the_encoder_agrees_with_numpy(rebuilt, shape):
    graph = import_module("encoder_graph")
    ids = np.random.default_rng(1).integers(0, graph.VOCABULARY, shape)
    found = run(rebuilt / "encoder" / "1" / "model.onnx", {"input_ids": ids})["embedding"]
    np.testing.assert_allclose(found, graph.forward(graph.make_weights(), ids), rtol=0, atol=1e-5)


def test_a_row_of_the_encoder_does_not_depend_on_the_rest_of_its_batch(rebuilt):
    session = open_session(rebuilt / "encoder" / "1" / "model.onnx")
    ids = np.random.default_rng(2).integers(0, 2048, (32, 24))
    (together,) = session.run(None, {"input_ids": ids})
    alone = np.concatenate([session.run(None, {"input_ids": row[None]})[0] for row in ids])
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-5)


def test_missing_builds_only_what_is_not_there(tmp_path, monkeypatch, capsys):
    make = import_module("make")
    monkeypatch.setattr(make, "HERE", tmp_path)
    make.main(["--missing", "encoder"])
    first = capsys.readouterr().out
    make.main(["--missing", "encoder"])
    again = capsys.readouterr().out
    (tmp_path / "encoder" / "1" / "model.onnx").unlink()
    make.main(["--missing", "encoder"])
    assert first.startswith("encoder: 5327.")
    assert again == ""
    assert capsys.readouterr().out.startswith("encoder: 5327.")
    assert sorted(read_files(tmp_path)) == ["encoder/1/model.onnx", "encoder/config.json"]


def test_an_unknown_name_is_refused(capsys):
    with pytest.raises(SystemExit):
        import_module("make").main(["digits", "zebra"])
    assert "no model zebra; there are digits, digits-conv" in capsys.readouterr().err


def test_the_encoder_needs_no_training_package():
    program = (
        "import sys; sys.modules.update(dict.fromkeys(['sklearn', 'skl2onnx', 'scipy', 'threadpoolctl']));"
        "import make; print(sorted(make.build('encoder').versions))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=MODELS, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("['1']\n", "")


@pytest.mark.parametrize("name", NAMES)
def test_a_card_is_written_as_it_is_read(name):
    text = (MODELS / name / "config.json").read_text(encoding="utf-8")
    assert import_module("cards").dumps(json.loads(text)) + "\n" == text

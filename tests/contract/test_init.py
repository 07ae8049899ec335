"""`inferry init`: the config.json that it writes is where the server looks for it, and is one that the server takes."""

import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_models
import pytest
from inferry.cli import main as cli
from inferry.errors import ModelUnavailable
from inferry.repository.repository import open_repository
from inferry.runtime.model import Model
from onnx import TensorProto, helper
from servers import EXAMPLES, serving

Init = Callable[..., tuple[int, str, str]]


@pytest.fixture
def init(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Init:
    """Exit status, stdout and stderr of the command, run in `tmp_path`."""
    monkeypatch.chdir(tmp_path)

    def main(*arguments: str) -> tuple[int, str, str]:
        return cli.main(["init", *arguments]), *capfd.readouterr()

    return main


def config(path: str = "m/config.json") -> dict[str, Any]:
    read: dict[str, Any] = json.loads(Path(path).read_text())
    return read


def warm(path: str = "m.onnx", name: str = "m") -> Model:
    """The model as it is served, whose example runs."""
    model = open_repository(path).get(name)
    model.session.run(model.example(), list(model.signature.outputs), time.monotonic() + 60)
    return model


def shapes(path: str = "m/config.json") -> dict[str, list[int]]:
    return {each["name"]: each["shape"] for each in config(path)["example"]["inputs"]}


@pytest.mark.parametrize("name", sorted(path.parent.parent.name for path in EXAMPLES.glob("*/1/model.onnx")))
def test_a_model_of_the_repository(init: Init, tmp_path: Path, name: str) -> None:
    source = max((EXAMPLES / name).glob("*/model.onnx"))
    (tmp_path / "m.onnx").write_bytes(source.read_bytes())
    status, output, errors = init("m.onnx")
    assert (status, errors) == (0, "")
    assert output.splitlines()[0] == "wrote m/config.json"
    assert config().keys() - {"labels"} == {"max_batch_size", "dynamic_batching", "example"}
    assert warm().config.dynamic_batching is not None


def test_a_server_answers_the_example(init: Init, tmp_path: Path) -> None:
    """Of the file and of the folder that it lies in, with the labels."""
    (tmp_path / "m.onnx").write_bytes(onnx_models.zipmap(("no", "yes")))
    assert init("m.onnx")[0] == 0
    for path in ("m.onnx", "."):
        with serving(path, cwd=tmp_path) as server:
            assert server.ask("GET", "/v2/models/m/config").json["max_batch_size"] == 32
            outputs = server.infer("m", *config()["example"]["inputs"]).json["outputs"]
            assert [output["name"] for output in outputs] == ["label", "probabilities"]


def node(kind: str, *names: str, **attributes: Any) -> onnx.NodeProto:
    *inputs, output = names
    return helper.make_node(kind, inputs, [output], **attributes)


def graph(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, tuple[str, onnx_models.Dims]],
    shape: onnx_models.Dims,
    datatype: str = "FP32",
    **constants: np.ndarray,
) -> bytes:
    return onnx_models.model(
        nodes,
        [onnx_models.tensor(name, *spec) for name, spec in inputs.items()],
        [onnx_models.tensor("y", datatype, shape)],
        [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()],
    )


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


# Models that run with some lengths of their axes only, and which those are.
LENGTHS = {
    "pairs of a text": (
        graph(
            [node("Add", "a", "b", "sum"), node("Reshape", "sum", "pairs", "y")],
            {"a": ("FP32", ("batch", "words")), "b": ("FP32", ("batch", "words"))},
            ("batch", 2, "half"),
            pairs=ints(0, 2, -1),
        ),
        {"a": [1, 2], "b": [1, 2]},
    ),
    "blocks of 16 in one axis": (
        graph([node("Reshape", "x", "blocks", "y")], {"x": ("FP32", ("samples",))}, ("n", 16), blocks=ints(-1, 16)),
        {"x": [16]},
    ),
    "a width that is told by the weights": (
        graph(
            [node("Gemm", "x", "weights", "y")],
            {"x": ("FP32", ("batch", "width"))},
            ("batch", 2),
            weights=np.ones((30, 2), np.float32),
        ),
        {"x": [1, 30]},
    ),
    "three channels": (
        graph(
            [node("Conv", "x", "kernel", "y", kernel_shape=[1, 1])],
            {"x": ("FP32", ("n", "c", "h", "w"))},
            ("n", 5, "h", "w"),
            kernel=np.ones((5, 3, 1, 1), np.float32),
        ),
        {"x": [1, 3, 3, 3]},
    ),
    "as many elements as it has": (onnx_models.failing(), {"x": [7]}),
    "axes without names": (
        graph(
            [node("MatMul", "x", "weights", "y")],
            {"x": ("FP32", (None, None))},
            (None, 2),
            weights=np.ones((8, 2), np.float32),
        ),
        {"x": [1, 8]},
    ),
}


@pytest.mark.parametrize("case", LENGTHS)
def test_lengths_are_tried(init: Init, tmp_path: Path, case: str) -> None:
    content, expected = LENGTHS[case]
    (tmp_path / "m.onnx").write_bytes(content)
    status, _, errors = init("m.onnx")
    assert (status, errors, shapes()) == (0, "", expected)
    warm()


def test_a_shape_that_the_file_does_not_state(init: Init, tmp_path: Path) -> None:
    content = onnx_models.unranked(
        graph([node("MatMul", "x", "w", "y")], {"x": ("FP32", ("n", 3))}, ("n", 2), w=np.ones((3, 2), np.float32))
    )
    (tmp_path / "m.onnx").write_bytes(content)
    assert init("m.onnx")[0] == 0
    assert shapes() == {"x": [1, 3]}


def test_texts_that_have_to_be_numbers(init: Init, tmp_path: Path) -> None:
    content = graph([node("Cast", "x", "y", to=TensorProto.FLOAT)], {"x": ("BYTES", ("n", 1))}, ("n", 1))
    (tmp_path / "m.onnx").write_bytes(content)
    assert init("m.onnx")[0] == 0
    assert config()["example"]["inputs"][0]["data"] == ["1"]


def test_values_that_give_numbers_are_preferred(init: Init, tmp_path: Path) -> None:
    """The root of x - 1 is one of 1 only, of those that are tried."""
    nodes = [node("Sub", "x", "one", "less"), node("Sqrt", "less", "y")]
    (tmp_path / "m.onnx").write_bytes(graph(nodes, {"x": ("FP32", ("n", 1))}, ("n", 1), one=np.ones(1, np.float32)))
    assert init("m.onnx")[0] == 0
    assert config()["example"]["inputs"][0]["data"] == [1.0]


@pytest.mark.parametrize("datatype", sorted(onnx_models.ELEMENT_TYPES))
def test_every_datatype(init: Init, tmp_path: Path, datatype: str) -> None:
    (tmp_path / "m.onnx").write_bytes(onnx_models.identity(datatype))
    status, output, errors = init("m.onnx")
    assert (status, errors) == (0, ""), output
    warm()


def named(content: bytes, **metadata: str) -> bytes:
    built = onnx.ModelProto.FromString(content)
    helper.set_model_props(built, metadata)
    return built.SerializeToString()


CATS = "{0: 'cat', 1: 'dog', 2: \"bird's\"}"


def test_labels_of_ultralytics(init: Init, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(named(onnx_models.identity("FP32", ("batch", 3)), names=CATS, task="classify"))
    status, output, _ = init("m.onnx")
    assert (status, config()["labels"]) == (0, {"y": ["cat", "dog", "bird's"]})
    assert "  labels    y: cat, dog, bird's\n" in output
    assert warm().labels("y") == ("cat", "dog", "bird's")


@pytest.mark.parametrize(
    ("shape", "names", "said"),
    [
        ((1, 7, 3), CATS, "there are names of 3 classes, and no output has a score for each alone"),
        ((1, 3, 7), CATS, "there are names of 3 classes, and no output has a score for each alone"),
        (("batch", 4), CATS, "there are names of 3 classes, and no output has a score for each alone"),
        (("batch", 3), "{1: 'cat', 2: 'dog', 3: 'bird'}", "the file has none"),
        (("batch", 3), "__import__('os').system('false')", "the file has none"),
        (("batch", 3), "[" * 5000, "the file has none"),
        (("batch", 3), "(1, 2, 3)", "the file has none"),
    ],
)
def test_labels_that_are_none(init: Init, tmp_path: Path, shape: tuple[Any, ...], names: str, said: str) -> None:
    (tmp_path / "m.onnx").write_bytes(named(onnx_models.identity("FP32", shape), names=names))
    status, output, errors = init("m.onnx")
    assert (status, errors) == (0, "")
    assert f"  labels    none: {said}\n" in output
    assert "labels" not in config()


def test_labels_of_a_classifier_of_scikit_learn(init: Init, tmp_path: Path) -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    skl2onnx = pytest.importorskip("skl2onnx")
    rows = np.array([[0, 0], [0, 1], [5, 5], [5, 6]], np.float32)
    classifier = linear_model.LogisticRegression().fit(rows, ["ham", "ham", "spam", "spam"])
    (tmp_path / "m.onnx").write_bytes(skl2onnx.to_onnx(classifier, rows[:1]).SerializeToString())
    assert init("m.onnx")[0] == 0
    assert config()["labels"] == {"output_probability": ["ham", "spam"]}
    warm()


TWO = {"models/a/1/model.onnx": onnx_models.identity(), "models/a/2/model.onnx": onnx_models.scaled()}
FLAT = {"models/a.onnx": onnx_models.identity(), "models/b.onnx": onnx_models.identity()}
BARE = {"mounted/net.onnx": onnx_models.identity()}


@pytest.mark.parametrize(
    ("files", "arguments", "target", "serve"),
    [
        (TWO, ["models/a"], "models/a/config.json", "models/a"),
        (TWO, ["models/a/2"], "models/a/config.json", "models/a"),
        (TWO, ["models/a/1/model.onnx"], "models/a/config.json", "models/a"),
        (TWO, ["models"], "models/a/config.json", "models"),
        (TWO, ["a", "--models", "models"], "models/a/config.json", "models"),
        (TWO, ["a/1", "--models", "models"], "models/a/config.json", "models"),
        (FLAT, ["models/a.onnx"], "models/a/config.json", "models/a.onnx"),
        (FLAT, ["a", "--models", "models"], "models/a/config.json", "models"),
        (BARE, ["mounted", "--model-name", "a"], "mounted/config.json", "mounted --model-name a"),
        (BARE, ["mounted/net.onnx", "--model-name", "a"], "mounted/config.json", "mounted/net.onnx --model-name a"),
    ],
)
def test_it_is_where_the_server_looks(
    init: Init, tmp_path: Path, files: Mapping[str, bytes], arguments: list[str], target: str, serve: str
) -> None:
    onnx_models.write(tmp_path, files)
    status, output, errors = init(*arguments)
    assert (status, errors) == (0, "")
    lines = output.splitlines()
    assert (lines[0], lines[-1]) == (f"wrote {target}", f"serve it: inferry serve {serve}")
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("config.json")] == [target]
    path, _, name = serve.partition(" --model-name ")
    served = open_repository(path, name).get("a")
    assert served.config.example["inputs"] == config(target)["example"]["inputs"]


def test_it_is_found_in_the_folder_of_the_version_itself(init: Init, tmp_path: Path, monkeypatch: Any) -> None:
    onnx_models.write(tmp_path, TWO)
    monkeypatch.chdir(tmp_path / "models/a/2")
    assert init(".")[0] == 0
    assert (tmp_path / "models/a/config.json").exists()


@pytest.mark.parametrize("before", [b'{"description": "mine"}', b"{", b'{"sha256": {"1": "0"}}'])
def test_nothing_is_written_over(init: Init, tmp_path: Path, before: bytes) -> None:
    """But with --force, whatever is wrong with it."""
    onnx_models.write(tmp_path, {"m.onnx": onnx_models.identity(), "m/config.json": before})
    assert init("m.onnx") == (1, "", "inferry: there is already m/config.json: --force writes over it\n")
    assert (tmp_path / "m/config.json").read_bytes() == before
    assert init("m.onnx", "--force")[0] == 0
    warm()
    assert "description" not in config()


def test_digests_of_all_versions_with_pin(init: Init, tmp_path: Path) -> None:
    onnx_models.write(tmp_path, TWO)
    assert init("models/a")[0] == 0
    assert "sha256" not in config("models/a/config.json")
    assert init("models/a", "--pin", "--force")[0] == 0
    assert config("models/a/config.json")["sha256"].keys() == {"1", "2"}
    (tmp_path / "models/a/1/model.onnx").write_bytes(onnx_models.scaled())
    with pytest.raises(ModelUnavailable, match="SHA-256"):
        open_repository("models").get("a", "1")


def test_rows_that_depend_on_each_other_are_not_batched(init: Init, tmp_path: Path) -> None:
    content = graph([node("Softmax", "x", "y", axis=0)], {"x": ("FP32", ("n", 3))}, ("n", 3))
    (tmp_path / "m.onnx").write_bytes(content)
    status, output, _ = init("m.onnx")
    assert (status, {*config()}) == (0, {"example"})
    assert re.search(r"^  batching  none: rows single: .+ alone$", output, re.MULTILINE)


def test_a_config_that_another_version_can_not_have(init: Init, tmp_path: Path) -> None:
    files = {"a/1/model.onnx": onnx_models.identity("FP32", (1, 3)), "a/2/model.onnx": onnx_models.identity()}
    onnx_models.write(tmp_path, files)
    status, output, _ = init("a")
    assert (status, {*config("a/config.json")}) == (0, {"example"})
    assert "! without batching: " in output
    for version in ("1", "2"):
        open_repository("a").get("a", version)


def test_a_version_that_can_not_be_served_anyway_decides_nothing(init: Init, tmp_path: Path) -> None:
    onnx_models.write(tmp_path, {"a/1/model.onnx": b"broken", "a/2/model.onnx": onnx_models.identity()})
    assert init("a", "--pin")[0] == 0
    assert config("a/config.json")["sha256"].keys() == {"2"}


def test_inputs_that_are_too_many_for_an_example(init: Init, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(onnx_models.identity("FP32", (1, 3, 640, 640)))
    status, output, errors = init("m.onnx")
    assert (status, output) == (1, "")
    assert errors == (
        "inferry: nothing to write for model 'm': its inputs have 1,228,800 values, too many for a config.json\n"
    )
    assert not (tmp_path / "m").exists()


def test_a_model_that_runs_with_nothing(init: Init, tmp_path: Path) -> None:
    """What else was found is written, with a status that says that something is left to do."""
    content = graph(
        [node("Reshape", "x", "sides", "y")],
        {"x": ("FP32", ("n", 3))},
        (7, 5),
        sides=ints(7, 5),
    )
    (tmp_path / "m.onnx").write_bytes(named(content, names="['a', 'b', 'c', 'd', 'e']"))
    status, output, errors = init("m.onnx")
    assert (status, errors) == (1, "")
    assert re.search(r"^  example   none: it ran with none of \d+ inputs that were tried; the last: ", output, re.M)
    assert config() == {"labels": {"y": ["a", "b", "c", "d", "e"]}}
    open_repository("m.onnx").get("m")


@pytest.mark.parametrize(
    ("files", "model", "error"),
    [
        ({}, "s3://bucket/models", "s3://bucket/models is not on this machine"),
        ({}, "no.onnx", "there is no file no.onnx"),
        (FLAT, "models", "there are 2 models in models: name one of a, b, as models/a"),
        ({"m.onnx": b"text"}, "m.onnx", "model 'm' can't be loaded: m.onnx is not an ONNX file"),
        ({"m.onnx": onnx_models.identity(), "m": b""}, "m.onnx", "can't write m/config.json"),
    ],
)
def test_errors(init: Init, tmp_path: Path, files: Mapping[str, bytes], model: str, error: str) -> None:
    onnx_models.write(tmp_path, files)
    status, output, errors = init(model)
    assert (status, output) == (1, "")
    assert errors.startswith(f"inferry: {error}")
    assert errors.count("\n") == 1

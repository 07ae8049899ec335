"""Rows a second of JSON Lines with texts, against the loop that people write."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from .measure import MODELS, ratio, sample, say
from .table import Row, Target

TARGET = Target(2, at_least=True)
KINDS = {
    "texts": "a text through an echo",
    "newsline": "a headline through newsline",
    "mixed": "a text and three numbers",
}
AGAINST = "json.loads, 1,000 rows of a session, json.dumps"


def lines(quick: bool) -> Iterator[Row]:
    """A row for each kind of lines."""
    for kind, what in KINDS.items():
        say(f"lines: {kind}")
        with TemporaryDirectory() as folder:
            write_model(kind, Path(folder, "models"))
            samples = sample("lines", kind, folder, 1 if quick else 3)
        ours, theirs = samples["inferry"], samples["loop"]
        against = f"{1 / median(theirs):,.0f} /s {AGAINST}"
        yield Row(f"rows/s of JSONL, {what}", f"{1 / median(ours):,.0f} /s", against, ratio(theirs, ours), TARGET)


def write_model(kind: str, models: Path) -> None:
    """The example model, or one that gives its text back, and the mean of its numbers if it has some."""
    if kind == "newsline":
        shutil.copytree(MODELS / kind, models / kind)
        return
    import onnx
    from onnx import TensorProto, helper

    def tensor(name: str, kind: int) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, kind, ["n", 1])

    inputs, outputs = [tensor("text", TensorProto.STRING)], [tensor("echo", TensorProto.STRING)]
    nodes = [helper.make_node("Identity", ["text"], ["echo"])]
    if kind == "mixed":
        numbers = ["a", "b", "c"]
        inputs += [tensor(name, TensorProto.FLOAT) for name in numbers]
        outputs += [tensor("mean", TensorProto.FLOAT)]
        nodes += [helper.make_node("Mean", numbers, ["mean"])]
    graph = helper.make_graph(nodes, kind, inputs, outputs)
    (models / kind / "1").mkdir(parents=True)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    onnx.save(model, models / kind / "1/model.onnx")

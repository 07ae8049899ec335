"""What an ONNX file says of itself, read without the onnx package and compared with what that package wrote."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import onnx
import onnx_models
import pytest
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st
from inferry.runtime import onnx_file
from inferry.runtime.numerics import Numerics
from inferry.runtime.onnx_file import ModelFile, parse, read
from onnx import (
    AttributeProto,
    FunctionProto,
    GraphProto,
    ModelProto,
    NodeProto,
    SparseTensorProto,
    TensorProto,
    TrainingInfoProto,
    helper,
)

WORDS, NUMBERS = onnx_models.zipmap(("no", "yes", "é")), onnx_models.zipmap((3, -7, 2**40))


def file(folder: Path, content: bytes) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(content)
    return path


def varint(number: int) -> bytes:
    """https://protobuf.dev/programming-guides/encoding/#varints"""
    number %= 2**64
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def field(number: int, value: bytes | int) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def graph(*nodes: bytes) -> bytes:
    """A ModelProto with only a graph of these nodes."""
    return field(7, b"".join(field(1, node) for node in nodes))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (WORDS, ModelFile("inferry-tests 1", {"": 18, "ai.onnx.ml": 3}, {"probabilities": ["no", "yes", "é"]})),
        (NUMBERS, ModelFile("inferry-tests 1", {"": 18, "ai.onnx.ml": 3}, {"probabilities": ["3", "-7", str(2**40)]})),
        (onnx_models.identity(), ModelFile("inferry-tests 1", {"": 18, "ai.onnx.ml": 3})),
        (onnx_models.identity("FP32", ()), ModelFile("inferry-tests 1", {"": 18, "ai.onnx.ml": 3})),
        (
            onnx_models.unranked(onnx_models.identity()),
            ModelFile("inferry-tests 1", {"": 18, "ai.onnx.ml": 3}, {}, unranked={"x", "y"}),
        ),
    ],
)
def test_facts(tmp_path: Path, content: bytes, expected: ModelFile) -> None:
    assert read(file(tmp_path, content)) == expected


@pytest.mark.parametrize(
    ("producer", "version", "expected"),
    [
        ("skl2onnx", "1.20.0", "skl2onnx 1.20.0"),
        ("é", "", "é"),
        ("", "2", "2"),
        ("", "", ""),
        ("x" * 200, "", "x" * 200),
    ],
)
@pytest.mark.parametrize("opsets", [{"": 21}, {"ai.onnx.ml": 5, "com.microsoft": 1, "": 7}, {}, {"x": 2**40}])
def test_as_the_onnx_package_reads_it(
    tmp_path: Path, producer: str, version: str, expected: str, opsets: dict[str, int]
) -> None:
    proto = onnx.load_from_string(WORDS)
    proto.producer_name, proto.producer_version = producer, version
    del proto.opset_import[:]
    proto.opset_import.extend(helper.make_opsetid(domain, number) for domain, number in opsets.items())
    path = file(tmp_path, proto.SerializeToString())
    theirs = onnx.load(path)
    assert {item.domain: item.version for item in theirs.opset_import} == opsets
    assert read(path) == ModelFile(expected, opsets, {"probabilities": ["no", "yes", "é"]})


def test_example_models() -> None:
    """The files of a real exporter."""
    paths = sorted(Path(__file__).parents[3].glob("models/*/*/model.onnx"))
    assert paths
    for path in paths:
        proto = onnx.load(path)
        zipmaps = [node for node in proto.graph.node if node.op_type == "ZipMap"]
        labels = {
            node.output[0]: [
                item.decode() if isinstance(item, bytes) else str(item)
                for attribute in node.attribute
                for item in helper.get_attribute_value(attribute)
            ]
            for node in zipmaps
        }
        opsets = {item.domain: item.version for item in proto.opset_import}
        trees = tuple({node.op_type for node in proto.graph.node if "Tree" in node.op_type})
        producer = f"{proto.producer_name} {proto.producer_version}".strip()
        assert read(path) == ModelFile(producer, opsets, labels, Numerics(trees))


def test_several_zipmaps(tmp_path: Path) -> None:
    """And nodes of other kinds, with attributes of the same name."""
    nodes = [
        helper.make_node("ZipMap", ["x"], ["a"], domain="ai.onnx.ml", classlabels_strings=["u", "v"]),
        helper.make_node("Other", ["x"], ["b"], domain="mine", classlabels_strings=["no"]),
        helper.make_node("ZipMap", ["x"], ["c"], "name", domain="ai.onnx.ml", classlabels_int64s=[0, 1]),
        helper.make_node("ZipMap", ["x"], ["d"], domain="ai.onnx.ml"),
    ]
    proto = helper.make_model(helper.make_graph(nodes, "g", [], []))
    assert read(file(tmp_path, proto.SerializeToString())).labels == {"a": ["u", "v"], "c": ["0", "1"], "d": []}


@pytest.mark.parametrize("packed", [True, False])
def test_integer_labels_packed_and_not(tmp_path: Path, packed: bool) -> None:
    """onnx.proto3 packs them, onnx.proto, which other languages use, doesn't."""
    labels = [0, 1, -1, 300, -(2**63), 2**63 - 1]
    numbers = field(8, b"".join(map(varint, labels))) if packed else b"".join(field(8, label) for label in labels)
    attribute = field(1, b"classlabels_int64s") + numbers + field(20, 7)
    content = graph(field(2, b"out") + field(4, b"ZipMap") + field(5, attribute))
    assert read(file(tmp_path, content)) == ModelFile("", {}, {"out": [str(label) for label in labels]})
    theirs = onnx.load_from_string(content).graph.node[0].attribute[0].ints
    assert list(theirs) == labels


def test_order_of_fields_does_not_matter(tmp_path: Path) -> None:
    """Protobuf writers may put them in any order, the name of an attribute behind its values."""
    attribute = field(9, b"a") + field(1, b"classlabels_strings") + field(9, b"b")
    node = field(5, attribute) + field(4, b"ZipMap") + field(2, b"out") + field(1, b"in")
    content = field(3, b"v") + graph(node) + field(2, b"p") + field(8, field(2, 5) + field(1, b"d"))
    assert read(file(tmp_path, content)) == ModelFile("p v", {"d": 5}, {"out": ["a", "b"]})


def test_weights_are_skipped(tmp_path: Path) -> None:
    """Fields of every wire type, and initializers whose bytes look like anything."""
    weights = helper.make_tensor("w", TensorProto.UINT8, [300], bytes(range(256)) + b"\xff" * 44, raw=True)
    proto = onnx.load_from_string(WORDS)
    proto.graph.initializer.append(weights)
    fixed = varint(900 << 3 | 1) + b"\xff" * 8 + varint(901 << 3 | 5) + b"\xff" * 4
    content = fixed + proto.SerializeToString() + fixed
    assert read(file(tmp_path, content)).labels == {"probabilities": ["no", "yes", "é"]}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (field(8, b""), ModelFile("", {"": 0})),
        (field(8, field(1, b"d")), ModelFile("", {"d": 0})),
        (graph(field(4, b"ZipMap")), ModelFile("", {}, {"": []})),
        (graph(b""), ModelFile()),
        (field(7, b""), ModelFile()),
    ],
)
def test_absent_fields_have_protobufs_defaults(tmp_path: Path, content: bytes, expected: ModelFile) -> None:
    assert read(file(tmp_path, content)) == expected
    assert {item.domain: item.version for item in onnx.load_from_string(content).opset_import} == expected.opsets


BAD = [
    b"",
    b"\x80",
    b"\x80" * 20,
    b"{}",
    b"not a model",
    b"\x89PNG\r\n\x1a\n",
    field(2, b"\xff"),
    field(7, b"\x0a"),
    field(7, 3),
    field(8, field(2, b"text")),
    field(8, 5),
    graph(field(4, b"ZipMap") + field(2, b"o") + field(5, b"\x80")),
    graph(field(4, b"ZipMap") + field(2, b"o") + field(5, 5)),
    graph(field(4, b"ZipMap") + field(2, b"o") + field(5, field(1, b"classlabels_int64s") + field(8, b"\x80"))),
    graph(field(4, b"ZipMap") + field(2, b"o") + field(5, field(1, b"classlabels_strings") + field(9, b"\xff"))),
    varint(7 << 3 | 2) + b"\xff" * 9 + b"\x01",  # a length of 2**64 - 1
    varint(1 << 3 | 1) + b"\0" * 7,
    varint(1 << 3 | 5) + b"\0" * 3,
    varint(1 << 3 | 3),
    varint(1 << 3 | 6),
]


@pytest.mark.parametrize("content", BAD, ids=[str(index) for index in range(len(BAD))])
def test_not_an_onnx_file(tmp_path: Path, content: bytes) -> None:
    for found in (read(file(tmp_path, content)), parse(content, "model.onnx")):
        assert found == ModelFile(problem=found.problem)
        assert re.match("model.onnx is not an ONNX file: .", found.problem)
        assert len(found.problem) < 200


def test_a_file_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "model.onnx")


def harmless(path: Path, content: bytes) -> None:
    """Reading may succeed or say that this is no model."""
    path.write_bytes(content)
    problem = read(path).problem
    assert not problem or problem.startswith(f"{path.name} is not an ONNX file: ")


@pytest.mark.parametrize("content", [WORDS, NUMBERS], ids=["words", "numbers"])
def test_truncated(tmp_path: Path, content: bytes) -> None:
    for end in range(len(content)):
        harmless(tmp_path / "m.onnx", content[:end])


@pytest.mark.parametrize("content", [WORDS, NUMBERS], ids=["words", "numbers"])
def test_one_bit_wrong(tmp_path: Path, content: bytes) -> None:
    for index in range(len(content)):
        for bit in (4, 128):
            harmless(tmp_path / "m.onnx", content[:index] + bytes([content[index] ^ bit]) + content[index + 1 :])


def mutated(content: bytes) -> st.SearchStrategy[bytes]:
    """`content` with some of its bytes replaced by others, fewer or more of them."""
    cut = st.tuples(st.integers(0, len(content)), st.integers(0, 20), st.binary(max_size=20))

    def apply(cuts: list[tuple[int, int, bytes]]) -> bytes:
        out = content
        for start, length, put in cuts:
            out = out[:start] + put + out[start + length :]
        return out

    return st.lists(cut, max_size=4).map(apply)


@pytest.mark.fuzz
@given(content=st.one_of(st.binary(max_size=200), mutated(WORDS), mutated(NUMBERS)))
def test_garbage(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    harmless(tmp_path_factory.getbasetemp() / "garbage.onnx", content)


# External data


def outside(location: str) -> TensorProto:
    """A tensor whose values are in a file."""
    return onnx_models.external_tensor("w", TensorProto.FLOAT, [1], location, 0)


def attribute(name: str, **values: Any) -> AttributeProto:
    return AttributeProto(name=name, **values)


def inner(location: str, nodes: Sequence[NodeProto] = ()) -> GraphProto:
    return helper.make_graph(nodes, "inner", [], [], [outside(location)])


def everywhere() -> ModelProto:
    """External data wherever a graph may have a tensor; that of training is no part of it."""
    node = NodeProto(op_type="Any", output=["y"])
    node.attribute.extend(
        [
            attribute("t", t=outside("attribute")),
            attribute("ts", tensors=[outside("one of some"), outside("two of some")]),
            attribute("g", g=inner("subgraph", [NodeProto(attribute=[attribute("t", t=outside("sub's attribute"))])])),
            attribute("gs", graphs=[inner("sub 1"), inner("sub 2")]),
            attribute("s", sparse_tensor=SparseTensorProto(values=outside("sparse"), indices=outside("its indices"))),
            attribute("ss", sparse_tensors=[SparseTensorProto(values=outside("sparse 1"))]),
        ]
    )
    function = FunctionProto(node=[NodeProto(attribute=[attribute("t", t=outside("function"))])])
    function.attribute_proto.append(attribute("default", t=outside("function's default")))
    graph = helper.make_graph([node], "g", [], [], [outside("weights.bin"), outside("weights.bin"), outside("é/2")])
    graph.sparse_initializer.append(
        SparseTensorProto(values=outside("sparse values"), indices=outside("sparse indices"))
    )
    model = helper.make_model(graph, functions=[function])
    model.training_info.append(TrainingInfoProto(algorithm=inner("training")))
    return model


def locations(message: Message) -> set[str]:
    """By protobuf's own reflection."""
    found = set()
    for descriptor, value in message.ListFields():
        if descriptor.name == "external_data":
            found |= {entry.value for entry in value if entry.key == "location"}
        elif descriptor.type == descriptor.TYPE_MESSAGE and descriptor.name != "training_info":
            for part in [value] if isinstance(value, Message) else value:
                found |= locations(part)
    return found


def test_locations_of_external_data() -> None:
    model = everywhere()
    expected = tuple(sorted(locations(model)))
    assert len(expected) == 16
    assert parse(model.SerializeToString(), "m").locations == expected


def test_data_in_the_file_is_not_external() -> None:
    """A tensor says where its data is; what is left of a file's name doesn't count, nor does a text like that."""
    tensor = outside("gone.bin")
    tensor.data_location, tensor.raw_data = TensorProto.DEFAULT, b"abcd"
    node = helper.make_node("Constant", [], ["y"], value_string="location", name="location")
    model = helper.make_model(helper.make_graph([node], "location", [], [], [tensor]))
    assert parse(model.SerializeToString(), "m").locations == ()


def test_a_tensor_in_pieces_is_one(tmp_path: Path) -> None:
    """Protobuf merges what is there twice, so half a tensor can't hide the name of its file."""
    entry = field(13, field(1, b"location") + field(2, b"hidden.bin"))
    where = field(14, 1 + 2**32)  # an enumeration has 32 bits
    for pieces in (field(5, entry) + field(5, where), field(22, field(1, entry)) + field(22, field(1, where))):
        content = graph(field(5, field(1, b"a") + pieces))
        assert locations(onnx.load_from_string(content)) == {"hidden.bin"}
        assert parse(content, "m").locations == ("hidden.bin",)


def test_graphs_too_deep_in_one_another() -> None:
    nested = field(5, outside("w").SerializeToString())
    for _ in range(60):
        nested = field(1, field(5, field(6, nested)))
    assert parse(field(7, nested), "m").problem == "m is not an ONNX file: graphs in one another, more than 50 deep"


def test_numbers_by_the_million_are_not_walked_through() -> None:
    """A tree ensemble's: each is a field of its own in what Python's package writes."""
    numbers = helper.make_attribute("nodes_values", [0.5] * 1_000_000)
    model = helper.make_model(helper.make_graph([NodeProto(attribute=[numbers])], "g", [], []))
    content = model.SerializeToString()
    fields: list[Any] = []
    whole = onnx_file.fields
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx_file, "fields", lambda message: counted(whole(message), fields))
        assert parse(content, "m") == ModelFile(opsets={"": model.opset_import[0].version})
    assert len(fields) < 20


def counted(items: Iterator[Any], into: list[Any]) -> Iterator[Any]:
    for item in items:
        into.append(item)
        yield item

"""What in a model's graph decides how it may be prepared: its operators, and whether it computes in 16 bits."""

from dataclasses import dataclass, field

from inferry.runtime.protobuf import Value, fields, text

_TYPES_OF_16_BITS = frozenset({10, 16})  # TensorProto.FLOAT16 and BFLOAT16
_RECURRENT = frozenset({"GRU", "LSTM", "RNN", "DynamicQuantizeLSTM"})
_DEEPEST = 100


@dataclass(slots=True)
class Facts:
    """`has_float16`: ONNX Runtime saves on x86, for good, that it casts such values to 32 bits."""

    operators: set[str] = field(default_factory=set)
    has_float16: bool = False

    @property
    def is_recurrent(self) -> bool:
        """Whether its time goes into steps of a sequence."""
        return bool(self.operators & _RECURRENT)

    @property
    def is_quantised(self) -> bool:
        """Whether it has products of floats that were dequantised before, which each kind of CPU fuses in its way."""
        return "DequantizeLinear" in self.operators


def read(model: bytes) -> Facts:
    """Of a ModelProto. IndexError, ValueError and TypeError when it is none."""
    facts = Facts()
    for number, value in fields(memoryview(model)):
        if number in (7, 25):
            _graph(value, facts, 0)
    return facts


# Field numbers of onnx.proto3.


def _graph(graph: Value, facts: Facts, depth: int) -> None:
    """A GraphProto, or a FunctionProto, whose nodes are the field 7."""
    if depth > _DEEPEST:
        raise ValueError(f"graphs within graphs, more than {_DEEPEST}")
    for number, value in fields(graph):
        if not isinstance(value, memoryview):
            continue
        if number == 5:
            facts.has_float16 |= _number(value, 2) in _TYPES_OF_16_BITS
        elif number in (11, 12, 13):
            facts.has_float16 |= _element(value) in _TYPES_OF_16_BITS
        elif number in (1, 7):
            _node(value, facts, depth)


def _node(node: Value, facts: Facts, depth: int) -> None:
    for number, value in fields(node):
        if number == 4:
            facts.operators.add(text(value))
        elif number == 5:
            _attribute(value, facts, depth)


def _attribute(attribute: Value, facts: Facts, depth: int) -> None:
    name = ""
    for number, value in fields(attribute):
        if number == 1:
            name = text(value)
        elif number == 3:
            facts.has_float16 |= name == "to" and value in _TYPES_OF_16_BITS  # of a Cast
        elif number == 5:
            facts.has_float16 |= _number(value, 2) in _TYPES_OF_16_BITS
        elif number in (6, 11):
            _graph(value, facts, depth + 1)


def _number(message: Value, wanted: int) -> int:
    return next((int(value) for number, value in fields(message) if number == wanted), 0)


def _element(info: Value) -> int:
    """The element type of a ValueInfoProto; 0 when it is no tensor."""
    kind = next((value for number, value in fields(info) if number == 2), None)
    tensor = next((value for number, value in fields(kind) if number == 1), None) if kind is not None else None
    return _number(tensor, 1) if tensor is not None else 0

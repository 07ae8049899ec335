"""Whether a model computes in 16 bits: ONNX Runtime saves on x86, for good, that it casts such values to 32."""

from inferry.runtime.protobuf import Value, fields, text

_TYPES = frozenset({10, 16})  # TensorProto.FLOAT16 and BFLOAT16
_DEEPEST = 100


def has_float16(model: bytes) -> bool:
    """Of a ModelProto: its tensors, inputs, outputs and casts. IndexError, ValueError and TypeError when it is none."""
    return any(_graph(value, 0) for number, value in fields(memoryview(model)) if number in (7, 25))


def _graph(graph: Value, depth: int) -> bool:
    """A GraphProto, or a FunctionProto, whose nodes are the field 7."""
    if depth > _DEEPEST:
        raise ValueError(f"graphs within graphs, more than {_DEEPEST}")
    for number, value in fields(graph):
        if not isinstance(value, memoryview):
            continue
        if number == 5 and _number(value, 2) in _TYPES:  # a tensor's data_type
            return True
        if number in (11, 12, 13) and _of_value(value) in _TYPES:
            return True
        if number in (1, 7) and _node(value, depth):
            return True
    return False


def _node(node: Value, depth: int) -> bool:
    for number, attribute in fields(node):
        if number != 5:
            continue
        parts = list(fields(attribute))
        is_cast = any(number == 1 and text(value) == "to" for number, value in parts)
        for kind, value in parts:
            if is_cast and kind == 3 and value in _TYPES:
                return True
            if kind == 5 and _number(value, 2) in _TYPES:
                return True
            if kind in (6, 11) and _graph(value, depth + 1):
                return True
    return False


def _number(message: Value, wanted: int) -> int:
    return next((int(value) for number, value in fields(message) if number == wanted), 0)


def _of_value(info: Value) -> int:
    """The element type of a ValueInfoProto; 0 when it is no tensor."""
    kind = next((value for number, value in fields(info) if number == 2), None)
    tensor = next((value for number, value in fields(kind) if number == 1), None) if kind is not None else None
    return _number(tensor, 1) if tensor is not None else 0

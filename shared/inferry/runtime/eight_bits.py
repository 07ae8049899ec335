"""A float model with 8-bit weights, by ONNX Runtime's own quantiser, in the pairing that is exact on every CPU.

Products are of uint8 and uint8: those of uint8 and int8 are added up in 16 bits by x86 CPUs with AVX2 and without VNNI,
and saturate. It needs the package `onnx`.
"""

import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

# Before the import: onnxruntime >= 1.29 writes to the home directory and starts a thread otherwise.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from inferry.protocol.tensors import Array
from inferry.runtime import onnx_file

STATIC, DYNAMIC = "static", "dynamic"
# The operators whose weights become integers. A dynamic convolution is slower than the float one.
_TAKEN = {STATIC: ("Conv", "Gemm", "MatMul"), DYNAMIC: ("Gemm", "LSTM", "MatMul")}
# A protobuf message has at most 2 GB: larger models have their weights in a file beside it.
_LARGE = 1_500_000_000


def simplify(source: Path, target: Path) -> None:
    """Writes a model whose constants are folded, whose shapes are known and whose nodes have names, as quantisers want
    it. What onnx and ONNX Runtime raise.
    """
    large = _size(source) > _LARGE
    quant_pre_process(
        str(source),
        str(target),
        skip_symbolic_shape=True,
        save_as_external_data=large,
        all_tensors_to_one_file=True,
        external_data_location="weights.bin" if large else None,
    )
    model = onnx.load(target, load_external_data=False)
    taken = {node.name for node in model.graph.node}
    for index, node in enumerate(model.graph.node):
        if not node.name:
            node.name = next(name for name in _names(node.op_type, index) if name not in taken)
    onnx.save(model, target)


def _names(operator: str, index: int) -> Iterator[str]:
    yield f"{operator}_{index}"
    yield from (f"{operator}_{index}_{number}" for number in range(1 << 30))


def operators(simplified: Path, method: str) -> list[str]:
    """The nodes that a method gives weights of 8 bits, by their names and in their order."""
    graph = onnx.load(simplified, load_external_data=False).graph
    constant = {initializer.name for initializer in graph.initializer}
    return [
        node.name for node in graph.node if node.op_type in _TAKEN[method] and constant.intersection(node.input[1:])
    ]


def quantise(simplified: Path, target: Path, method: str, left_out: Collection[str], feeds: Sequence[Any]) -> None:
    """Writes the model with 8-bit weights, but those of the nodes that are `left_out`.

    The scales of activations of a static one are found in `feeds`, inputs by their names. ValueError when its products
    would depend on the CPU; what onnx and ONNX Runtime raise.
    """
    common: dict[str, Any] = {
        "op_types_to_quantize": list(_TAKEN[method]),
        "per_channel": True,
        "weight_type": QuantType.QUInt8,
        "nodes_to_exclude": list(left_out),
        "use_external_data_format": _size(simplified) > _LARGE,
    }
    if method == DYNAMIC:
        quantize_dynamic(simplified, target, **common)
    else:
        # A convolution's weights must have one zero point, whatever their scales. A product's sums stay floats, unless
        # the next operator wants integers: rounding them wins nothing.
        options = {"WeightSymmetric": True, "OpTypesToExcludeOutputQuantization": ["Gemm", "MatMul"]}
        scales = {"activation_type": QuantType.QUInt8, "extra_options": options}
        quantize_static(simplified, target, _Feeds(feeds), **scales, **common)
    if mixed := onnx_file.read(target).numerics.mixed:
        raise ValueError(f"products of uint8 and int8 are left ({', '.join(mixed)}), which not every CPU adds up")


class _Feeds(CalibrationDataReader):  # type: ignore[misc]
    """Inputs one after another."""

    def __init__(self, feeds: Sequence[dict[str, Array]]) -> None:
        self._rest = iter(feeds)

    def get_next(self) -> dict[str, Array] | None:
        return next(self._rest, None)


def _size(onnx_path: Path) -> int:
    return sum(path.stat().st_size for path in onnx_path.parent.iterdir() if path.is_file())

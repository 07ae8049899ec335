"""The outputs as NPY (one array, with a field for each output if there are several) and NPZ (an array for each)."""

import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO

import numpy as np

from inferry.errors import NotSupported
from inferry.jobs.formats.blocks import PredictedBlock, other_shape
from inferry.protocol.signature import TensorSpec
from inferry.protocol.tensors import readable
from inferry.runtime.model import Model


class NpyWriter:
    """Writes a plain array for a model of one output, else a structured one with their names. Keeps no columns."""

    def __init__(self, model: Model, keep: Sequence[str], requests: bool, kept: Mapping[str, Any]) -> None:
        """NotSupported for what has no fixed size in a row."""
        self._specs = list(model.row_outputs().values())
        text = [spec.name for spec in self._specs if spec.datatype.dtype.hasobject]
        if requests or keep or text:
            what = "responses to requests" if requests else f"the column '{(*keep, *text)[0]}'"
            raise NotSupported(f"{what} can't be written as NPY: write jsonl, csv or parquet")
        free = [spec.name for spec in self._specs if not spec.is_fixed]
        if free:
            raise NotSupported(f"output '{free[0]}' has rows of any shape: write jsonl or parquet")
        fields = [(spec.name, _dtype(spec), spec.row or ()) for spec in self._specs]
        self._dtype = np.dtype(fields)

    def encode(self, predicted: PredictedBlock) -> Any:
        """The bytes of a block's rows, field by field in each."""
        rows = np.empty(len(predicted.positions), self._dtype)
        if len(rows):
            for spec in self._specs:
                values: Any = predicted.outputs[spec.name]
                if not isinstance(values, np.ndarray) or values.shape[1:] != spec.row:
                    raise NotSupported(other_shape(values, spec, "jsonl or parquet"))
                rows[spec.name] = readable(values, spec.datatype)
        return memoryview(rows.view(np.uint8))  # type: ignore[arg-type]

    def seal(self, blocks: Sequence[bytes]) -> Sequence[bytes]:
        """A part of the file: the bytes of its rows."""
        return blocks

    def merge(self, parts: Iterable[bytes], rows: int, target: BinaryIO) -> None:
        """Writes the header, which tells the number of rows, and all parts."""
        if len(self._specs) == 1:
            field = self._dtype[0]
            _write_header(target, field.base, (rows, *field.shape))
        else:
            _write_header(target, self._dtype, (rows,))
        for part in parts:
            target.write(part)

    def header(self) -> bytes:
        """Nothing: there is no line of names."""
        return b""


class NpzWriter(NpyWriter):
    """Writes an archive with an array for each output."""

    def merge(self, parts: Iterable[bytes], rows: int, target: BinaryIO) -> None:
        """The file, from all its parts, which are looked at once for each output."""
        again = parts if isinstance(parts, Sequence) or not isinstance(parts, Iterator) else list(parts)
        with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
            for spec in self._specs:
                field = self._dtype.fields[spec.name][0]  # type: ignore[index]
                with archive.open(f"{spec.name}.npy", "w", force_zip64=True) as member:
                    _write_header(member, field.base, (rows, *field.shape))
                    for part in again:
                        member.write(np.frombuffer(part, self._dtype)[spec.name].tobytes())


def _dtype(spec: TensorSpec) -> "np.dtype[Any]":
    return np.dtype(np.float32) if spec.datatype.is_bits else spec.datatype.dtype


def _write_header(target: Any, dtype: "np.dtype[Any]", shape: tuple[int, ...]) -> None:
    described = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(target, described)

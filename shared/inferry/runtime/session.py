"""One ONNX Runtime session: its signature, and runs that end in time."""

import ctypes
import math
import os
import re
import time
from collections.abc import Iterable, Sequence
from contextlib import nullcontext, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from inferry import process
from inferry.errors import InferenceFailed, InferenceTimeout, InvalidArgument, InvalidModel
from inferry.protocol.signature import Feed, Signature, TensorSpec
from inferry.protocol.tensors import BY_ONNX, DATATYPES, Array, Shape, aligned
from inferry.runtime import arena, numerics
from inferry.runtime.cancellation import Cancellation
from inferry.runtime.numerics import Numerics
from inferry.runtime.onnx_file import ModelFile
from inferry.runtime.watchdog import Watchdog

# Before the import: onnxruntime >= 1.29 writes to the home directory and starts a thread otherwise.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

_BFLOAT16 = 16  # TensorProto.BFLOAT16 of onnx.proto3
_PROVIDERS = ["CPUExecutionProvider"]
_LOG_FATAL = 4  # errors come as exceptions; ONNX Runtime would print each to stderr as well
_ZIPMAP = ("seq(map(string,tensor(float)))", "seq(map(int64,tensor(float)))")
_SEQUENCES = {f"seq({name})": datatype for name, datatype in BY_ONNX.items() if not datatype.is_bits}
_OPTIONALS = {f"optional({name})": datatype for name, datatype in BY_ONNX.items() if not datatype.is_bits}
_ADVICE = {
    "seq": "give the graph a plain tensor, or one for each element",
    "map": "give the graph a plain tensor",
    "optional": "give the graph a plain tensor and a default",
    "zipmap": "ZipMap takes rows of float32 only. Export the model without it, by "
    'skl2onnx.to_onnx(model, X, options={"zipmap": False}), or with inputs of float32: X.astype("float32")',
    "sparse_tensor": "give the graph dense tensors",
    "tensor": "cast it to one of " + ", ".join(DATATYPES),
}

# What it says of other scores than rows of float32: of doubles, and of several outputs that each have classes.
_NO_ZIPMAP = re.compile(r"tensor\(double\)|input shape should be 1D or 2D")

# What a node of the graph says when it fails. Its status tells little: of shapes that don't fit, half of the operators
# say INVALID_ARGUMENT and the others FAIL, as for memory that is not there.
_IN_A_NODE = re.compile("Non-zero status code returned while running .* Status Message: (.*)", re.DOTALL)
_OF_ARGUMENTS = (ort_errors.InvalidArgument, ort_errors.Fail, ort_errors.RuntimeException)
_OF_MEMORY = re.compile("alloc|memory", re.IGNORECASE)

# `y` = `x` times `w`, which are uint8 and int8: a MatMulInteger of opset 10.
_PRODUCT = (
    b'\x08\x05:>\n\x18\n\x01x\n\x01w\x12\x01y"\rMatMulInteger\x12\x01g'
    b"Z\t\n\x01x\x12\x04\n\x02\x08\x02Z\t\n\x01w\x12\x04\n\x02\x08\x03b\t\n\x01y\x12\x04\n\x02\x08\x06B\x04\n\x00\x10\n"
)

# Before a session starts its threads: each would get a heap of its own.
process.settle()
_watchdog = Watchdog()
_held = arena.Held()

RUNTIME: str = ort.__version__


class SessionOptions(NamedTuple):
    """`intra_op_threads` 0 leaves the choice to ONNX Runtime; `threads` is the config's own, and 0 if it names none.

    `is_native`: the graph was saved with everything that ONNX Runtime does for this kind of CPU.
    """

    intra_op_threads: int = 0
    max_batch_size: int = 0
    threads: int = 0
    is_native: bool = False


class Run(NamedTuple):
    """The outputs of a request, and the nanoseconds it waited and ran; `rows` of the batch that it was in."""

    arrays: list[Array]
    queue: int
    infer: int
    rows: int = 0


class Session:
    """A loaded model. `run` may be called from several threads at once."""

    def __init__(self, onnx: Path | bytes, file: ModelFile, model: str, options: SessionOptions) -> None:
        """Loads an ONNX file, external data beside it, or its bytes. InvalidModel says what is wrong with it."""
        if file.problem:
            raise InvalidModel(f"model '{model}' can't be loaded: {file.problem}")
        try:
            with process.reused_blocks() if options.is_native else nullcontext():
                session, is_widened = _opened(onnx, options, file.numerics)
        except Exception as exc:
            raise InvalidModel(f"model '{model}' can't be loaded: {_load_failure(exc, onnx)}") from exc
        session._model_bytes = None  # it would keep them for ever
        self.threads = _threads(options, file.numerics)
        """Of a run; 0 where ONNX Runtime chooses."""
        self.notes = numerics.notes(file.numerics._replace(widened=is_widened), options.threads)
        """What to know before results of two machines are compared."""
        self._session = session
        self._options: list[Any] = []  # one for each thread that runs, used again: making one costs 3 us
        self._has_run = False
        self._file = file
        self.signature = Signature(
            model,
            {
                spec.name: spec
                for spec in (
                    *(_input(node, model, self._file) for node in session.get_inputs()),
                    *(
                        _input(node, model, self._file, optional=True)
                        for node in session.get_overridable_initializers()
                    ),
                )
            },
            _outputs(session.get_outputs(), model, self._file),
            options.max_batch_size,
        )
        self._check_batching()
        self._zipmaps = {node.name for node in session.get_outputs() if node.type in _ZIPMAP}
        self._elements = {
            name: (node.name, index)
            for node in session.get_outputs()
            if node.type in _SEQUENCES
            for index, name in enumerate(_numbered(node, self._file))
        }
        specs = (*self.signature.inputs.values(), *self.signature.outputs.values())
        if any(spec.datatype.is_bits for spec in specs):
            self._run = self._run_bfloat16
        else:
            # The binding under InferenceSession.run takes the same arguments without a second check: 0.9 us of the 20
            # of a request in row `overhead` (Python 3.11, onnxruntime 1.32).
            self._run = getattr(session, "_sess", session).run
        if self._zipmaps or self._elements:
            self._run_graph, self._run = self._run, self._run_sequences

    @property
    def file(self) -> ModelFile:
        """What the ONNX file says of itself, as `onnx_file.read` has it: producer, opsets, files of external data."""
        return self._file

    @property
    def custom_metadata(self) -> dict[str, str]:
        """The `metadata_props` of the ONNX file."""
        return dict(self._session.get_modelmeta().custom_metadata_map)

    def run(
        self, feed: Feed, outputs: Sequence[str], deadline: float, cancellation: Cancellation | None = None
    ) -> list[Array]:
        """The `outputs` for a checked `feed`, in that order. Ends at `deadline` (time.monotonic) with InferenceTimeout,
        and so when it is cancelled.

        InvalidArgument when ONNX Runtime blames the input, or a node of a model that has run before fails, but for want
        of memory; InferenceFailed otherwise. The session stays usable.
        """
        if deadline <= time.monotonic():
            raise InferenceTimeout(
                f"the time for a prediction of model '{self.signature.model}' was over before it ran"
            )
        try:
            options = self._options.pop()
        except IndexError:
            options = _run_options()
        _watchdog.watch(options, deadline)
        if cancellation is not None:
            cancellation.begin(options)
        try:
            values = self._run(outputs, feed, options)
            self._has_run = True
            return values
        except Exception as exc:
            raise self._error(exc, options.terminate) from exc
        finally:
            _watchdog.release(options)
            ended = cancellation is not None and cancellation.end()
            # Before the deadline the watchdog can't have decided to end this run, and so won't end the next one.
            if not ended and time.monotonic() < deadline:
                self._options.append(options)

    def release(self, arrays: list[Array]) -> list[Array]:
        """To be called with the outputs of a run that was no small one: the same values, and memory that no run needs
        any more is the system's again. It takes some microseconds, and a page fault in the next run for each page."""
        return _held.release(arrays, _watchdog.is_idle)

    def _run_sequences(self, outputs: Sequence[str], feed: Feed, options: Any) -> list[Any]:
        """The arrays in the graph's outputs that are sequences: of maps, or of tensors with a name for each."""
        places = [self._elements.get(name, (name, None)) for name in outputs]
        wanted = list(dict.fromkeys(graph_output for graph_output, _ in places))
        found = dict(zip(wanted, self._run_graph(wanted, feed, options), strict=True))
        return [
            self._array(name, found[graph_output], index)
            for name, (graph_output, index) in zip(outputs, places, strict=True)
        ]

    def _array(self, name: str, value: Any, index: int | None) -> Any:
        if index is not None:
            return value[index]
        return _from_zipmap(value, self.signature.outputs[name]) if name in self._zipmaps else value

    def _run_bfloat16(self, outputs: Sequence[str], feed: Feed, options: Any) -> list[Any]:
        """NumPy has no bfloat16: its bits go in as uint16 under ONNX's type number, and come out as raw memory."""
        values = {name: self._ort_value(name, array) for name, array in feed.items()}
        return [_from_ort_value(value) for value in self._session.run_with_ort_values(outputs, values, options)]

    def _ort_value(self, name: str, array: Array) -> Any:
        if self.signature.inputs[name].datatype.is_bits:
            return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(aligned(array), _BFLOAT16)
        return ort.OrtValue.ortvalue_from_numpy(array)

    def _error(self, exc: Exception, terminated: bool) -> Exception:
        model = self.signature.model
        if terminated:
            return InferenceTimeout(f"model '{model}' was stopped: its prediction took longer than the time it had")
        if isinstance(exc, ort_errors.InvalidArgument) or (self._has_run and _is_about_arguments(exc)):
            return InvalidArgument(f"model '{model}' can't take this input: {_reason(exc)}")
        return InferenceFailed(f"model '{model}' failed: {_reason(exc)}")

    def _check_batching(self) -> None:
        if not self.signature.max_batch_size:
            return
        for spec in self.signature.inputs.values():
            if not spec.optional and spec.shape is not None and spec.shape[:1] != (-1,):
                raise InvalidModel(
                    f"model '{self.signature.model}' has max_batch_size {self.signature.max_batch_size}, but the first "
                    f"axis of '{spec.name}' is not symbolic: {list(spec.shape)}. Export it with a dynamic batch axis, "
                    "or set max_batch_size to 0"
                )


def _is_about_arguments(exc: Exception) -> bool:
    """Whether a node failed that would fail again: for what the request has in it, and not for what the server lacks.

    That the model can run at all is for the caller to know.
    """
    found = _IN_A_NODE.search(str(exc))
    return isinstance(exc, _OF_ARGUMENTS) and found is not None and not _OF_MEMORY.search(found[1])


def _opened(onnx: Path | bytes, options: SessionOptions, facts: Numerics) -> tuple[Any, bool]:
    """The session, and whether its products of uint8 and int8 are exact on every kind of CPU."""
    threads = _threads(options, facts)
    settings = session_options(threads)
    if options.is_native:
        settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    elif facts.mixed and saturates():
        with suppress(Exception):  # a kind of graph that ONNX Runtime can't widen
            widening = session_options(threads)
            widening.add_session_config_entry("session.x64quantprecision", "1")
            return ort.InferenceSession(onnx, widening, providers=_PROVIDERS), facts.widened
        return ort.InferenceSession(onnx, settings, providers=_PROVIDERS), False
    return ort.InferenceSession(onnx, settings, providers=_PROVIDERS), facts.widened


def _threads(options: SessionOptions, facts: Numerics) -> int:
    return options.threads or (1 if facts.trees else options.intra_op_threads)


@lru_cache
def saturates() -> bool:
    """Whether this CPU adds up products of uint8 and int8 in 16 bits. It is asked, as no list of CPUs is complete."""
    session = ort.InferenceSession(_PRODUCT, session_options(1), providers=_PROVIDERS)
    (product,) = session.run(None, {"x": np.full((8, 64), 255, np.uint8), "w": np.full((64, 8), 127, np.int8)})
    return bool(product[0, 0] != 255 * 127 * 64)


def session_options(threads: int) -> Any:
    """ONNX Runtime's options for a session of so many threads."""
    session = ort.SessionOptions()
    session.log_severity_level = _LOG_FATAL
    session.intra_op_num_threads = threads
    session.inter_op_num_threads = 1
    # Spinning threads burn the CPU share that a container is billed for.
    session.add_session_config_entry("session.intra_op.allow_spinning", "0")
    arena.share(session)
    return session


def _run_options() -> Any:
    options = ort.RunOptions()
    options.log_severity_level = _LOG_FATAL
    return options


def _input(node: Any, model: str, file: ModelFile, optional: bool = False) -> TensorSpec:
    optional = optional or node.type in _OPTIONALS
    datatype = BY_ONNX.get(node.type) or _OPTIONALS.get(node.type)
    if datatype is None:
        raise _unsupported("input", node, model)
    return TensorSpec(node.name, datatype, _shape(node, file), optional, symbols=_symbols(node.shape))


def _outputs(nodes: Iterable[Any], model: str, file: ModelFile) -> dict[str, TensorSpec]:
    """The outputs by name; of a sequence of so many tensors, one for each."""
    specs: dict[str, TensorSpec] = {}
    for node in nodes:
        names = _numbered(node, file) if node.type in _SEQUENCES else []
        # Nothing tells the elements' shapes.
        elements = [TensorSpec(name, _SEQUENCES[node.type], None) for name in names]
        for spec in elements or [_output(node, model, file)]:
            if spec.name in specs:
                raise InvalidModel(
                    f"model '{model}' has two outputs '{spec.name}', one of them an element of a sequence: rename one"
                )
            specs[spec.name] = spec
    return specs


def _numbered(node: Any, file: ModelFile) -> list[str]:
    """Names for the tensors of an output that is a sequence of them; none where their number isn't known."""
    return [f"{node.name}_{index}" for index in range(file.sequences.get(node.name, 0))]


def _output(node: Any, model: str, file: ModelFile) -> TensorSpec:
    if node.type in _ZIPMAP:
        labels = tuple(file.labels.get(node.name, ()))
        return TensorSpec(node.name, DATATYPES["FP32"], (-1, len(labels) or -1), labels=labels)
    if node.type not in BY_ONNX:
        raise _unsupported("output", node, model)
    return TensorSpec(node.name, BY_ONNX[node.type], _shape(node, file), symbols=_symbols(node.shape))


def _unsupported(kind: str, node: Any, model: str) -> InvalidModel:
    advice = _ADVICE.get(node.type.partition("(")[0], "export the model with tensors")
    return InvalidModel(
        f"{kind} '{node.name}' of model '{model}' is of type {node.type}, which the protocol can't carry: {advice}"
    )


def _shape(node: Any, file: ModelFile) -> Shape | None:
    if not node.shape and node.name in file.unranked:
        return None
    return tuple(length if isinstance(length, int) and length >= 0 else -1 for length in node.shape)


def _symbols(shape: Iterable[Any]) -> tuple[str, ...]:
    return tuple(length if isinstance(length, str) else "" for length in shape)


def _from_zipmap(rows: list[dict[Any, float]], spec: TensorSpec) -> Array:
    width = len(spec.labels) or (len(rows[0]) if rows else 0)
    values = np.array([list(row.values()) for row in rows], np.float32).reshape(len(rows), width)
    if not rows or not spec.labels:
        return values
    # ONNX Runtime sorts a map by its keys, the file's labels are in the order of the classes.
    keys = [str(key) for key in rows[0]]
    return values if keys == list(spec.labels) else values[:, [keys.index(label) for label in spec.labels]]


def _from_ort_value(value: Any) -> Any:
    if not value.is_tensor() or value.element_type() != _BFLOAT16:
        return value.numpy() if value.is_tensor() else value
    shape = value.shape()
    raw = ctypes.string_at(value.data_ptr(), math.prod(shape) * 2)
    return np.frombuffer(raw, np.uint16).reshape(shape)


def _load_failure(exc: Exception, onnx: Path | bytes) -> str:
    """The message without the server's own paths, which are nobody else's business."""
    text = _reason(exc)
    if isinstance(onnx, Path):
        text = text.replace(f"Load model from {onnx} failed:", "").replace(f"{onnx.parent}/", "").strip()
    if "(ZipMap)" in text and _NO_ZIPMAP.search(text):
        return f"{text}: {_ADVICE['zipmap']}"
    return f"{text}: {_ADVICE['tensor']}" if "MLDataType" in text else text


def _reason(exc: Exception) -> str:
    """ONNX Runtime's message without its prefix, `[ONNXRuntimeError] : 2 : INVALID_ARGUMENT : `."""
    text = str(exc)
    return text.split(" : ", 3)[-1].strip() if text.startswith("[ONNXRuntimeError]") else text

"""A model version that is loaded and ready to run."""

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import orjson

from inferry.concurrency import Threads
from inferry.errors import InferryError, InvalidRequest
from inferry.observability.stats import ModelStats
from inferry.protocol import class_names
from inferry.protocol.decoder import decode
from inferry.protocol.signature import Feed, Signature, TensorSpec
from inferry.protocol.tensors import Tensor
from inferry.runtime.model_config import ModelConfig
from inferry.runtime.row_proof import RowProof
from inferry.runtime.scheduler import Kind, Scheduler
from inferry.runtime.session import Session
from inferry.runtime.verdicts import Verdict

if TYPE_CHECKING:
    from inferry.runtime.boxes import Boxes
    from inferry.runtime.preprocess import Preprocess

WARM_UP_TIMEOUT = 60.0


class ServedForm(NamedTuple):
    """The form of a prepared version that is loaded: `manifest` is the SHA-256 of what `inferry prepare` wrote.

    `why` it is not a better one, if that is no fault; `left_out`: what is wrong with better ones.
    """

    kind: str
    manifest: str
    why: str = ""
    left_out: tuple[str, ...] = ()


@dataclass(slots=True, eq=False, repr=False, weakref_slot=True)
class Model:
    """`digest`: SHA-256 of its files, of a prepared version's `form` that of the model that it was made of.

    `hashed`: its files were hashed for this load, else what is known of the same files was taken; `load_seconds`: until
    the end of the warm-up run, fetching included; `warm_run`: nanoseconds and kind of the warm-up's second run, which
    tell what a request will take; `keeps_responses`: by its config, unless operators are `random`.
    """

    name: str
    version: str
    config: ModelConfig
    session: Session
    digest: str
    size: int
    stats: ModelStats
    row_proof: RowProof
    form: ServedForm | None = None
    hashed: bool = True
    load_seconds: float = 0.0
    warm_run: tuple[int, Kind | None] | None = None
    keeps_responses: bool = False
    random: tuple[str, ...] = ()
    users: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _scheduler: Scheduler | None = None

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """While inside, the cache doesn't evict this model."""
        with self._lock:
            self.users += 1
        try:
            yield
        finally:
            with self._lock:
                self.users -= 1

    def scheduler(self, threads: Threads) -> Scheduler:
        """What runs its requests, the same one each time; made when the first needs it, for these `threads`."""
        if self._scheduler is None:
            self._scheduler = Scheduler(self.session, self.config, self.row_proof, self.stats, threads, self.warm_run)
        return self._scheduler

    @property
    def signature(self) -> Signature:
        """The model's inputs and outputs: what requests are checked against."""
        return self.session.signature

    @property
    def columns(self) -> tuple[str, ...]:
        """The config's names of a row's values; empty where it has none."""
        return self.config.columns

    @property
    def preprocess(self) -> "Mapping[str, Preprocess]":
        """How images become rows, by input."""
        return self.config.preprocess

    @property
    def boxes(self) -> "Boxes | None":
        """Which outputs are boxes in an image, where the config says it."""
        return self.config.postprocess

    @property
    def waiting(self) -> int:
        """How many requests wait for a thread or a batch."""
        return self._scheduler.waiting if self._scheduler else 0

    @property
    def has_one_thread(self) -> bool:
        """Whether its results would depend on the number of threads, which its config doesn't name."""
        return bool(self.session.file.numerics.trees) and not self.config.threads

    def labels(self, output: str) -> tuple[str, ...]:
        """Class names of an output: the config's, else those in the ONNX file."""
        return self.config.labels.get(output) or self.session.signature.outputs[output].labels

    def row_outputs(self) -> dict[str, TensorSpec]:
        """The outputs as rows have them: of one without a row per row, a row has all that its run gives."""
        has_rows = self.row_proof.verdict.outputs
        return {
            name: spec if name in has_rows or spec.shape is None else spec._replace(shape=(-1, *spec.shape))
            for name, spec in self.session.signature.outputs.items()
        }

    def example(self) -> Feed:
        """The inputs of the config's example. InvalidRequest when it has none, or they don't fit."""
        try:
            text = orjson.dumps({"inputs": self.config.example.get("inputs")})
        except orjson.JSONEncodeError as exc:
            raise InvalidRequest(str(exc)) from exc
        signature = self.session.signature
        return signature.feed(decode(text, None, signature.known[True]))

    def prove_rows(self) -> Verdict:
        """Whether its rows may run together, by the config's example or by random rows."""
        try:
            example = self.example()
        except InferryError:
            example = None
        return self.row_proof.by_example(example, time.monotonic() + WARM_UP_TIMEOUT)

    def classes(self, outputs: Sequence[Tensor], rows: int) -> class_names.Classes | None:
        """The classes that the outputs of `rows` rows tell, by name; None where none are known."""
        known = {tensor.name: self.labels(tensor.name) for tensor in outputs}
        if not any(known.values()):
            return None
        return class_names.named(known, self.session.signature, {tensor.name: tensor.array for tensor in outputs}, rows)

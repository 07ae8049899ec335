"""A model version that is loaded and ready to run."""

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson

from inferry.errors import InferryError, InvalidModel, InvalidRequest
from inferry.observability.stats import ModelStats
from inferry.protocol import class_names
from inferry.protocol.decoder import decode
from inferry.protocol.signature import Feed, TensorSpec
from inferry.protocol.tensors import Tensor
from inferry.repository.content import Content
from inferry.runtime.model_config import ModelConfig
from inferry.runtime.row_proof import RowProof
from inferry.runtime.session import Session, SessionOptions
from inferry.runtime.verdicts import PROVEN, UNPROVEN, Verdict, Verdicts

log = logging.getLogger("inferry")

WARM_UP_TIMEOUT = 60.0


@dataclass(slots=True, eq=False, repr=False)
class Model:
    """`digest`: SHA-256 of its files; `load_seconds`: until the end of the warm-up run, fetching included.

    `warm_run`: nanoseconds and elements of the warm-up's second run, which tell what a request will take.
    """

    name: str
    version: str
    config: ModelConfig
    session: Session
    digest: str
    size: int
    stats: ModelStats
    row_proof: RowProof
    load_seconds: float = 0.0
    warm_run: tuple[int, int] | None = None
    execution: Any = None
    users: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

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

    def prove_rows(self) -> Verdict:
        """Whether its rows may run together, by the config's example or by random rows."""
        try:
            example = _example(self)
        except InferryError:
            example = None
        return self.row_proof.by_example(example, time.monotonic() + WARM_UP_TIMEOUT)

    def classes(self, outputs: Sequence[Tensor], rows: int) -> class_names.Classes | None:
        """The classes that the outputs of `rows` rows tell, by name; None where none are known."""
        known = {tensor.name: self.labels(tensor.name) for tensor in outputs}
        if not any(known.values()):
            return None
        return class_names.named(known, self.session.signature, {tensor.name: tensor.array for tensor in outputs}, rows)


def load(
    name: str,
    version: str,
    content: Content,
    config: ModelConfig,
    threads: int,
    stats: ModelStats,
    verdicts: Verdicts | None = None,
    shared: bool = False,
) -> Model:
    """Loads a version's content, after a look at its digest, and warms it up. InvalidModel says why not.

    `shared`: its config is that of other versions as well.
    """
    expected = config.sha256.get(version)
    if expected and expected.lower() != content.digest:
        files = f"the files {', '.join(content.names)} were" if len(content.names) > 1 else "the file was"
        raise InvalidModel(
            f"the SHA-256 of model '{name}' version {version} is {content.digest}, but its config.json names "
            f"{expected}: {files} changed or not copied whole; put the right one in place, or correct config.json"
        )
    options = SessionOptions(threads, config.max_batch_size, config.threads)
    session = Session(content.model, content.file, name, options)
    class_names.check(config.labels, session.signature, f"version {version} of model '{name}'", shared)
    proof = RowProof(session, content.digest, config.rows == "joined", verdicts)
    model = Model(name, version, config, session, content.digest, content.size, stats, proof)
    if config.warm_up:
        model.warm_run = _warm_up(model)
    if config.dynamic_batching:
        _check_batching(model)
    stats.serves(batched=config.max_batch_size > 0)
    return model


def _warm_up(model: Model) -> tuple[int, int]:
    """Runs the config's example twice: the first run allocates, the second tells what a request will take."""
    signature = model.session.signature
    try:
        feed = _example(model)
        deadline = time.monotonic() + WARM_UP_TIMEOUT
        arrays = model.session.run(feed, list(signature.outputs), deadline)
        start = time.perf_counter_ns()
        model.session.run(feed, list(signature.outputs), deadline)
    except InferryError as exc:
        raise InvalidModel(f"the example in config.json of model '{model.name}' can't be run: {exc}") from exc
    took = time.perf_counter_ns() - start
    what = f"version {model.version} of model '{model.name}'"
    class_names.check_run(model.config.labels, signature, arrays, what)
    return took, sum(array.size for array in feed.values())


def _example(model: Model) -> Feed:
    """The inputs of the config's example. InvalidRequest when it has none, or they don't fit."""
    try:
        text = orjson.dumps({"inputs": model.config.example.get("inputs")})
    except orjson.JSONEncodeError as exc:
        raise InvalidRequest(str(exc)) from exc
    return model.session.signature.feed(decode(text, None, model.name))


def _check_batching(model: Model) -> None:
    """InvalidModel where requests can't be joined; without inputs that the model runs with they just are not."""
    verdict = model.prove_rows()
    if verdict.rows == UNPROVEN:
        log.warning(
            "model '%s' runs without dynamic_batching: nothing shows that its rows may be joined, as it ran with no "
            "random input; give config.json an 'example'",
            model.name,
        )
    elif verdict.rows != PROVEN:
        raise InvalidModel(
            f"config.json of model '{model.name}' sets dynamic_batching, but its rows can't run together: "
            f'{verdict.reason}. Remove dynamic_batching, or set "rows": "joined" if that is no fault'
        )

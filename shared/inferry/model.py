"""A model version that is loaded and ready to run."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson

from inferry.config import ModelConfig
from inferry.content import Content
from inferry.errors import InferryError, InvalidModel
from inferry.protocol import decode
from inferry.session import Session, SessionOptions
from inferry.stats import ModelStats

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

    def labels(self, output: str) -> tuple[str, ...]:
        """Class names of an output: the config's, else those in the ONNX file."""
        return self.config.labels.get(output) or self.session.signature.outputs[output].labels


def load(name: str, version: str, content: Content, config: ModelConfig, threads: int, stats: ModelStats) -> Model:
    """Loads a version's content, after a look at its digest, and warms it up. InvalidModel says why not."""
    expected = config.sha256.get(version)
    if expected and expected.lower() != content.digest:
        files = f"the files {', '.join(content.names)} were" if len(content.names) > 1 else "the file was"
        raise InvalidModel(
            f"the SHA-256 of model '{name}' version {version} is {content.digest}, but its config.json names "
            f"{expected}: {files} changed or not copied whole; put the right one in place, or correct config.json"
        )
    options = SessionOptions(config.threads or threads, config.max_batch_size)
    session = Session(content.model, content.file, name, options)
    model = Model(name, version, config, session, content.digest, content.size, stats)
    if config.warm_up:
        model.warm_run = _warm_up(model)
    return model


def _warm_up(model: Model) -> tuple[int, int]:
    """Runs the config's example twice: the first run allocates, the second tells what a request will take."""
    signature = model.session.signature
    try:
        request = decode(orjson.dumps({"inputs": model.config.example.get("inputs")}), None, model.name)
        feed = signature.feed(request)
        deadline = time.monotonic() + WARM_UP_TIMEOUT
        model.session.run(feed, list(signature.outputs), deadline)
        start = time.perf_counter_ns()
        model.session.run(feed, list(signature.outputs), deadline)
    except (InferryError, orjson.JSONEncodeError) as exc:
        raise InvalidModel(f"the example in config.json of model '{model.name}' can't be run: {exc}") from exc
    return time.perf_counter_ns() - start, sum(array.size for array in feed.values())

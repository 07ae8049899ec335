"""What each model did in this process: the protocol's statistics."""

import threading
import time
from collections import defaultdict
from dataclasses import dataclass
from typing import Any


@dataclass(slots=True)
class Duration:
    """How often something was done, and the nanoseconds it took together."""

    count: int = 0
    ns: int = 0

    def add(self, ns: int) -> None:
        self.count += 1
        self.ns += ns

    def as_dict(self) -> dict[str, int]:
        return {"count": self.count, "ns": self.ns}


@dataclass(slots=True)
class Timings:
    """Nanoseconds of one request: `decode` bytes to arrays, `queue` waiting, `infer` running, `encode` the answer."""

    decode: int = 0
    queue: int = 0
    infer: int = 0
    encode: int = 0

    @property
    def total(self) -> int:
        return self.decode + self.queue + self.infer + self.encode


_COMPUTE = {"compute_input": "decode", "compute_infer": "infer", "compute_output": "encode"}
_NONE = {"count": 0, "ns": 0}


class ModelStats:
    """Counts of one model version since this process started. Its methods may be called from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._durations: dict[str, Duration] = defaultdict(Duration)
        self._batches: dict[int, Duration] = defaultdict(Duration)
        self.inferences = 0
        self.executions = 0
        self.last_inference = 0

    def succeeded(self, timings: Timings, batch_size: int) -> None:
        """A request of `batch_size` rows was answered."""
        with self._lock:
            self.inferences += batch_size
            self.last_inference = int(time.time() * 1000)
            self._durations["success"].add(timings.total)
            self._durations["queue"].add(timings.queue)
            for name, part in _COMPUTE.items():
                self._durations[name].add(getattr(timings, part))

    def failed(self, ns: int) -> None:
        """A request was not answered after `ns` nanoseconds."""
        with self._lock:
            self._durations["fail"].add(ns)

    def executed(self, batch_size: int, ns: int) -> None:
        """The session ran once, for `batch_size` rows of one or more requests."""
        with self._lock:
            self.executions += 1
            self._batches[batch_size].add(ns)

    def as_dict(self) -> dict[str, Any]:
        """The protocol's statistics object, without name, version and memory."""
        names = ("success", "fail", "queue", *_COMPUTE, "cache_hit", "cache_miss")
        with self._lock:
            return {
                "last_inference": self.last_inference,
                "inference_count": self.inferences,
                "execution_count": self.executions,
                "inference_stats": {name: self._durations[name].as_dict() for name in names},
                "response_stats": {},
                "batch_stats": [
                    # Decoding and encoding are per request, not per batch.
                    {"batch_size": size, **dict.fromkeys(_COMPUTE, _NONE), "compute_infer": infer.as_dict()}
                    for size, infer in sorted(self._batches.items())
                ],
            }

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


class ModelStats:
    """Counts of one model version since it was loaded. Its methods may be called from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests = 0
        self._decode = self._queue = self._infer = self._encode = 0
        self._fail = Duration()
        self._batches: dict[int, Duration] = defaultdict(Duration)
        self._inferences = 0
        self._executions = 0
        self._last_inference = 0.0

    def succeeded(self, timings: Timings, batch_size: int) -> None:
        """A request of `batch_size` rows was answered."""
        with self._lock:
            self._inferences += batch_size
            self._last_inference = time.time()
            self._requests += 1
            self._decode += timings.decode
            self._queue += timings.queue
            self._infer += timings.infer
            self._encode += timings.encode

    def failed(self, ns: int) -> None:
        """A request was not answered after `ns` nanoseconds."""
        with self._lock:
            self._fail.add(ns)

    def executed(self, batch_size: int, ns: int) -> None:
        """The session ran once, for `batch_size` rows of one or more requests."""
        with self._lock:
            self._executions += 1
            self._batches[batch_size].add(ns)

    def as_dict(self) -> dict[str, Any]:
        """The protocol's statistics object, without name, version and memory."""
        with self._lock:
            total = self._decode + self._queue + self._infer + self._encode
            parts = {
                "success": total,
                "queue": self._queue,
                "compute_input": self._decode,
                "compute_infer": self._infer,
                "compute_output": self._encode,
            }
            durations = {name: Duration(self._requests, ns) for name, ns in parts.items()}
            durations |= {"fail": self._fail, "cache_hit": Duration(), "cache_miss": Duration()}
            return {
                "last_inference": int(self._last_inference * 1000),
                "inference_count": self._inferences,
                "execution_count": self._executions,
                "inference_stats": {name: duration.as_dict() for name, duration in durations.items()},
                "response_stats": {},
                "batch_stats": [_batch(size, infer) for size, infer in sorted(self._batches.items())],
            }


def _batch(size: int, infer: Duration) -> dict[str, Any]:
    # Decoding and encoding are per request, not per batch.
    none = Duration().as_dict()
    return {"batch_size": size, "compute_input": none, "compute_infer": infer.as_dict(), "compute_output": none}

"""The response cache: what a model gave for a request before, found again, and what it gives now, kept."""

import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from importlib.util import find_spec
from typing import Protocol
from weakref import WeakKeyDictionary

from inferry.concurrency import Threads, on_loop
from inferry.errors import InvalidSettings, extra
from inferry.observability import catalogue
from inferry.observability.registry import Gauge, Metrics
from inferry.observability.stats import Timings
from inferry.protocol.signature import Feed
from inferry.protocol.tensors import Array, Tensor
from inferry.response_cache import entries, keys
from inferry.response_cache.memory import Memory
from inferry.runtime.model import Model
from inferry.settings import Settings

# Inputs of more bytes are hashed in a thread: it takes a millisecond and more. Of more strings nothing is kept.
LARGE, STRINGS = 2**20, 2**12


class Store(Protocol):
    """Where entries are."""

    async def get(self, key: bytes, seconds: float) -> bytes | None:
        """The entry at a key; None where there is none, or it can't be had in so many seconds."""

    async def set(self, key: bytes, entry: bytes, seconds: float) -> None:
        """Keeps an entry, if that can be done in so many seconds."""


def check(settings: Settings) -> None:
    """InvalidSettings where the response cache is to be in Redis, whose client is missing."""
    if settings.response_cache_url and find_spec("redis") is None:
        raise InvalidSettings(f"RESPONSE_CACHE_URL needs Redis' client: {extra('redis')}")


def open_store(settings: Settings, metrics: Metrics) -> Store:
    """The store of the settings. InvalidSettings."""
    if settings.response_cache_url:
        from inferry.response_cache.redis_store import RedisStore

        return RedisStore(settings, metrics)
    memory = Memory(settings.response_cache_bytes, settings.response_cache_seconds, metrics)

    def gauges() -> Iterator[Gauge]:
        yield Gauge(catalogue.RESPONSE_CACHE_BYTES, (), memory.size)

    metrics.watch(gauges)
    return memory


class ResponseCache:
    """Outputs of models' runs, by what they were asked for. Belongs to one event loop, or to none."""

    def __init__(self, store: Store, most: int, threads: Threads) -> None:
        """`most`: bytes of an entry."""
        self._store = store
        self._most = most
        self._threads = threads
        self._identities: WeakKeyDictionary[Model, bytes] = WeakKeyDictionary()

    async def outputs(
        self,
        model: Model,
        feed: Feed,
        names: Sequence[str],
        owner: str,
        run: Callable[[], Awaitable[list[Array]]],
        timings: Timings,
        deadline: float,
    ) -> list[Array]:
        """The outputs of these `names` for a checked `feed`: those that are kept for `owner`, else what `run` gives.

        What else it takes is added to `timings`. It raises what `run` raises.
        """
        start = time.perf_counter_ns()
        key = await self._key(model, feed, names, owner)
        arrays = None if key is None else await self._kept(key, model, names, deadline)
        took = time.perf_counter_ns() - start
        timings.cache += took
        timings.cached = arrays is not None
        if arrays is not None:
            timings.queue = timings.infer = 0
            model.stats.cache_hit(took)
            return arrays
        arrays = await run()
        if key is not None:
            start = time.perf_counter_ns()
            await self._keep(key, model, names, arrays, deadline)
            inserting = time.perf_counter_ns() - start
            timings.cache += inserting
            model.stats.cache_miss(took + inserting)
        return arrays

    async def _key(self, model: Model, feed: Feed, names: Sequence[str], owner: str) -> bytes | None:
        """None for what nothing is kept of."""
        if (identity := self._identities.get(model)) is None:
            identity = self._identities[model] = keys.identity(model)
        specs = model.signature.inputs
        # However a request orders them.
        inputs = [Tensor(name, specs[name].datatype, feed[name]) for name in sorted(feed)]
        if sum(tensor.array.size for tensor in inputs if tensor.array.dtype.hasobject) > STRINGS:
            return None
        try:
            if sum(tensor.array.nbytes for tensor in inputs) <= LARGE:
                return keys.key(identity, owner, inputs, names)
            await on_loop()
            return await self._threads.run(self._threads.client(), keys.key, identity, owner, inputs, names)
        except ValueError:  # strings that are no text
            return None

    async def _kept(self, key: bytes, model: Model, names: Sequence[str], deadline: float) -> list[Array] | None:
        entry = await self._store.get(key, deadline - time.monotonic())
        if entry is None:
            return None
        try:
            return entries.decode(entry, [model.signature.outputs[name].datatype for name in names])
        except ValueError:
            return None

    async def _keep(
        self, key: bytes, model: Model, names: Sequence[str], arrays: Sequence[Array], deadline: float
    ) -> None:
        if sum(array.nbytes for array in arrays) > self._most:
            return
        try:
            entry = entries.encode(arrays, [model.signature.outputs[name].datatype for name in names])
        except ValueError:  # strings that are no text
            return
        if len(entry) <= self._most:
            await self._store.set(key, entry, deadline - time.monotonic())

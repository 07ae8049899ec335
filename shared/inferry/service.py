"""The data plane on every platform: a request for a model in, its response out."""

import math
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from contextvars import copy_context
from functools import lru_cache, partial
from pathlib import Path
from threading import Lock, main_thread
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from inferry.concurrency import Client, Helper, RoundRobin, Threads, call_on_loop, nobody, on_loop
from inferry.cpus import cpus, session_threads
from inferry.errors import InferenceTimeout, InvalidRequest, ModelControlDisabled, ModelNotFound, ModelUnavailable
from inferry.observability import catalogue
from inferry.observability.record import RequestRecord, current_record
from inferry.observability.registry import Gauge, Metrics
from inferry.observability.stats import Timings
from inferry.protocol.signature import Feed
from inferry.protocol.tensors import Array, Tensor
from inferry.protocol.types import Classes, InferRequest, InferResponse
from inferry.repository.refresh import Refresher
from inferry.repository.repository import Repository, open_repository
from inferry.repository.version import LOADING, UNAVAILABLE
from inferry.runtime.model import Model
from inferry.runtime.model_config import ModelConfig
from inferry.runtime.scheduler import Kind, kind_of
from inferry.runtime.session import Run
from inferry.runtime.verdicts import NONE, PROVEN, UNPROVEN
from inferry.settings import Settings

if TYPE_CHECKING:
    from concurrent.futures import Future as Work

    from inferry.protocol.references import References
    from inferry.response_cache.cache import ResponseCache

# ONNX Runtime takes 0.1 us to take over a string, and lets nobody else have the interpreter's lock meanwhile.
STRINGS = 2**16
# Models that requests load or unload at a time.
_CONTROLLERS = 8


def check_takes_rows(model: Model) -> None:
    """InvalidRequest where the model takes whole requests only."""
    if model.row_proof.verdict.rows == NONE:
        raise InvalidRequest(
            f"model '{model.name}' takes no rows, as {model.row_proof.verdict.reason}: send whole requests to "
            f"/v2/models/{model.name}/infer"
        )


class Account(Timings):
    """A request that a model has taken, until the block behind it ends: how long each part takes, and what comes of it.

    Left by an exception the request has failed, else `answered` says what it was.
    """

    __slots__ = ("_encoding", "_record", "_request", "_responses", "_started", "_stats")

    def __init__(self, model: Model, record: RequestRecord | None) -> None:
        """`record`: that of the request, where one is kept; it is filled in when the block ends."""
        self.decode = self.queue = self.infer = self.encode = self.batch = self.cache = 0
        self.cached = False
        self._stats = stats = model.stats
        self._record = record
        stats.in_flight += 1
        self._started = time.perf_counter_ns()
        if record is not None:
            record.model, record.version, record.digest = model.name, model.version, model.digest
            record.taken = self._started
        self._request: InferRequest | None = None
        self._responses: Sequence[InferResponse] = ()

    def __enter__(self) -> "Account":
        return self

    def __exit__(self, _type: object, exc: BaseException | None, _traceback: object) -> None:
        if exc is not None:
            self._stats.failed(exc, time.perf_counter_ns() - self._started)
            self._show(failed=True)

    def until(self, seconds: float) -> float:
        """When so many seconds since the request was taken are over, on time.monotonic."""
        return time.monotonic() + seconds - (time.perf_counter_ns() - self._started) / 1e9

    def decoded(self, request: InferRequest) -> None:
        """Call it when the request's tensors are there: the time until now was `decode`."""
        self._request = request
        self.decode = time.perf_counter_ns() - self._started

    def inferred(self, *responses: InferResponse) -> None:
        """Call it when the tensors of the response, or of that to each row, are there: now the time is `encode`."""
        self._responses = responses
        self._encoding = time.perf_counter_ns()

    def answered(self, rows: int, received: int = 0, sent: int = 0) -> None:
        """The response is there, to so many rows; its body has `sent` bytes, the request's has `received`."""
        ended = time.perf_counter_ns()
        self.encode += ended - self._encoding
        self._stats.succeeded(self, rows, ended, received, sent)
        if self._record is not None:
            self._record.rows = rows
            self._show()

    def _show(self, failed: bool = False) -> None:
        if (record := self._record) is not None:
            record.decode, record.queue, record.infer = self.decode, self.queue, self.infer
            record.encode, record.batch = self.encode, self.batch
            record.cache, record.cached = self.cache, self.cached
            if record.sampler is not None and self._request is not None:
                record.sampler.take(record, self._request, self._responses, failed)


class Service:
    """Serves the models of a repository. One per process; its coroutines belong to one event loop."""

    def __init__(
        self,
        repository: Repository,
        settings: Settings | None = None,
        preloaded: bool = True,
        helper: Helper | None = None,
        client: Client = nobody,
    ) -> None:
        """`preloaded`: False where the server answers already, not ready, until `preload` has come to its end.

        `helper`: the server's other process, for what would hold up this one; `client`: whose a request is.
        """
        self._helper = helper
        self.repository = repository
        self.settings = settings or Settings()
        self.metrics = repository.metrics
        self.metrics.watch(self._gauges)
        self._timeout = self.settings.model_timeout
        self._preloaded = preloaded
        self._refreshes = bool(self.settings.model_refresh)
        self._refresher = Refresher(repository, self.settings.model_refresh)
        # Sessions use all CPUs themselves: one more thread keeps them busy while a response is taken over.
        self._threads = Threads(cpus() + 1, "inferry-run", client)
        self._references: References | None = None
        self._response_cache: ResponseCache | None = None
        self._opening = Lock()
        self._loaders = Threads(cpus(), "inferry-load", client)
        self._controllers = Threads(_CONTROLLERS, "inferry-control", client)
        # Of each model that is loaded or unloaded by request: those that wait for one of these have no thread.
        self._turns: WeakValueDictionary[str, RoundRobin] = WeakValueDictionary()
        # Of all who wait for one version one has a thread.
        self._loading: dict[tuple[str, str | None], Work[Model]] = {}

    @classmethod
    def from_settings(
        cls,
        settings: Settings,
        preloaded: bool = True,
        helper: Helper | None = None,
        client: Client = nobody,
    ) -> "Service":
        """The service of `settings.model_path`. StoreError when the repository can't be read, InvalidSettings."""
        if settings.response_cache_url:
            from inferry.response_cache import cache

            cache.check(settings)
        repository = open_repository(
            settings.model_path,
            settings.model_name,
            cache_size=settings.model_cache_size,
            threads=session_threads(settings),
            cache=Path(settings.model_cache_dir) if settings.model_cache_dir else None,
            metrics=Metrics(settings.price_second, settings.price_request),
        )
        return cls(repository, settings, preloaded, helper, client)

    def loaded(self, name: str, version: str | None = None) -> Model | None:
        """The model when it is loaded already; never waits."""
        if self._refreshes:
            self._refresher.poll()
        model = self.repository.peek(name, version)
        if model is not None:
            self.metrics.cache_hits += 1
        return model

    async def model(self, name: str, version: str | None = None, deadline: float = math.inf) -> Model:
        """The model, loaded if need be. ModelNotFound, ModelUnavailable, InferenceTimeout at `deadline`."""
        model = self.loaded(name, version)
        if model is None:
            self.metrics.cache_missed()
            self.repository.check(name, version)  # for what is not there nobody need wait
            model = await self._load(name, version, deadline)
        return model

    def predictions_wait(self) -> bool:
        """Whether the next prediction of a loaded model goes to a thread or a batch, as far as its warm-up tells.

        Or asks for a response that is kept elsewhere.
        """
        return self._keeps_elsewhere() or not all(
            model.scheduler(self._threads).knows_quick_runs for model in self.repository.loaded()
        )

    async def _load(self, name: str, version: str | None, deadline: float) -> Model:
        start = time.perf_counter_ns()
        try:
            return await self._load_until(name, version, deadline)
        finally:
            if (record := current_record.get()) is not None and name in self.repository.names():
                record.loading, record.loaded = start, time.perf_counter_ns()

    async def _load_until(self, name: str, version: str | None, deadline: float) -> Model:
        await on_loop()
        import asyncio

        key = name, version
        work = self._loading.get(key)
        if work is None:
            work = self._loading[key] = self._loaders.submit(self._loaders.client(), self.repository.get, name, version)
            work.add_done_callback(lambda _: self._loading.pop(key, None))
        loading = asyncio.shield(asyncio.wrap_future(work))
        if deadline == math.inf:
            return await loading
        try:
            # The thread goes on loading: the next request finds the model.
            return await asyncio.wait_for(loading, deadline - time.monotonic())
        except TimeoutError as exc:
            raise InferenceTimeout(f"the time for this request was over while model '{name}' was loading") from exc

    async def infer(
        self,
        model: Model,
        request: InferRequest,
        timings: Timings | None = None,
        deadline: float = math.inf,
        owner: str | None = None,
    ) -> InferResponse:
        """The response to a decoded request, not later than `deadline`; what it took is added to `timings`.

        `owner`: whose response it is, where models keep theirs; None: the response cache has no part in it.

        InvalidRequest, NotSupported, QueueFull, InferenceTimeout, InferenceFailed; what `references` raises.
        """
        timings = timings or Timings()
        if request.by_reference:
            return await self._infer_by_reference(model, request, timings, deadline)
        signature = model.session.signature
        feed = signature.feed(request)
        requested = signature.requested(request)
        limit = self._timeout
        if request.timeout is not None and request.timeout < limit:
            limit = request.timeout
        limit += time.monotonic()
        if limit < deadline:
            deadline = limit
        scheduler = model.scheduler(self._threads)
        kind = kind_of(feed, requested.names)
        if owner is not None and model.keeps_responses:
            arrays = await self._kept(model, feed, requested.names, owner, timings, deadline, kind)
        elif scheduler.runs_inline(kind):
            arrays, timings.infer = scheduler.run_now(feed, requested.names, deadline, kind)
        else:
            arrays = await self._run(model, feed, requested.names, timings, deadline, kind)
        specs = signature.outputs
        outputs = [
            Tensor(name, specs[name].datatype, array) for name, array in zip(requested.names, arrays, strict=True)
        ]
        response = InferResponse(model.name, model.version, outputs, requested.binary, request.id)
        if requested.classes:
            batched = signature.max_batch_size > 0
            response.classes = {name: Classes(k, batched, model.labels(name)) for name, k in requested.classes.items()}
        return response

    async def _kept(
        self,
        model: Model,
        feed: Feed,
        outputs: tuple[str, ...],
        owner: str,
        timings: Timings,
        deadline: float,
        kind: Kind | None,
    ) -> list[Array]:
        """The outputs that are kept, or else those of a run, which are kept from now on."""
        cache = self._response_cache
        if cache is None and self.settings.response_cache_url:
            await on_loop()
            cache = await self._loaders.run(self._loaders.client(), self._opened_response_cache)
        elif cache is None:
            cache = self._opened_response_cache()
        run = partial(self._run, model, feed, outputs, timings, deadline, kind)
        return await cache.outputs(model, feed, outputs, owner, run, timings, deadline)

    def _opened_response_cache(self) -> "ResponseCache":
        with self._opening:
            if self._response_cache is None:
                from inferry.response_cache import cache

                store = cache.open_store(self.settings, self.metrics)
                most = self.settings.response_cache_entry_bytes
                self._response_cache = cache.ResponseCache(store, most, self._threads)
            return self._response_cache

    async def _run(
        self,
        model: Model,
        feed: Feed,
        outputs: tuple[str, ...],
        timings: Timings,
        deadline: float,
        kind: Kind | None,
    ) -> list[Array]:
        """The outputs of a run, wherever it is made."""
        scheduler = model.scheduler(self._threads)
        if scheduler.runs_inline(kind):
            arrays, timings.infer = scheduler.run_now(feed, outputs, deadline, kind)
            return arrays
        if self._helper is not None and (run := await self._run_in_helper(model, feed, outputs, deadline)):
            timings.infer = run.infer
            return run.arrays
        try:
            with model.in_use():
                run = await scheduler.run(feed, outputs, deadline, kind)
        except InferenceTimeout as exc:
            timings.queue, timings.infer = exc.queue, exc.infer
            raise
        timings.queue, timings.infer, timings.batch = run.queue, run.infer, run.rows
        return run.arrays

    async def _run_in_helper(self, model: Model, feed: Feed, outputs: tuple[str, ...], deadline: float) -> Run | None:
        """A run in another process, where ONNX Runtime would hold the interpreter's lock to take all strings over.

        None for other inputs, without a server that has such a process, and for a model that is not in the repository.
        """
        strings = sum(array.size for array in feed.values() if array.dtype.hasobject)
        if self._helper is None or strings <= STRINGS:
            return None
        start = time.perf_counter_ns()
        known = (self.settings, model.name, model.version, model.digest)
        with model.in_use():
            arrays = await self._helper(run_alone, *known, feed, outputs, deadline, deadline=deadline)
        return None if arrays is None else Run(arrays, 0, time.perf_counter_ns() - start)

    async def infer_rows(
        self,
        model: Model,
        request: InferRequest,
        count: int,
        timings: Timings | None = None,
        deadline: float = math.inf,
        pause: Callable[[], Awaitable[None]] | None = None,
        owner: str | None = None,
    ) -> list[InferResponse]:
        """The responses to the `count` rows of `request`: one to all where they may run together, else one to each.

        `pause` is awaited between two runs. InvalidRequest where the model takes no rows; otherwise as `infer`.
        """
        check_takes_rows(model)
        timings, proof = timings or Timings(), model.row_proof
        deadline = min(deadline, time.monotonic() + self._timeout)
        if count > 1 and await self._joins(model, request, deadline):
            response = await self.infer(model, request, timings, deadline, owner)
            if not proof.refute({tensor.name: tensor.array for tensor in response.outputs}, count):
                return [response]
        from inferry.runtime import rows

        responses, queue, infer, cached = rows.Gathered(proof.verdict.outputs), 0, 0, True
        for row in rows.split(request, model, count):
            responses.add(await self.infer(model, row, timings, deadline, owner))
            queue, infer, cached = queue + timings.queue, infer + timings.infer, cached and timings.cached
            if pause is not None:
                await pause()
        timings.queue, timings.infer, timings.cached = queue, infer, cached
        return responses.all()

    async def _joins(self, model: Model, request: InferRequest, deadline: float) -> bool:
        signature, proof = model.session.signature, model.row_proof
        # Optional inputs are parameters of a run, not rows.
        if request.inputs.keys() != signature.required:
            return False
        if proof.verdict.rows != UNPROVEN:
            return proof.verdict.rows == PROVEN
        feed = signature.feed(request)
        await on_loop()
        return await self._threads.run(self._threads.client(), proof.joins, feed, deadline)

    async def bytes_by_reference(self, request: InferRequest, deadline: float = math.inf) -> int:
        """The size of the inputs that the request has elsewhere, before any is read; what `references` raises."""
        references = await self._opened_references()
        return await references.size(request, min(deadline, time.monotonic() + self._timeout))

    async def _opened_references(self) -> "References":
        await on_loop()
        from inferry.protocol.references import References

        if self._references is None:
            settings = self.settings
            self._references = References(settings.data_prefixes, settings.max_data_bytes, self._threads.client)
        return self._references

    async def _infer_by_reference(
        self, model: Model, request: InferRequest, timings: Timings, deadline: float
    ) -> InferResponse:
        references = await self._opened_references()
        limit = self._timeout if request.timeout is None else min(self._timeout, request.timeout)
        until = min(deadline, time.monotonic() + limit)
        start = time.perf_counter_ns()
        targets = await references.fetch(request, until)
        timings.decode += time.perf_counter_ns() - start
        response = await self.infer(model, request, timings, until)
        if targets:
            start = time.perf_counter_ns()
            if response.classes:
                from inferry.protocol import classification

                response.outputs, response.classes = classification.applied(response), None
            await references.store(response, targets, until)
            timings.encode += time.perf_counter_ns() - start
        return response

    def default_model(self, name: str | None) -> str:
        """The name of the model that a request for `name` means: "default" and none are DEFAULT_MODEL."""
        if name and (name != "default" or name in self.repository.names()):
            return name
        if self.settings.default_model:
            return self.settings.default_model
        names = self.repository.names()
        if len(names) == 1:
            return names[0]
        raise InvalidRequest(
            f"name a model with 'model_name', or set DEFAULT_MODEL; the repository has: {', '.join(names) or 'none'}"
        )

    def preload(self) -> None:
        """Loads the served versions until the cache is full, the default model first.

        Models that can't be loaded are logged by the repository and don't stop the others.
        """
        names = self.repository.names()
        names.sort(key=lambda name: name != self.settings.default_model)
        try:
            for name in names[: self.settings.model_cache_size]:
                if not main_thread().is_alive():  # the process ends
                    return
                with suppress(ModelUnavailable):
                    self.repository.get(name)
            self.prepare_response_cache()
        finally:
            self._preloaded = True

    def prepare_response_cache(self) -> None:
        """Imports what it takes to keep responses elsewhere, if a loaded model does: requests needn't wait for that."""
        if self._keeps_elsewhere():
            self._opened_response_cache()

    def _keeps_elsewhere(self) -> bool:
        url = self.settings.response_cache_url
        return bool(url) and any(model.keeps_responses for model in self.repository.loaded())

    def not_ready(self) -> str:
        """Why the service can't take requests yet; empty when it can. With STRICT_READINESS no model may be missing."""
        if not self._preloaded:
            return "the models are being loaded"
        if not self.settings.strict_readiness:
            return ""
        names = self.repository.names()
        # No names: whoever asks for this needs no key.
        reasons = {
            "there are no models": not names,
            "DEFAULT_MODEL is missing": self.settings.default_model not in ("", *names),
            "MODEL_NAME is missing": self.settings.model_name not in ("", *names),
            "a model is loading": any(entry.state == LOADING for entry in self.repository.unready()),
            "a model can't be served": any(entry.state == UNAVAILABLE for entry in self.repository.unready()),
        }
        return ", ".join(reason for reason, applies in reasons.items() if applies)

    def check_control(self) -> None:
        """ModelControlDisabled unless requests may load and unload models."""
        if not self.settings.model_control:
            raise ModelControlDisabled(
                "model control is disabled: start the server with MODEL_CONTROL=true to load and unload models by "
                "request, or with MODEL_REFRESH to have changed models noticed"
            )

    async def load(
        self, name: str, config: ModelConfig | None = None, files: Mapping[str, bytes] | None = None
    ) -> None:
        """`Repository.load` for a request, in its client's turn; dropped when its client leaves before it begins."""
        await self._control(name, self.repository.load, name, config, files)

    async def unload(self, name: str) -> None:
        """The same for `Repository.unload`."""
        await self._control(name, self.repository.unload, name)

    async def _control(self, name: str, function: Callable[..., None], *arguments: Any) -> None:
        """Calls it in a thread, when nothing else is done to this model."""
        import asyncio

        client, loop = self._controllers.client, asyncio.get_running_loop()
        turn = self._turns.setdefault(name, RoundRobin(client))
        await turn.acquire()
        work = self._controllers.submit(client(), copy_context().run, function, *arguments)
        # What has begun keeps its turn, whoever waits for it.
        work.add_done_callback(lambda _: call_on_loop(loop, turn.release))
        await asyncio.wrap_future(work)

    def _gauges(self) -> Iterator[Gauge]:
        for model in self.repository.loaded():
            labels = (model.name, model.version)
            yield Gauge(catalogue.LOADED_BYTES, (*labels, model.form.kind if model.form else "plain"), model.size)
            yield Gauge(catalogue.QUEUED, labels, model.waiting)

    def close(self) -> None:
        """Ends the service's threads, once what runs has ended."""
        self._threads.close()
        self._loaders.close()
        self._controllers.close()
        if self._references is not None:
            self._references.close()


@lru_cache(1)
def _repository(settings: Settings) -> Repository:
    return Service.from_settings(settings).repository


def run_alone(
    settings: Settings, name: str, version: str, digest: str, feed: Feed, outputs: Sequence[str], deadline: float
) -> list[Array] | None:
    """A run of the model whose files have this digest, in a process that serves nobody; None where there is none."""
    for _ in range(2):
        with suppress(ModelNotFound, ModelUnavailable):
            model = _repository(settings).get(name, version)
            if model.digest == digest:
                return model.session.run(feed, outputs, deadline)
        _repository.cache_clear()  # its files may have changed
    return None

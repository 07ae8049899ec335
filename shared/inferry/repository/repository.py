"""Model names and versions to loaded models: found, fetched, verified, kept while they are used."""

import logging
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from weakref import WeakValueDictionary, finalize

from inferry.errors import InferryError, InvalidModel, ModelNotFound, ModelUnavailable, StoreError
from inferry.observability.registry import Metrics
from inferry.repository.layout import ModelFiles, Scan, newest_first, scan
from inferry.repository.store import Store, is_registry, open_file, open_registry, open_store
from inferry.repository.version import (
    LOADING,
    MAX_CONFIG_BYTES,
    READY,
    UNAVAILABLE,
    UNKNOWN,
    UNLOADED,
    ModelVersion,
    entries_of,
)
from inferry.runtime.model import Model
from inferry.runtime.model_config import ModelConfig
from inferry.runtime.session import RUNTIME
from inferry.runtime.verdicts import Verdicts
from inferry.storage.local import file_path


class Upload(NamedTuple):
    """What a client gave with its request to load a model; `remove` removes its files."""

    store: Store
    config: ModelConfig | None
    remove: Callable[[], object] | None = None


log = logging.getLogger("inferry")

# The folder of verdicts, in MODEL_CACHE_DIR and in .inferry of a repository.
ROWS = "rows"


class Repository:
    """The models in a store. Safe to use from several threads; each version is loaded once."""

    def __init__(
        self,
        store: Store,
        *,
        cache_size: int = 8,
        threads: int = 0,
        cache: Path | None = None,
        metrics: Metrics | None = None,
        verdicts: Verdicts | None = None,
        scan: Scan = scan,
    ) -> None:
        """Lists the store. `cache_size`: sessions kept; `threads`: of a session; `cache`: folder for uploaded files.

        `verdicts`: what earlier processes found out about the models' rows; `scan`: finds the models in the store's
        files.
        """
        self.metrics = metrics or Metrics()
        self._store = store
        self._find = scan
        self._cache_size = cache_size
        self._threads = threads
        self._cache = cache
        self._verdicts = verdicts
        self._lock = threading.RLock()
        self._refreshing = threading.Lock()
        # The models that requests had looked for while all of them are.
        self._found_since: set[str] | None = None
        self._entries: dict[str, dict[str, ModelVersion]] = {}
        self._defaults: dict[str, str] = {}
        self._loaded: OrderedDict[tuple[str, str], ModelVersion] = OrderedDict()
        self._served: dict[str, Model] = {}
        self._uploads: dict[str, Upload] = {}
        self._turns: WeakValueDictionary[str, threading.Lock] = WeakValueDictionary()
        self.problems: list[str] = []
        self.refresh()

    def names(self) -> list[str]:
        """The names of all models, sorted."""
        return sorted(self._entries)

    def versions(self, name: str) -> list[str]:
        """The versions of a model, newest first. ModelNotFound lists the models that exist."""
        return newest_first(self._of(name))

    def offered(self, name: str) -> list[str]:
        """The versions that may be asked for: all but those that can't be served."""
        return [version for version in self.versions(name) if self.entry(name, version).state != UNAVAILABLE]

    def config_file(self, name: str) -> bytes | None:
        """The content of a model's config.json, None when it has none. StoreError.

        InvalidModel where versions have their own, and these differ: none of them is the model's.
        """
        found = self._find(self._store.list())[0].get(name, ModelFiles())
        files = {found.config} if found.configs is None else {found.configs.get(version) for version in found.versions}
        contents = {self._store.read(file.path, MAX_CONFIG_BYTES) if file else None for file in files}
        if len(contents) > 1:
            raise InvalidModel(f"the versions of model '{name}' have different config.json files: expected one for all")
        return contents.pop() if contents else None

    def entry(self, name: str, version: str) -> ModelVersion:
        """One version of a model, loaded or not. ModelNotFound lists those that exist."""
        entry = self._of(name).get(version)
        if entry is None:
            raise ModelNotFound(
                f"unknown version '{version[:100]}' of model '{name}'; it has {', '.join(self.versions(name))}"
            )
        return entry

    def check(self, name: str, version: str | None = None) -> None:
        """ModelNotFound when there is no such model or version. Never waits."""
        if version is None:
            self._of(name)
        else:
            self.entry(name, version)

    def entries(self) -> list[ModelVersion]:
        """Every version of every model, sorted by name, newest version first."""
        entries = dict(self._entries)  # a refresh may replace them meanwhile
        return [entries[name][version] for name in sorted(entries) for version in newest_first(entries[name])]

    def unready(self) -> list[ModelVersion]:
        """The versions that are loading, or can't be served; those that somebody unloaded are neither."""
        return [
            entry
            for entry in self.entries()
            if entry.state == LOADING or (entry.state == UNAVAILABLE and entry.reason != UNLOADED)
        ]

    def loaded(self) -> list[Model]:
        """The models that are loaded now."""
        return [model for entry in self.entries() if (model := entry.model) is not None]

    def peek(self, name: str, version: str | None) -> Model | None:
        """The model when it is loaded already; never waits."""
        if version is None:
            model = self._served.get(name)
        else:
            entry = self._loaded.get((name, version))
            model = entry.model if entry else None
        if model is not None:
            try:  # noqa: SIM105  suppress() would be three calls more for every request
                self._loaded.move_to_end((name, model.version))
            except KeyError:  # evicted by another thread meanwhile: the caller's reference keeps it
                pass
            if len(self._loaded) > self._cache_size:
                self._trim()
        return model

    def get(self, name: str, version: str | None = None) -> Model:
        """The model, loaded now if need be; without a version the default one, else the newest that can be loaded.

        ModelNotFound when there is no such version, ModelUnavailable with the reason when it can't be loaded.
        """
        if version is not None:
            return self._ready(self.entry(name, version))
        default = self._defaults.get(name)
        model = self._ready(self.entry(name, default)) if default else self._newest(name)
        with self._lock:
            # Others may have evicted it meanwhile, and loaded it once more.
            entry = self._loaded.get((name, model.version))
            if entry is not None and entry.model is model:
                self._served[name] = model
        return model

    def load(self, name: str, config: ModelConfig | None = None, files: Mapping[str, bytes] | None = None) -> None:
        """Looks at the store again for this model and loads it; a broken new file doesn't replace a loaded model.

        `config` stands in for config.json, `files` (by path below the model's folder) for the store's, until the
        next load. ModelNotFound, ModelUnavailable.
        """
        with self._turn(name):
            before = self._uploads.pop(name, None)
            if files:
                uploaded = {f"{name}/{path}": content for path, content in files.items()}
                self._uploads[name] = self._uploaded(uploaded, config)
            elif config is not None:
                self._uploads[name] = Upload(self._store, config)
            try:
                self._load_anew(name)
            except InferryError:
                self._go_back(name, before)
                raise
            if before and before.remove:
                before.remove()

    def _go_back(self, name: str, upload: Upload | None) -> None:
        """Takes back what a load that failed has changed."""
        failed = self._discard(name)
        if upload:
            self._uploads[name] = upload
        if upload or failed:
            self._refresh_one(name)

    def _turn(self, name: str) -> threading.Lock:
        """Held by whoever loads or unloads the model: each response speaks of its own load."""
        with self._lock:
            return self._turns.setdefault(name, threading.Lock())

    def _load_anew(self, name: str) -> None:
        self._refresh_one(name)
        entries = self._of(name)
        for entry in entries.values():
            if entry.state == UNAVAILABLE:
                entry.state, entry.reason = UNKNOWN, ""
        model = self.get(name)
        versions = newest_first(entries)
        for version in versions[: versions.index(model.version) + 1]:
            if entries[version].reason:
                raise InvalidModel(f"version {model.version} is served, as {entries[version].reason}")

    def unload(self, name: str) -> None:
        """Drops a model's sessions; requests to it fail until the next load.

        What was uploaded goes as well: its files, and the versions that the store doesn't have. StoreError when it
        can't look.
        """
        with self._turn(name):
            self._unload(self._of(name))
            if self._discard(name):
                self._refresh_one(name)
                self._unload(self._entries.get(name, {}))

    def refresh(self) -> None:
        """Looks for new, changed and removed models. StoreError when it can't look.

        Versions that are loaded are loaded anew before they are replaced, newer versions before they are served.
        """
        with self._refreshing:
            newer = self._found_since = set()
            try:
                found = self._scan()
                for name in {*found, *self._entries}:
                    with self._turn(name):
                        # What a request to load it has found since is newer.
                        if name not in newer:
                            self._replace(name, found.get(name, {}))
            finally:
                self._found_since = None

    def _refresh_one(self, name: str) -> None:
        """The same for one model, in its turn: it waits for the load of no other."""
        found = self._scan().get(name, {})
        if (newer := self._found_since) is not None:
            newer.add(name)
        self._replace(name, found)

    def _uploaded(self, files: Mapping[str, bytes], config: ModelConfig | None) -> Upload:
        from shutil import rmtree  # 2 ms, as it brings every kind of compression

        from inferry.repository import model_cache
        from inferry.repository.remote_store import memory_store

        # Of its own, to be removed whole; the cache sweeps what a killed process leaves.
        folder = (self._cache or model_cache.default_cache()) / f"{model_cache.TEMPORARY}{os.urandom(8).hex()}"
        store = memory_store(files, folder)
        return Upload(store, config, finalize(store, rmtree, folder, ignore_errors=True))

    def _discard(self, name: str) -> bool:
        """Forgets what was uploaded for a model; whether there was anything. Its entries go with the next look."""
        upload = self._uploads.pop(name, None)
        if upload is not None and upload.remove is not None:
            upload.remove()
        return upload is not None

    def _unload(self, entries: Mapping[str, ModelVersion]) -> None:
        for entry in entries.values():
            with entry.lock:
                self._drop((entry.name, entry.version))
                entry.state, entry.reason = UNAVAILABLE, UNLOADED

    # What follows is private: looking, loading, forgetting.

    def _of(self, name: str) -> dict[str, ModelVersion]:
        entries = self._entries.get(name)
        if entries is None:
            known = ", ".join(self.names()) or "none"
            raise ModelNotFound(f"unknown model '{name[:100]}'; the repository has: {known[:500]}")
        return entries

    def _newest(self, name: str) -> Model:
        first: ModelUnavailable | None = None
        for version in self.versions(name):
            try:
                return self._ready(self.entry(name, version))
            except ModelUnavailable as exc:
                first = first or exc
        raise first or ModelNotFound(f"model '{name}' has no versions")

    def _ready(self, entry: ModelVersion) -> Model:
        with entry.lock:
            model = entry.model or self._load(entry)
            self._keep(entry)
            return model

    def _load(self, entry: ModelVersion) -> Model:
        if entry.state == UNAVAILABLE:
            raise ModelUnavailable(entry.reason if entry.reason != UNLOADED else _unloaded(entry.name))
        if entry.state != READY:  # one that was evicted is ready as before, and asked for again
            entry.state = LOADING
        start = time.perf_counter()
        try:
            entry.model = model = entry.open(
                self._threads, self.metrics.model(entry.name, entry.version), self._verdicts
            )
        except StoreError as exc:
            self.metrics.load_failed(entry.name, entry.version)
            # The store may answer next time.
            entry.state, entry.reason = UNKNOWN, str(exc)
            raise
        except InferryError as exc:
            self.metrics.load_failed(entry.name, entry.version)
            entry.state, entry.reason = UNAVAILABLE, str(exc)
            log.error("model '%s' version %s is unavailable: %s", entry.name, entry.version, exc)
            raise
        entry.state, entry.reason = READY, ""
        self.metrics.loaded(entry.name, entry.version, time.perf_counter() - start)
        _log_load(entry, model)
        for note in model.session.notes:
            log.warning("model '%s' version %s %s", entry.name, entry.version, note)
        return model

    def _keep(self, entry: ModelVersion) -> None:
        with self._lock:
            self._loaded[entry.name, entry.version] = entry
            self._loaded.move_to_end((entry.name, entry.version))
        self._trim()

    def _trim(self) -> None:
        """Evicts the least recently used models that nobody uses now; those in use go at a later look."""
        with self._lock:
            for key in list(self._loaded)[:-1]:
                if len(self._loaded) <= self._cache_size:
                    break
                model = self._loaded[key].model
                if model is None or not model.users:
                    self._drop(key)
                    self.metrics.evicted()

    def _drop(self, key: tuple[str, str]) -> None:
        with self._lock:
            entry = self._loaded.pop(key, None)
            if entry is not None:
                # It has none when another thread evicted it while this one was about to keep it.
                if entry.model is not None and self._served.get(key[0]) is entry.model:
                    del self._served[key[0]]
                entry.model = None

    def _scan(self) -> dict[str, dict[str, ModelVersion]]:
        found, problems = self._find(self._store.list())
        self.problems = [*problems, *self._store.left_out]
        entries = {name: entries_of(name, files, self._store, scan=self._find) for name, files in found.items()}
        for name, upload in list(self._uploads.items()):  # another request may load meanwhile
            store = upload.store
            find = self._find if store is self._store else scan
            files = found.get(name) if store is self._store else find(store.list())[0].get(name)
            if files:
                entries[name] = entries_of(name, files, store, upload.config, find)
        return entries

    def _replace(self, name: str, found: dict[str, ModelVersion]) -> None:
        """Puts `found` in the place of the model's entries, without a moment in which a served model can't be."""
        known = self._entries.get(name, {})
        served = self._served.get(name)
        default = found[newest_first(found)[0]].config.default_version if found else ""
        entries = {}
        for version in newest_first(found):
            # A new version that nobody gets without asking for it can wait until somebody does.
            waits = served is None or default not in ("", version)
            entries[version] = self._successor(known.get(version), found[version], waits)
        if served is not None:
            default = self._settled(entries, default, served)
        with self._lock:
            for version in known.keys() - entries.keys():
                self._drop((name, version))
                log.info("model '%s' version %s is gone from the repository", name, version)
                if known[version].store is not self._store:  # nobody but who uploaded it knows that it was there
                    self.metrics.forget(name, version)
            if entries:
                self._entries[name] = entries
                self._defaults[name] = default
            else:
                self._entries.pop(name, None)
            self._served.pop(name, None)
        if served is not None and entries:
            self._serve_again(name)

    def _settled(self, entries: Mapping[str, ModelVersion], default: str, served: Model) -> str:
        """The default to go on with: one that can't be loaded comes in the place of none that is served."""
        if default != served.version and default in entries and served.version in entries:
            try:
                self._ready(entries[default])
            except ModelUnavailable:
                return served.version
        return default

    def _successor(self, old: ModelVersion | None, new: ModelVersion, waits: bool) -> ModelVersion:
        """The entry to go on with: the old one when nothing changed, or when it works and the new one doesn't.

        `waits`: a new one is not loaded before somebody asks for it.
        """
        if old is not None and old.same_as(new):
            old.files = new.files
            if old.state == READY:
                old.reason, old.refused = "", None  # of a change that was taken back
            return old
        if old is not None and old.refused is not None and old.refused.same_as(new):
            return old
        working = old.model if old else None
        if working is None and waits:
            return new
        try:
            with new.lock:
                self._load(new)
        except ModelUnavailable as exc:
            if old is not None and working is not None:
                old.reason = f"the changed files of version {old.version} can't be loaded: {exc}"
                old.refused = None if isinstance(exc, StoreError) else new
                return old
            return new
        with self._lock:
            self._drop((new.name, new.version))
            self._keep(new)
        return new

    def _serve_again(self, name: str) -> None:
        try:
            self.get(name)
        except ModelUnavailable as exc:
            log.error("model '%s' is unavailable after a refresh: %s", name, exc)


def _log_load(entry: ModelVersion, model: Model) -> None:
    what = (entry.name, entry.version, model.load_seconds * 1e3)
    if model.form is None:
        log.info("loaded model '%s' version %s in %.0f ms", *what)
        return
    why = f", as {model.form.why}" if model.form.why else ""
    log.info("loaded model '%s' version %s in %.0f ms, in its %s form%s", *what, model.form.kind, why)
    for problem in model.form.left_out:
        log.warning("model '%s' version %s is served in its %s form: %s", *what[:2], model.form.kind, problem)


def _unloaded(name: str) -> str:
    return f"model '{name}' is unloaded; load it with POST /v2/repository/models/{name}/load"


def open_repository(path: str, model_name: str = "", **options: Any) -> Repository:
    """The repository at a folder, a URL, a single .onnx file or MLflow's; `model_name`: of the only model there.

    `in_full`: its files are hashed at each load, whatever is known of them.
    """
    cache, in_full = options.get("cache"), options.pop("in_full", False)
    options.setdefault("verdicts", Verdicts(RUNTIME, cache / ROWS if cache else None, shipped(path)))
    if is_registry(path):
        registry, models = open_registry(path, model_name, cache, in_full)
        return Repository(registry, scan=models, **options)
    if path.endswith(".onnx"):
        find = partial(scan, model_name=model_name)
        return Repository(open_file(path, cache, in_full), scan=find, **options)
    last = path.rstrip("/").rpartition("/")[2] if "://" in path else Path(path).absolute().resolve().name
    find = partial(scan, model_name=model_name, folder=last)
    return Repository(open_store(path, cache, in_full), scan=find, **options)


def shipped(path: str) -> Path | None:
    """Where a repository's own verdicts are, as an image brings them; None where it is no folder."""
    scheme, separator, rest = path.partition("://")
    if separator and scheme != "file":
        return None
    return (file_path(path, rest) if separator else Path(path)) / ".inferry" / ROWS

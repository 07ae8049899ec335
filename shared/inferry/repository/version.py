"""One version in a repository: its files and config, what became of it, and how it is loaded."""

import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from inferry.errors import InvalidModel, ModelUnavailable, StoreError
from inferry.observability.stats import ModelStats
from inferry.repository import loader
from inferry.repository.content import Content
from inferry.repository.layout import ModelFiles, Scan, newest_first, scan
from inferry.repository.store import Store
from inferry.runtime.model import Model
from inferry.runtime.model_config import ModelConfig, parse_config
from inferry.runtime.verdicts import Verdicts
from inferry.storage.stored import StoredFile, VersionFiles

MAX_CONFIG_BYTES = 1 << 20
# A config, and why it can't be used.
_Read: TypeAlias = tuple[ModelConfig, ModelUnavailable | None]

READY, LOADING, UNAVAILABLE, UNKNOWN = "READY", "LOADING", "UNAVAILABLE", "UNKNOWN"
UNLOADED = "unloaded"
# How often files that go while they are loaded are fetched.
_ATTEMPTS = 3


@dataclass(slots=True, eq=False, repr=False)
class ModelVersion:
    """A version, loaded or not; `state` and `reason` as the protocol's index reports them.

    `shares_config` with other versions of its model;
    `refused` is what the files were changed to when that could not be loaded, and this one stayed in its place.
    `names` are the paths of its own files below its folder, known when its ONNX file was read.
    """

    name: str
    version: str
    store: Store
    files: VersionFiles
    config: ModelConfig
    config_error: ModelUnavailable | None = None
    state: str = UNKNOWN
    reason: str = ""
    model: Model | None = None
    refused: "ModelVersion | None" = None
    shares_config: bool = False
    names: tuple[str, ...] | None = None
    scan: Scan = scan
    lock: threading.Lock = field(default_factory=threading.Lock)

    def same_as(self, other: "ModelVersion") -> bool:
        """Whether both stand for the same files and config."""
        names = self._own(other)
        ours, theirs = (entry.files.of(names) for entry in (self, other))
        return ours == theirs and self._given() == other._given() and self.store is other.store

    def _own(self, other: "ModelVersion") -> Iterable[str]:
        """Its own files, as far as they are known: one that fails may lack any."""
        if self.names is not None:
            return self.names
        failed = self.state == UNAVAILABLE and self.reason != UNLOADED
        return {*self.files.paths, *other.files.paths} if failed else (self.files.model,)

    def _given(self) -> tuple[str, str, ModelConfig, str]:
        # Which version is the default says nothing of a version itself.
        config = self.config._replace(default_version="")
        return self.files.folder, self.files.model, config, str(self.config_error or "")

    def open(self, threads: int, stats: ModelStats, verdicts: Verdicts | None = None) -> Model:
        """The model, loaded from its files, which are fetched if need be. InvalidModel, StoreError."""
        if self.config_error:
            raise self.config_error
        start = time.perf_counter()
        for _ in range(_ATTEMPTS):
            content = self._fetch()
            self.names = content.names
            before = _identity(content.model)
            try:
                model = self._loaded(content, threads, stats, verdicts)
            except ModelUnavailable:
                if before and before == _identity(content.model):
                    raise
            else:
                model.load_seconds = time.perf_counter() - start
                return model
        # Not the model's fault: another process needed the room.
        raise StoreError(f"the files of model '{self.name}' were removed while it was loaded: is the cache too small?")

    def _loaded(self, content: Content, threads: int, stats: ModelStats, verdicts: Verdicts | None) -> Model:
        """The model, in the next form that can be loaded if it is a prepared one."""
        while True:
            try:
                return loader.load(
                    self.name, self.version, content, self.config, threads, stats, verdicts, self.shares_config
                )
            except InvalidModel as exc:
                if content.instead is None:
                    raise
                content = content.instead(str(exc))

    def _fetch(self) -> Content:
        digest = self.config.sha256.get(self.version)
        try:
            return self.store.fetch(self.files, digest)
        except ModelUnavailable as exc:
            listed = self._listed_again()
            if listed == self.files and not isinstance(exc, StoreError):
                raise
            self.files = listed
            return self.store.fetch(listed, digest)

    def _listed_again(self) -> VersionFiles:
        """The files as they are now: they may have been replaced since they were listed."""
        model = self.scan(self.store.list())[0].get(self.name, ModelFiles())
        if self.version not in model.versions:
            raise StoreError(f"version {self.version} of model '{self.name}' is no longer in {self.store.url}")
        return model.versions[self.version]


def entries_of(
    name: str, files: ModelFiles, store: Store, config: ModelConfig | None = None, scan: Scan = scan
) -> dict[str, ModelVersion]:
    """An entry for each version of a model; `config` stands in for its config.json, `scan` finds its files again."""
    shared: _Read = _config(name, files.config, store) if config is None else (config, None)
    entries = {}
    for version, its_files in files.versions.items():
        found, error = shared
        if files.configs is not None:
            if config is None:
                found, error = _config(name, files.configs.get(version), store)
            found = found._replace(default_version=files.default)
        default = found.default_version
        if default and default not in files.versions:
            error = InvalidModel(
                f"config.json of model '{name}' has default_version '{default}', but its versions are "
                + ", ".join(newest_first(files.versions))
            )
        entries[version] = ModelVersion(name, version, store, its_files, found, error, scan=scan)
    for entry in entries.values():
        # What is pushed to a registry was the config of all versions where it comes from.
        entry.shares_config = len(entries) > 1 or files.configs is not None
    return entries


def _config(name: str, file: StoredFile | None, store: Store) -> _Read:
    """The config, and why it can't be used: that is this model's problem, and not the repository's."""
    if file is None:
        return ModelConfig(), None
    if file.size > MAX_CONFIG_BYTES:
        return ModelConfig(), InvalidModel(
            f"config.json of model '{name}' has {file.size} bytes, more than {MAX_CONFIG_BYTES}"
        )
    try:
        return parse_config(store.read(file.path, MAX_CONFIG_BYTES), name), None
    except ModelUnavailable as exc:
        return ModelConfig(), exc


def _identity(file: Path | bytes) -> tuple[int, int] | None:
    """Which file is at this path; None when there is none. Bytes stay what they are."""
    if isinstance(file, bytes):
        return 0, 0
    with suppress(FileNotFoundError):
        found = file.stat()
        return found.st_ino, found.st_mtime_ns
    return None

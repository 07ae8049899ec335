"""MLflow's registry as a repository: its registered models that have ONNX, their versions, and where their files are.

A version is looked at once: MLflow makes another for other files. Each look after that asks for the names, versions,
aliases and tags alone. Files come through MLflow's server, or right from the bucket that it says they are in.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeAlias
from urllib.parse import urlsplit

from inferry.errors import InvalidModel, InvalidSettings, ModelUnavailable, StoreError
from inferry.repository import layout
from inferry.repository.content import Content
from inferry.repository.layout import CONFIG_FILE, MODEL_FILE, Found
from inferry.repository.mlflow import mlmodel
from inferry.repository.mlflow.artifacts import ProxiedFiles, place_of
from inferry.repository.mlflow.client import MlflowClient, host_of
from inferry.repository.mlflow.registry import (
    DIGEST_TAG,
    Choice,
    Registered,
    aliases,
    choice_of,
    text,
    versions,
    wanted,
)
from inferry.repository.remote_store import PARALLEL, FetchedStore, open_remote
from inferry.repository.version import MAX_CONFIG_BYTES
from inferry.storage.stored import Listing, StoredFile, VersionFiles

_READY = "READY"
Lines: TypeAlias = list[str]
"""A name for the type where `list` is a method."""


class _Looked(NamedTuple):
    """What was found at a version: the URI of its `files`, by their paths below it; `reason`: why it isn't served.

    `final`: nothing of it changes any more.
    """

    key: tuple[str, str, str]
    uri: str = ""
    files: tuple[StoredFile, ...] = ()
    said: mlmodel.MLmodel | None = None
    config: bytes | None = None
    reason: str = ""
    final: bool = True


def open_mlflow(url: str, model_name: str, cache: Path | None, in_full: bool = False) -> "MlflowStore":
    """The registry at mlflow+http://host:port or mlflow+https://, with ?alias=NAME or ?tag=NAME=VALUE. InvalidSettings.

    `model_name`: the only model to serve, if any.
    """
    client = MlflowClient(host_of(url), os.environ)
    return MlflowStore(client, choice_of(urlsplit(url).query), model_name, cache, in_full)


class MlflowStore:
    """`Store` over a registry: NAME/VERSION/model.onnx, what lies beside it, and each version's own config.json."""

    def __init__(
        self,
        client: MlflowClient,
        choice: Choice,
        model_name: str,
        cache: Path | None,
        in_full: bool,
    ) -> None:
        self.url = f"mlflow+{client.url}"
        self.left_out: Sequence[str] = ()
        self._client = client
        self._choice = choice
        self._model_name = model_name
        self._cache = cache
        self._in_full = in_full
        # By the folder of a version, and by name: what the last listing found.
        self._looked: Mapping[str, _Looked] = {}
        self._digests: Mapping[str, str] = {}
        self._defaults: Mapping[str, str] = {}

    def list(self) -> Listing:
        """The files of all versions that can be served. StoreError when the registry can't be asked, or lies."""
        models = aliases(self._client, self._model_name)
        found = [one for one in versions(self._client) if one.name in models]
        defaults = wanted(self._choice, found, models)
        left_out = [f"{name}: no version has {self._choice}" for name in models if name not in defaults]
        if self._model_name and not models:
            left_out.append(f"there is no model '{self._model_name}', as MODEL_NAME says")
        chosen = [one for one in found if one.name in defaults]
        with ThreadPoolExecutor(PARALLEL, "inferry-mlflow") as pool:
            looked = dict(zip((one.folder for one in chosen), pool.map(self._look, chosen), strict=True))
        left_out += [f"{folder}: {its.reason}" for folder, its in looked.items() if its.reason]
        served = [one for one in chosen if not looked[one.folder].reason]
        self._defaults = self._kept(defaults, served, left_out)
        self._digests = {one.folder: one.tags[DIGEST_TAG] for one in served if DIGEST_TAG in one.tags}
        self._looked = looked
        self.left_out = left_out
        return [
            file._replace(path=f"{one.folder}/{file.path}")
            for one in served
            if one.name in self._defaults
            for file in looked[one.folder].files
        ]

    def read(self, path: str, limit: int | None = None) -> bytes:
        """A version's config.json, which its look has read: nothing else is read of a registry."""
        found = self._looked.get(path.removesuffix(f"/{CONFIG_FILE}"))
        if found is None or found.config is None:
            raise StoreError(f"there is no file {path!r} in {self.url}")
        return found.config

    def fetch(self, version: VersionFiles, digest: str | None) -> Content:
        """As `Store.fetch`; the digest that the registry has of the version must be that of its files, too.

        Once they are loaded, they are compared with what MLmodel says of them.
        """
        found = self._looked.get(version.folder)
        if found is None or found.said is None:
            raise StoreError(f"{version.folder} is no longer in {self.url}")
        files = tuple(file._replace(path=path) for path, file in zip(version.paths, version.files, strict=True))
        expected = self._digests.get(version.folder) or digest
        try:
            content = self._files(found.uri, found.key).fetch(VersionFiles("", version.model, files), expected)
        except ModelUnavailable:
            # Somebody may have written over its files: it is looked at again.
            self._looked = {**self._looked, version.folder: found._replace(final=False)}
            raise
        return content._replace(agree=partial(mlmodel.agree, found.said))

    def scan(self, listed: Iterable[StoredFile]) -> Found:
        """`layout.scan`, with the config.json of each version, and with the default that the registry names."""
        models, problems = layout.scan(listed)
        for name, model in models.items():
            model.default = self._defaults.get(name, "")
            configs = ((version, files.of([CONFIG_FILE])[CONFIG_FILE]) for version, files in model.versions.items())
            model.configs = {version: file for version, file in configs if file is not None}
            if model.default not in model.versions:
                model.default = ""
        return models, problems

    def _kept(self, defaults: Mapping[str, str], served: Iterable[Registered], left_out: Lines) -> dict[str, str]:
        """The default of each model that has one. A version that can't be served leaves the one before in its place."""
        folders = {one.folder for one in served}
        kept = {}
        for name, default in defaults.items():
            before = self._defaults.get(name, "")
            if default and f"{name}/{default}" not in folders:
                left_out.append(f"{name}: version {default}, which has {self._choice}, can't be served")
                if f"{name}/{before}" not in folders:
                    continue
                default = before
            kept[name] = default
        return kept

    def _look(self, one: Registered) -> _Looked:
        known = self._looked.get(one.folder)
        if known is not None and known.key != one.key:
            known = None
        if known is not None and known.final:
            return known
        if problem := layout.bad_name(one.name):
            return _Looked(one.key, reason=problem)
        if one.status != _READY:
            return _Looked(one.key, reason=f"its status is {one.status[:50]}, not {_READY}", final=False)
        try:
            return self._found(one)
        except InvalidModel as exc:
            return _Looked(one.key, reason=str(exc))
        except StoreError as exc:
            # What was found before is there, as far as anybody knows.
            return known if known and not known.reason else _Looked(one.key, reason=str(exc), final=False)

    def _found(self, one: Registered) -> _Looked:
        """InvalidModel for a version of which nothing can be served, StoreError where that may be so for now."""
        said = self._client.call("GET", "model-versions/get-download-uri", {"name": one.name, "version": one.version})
        uri = text(self._client, said, "artifact_uri")
        store = self._files(uri, one.key)
        files = {file.path: file for file in store.list()}
        if mlmodel.FILE not in files:
            raise StoreError(f"there is no {mlmodel.FILE} in {uri[:300]}")
        try:
            read = mlmodel.parse(store.read(mlmodel.FILE, mlmodel.MAX_BYTES))
        except ValueError as exc:
            raise StoreError(f"its {mlmodel.FILE} can't be read: {exc}") from exc
        if "onnx" not in read.flavors:
            raise InvalidModel(f"it has no ONNX, but the flavours {', '.join(read.flavors)[:200]}")
        if read.data != MODEL_FILE:
            raise InvalidModel(f"its ONNX file is {read.data[:100]!r}, and not {MODEL_FILE}, as MLflow names it")
        if MODEL_FILE not in files:
            raise StoreError(f"there is no {MODEL_FILE} in {uri[:300]}, which its {mlmodel.FILE} names")
        config = store.read(CONFIG_FILE, MAX_CONFIG_BYTES) if CONFIG_FILE in files else None
        return _Looked(one.key, uri, tuple(files.values()), read, config)

    def _files(self, uri: str, key: tuple[str, str, str]) -> FetchedStore:
        """What is at the URI that the registry has for a version. InvalidModel when nobody here can read it."""
        place = place_of(uri, self._client, os.environ)
        if not place.bucket:
            return ProxiedFiles(self._client, place.root, ":".join(key), self._cache, self._in_full)
        scheme, _, rest = place.bucket.partition("://")
        try:
            return open_remote(place.bucket, scheme, rest, self._cache, self._in_full)
        except InvalidSettings as exc:
            raise InvalidModel(f"its files can't be read: {exc}") from exc

"""`inferry push`: a model that can be served becomes a version in MLflow's registry, byte for byte, with its config."""

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from shutil import copyfileobj
from typing import Any, NamedTuple

import orjson

from inferry.cli.inspect import size_text
from inferry.cli.places import find_model, only
from inferry.errors import InvalidRequest, InvalidSettings, StoreError
from inferry.observability.logs import printable
from inferry.repository.content import combined
from inferry.repository.layout import CONFIG_FILE, MODEL_FILE, bad_name
from inferry.repository.mlflow import mlmodel, registry
from inferry.repository.mlflow.artifacts import Place, place_of
from inferry.repository.mlflow.client import MlflowClient, host_of
from inferry.repository.repository import Repository, open_repository
from inferry.repository.store import LocalStore
from inferry.runtime.model import Model
from inferry.runtime.session import RUNTIME
from inferry.settings import Settings
from inferry.storage.files import open_files

# What a config says of versions by their numbers, which MLflow gives anew.
_BY_NUMBER = ("default_version", "sha256")


class _File(NamedTuple):
    """A file of the model, or the content of one that is written for it."""

    source: Path | bytes
    size: int


def push(
    model: str, url: str, settings: Settings, registered: str, alias: str, env: Mapping[str, str]
) -> Sequence[str]:
    """Registers the version of a model that would be served, in lines for people what became of it.

    `registered`: its name there, "" for the model's own; `alias`: for the new version, "" for none; `env`: who asks.
    InvalidRequest, ModelUnavailable when it can't be served, StoreError when MLflow does not take it.
    """
    if "?" in url:
        raise InvalidSettings("the URL to push to takes no query: --alias names an alias")
    client = MlflowClient(host_of(url), env)
    place = find_model(model, settings)
    repository = open_repository(place.path, settings.model_name)
    name = place.name or only(repository, place.path)
    loaded = repository.get(name, place.version or None)
    registered = registered or name
    if problem := bad_name(registered):
        raise InvalidRequest(problem)
    if loaded.form:
        raise InvalidRequest(f"{name} was prepared for its CPU: push the model that it was prepared from")
    files, digest = _files(repository, loaded)
    config, left_out = _config(repository.config_file(name))
    if config:
        files[CONFIG_FILE] = _File(config, len(config))
    version = _register(client, registered, loaded, files, digest, env)
    if alias:
        try:
            client.call("POST", "registered-models/alias", {"name": registered, "alias": alias, "version": version})
        except StoreError as exc:
            raise StoreError(f"version {version} of {registered} is registered, but not its alias: {exc}") from exc
    lines = [f"pushed {name} {loaded.version} to {client.url} as {registered}, version {version}"]
    lines.append(f"  files   {', '.join(files)}; {size_text(loaded.size)}, SHA-256 {digest}")
    if left_out:
        lines.append(f"  config  without {' and '.join(left_out)}: MLflow numbers versions itself")
    if alias:
        lines.append(f"  alias   {alias}")
    lines.append(f"serve it: inferry serve '{url}{f'?alias={alias}' if alias else ''}'")
    return list(map(printable, lines))


def _files(repository: Repository, model: Model) -> tuple[dict[str, _File], str]:
    """The files by their names in MLflow, and their digest there. InvalidRequest when they are others by now."""
    entry = repository.entry(model.name, model.version)
    store, folder = entry.store, entry.files.folder
    assert isinstance(store, LocalStore)
    files, before, after = {}, {}, {}
    for name in entry.names or ():
        path = store.locate(f"{folder}/{name}" if folder else name)
        target = MODEL_FILE if name == entry.files.model else name
        files[target] = _File(path, path.stat().st_size)
        with path.open("rb") as file:
            before[name] = after[target] = hashlib.file_digest(file, "sha256").hexdigest()
    if combined(before) != model.digest:
        raise InvalidRequest(f"the files of model '{model.name}' were changed meanwhile: push them again")
    return files, combined(after)


def _config(content: bytes | None) -> tuple[bytes, list[str]]:
    """The config.json to push, empty for none, and the keys that it has no more."""
    values = orjson.loads(content) if content else {}
    left_out = [key for key in _BY_NUMBER if values.pop(key, None)]
    if not left_out or not values:
        return (content or b"") if values else b"", left_out
    return orjson.dumps(values, option=orjson.OPT_INDENT_2) + b"\n", left_out


def _register(
    client: MlflowClient, name: str, model: Model, files: Mapping[str, _File], digest: str, env: Mapping[str, str]
) -> str:
    """The number of the new version, which is there once all of its files are."""
    experiment = env.get("MLFLOW_EXPERIMENT_ID") or "0"
    logged = client.call("POST", "logged-models", {"experiment_id": experiment, "name": name})
    info = _info(client, logged)
    model_id = registry.text(client, info, "model_id")
    route = f"logged-models/{model_id}"
    try:
        place = place_of(registry.text(client, info, "artifact_uri"), client, env)
        size = sum(file.size for file in files.values())
        written = {
            **mlmodel.environment(RUNTIME),
            mlmodel.FILE: mlmodel.text(model.session.signature, model_id, size),
        }
        for path, file in {**files, **{path: _File(text, len(text)) for path, text in written.items()}}.items():
            _upload(client, place, path, file)
    except BaseException:
        with suppress(StoreError):
            client.call("PATCH", route, {"model_id": model_id, "status": "LOGGED_MODEL_UPLOAD_FAILED"})
        raise
    client.call("PATCH", route, {"model_id": model_id, "status": "LOGGED_MODEL_READY"})
    client.call("POST", "registered-models/create", {"name": name}, accepted="RESOURCE_ALREADY_EXISTS")
    created = client.call(
        "POST",
        "model-versions/create",
        {
            "name": name,
            "source": f"models:/{model_id}",
            "model_id": model_id,
            "description": model.config.description,
            "tags": [{"key": registry.DIGEST_TAG, "value": digest}],
        },
    )
    return registry.text(client, created.get("model_version") or {}, "version")


def _info(client: MlflowClient, logged: Mapping[str, Any]) -> Mapping[str, Any]:
    model = logged.get("model")
    info = model.get("info") if isinstance(model, dict) else None
    if not isinstance(info, dict):
        raise InvalidSettings(f"{client.url} knows no logged models: inferry push needs MLflow 3")
    return info


def _upload(client: MlflowClient, place: Place, path: str, file: _File) -> None:
    """Puts a file where MLflow has its model's: through its server, or right into the bucket."""
    with BytesIO(file.source) if isinstance(file.source, bytes) else file.source.open("rb") as source:
        if not place.bucket:
            client.upload(f"{place.root}/{path}", source, file.size)
            return
        with open_files(place.bucket).write(path) as target:
            copyfileobj(source, target, 1 << 20)

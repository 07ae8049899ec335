"""The same promises from every kind of store; those of the clouds over real HTTP, from servers on loopback.

S3 is moto's and Azure Azurite; Google's is a stand-in of ours (`googlestorage`), as no emulator can be had here.
"""

import asyncio
import hashlib
import socket
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import googlestorage
import numpy as np
import onnx_models
import pytest
import services
from inferry.errors import InvalidModel, StoreError
from inferry.protocol.tensors import DATATYPES, Tensor
from inferry.protocol.types import InferRequest
from inferry.repository import remote_store
from inferry.repository.content import digest
from inferry.repository.remote_store import RemoteStore
from inferry.repository.repository import open_repository
from inferry.repository.store import Store, open_store
from inferry.service import Service
from inferry.settings import Settings
from inferry.storage.stored import StoredFile, VersionFiles
from loopback import free_port

MODEL, BIG = onnx_models.external(2.0, "model.onnx.data", ballast=20_000_000)
FILES = {
    "digits/1/model.onnx": MODEL,
    "digits/1/model.onnx.data": BIG,
    "digits/1/README.md": b"no part of the model",
    "digits/config.json": b'{"max_batch_size": 8}',
    "iris.onnx": onnx_models.scaled(3.0),
    "with space, ü and %41.onnx": b"name",
}


@dataclass
class Place:
    """A store and the way to put a file there."""

    url: str
    put: Callable[[str, bytes], object]
    store: Store


def local(tmp_path: Path, cache: Path) -> Place:
    def put(path: str, content: bytes) -> None:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)

    root = tmp_path / "models"
    root.mkdir()
    return Place(str(root), put, open_store(str(root), cache))


def through_obstore(url: str, cache: Path) -> Place:
    opened = open_store(url, cache)
    assert isinstance(opened, RemoteStore)
    return Place(url, opened.backend.put, opened)


@pytest.fixture(params=["local", "memory", "s3", "az", "gs"])
def place(request: pytest.FixtureRequest, tmp_path: Path, cache: Path, new_bucket: Callable[[str], str]) -> Place:
    """An empty store of each kind."""
    if request.param == "local":
        return local(tmp_path, cache)
    if request.param == "memory":
        return through_obstore(f"memory://models-{time.monotonic_ns()}", cache)
    return through_obstore(f"{new_bucket(request.param)}/some/prefix/", cache)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def filled(place: Place) -> Place:
    for path, content in FILES.items():
        place.put(path, content)
    return place


def with_environment(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


def test_a_repository_is_served_and_refreshed(place: Place, cache: Path) -> None:
    """The whole way from a bucket to a prediction, and from a replaced file to another one."""
    place.put("scale/1/model.onnx", onnx_models.scaled(2.0))
    place.put("iris.onnx", onnx_models.scaled(3.0))
    service = Service.from_settings(Settings(model_path=place.url, model_cache_dir=str(cache)))
    assert [predicted(service, name) for name in ("scale", "iris")] == [2, 3]
    place.put("scale/1/model.onnx", onnx_models.scaled(5.0))
    place.put("iris.onnx", b"this is not a model")
    service.repository.refresh()
    assert [predicted(service, name) for name in ("scale", "iris")] == [5, 3]
    service.close()


def test_a_file_has_its_config_in_the_folder_of_its_name(place: Place, cache: Path) -> None:
    """By itself, as in its repository: a refresh sees that it changed."""
    place.put("iris.onnx", onnx_models.scaled(3.0))
    place.put("iris/config.json", b'{"max_batch_size": 8}')
    place.put("rose/config.json", b'{"max_batch_size": 9}')
    repository = open_repository(f"{place.url.rstrip('/')}/iris.onnx", cache=cache)
    assert (repository.names(), repository.get("iris").signature.max_batch_size) == (["iris"], 8)
    place.put("iris/config.json", b'{"max_batch_size": 16}')
    repository.refresh()
    assert repository.get("iris").signature.max_batch_size == 16


def predicted(service: Service, name: str) -> float:
    async def ask() -> float:
        model = await service.model(name)
        x = Tensor("x", DATATYPES["FP32"], np.ones((1, 3), np.float32))
        response = await service.infer(model, InferRequest({"x": x}))
        return float(response.outputs[0].array[0, 0])

    return asyncio.run(ask())


def test_files_are_listed_read_and_fetched(filled: Place, tmp_path: Path) -> None:
    opened = open_store(filled.url, tmp_path / "another")
    found = opened.list()
    assert [(file.path, file.size) for file in found] == [(path, len(FILES[path])) for path in sorted(FILES)]
    assert opened.list() == found
    assert {path: opened.read(path, len(BIG)) for path in FILES} == FILES
    fetched = opened.fetch(digits(opened), None)
    assert isinstance(fetched.model, Path)
    folder = fetched.model.parent
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"model.onnx": MODEL, "model.onnx.data": BIG}
    # The second time its large file is known.
    assert opened.fetch(digits(opened), None)._replace(hashed=True) == fetched


def digits(store: Store) -> VersionFiles:
    files = tuple(file for file in store.list() if file.path.startswith("digits/1/"))
    return VersionFiles("digits/1", "model.onnx", files)


def iris(files: list[StoredFile]) -> VersionFiles:
    return VersionFiles("", "iris.onnx", tuple(file for file in files if "/" not in file.path))


def test_a_version_is_fetched_with_its_digest(filled: Place) -> None:
    fetched = filled.store.fetch(digits(filled.store), None)
    assert isinstance(fetched.model, Path)
    assert fetched.digest == digest(fetched.model.parent, ["model.onnx", "model.onnx.data"])
    again = filled.store.fetch(digits(filled.store), fetched.digest)
    assert again._replace(model=fetched.model) == fetched


def test_a_changed_file_has_another_identity(filled: Place) -> None:
    before = {file.path: file for file in filled.store.list()}
    filled.put("iris.onnx", onnx_models.scaled(4.0))
    after = {file.path: file for file in filled.store.list()}
    changed = [path for path in FILES if before[path] != after[path]]
    assert (list(before), changed) == (list(after), ["iris.onnx"])
    fetched = filled.store.fetch(iris([*after.values()]), None)
    assert fetched.digest == hashlib.sha256(onnx_models.scaled(4.0)).hexdigest()


def test_an_empty_store_has_no_files(place: Place) -> None:
    assert place.store.list() == []


def test_what_is_not_there_is_named(filled: Place) -> None:
    with pytest.raises(StoreError, match=r"none\.onnx"):
        filled.store.read("none.onnx", 10)
    with pytest.raises(StoreError, match=r"iris\.onnx.* 3"):
        filled.store.read("iris.onnx", 3)


# What only remote stores do


remote_only = pytest.mark.parametrize("place", ["memory", "s3", "az", "gs"], indirect=True)


@remote_only
def test_a_wrong_digest_leaves_nothing(filled: Place, cache: Path) -> None:
    with pytest.raises(InvalidModel, match="f" * 64):
        filled.store.fetch(digits(filled.store), "f" * 64)
    assert list(cache.iterdir()) == []


class Replacing:
    """A backend whose object is replaced after its first piece was read."""

    def __init__(self, backend: Any, path: str, content: bytes) -> None:
        self.backend, self.path, self.content = backend, path, content
        self.list, self._replaced, self._lock, self._gets = backend.list, threading.Event(), threading.Lock(), 0

    def get(self, path: str, **options: Any) -> Any:
        with self._lock:
            self._gets += 1
            first = self._gets == 1
        if not first:
            assert self._replaced.wait(30)
        found = self.backend.get(path, **options)
        if first:
            self.backend.put(self.path, self.content)
            self._replaced.set()
        return found


@remote_only
@pytest.mark.parametrize("size", [len(BIG), len(BIG) + 1, 9_000_000])
def test_an_object_replaced_during_a_fetch_is_noticed(filled: Place, cache: Path, size: int) -> None:
    backend = Replacing(filled.store.backend, "digits/1/model.onnx.data", bytes(size))  # type: ignore[attr-defined]
    replaced = RemoteStore(filled.url, backend, cache, filled.url)  # type: ignore[arg-type]
    wanted = [file for file in filled.store.list() if file.path == "digits/1/model.onnx.data"]
    with pytest.raises(StoreError, match="replaced since it was listed"):
        replaced.download("digits/1", wanted, None)
    assert list(cache.iterdir()) == []


@remote_only
def test_fetching_again_reads_nothing(filled: Place, cache: Path) -> None:
    wanted = digits(filled.store)
    fetched = filled.store.fetch(wanted, None)
    gone = RemoteStore(filled.url, None, cache, filled.store.origin)  # type: ignore[arg-type, attr-defined]
    assert gone.fetch(wanted, None)._replace(hashed=True) == fetched


# S3 only


@pytest.fixture
def bucket(s3: services.S3, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"keys-{time.monotonic_ns()}"
    with_environment(monkeypatch, {"NO_PROXY": services.HOST, **s3.environment})
    s3.create(name)
    return name


def test_markers_hidden_keys_and_neighbours_are_left_out(s3: services.S3, bucket: str) -> None:
    for key in ("p/", "p/a/", "p/a/model.onnx", "p/.git/x", "p/back%5C..%5Cslash", "p2/model.onnx", "p.onnx"):
        s3.put(bucket, key, b"")
    assert [file.path for file in open_store(f"s3://{bucket}/p").list()] == ["a/model.onnx"]


def test_a_key_that_obstore_refuses_is_named(s3: services.S3, bucket: str) -> None:
    s3.put(bucket, "p/a//model.onnx", b"")
    with pytest.raises(StoreError, match=r"can't list s3://.*p/a//model\.onnx"):
        open_store(f"s3://{bucket}/p").list()


def test_a_bucket_that_is_missing_is_named(bucket: str) -> None:
    with pytest.raises(StoreError, match=r"can't list s3://missing-bucket: .*404.*\(NoSuchBucket\)$"):
        open_store("s3://missing-bucket").list()


# Google only


def test_a_key_of_somebody_else(
    google: googlestorage.GoogleStorage,
    new_bucket: Callable[[str], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = new_bucket("gs")
    googlestorage.write_key(tmp_path / "key.json")
    with_environment(monkeypatch, googlestorage.GoogleStorage(google.endpoint, tmp_path / "key.json").environment)
    with pytest.raises(StoreError, match=rf"^can't list {url}: .*401.*\(AuthenticationRequired\)$") as caught:
        open_store(url).list()
    assert "Bearer" not in f"{caught.value} {caught.value.__cause__}"


def test_a_bucket_of_google_that_is_missing_is_named(new_bucket: Callable[[str], str]) -> None:
    new_bucket("gs")
    with pytest.raises(StoreError, match=r"can't list gs://missing-bucket: .*404.*\(NoSuchBucket\)$"):
        open_store("gs://missing-bucket").list()


# Endpoints that are down


def refusing(stack: ExitStack) -> int:
    return free_port()


def silent(stack: ExitStack) -> int:
    """A port whose queue is full: the system drops what knocks, as a firewall would."""
    server = stack.enter_context(socket.create_server((services.HOST, 0), backlog=0))
    port: int = server.getsockname()[1]
    for _ in range(8):
        client = stack.enter_context(socket.socket())
        client.setblocking(False)
        client.connect_ex((services.HOST, port))
    return port


@pytest.mark.parametrize("endpoint", [refusing, silent])
@pytest.mark.parametrize("scheme", ["s3", "az", "gs"])
def test_an_endpoint_that_is_down_is_given_up_in_time(
    endpoint: Callable[[ExitStack], int], scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ExitStack() as stack:
        url = f"http://{services.HOST}:{endpoint(stack)}"
        settings = services.S3(url).environment | services.Azurite("inferry", "c2VjcmV0", url, url).environment
        googlestorage.write_key(tmp_path / "key.json")
        settings |= googlestorage.GoogleStorage(url, tmp_path / "key.json").environment
        with_environment(monkeypatch, {"NO_PROXY": services.HOST, **settings})
        start = time.monotonic()
        with pytest.raises(StoreError, match=f"^can't list {scheme}://models/v1: .*after 3 retries") as caught:
            open_store(f"{scheme}://models/v1").list()
    assert time.monotonic() - start < 12
    assert "c2VjcmV0" not in f"{caught.value} {caught.value.__cause__}"


def test_a_shared_access_signature_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"http://{services.HOST}:{free_port()}/inferry"
    settings = services.Azurite("inferry", "", url, url).environment
    del settings["AZURE_STORAGE_ACCOUNT_KEY"]
    settings["AZURE_STORAGE_SAS_TOKEN"] = "sv=2022-11-02&sig=hunter2"
    with_environment(monkeypatch, {"NO_PROXY": services.HOST, **settings})
    with pytest.raises(StoreError) as caught:
        open_store("az://models").list()
    assert "hunter2" not in f"{caught.value} {caught.value.__cause__}"


def test_pieces_are_smaller_than_the_big_file() -> None:
    assert len(BIG) > 2 * remote_store.PIECE

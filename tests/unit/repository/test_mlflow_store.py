"""MLflow's registry as a repository, over one that answers what a test says: what is served, and what lies are seen.

tests/platform has the real one.
"""

import hashlib
import json
import logging
import sys
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import numpy as np
import onnx_models
import pytest
from inferry.errors import InvalidModel, InvalidSettings, ModelNotFound, StoreError
from inferry.repository.mlflow import client
from inferry.repository.refresh import Refresher
from inferry.repository.repository import Repository, open_repository
from loopback import listening
from registries import Registry, Version, mlmodel, tensor, version


@pytest.fixture
def served(registry: Registry, tmp_path: Path) -> Callable[..., Repository]:
    """The repository of the registry, opened as a server does."""

    def opened(query: str = "", name: str = "") -> Repository:
        return open_repository(f"{registry.url}{query}", name, cache=tmp_path / "cache")

    return opened


def factor(repository: Repository, name: str = "scale", number: str | None = None) -> float:
    """What the model multiplies by."""
    model = repository.get(name, number)
    (array,) = model.session.run({"x": np.ones((1, 3), np.float32)}, ["y"], float("inf"))
    return float(array[0, 0])


def test_versions_are_versions(registry: Registry, served: Callable[..., Repository]) -> None:
    registry.models = {
        "scale": {"1": version(1.5), "2": version(2.5), "10": version(10.5)},
        "other": {"1": version(7.5)},
    }
    repository = served()
    assert (repository.problems, repository.names()) == ([], ["other", "scale"])
    assert repository.versions("scale") == ["10", "2", "1"]
    assert [factor(repository), factor(repository, number="2"), factor(repository, "other")] == [10.5, 2.5, 7.5]
    assert repository.get("scale", "2").digest == hashlib.sha256(onnx_models.scaled(2.5)).hexdigest()


def test_external_data_is_found_beside_the_file(registry: Registry, served: Callable[..., Repository]) -> None:
    """Under the name that MLflow gives it, and in a folder below."""
    for location in ("0b5c2d1e-9a37-4c41-9a4b-000000000000.data", "parts/w.bin"):
        onnx, data = onnx_models.external(3.0, location)
        registry.models = {
            "scale": {"1": Version({"model.onnx": onnx, location: data, "MLmodel": mlmodel()}, made=len(location))}
        }
        model = served().get("scale")
        sums = sorted([("model.onnx", onnx), (location, data)])
        lines = "".join(f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in sums)
        assert model.digest == hashlib.sha256(lines.encode()).hexdigest()


def test_what_has_no_onnx_is_left_out(registry: Registry, served: Callable[..., Repository]) -> None:
    sklearn = Version({"model.skops": b"x", "MLmodel": mlmodel(flavor="sklearn", data="model.skops")})
    pending = version()
    pending.status = "PENDING_REGISTRATION"
    registry.models = {"forest": {"1": sklearn}, "scale": {"1": version(), "2": pending}, "a b": {"1": version()}}
    repository = served()
    assert (repository.names(), repository.versions("scale")) == (["scale"], ["1"])
    assert repository.problems == [
        "a b/1: 'a b' must consist of letters, digits, '.', '_' and '-'",
        "forest/1: it has no ONNX, but the flavours sklearn, python_function",
        "scale/2: its status is PENDING_REGISTRATION, not READY",
    ]
    registry.asked.clear()
    repository.refresh()
    assert registry.asked == ["registered-models/search?max_results=1000", "model-versions/search?max_results=10000"]


def test_an_alias_is_the_default(registry: Registry, served: Callable[..., Repository]) -> None:
    """It moves while the server runs; models without it are left out."""
    registry.models = {"scale": {"1": version(1.5), "2": version(2.5)}, "other": {"1": version()}}
    registry.aliases = {"scale": {"champion": "1", "challenger": "2"}}
    repository = served("?alias=champion")
    assert repository.problems == ["other: no version has the alias 'champion'"]
    assert (repository.names(), factor(repository), factor(repository, number="2")) == (["scale"], 1.5, 2.5)
    first = repository.get("scale", "1")
    registry.aliases["scale"]["champion"] = "2"
    repository.refresh()
    assert factor(repository) == 2.5
    assert repository.get("scale", "1") is first, "a version was loaded again because another is the default"
    del registry.aliases["scale"]["champion"]
    repository.refresh()
    assert repository.names() == []


def test_a_tag_is_the_default(registry: Registry, served: Callable[..., Repository]) -> None:
    registry.models = {"scale": {str(n): version(n + 0.5) for n in range(1, 5)}}
    registry.models["scale"]["2"].tags = {"stage": "live"}
    registry.models["scale"]["3"].tags = {"stage": "live"}
    registry.models["scale"]["4"].tags = {"stage": "new"}
    assert factor(served("?tag=stage=live")) == 3.5
    assert factor(served("?tag=stage")) == 4.5
    assert served("?tag=stage=gone").problems == ["scale: no version has the tag 'stage=gone'"]


def test_a_new_default_that_fails_leaves_the_old_one(registry: Registry, served: Callable[..., Repository]) -> None:
    """Whether its files are not there, or can't be loaded."""
    broken = Version({"model.onnx": b"no model", "MLmodel": mlmodel()})
    registry.models = {"scale": {"1": version(1.5), "2": broken, "3": Version({})}}
    registry.aliases = {"scale": {"champion": "1"}}
    repository = served("?alias=champion")
    assert factor(repository) == 1.5
    registry.aliases["scale"]["champion"] = "2"
    repository.refresh()
    assert factor(repository) == 1.5
    registry.aliases["scale"]["champion"] = "3"
    repository.refresh()
    assert factor(repository) == 1.5
    assert "scale: version 3, which has the alias 'champion', can't be served" in repository.problems
    registry.models["scale"]["3"].files = version(3.5).files
    repository.refresh()
    assert factor(repository) == 3.5


def test_new_versions_wait_unless_they_are_the_default(registry: Registry, served: Callable[..., Repository]) -> None:
    registry.models = {"scale": {"1": version(1.5)}}
    registry.aliases = {"scale": {"champion": "1"}}
    repository, newest = served("?alias=champion"), served()
    assert (factor(repository), factor(newest)) == (1.5, 1.5)
    registry.models["scale"]["2"] = version(2.5)
    repository.refresh()
    newest.refresh()
    assert (repository.entry("scale", "2").model, factor(repository)) == (None, 1.5)
    assert newest.entry("scale", "2").model is not None
    assert factor(newest) == 2.5


def test_one_model_alone(registry: Registry, served: Callable[..., Repository]) -> None:
    registry.models = {"scale": {"1": version()}, "other": {"1": version()}}
    assert served(name="scale").names() == ["scale"]
    assert served(name="none").problems == ["there is no model 'none', as MODEL_NAME says"]


def test_each_version_has_its_own_config(registry: Registry, served: Callable[..., Repository]) -> None:
    """Whatever it says of the default, which is the registry's."""
    configs = {
        number: json.dumps({"labels": {"y": names}, "default_version": "7"}).encode()
        for number, names in {"1": ["a", "b", "c"], "2": ["c", "b", "a"]}.items()
    }
    registry.models = {"scale": {number: version(config_json=config) for number, config in configs.items()}}
    registry.models["scale"]["3"] = version()
    repository = served()
    labels = [repository.get("scale", number).config.labels for number in ("1", "2", "3")]
    assert labels == [{"y": ("a", "b", "c")}, {"y": ("c", "b", "a")}, {}]
    assert repository.get("scale").version == "3"
    with pytest.raises(InvalidModel, match="the versions of model 'scale' have different"):
        repository.config_file("scale")
    registry.models = {"scale": {number: version(config_json=configs["1"]) for number in "12"}}
    assert served().config_file("scale") == configs["1"]


def test_files_with_another_digest_are_refused(registry: Registry, served: Callable[..., Repository]) -> None:
    registry.models = {"scale": {"1": version()}}
    registry.models["scale"]["1"].tags = {"inferry.sha256": "0" * 64}
    with pytest.raises(
        InvalidModel, match=f"the sha256 is {hashlib.sha256(onnx_models.scaled()).hexdigest()}, expected 0000"
    ):
        served().get("scale")


def test_a_number_that_is_given_again(registry: Registry, served: Callable[..., Repository]) -> None:
    registry.models = {"scale": {"1": version(1.5)}}
    repository = served()
    assert factor(repository) == 1.5
    registry.models["scale"]["1"] = version(2.5)
    repository.refresh()
    assert factor(repository) == 1.5, "a version was looked at again without a reason"
    registry.models["scale"]["1"].made = 2
    repository.refresh()
    assert factor(repository) == 2.5


def test_what_is_loaded_stays_while_the_registry_is_away(
    registry: Registry, served: Callable[..., Repository], caplog: pytest.LogCaptureFixture
) -> None:
    registry.models = {"scale": {"1": version(1.5)}}
    repository = served()
    assert factor(repository) == 1.5
    registry.lies = {"": (503, b"down")}
    with pytest.raises(StoreError, match="answers registered-models/search with 503: down"):
        repository.refresh()
    assert (repository.names(), factor(repository)) == (["scale"], 1.5)
    registry.lies = {"model-versions": (200, b'{"model_versions": [{"name": "scale", "version": "../1"}]}')}
    with pytest.raises(StoreError, match=r"has a version '../1' of model 'scale': expected a number"):
        repository.refresh()
    assert factor(repository) == 1.5


def test_problems_that_are_new_are_logged(
    registry: Registry, served: Callable[..., Repository], caplog: pytest.LogCaptureFixture
) -> None:
    registry.models = {"scale": {"1": version()}}
    repository = served()
    registry.models["forest"] = {"1": Version({"MLmodel": mlmodel(flavor="sklearn")})}
    refresher = Refresher(repository, 1.0)
    with caplog.at_level(logging.WARNING, "inferry"):
        refresher._refresh()
        refresher._refresh()
    assert [record.message for record in caplog.records] == [
        "left out: forest/1: it has no ONNX, but the flavours sklearn, python_function"
    ]


LISTED = '{"files": [{"path": "%s", "is_dir": false, "file_size": %s}]}'


@pytest.mark.parametrize(
    ("lies", "problem"),
    [
        ({"registered-models": (200, b"<html>")}, "answers registered-models/search with what is no JSON: is MLflow"),
        ({"registered-models": (200, b"[]")}, "with JSON that is no object: is MLflow there?"),
        ({"registered-models": (200, b'{"registered_models": {}}')}, "with 'registered_models' that is no list"),
        ({"registered-models": (200, b'{"registered_models": [{"name": 7}]}')}, "with 'name' that is no text: 7"),
        (
            {"registered-models": (200, b'{"registered_models": [{"name": "a", "aliases": [3]}]}')},
            "'aliases' that is no",
        ),
        ({"registered-models": (200, b'{"registered_models": [], "next_page_token": 3}')}, "pages that don't end"),
        (
            {"registered-models": (401, b"You are not authenticated")},
            "401: You are not authenticated .MLFLOW_TRACKING_",
        ),
        ({"registered-models": (404, b"<!doctype html>")}, "404: a page of HTML: is MLflow there?"),
    ],
)
def test_a_registry_that_lies_is_refused(
    registry: Registry, served: Callable[..., Repository], lies: dict[str, tuple[int, bytes]], problem: str
) -> None:
    registry.lies = lies
    with pytest.raises(StoreError, match=problem):
        served()


@pytest.mark.parametrize(
    ("lies", "problem"),
    [
        ({"?path": (200, (LISTED % ("../MLmodel", 3)).encode())}, "which is no file with a name and a size"),
        ({"?path": (200, (LISTED % ("parts/MLmodel", 3)).encode())}, "which is no file with a name and a size"),
        ({"?path": (200, (LISTED % ("..", 3)).encode())}, "which is no file with a name and a size"),
        ({"?path": (200, (LISTED % ("model.onnx", -1)).encode())}, "which is no file with a name and a size"),
        ({"?path": (200, (LISTED % ("model.onnx", "null")).encode())}, "which is no file with a name and a size"),
        ({"?path": (200, b'{"files": [7]}')}, "which is no file with a name and a size"),
        ({"?path": (200, b"{}")}, "there is no MLmodel in mlflow-artifacts:/1/scale/1"),
        ({"?path": (200, (LISTED % ("MLmodel", 3)).encode())}, "there is no model.onnx in mlflow-artifacts:/1/scale/1"),
        ({"/1/scale/1/MLmodel": (200, b"\xff\x00")}, "its MLmodel can't be read: it is no YAML"),
        ({"/1/scale/1/MLmodel": (200, b"[]")}, "its MLmodel can't be read: it lacks what MLflow writes"),
        ({"/1/scale/1/MLmodel": (200, b"[" * 100_000)}, "its MLmodel can't be read"),
        ({"/1/scale/1/MLmodel": (200, b"x" * (1 << 18) + b"x")}, "MLmodel has more than 262144 bytes"),
        ({"/1/scale/1/MLmodel": (200, mlmodel(data="../../x.onnx"))}, "its ONNX file is '../../x.onnx'"),
        ({"/1/scale/1/MLmodel": (200, mlmodel("{}"))}, "its MLmodel can't be read: it lacks what MLflow writes"),
        ({"model-versions/get-download-uri": (200, b'{"artifact_uri": 3}')}, "with 'artifact_uri' that is no text"),
        ({"model-versions/get-download-uri": (500, b"{}")}, "answers model-versions/get-download-uri with 500"),
    ],
)
def test_a_version_of_which_it_lies_is_left_out(
    registry: Registry, served: Callable[..., Repository], lies: dict[str, tuple[int, bytes]], problem: str
) -> None:
    registry.models = {"scale": {"1": version()}}
    registry.lies = lies
    repository = served()
    assert repository.names() == []
    (said,) = repository.problems
    assert said.startswith("scale/1: ")
    assert problem in said


@pytest.mark.parametrize(
    ("uri", "problem"),
    [
        ("file:///etc", "which only MLflow's own machine can read"),
        ("/srv/mlruns/1", "which only MLflow's own machine can read"),
        ("http://127.0.0.1/x", "which only MLflow's own machine can read"),
        ("mlflow-artifacts://elsewhere.example:5000/1/x", "which is another server than http://127.0.0.1"),
        ("mlflow-artifacts:/1/../../secret", "which is no folder of"),
        ("mlflow-artifacts:/1/x?y", "which is no folder of"),
        ("mlflow-artifacts:/", "which is no folder of"),
        (
            "wasbs://models@other.blob.core.windows.net/1",
            "the account 'other' of Azure, and AZURE_STORAGE_ACCOUNT_NAME is ''",
        ),
        ("wasbs://models/1", "expected wasbs://container@account.blob.core.windows.net/"),
        ("s3://key:secret@bucket/x", "takes no credentials and no query"),
    ],
)
def test_files_that_nobody_here_may_read(
    registry: Registry, served: Callable[..., Repository], uri: str, problem: str
) -> None:
    registry.models = {"scale": {"1": version()}}
    registry.models["scale"]["1"].uri = uri
    (said,) = served().problems
    assert problem in said


@pytest.mark.parametrize(
    ("lie", "problem"),
    [
        ((200, b"short"), "has 5 bytes, and [0-9]+ where it is listed"),
        ((200, onnx_models.scaled() + b"x"), "has more than [0-9]+, and [0-9]+ where|has more than [0-9]+ bytes"),
        (
            (500, b'{"error_code": "INTERNAL_ERROR", "message": "Internal Error"}'),
            "does not give .*500.*Internal Error",
        ),
    ],
)
def test_files_that_are_not_what_is_listed(
    registry: Registry, served: Callable[..., Repository], lie: tuple[int, bytes], problem: str
) -> None:
    """A request fails, and the next one after it is right again succeeds."""
    registry.models = {"scale": {"1": version()}}
    repository = served()
    registry.lies = {"/1/scale/1/model.onnx": lie}
    with pytest.raises(StoreError, match=problem):
        repository.get("scale")
    registry.lies = {}
    assert factor(repository) == 2.0


def test_a_registry_that_does_not_answer(registry: Registry) -> None:
    with pytest.raises(StoreError, match=r"can't reach MLflow at http://127.0.0.1:1: .* ConnectionRefusedError"):
        open_repository("mlflow+http://127.0.0.1:1")


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("mlflow+http://user:word@127.0.0.1:5000", "MLFLOW_TRACKING_USERNAME"),
        ("mlflow+http://", "expected mlflow.http://host:port"),
        ("mlflow+http://host:port", "expected mlflow.http://host:port"),
        ("mlflow+http://host#x", "takes no fragment"),
        ("mlflow+ftp://host", "mlflow.http:// or mlflow.https://"),
        ("mlflow+http://host?token=secret", "takes .alias=NAME or .tag=NAME=VALUE"),
        ("mlflow+http://host?alias=a&alias=b", "takes .alias=NAME or .tag=NAME=VALUE"),
        ("mlflow+http://host?alias=", "takes .alias=NAME or .tag=NAME=VALUE"),
    ],
)
def test_urls(url: str, problem: str) -> None:
    with pytest.raises(InvalidSettings, match=problem) as failed:
        open_repository(url)
    assert not {"word", "secret"} & {*str(failed.value).replace("/", " ").replace(":", " ").split()}


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ({}, None),
        ({"TOKEN": "abc"}, "Bearer abc"),
        ({"USERNAME": "ada", "PASSWORD": "pä:ss"}, "Basic YWRhOnDDpDpzcw=="),
        ({"USERNAME": "ada", "PASSWORD": "p", "TOKEN": "abc"}, "Basic YWRhOnA="),
        ({"USERNAME": "ada"}, None),
    ],
)
def test_who_asks(
    registry: Registry,
    served: Callable[..., Repository],
    monkeypatch: pytest.MonkeyPatch,
    given: Mapping[str, str],
    sent: str | None,
) -> None:
    """By the same variables as MLflow's client, and with every request."""
    for name, value in given.items():
        monkeypatch.setenv(f"MLFLOW_TRACKING_{name}", value)
    registry.models = {"scale": {"1": version()}}
    served().get("scale")
    assert {headers.get("Authorization") for headers in registry.headers} == {sent}
    assert len(registry.headers) == 6


@pytest.mark.parametrize(
    ("schema", "problem"),
    [
        (tensor(name="z"), "the inputs of model 'scale' are z, and model.onnx has x"),
        (f"{tensor()}, {tensor(name='z')}", "the inputs of model 'scale' are x, z, and model.onnx has x"),
        (f"{tensor(name='')}, {tensor(name='')}", "are one without a name, and model.onnx has x"),
    ],
)
def test_a_file_with_other_inputs_is_another_model(
    registry: Registry, served: Callable[..., Repository], schema: str, problem: str
) -> None:
    registry.models = {"scale": {"1": version(MLmodel=mlmodel(schema))}}
    with pytest.raises(InvalidModel, match=problem):
        served().get("scale")


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        (tensor(), None),
        (tensor(name=""), None),
        (tensor(shape="[-1, -1]"), None),
        ('{"type": "double", "name": "a"}', None),
        (tensor("float64"), "float64[-1, 3]"),
        (tensor(shape="[-1, 4]"), "float32[-1, 4]"),
        (tensor(shape="[-1]", name=""), "float32[-1]"),
    ],
)
def test_what_mlmodel_says_otherwise_is_logged(
    registry: Registry,
    served: Callable[..., Repository],
    caplog: pytest.LogCaptureFixture,
    schema: str,
    said: str | None,
) -> None:
    """The file is right: MLflow's own server casts, and an example may have been of another length."""
    registry.models = {"scale": {"1": version(MLmodel=mlmodel(schema))}}
    assert factor(served()) == 2.0
    warnings = [record.message for record in caplog.records if record.levelname == "WARNING"]
    text = "model 'scale' version 1 has the input 'x' as FP32[-1, 3], and its MLmodel says %s"
    assert warnings == ([f"{text % said}: it is served as the file says"] if said else [])


def test_models_that_are_gone_are_gone(registry: Registry, served: Callable[..., Repository]) -> None:
    registry.models = {"scale": {"1": version(1.5), "2": version(2.5)}}
    repository = served()
    assert factor(repository) == 2.5
    del registry.models["scale"]["2"]
    repository.refresh()
    assert factor(repository) == 1.5
    registry.models = {}
    repository.refresh()
    with pytest.raises(ModelNotFound):
        repository.get("scale")


def test_folders_without_end(
    registry: Registry, served: Callable[..., Repository], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "_MOST_FILES", 20)
    registry.models = {"scale": {"1": version()}}
    registry.lies = {"?path": (200, b'{"files": [{"path": "a", "is_dir": true}]}')}
    (said,) = served().problems
    assert "lists more than 20 files and folders below 1/scale/1" in said


@pytest.mark.parametrize(
    ("stalls", "problem"), [(True, "stopped answering: TimeoutError"), (False, "has 5 bytes, and 100")]
)
def test_a_file_that_breaks_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stalls: bool, problem: str) -> None:
    """Or of which nothing more comes: it is given up."""
    monkeypatch.setattr(client, "_IDLE", 0.3)
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "100")
            self.end_headers()
            self.wfile.write(b"short")
            self.wfile.flush()
            if stalls:
                over.wait(30)

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    with listening(Handler) as url:
        try:
            with pytest.raises(StoreError, match=problem):
                client.MlflowClient(url, {}).download("1/model.onnx", 100, tmp_path / "model.onnx")
        finally:
            over.set()


def test_without_pyyaml(registry: Registry, served: Callable[..., Repository], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    registry.models = {"scale": {"1": version()}}
    with pytest.raises(InvalidSettings, match=r"models from MLflow need PyYAML: install the extra 'mlflow'"):
        served()


def test_functions_do_without(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their images have no `repository.mlflow`."""
    monkeypatch.setitem(sys.modules, "inferry.repository.mlflow.store", None)
    with pytest.raises(
        InvalidSettings, match="functions have no models from MLflow: put them into the image or a bucket"
    ):
        open_repository("mlflow+http://127.0.0.1:1")

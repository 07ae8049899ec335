"""A registry that speaks MLflow's REST API as far as inferry asks for it, and that lies where a test says so.

The routes and their answers are those of MLflow 3.17; tests/platform has the real one.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import onnx_models
from loopback import listening

API = "/api/2.0/mlflow/"
ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"
TENSOR = '{"type": "tensor", "tensor-spec": {"dtype": "%s", "shape": %s}%s}'


def mlmodel(inputs: str = "", flavor: str = "onnx", data: str = "model.onnx") -> bytes:
    """As MLflow writes it; `inputs` is the schema's JSON."""
    signature = f"signature:\n  inputs: '[{inputs}]'\n  outputs: null\n" if inputs else ""
    onnx = f"  {flavor}:\n    data: {data}\n    providers: &p\n    - CPUExecutionProvider\n"
    text = f"flavors:\n{onnx}  python_function:\n    data: {data}\n"
    return f"artifact_path: model\n{text}{signature}utc_time_created: '2026-12-01 10:00:00.000000'\n".encode()


def tensor(dtype: str = "float32", shape: str = "[-1, 3]", name: str = "x") -> str:
    return TENSOR % (dtype, shape, f', "name": "{name}"' if name else "")


@dataclass
class Version:
    files: dict[str, bytes]
    status: str = "READY"
    tags: dict[str, str] = field(default_factory=dict)
    made: int = 1
    uri: str = ""


def version(factor: float = 2.0, **more: bytes) -> Version:
    """Of a model that multiplies by `factor`; `more` files by their names, with _ for a dot."""
    files = {"model.onnx": onnx_models.scaled(factor), "MLmodel": mlmodel(tensor())}
    return Version({**files, **{name.replace("_", "."): content for name, content in more.items()}})


@dataclass
class Registry:
    """`models`: versions by number; `aliases` by model. `lies`: what is answered at a path's beginning instead."""

    models: dict[str, dict[str, Version]] = field(default_factory=dict)
    aliases: dict[str, dict[str, str]] = field(default_factory=dict)
    lies: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    headers: list[Mapping[str, str]] = field(default_factory=list)
    # The models that are pushed, by their ids; `place`: where their files go instead of the registry's own.
    logged: dict[str, Version] = field(default_factory=dict)
    place: str = ""
    url: str = ""

    def answer(self, method: str, target: str, content: bytes = b"") -> tuple[int, bytes]:
        parts = urlsplit(target)
        path, query = unquote(parts.path), {key: values[0] for key, values in parse_qs(parts.query).items()}
        self.asked.append(unquote(target).removeprefix(API).removeprefix(ARTIFACTS))
        for beginning, lie in self.lies.items():
            if self.asked[-1].startswith(beginning):
                return lie
        if method != "GET":
            return self._write(method, path, content)
        if path == f"{API}registered-models/search":
            return _json(registered_models=[self._model(name) for name in self.models])
        if path == f"{API}model-versions/search":
            found = [self._version(name, number) for name, its in self.models.items() for number in its]
            return _json(model_versions=found)
        if path == f"{API}model-versions/get-download-uri":
            made = self.models[query["name"]][query["version"]]
            return _json(artifact_uri=made.uri or f"mlflow-artifacts:/1/{query['name']}/{query['version']}")
        if path == ARTIFACTS:
            return _json(files=self._listed(query["path"]))
        if path.startswith(f"{ARTIFACTS}/"):
            found_file = self._files().get(path.removeprefix(f"{ARTIFACTS}/"))
            return (
                (404, b'{"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no"}')
                if found_file is None
                else (200, found_file)
            )
        return 404, b"<!doctype html>"

    def _write(self, method: str, path: str, content: bytes) -> tuple[int, bytes]:
        """What `inferry push` asks for."""
        if path.startswith(f"{ARTIFACTS}/"):
            root, _, name = path.removeprefix(f"{ARTIFACTS}/").partition("/artifacts/")
            self.logged[root.rpartition("/")[2]].files[name] = content
            return _json()
        route, given = path.removeprefix(API), json.loads(content)
        if (method, route) == ("POST", "logged-models"):
            model_id = f"m-{len(self.logged)}"
            uri = self.place or f"mlflow-artifacts:/{given['experiment_id']}/{model_id}/artifacts"
            self.logged[model_id] = Version({}, "", uri=uri)
            return _json(model={"info": {"model_id": model_id, "artifact_uri": uri}})
        if method == "PATCH":
            self.logged[given["model_id"]].status = given["status"]
            return _json(model={})
        if route == "registered-models/create":
            if given["name"] in self.models:
                return 400, b'{"error_code": "RESOURCE_ALREADY_EXISTS", "message": "there is one"}'
            self.models[given["name"]] = {}
            return _json(registered_model={})
        if route == "model-versions/create":
            made = self.logged[given["source"].removeprefix("models:/")]
            number = str(len(self.models[given["name"]]) + 1)
            tags = {tag["key"]: tag["value"] for tag in given["tags"]}
            self.models[given["name"]][number] = Version(made.files, tags=tags, uri=made.uri)
            return _json(model_version={"name": given["name"], "version": number})
        if route == "registered-models/alias":
            self.aliases.setdefault(given["name"], {})[given["alias"]] = given["version"]
            return _json()
        return 404, b"<!doctype html>"

    def _model(self, name: str) -> dict[str, Any]:
        aliases = [{"alias": alias, "version": number} for alias, number in self.aliases.get(name, {}).items()]
        return {"name": name, "aliases": aliases} if aliases else {"name": name}

    def _version(self, name: str, number: str) -> dict[str, Any]:
        made = self.models[name][number]
        tags = [{"key": key, "value": value} for key, value in made.tags.items()]
        source = f"models:/m-{name}-{number}"
        return {
            "name": name,
            "version": number,
            "creation_timestamp": made.made,
            "status": made.status,
            "source": source,
            "tags": tags,
        }

    def _files(self) -> dict[str, bytes]:
        made = [(name, number, one) for name, its in self.models.items() for number, one in its.items()]
        roots = [
            (one.uri.removeprefix("mlflow-artifacts:/") or f"1/{name}/{number}", one) for name, number, one in made
        ]
        return {f"{root}/{path}": content for root, one in roots for path, content in one.files.items()}

    def _listed(self, folder: str) -> list[dict[str, Any]]:
        below = {
            path.removeprefix(f"{folder}/"): len(file)
            for path, file in self._files().items()
            if path.startswith(f"{folder}/")
        }
        folders = {path.partition("/")[0] for path in below if "/" in path}
        files = [{"path": path, "is_dir": False, "file_size": size} for path, size in below.items() if "/" not in path]
        return [*files, *({"path": name, "is_dir": True} for name in folders)]


def _json(**value: Any) -> tuple[int, bytes]:
    return 200, json.dumps(value).encode()


@contextmanager
def running() -> Iterator[Registry]:
    """On a free port, with nothing in it."""
    made = Registry()

    class Handler(BaseHTTPRequestHandler):
        def respond(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            made.headers.append(dict(self.headers.items()))
            status, body = made.answer(self.command, self.path, content)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = do_PATCH = respond

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    with listening(Handler) as url:
        made.url = f"mlflow+{url}"
        yield made

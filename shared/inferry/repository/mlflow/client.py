"""MLflow's REST API, and the files that its server passes on (`mlflow-artifacts:/`). Who asks, MLflow's variables say.

By hand over the project's HTTP client: what serves models needs five routes, and MLflow's own client is 100 packages.
https://mlflow.org/docs/latest/api_reference/rest-api.html
"""

import base64
import time
from collections.abc import Iterator, Mapping
from email.message import Message
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import orjson

from inferry.cloud.http_client import Content, NoResponse, Poster, Response
from inferry.errors import InvalidSettings, StoreError
from inferry.storage.stored import is_plain, limited

_API = "/api/2.0/mlflow"
_ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"
_JSON = {"Content-Type": "application/json"}
# Seconds for an answer in JSON, and for a file. Its server may fetch a file whole from a bucket before the first byte.
_ANSWER, _TRANSFER, _IDLE = 30.0, 3600.0, 120.0
# Bytes of an answer in JSON, entries of a list, and files of a version.
_MOST_JSON, _MOST_LISTED, _MOST_FILES = 64 << 20, 1_000_000, 10_000
_BLOCK = 1 << 20


class MlflowClient:
    """The server at `url`, which is http:// or https://, without a slash at its end. Safe in several threads."""

    def __init__(self, url: str, env: Mapping[str, str]) -> None:
        """`env` says who asks: MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, else MLFLOW_TRACKING_TOKEN."""
        self.url = url
        self._env = env
        self._authorization = _authorization(env)

    def call(self, method: str, route: str, values: Mapping[str, object], accepted: str = "") -> dict[str, Any]:
        """The object that a route answers with; an empty one for the error code `accepted`. StoreError."""
        query = f"?{urlencode(values, quote_via=quote)}" if method == "GET" else ""
        body = None if method == "GET" else orjson.dumps(values)
        response = self._send(method, f"{_API}/{route}{query}", body, _JSON, _ANSWER, _MOST_JSON)
        if response.status != 200:
            code, reason = _reason(response)
            if accepted and code == accepted:
                return {}
            raise StoreError(f"{self.url} answers {route} with {response.status}: {reason}")
        return self._object(response.body, route)

    def pages(self, route: str, key: str, values: Mapping[str, object]) -> Iterator[dict[str, Any]]:
        """The objects in the list `key` of all pages of a search. StoreError."""
        token, count = "", 0
        while True:
            page = self.call("GET", route, {**values, "page_token": token} if token else values)
            found = page.get(key, [])
            if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
                raise StoreError(f"{self.url} answers {route} with '{key}' that is no list of objects")
            yield from found
            count += max(len(found), 1)
            token = page.get("next_page_token") or ""
            if not token:
                return
            if not isinstance(token, str) or count > _MOST_LISTED:
                raise StoreError(f"{self.url} answers {route} with pages that don't end")

    def files(self, root: str) -> list[tuple[str, int]]:
        """The files below the artifacts' folder `root`, by their paths in it, with their sizes. StoreError."""
        found: list[tuple[str, int]] = []
        folders, count = [""], 0
        while folders:
            prefix = folders.pop()
            count += 1
            for name, size in self._listed(root, prefix):
                if size is None:
                    folders.append(f"{prefix}{name}/")
                else:
                    found.append((f"{prefix}{name}", size))
            if len(found) + len(folders) + count > _MOST_FILES:
                raise StoreError(f"{self.url} lists more than {_MOST_FILES} files and folders below {root}")
        return sorted(found)

    def read(self, path: str, limit: int) -> bytes:
        """A small file among the artifacts. StoreError when there is none, or it has more than `limit` bytes."""
        response = self._send("GET", f"{_ARTIFACTS}/{quote(path)}", None, {}, _ANSWER, limit + 1)
        if response.status != 200:
            raise self._no_file(path, response)
        return limited(response.body, limit, path)

    def download(self, path: str, size: int, target: Path) -> None:
        """Writes one of the artifacts, which has `size` bytes, to a file. StoreError, OSError."""
        poster = self._poster(f"{_ARTIFACTS}/{quote(path)}")
        try:
            with (
                poster.stream(self._authorization, time.monotonic() + _TRANSFER, _IDLE) as stream,
                target.open("wb") as file,
            ):
                if stream.status != 200:
                    raise self._no_file(path, Response(stream.status, stream.read(_BLOCK), Message()))
                count = 0
                while count <= size and (block := stream.read(_BLOCK)):
                    file.write(block)
                    count += len(block)
        except NoResponse as exc:
            raise StoreError(f"can't fetch {path!r} from {self.url}: {exc}") from exc
        if count != size:
            got = f"more than {size}" if count > size else str(count)
            raise StoreError(f"{path!r} from {self.url} has {got} bytes, and {size} where it is listed")

    def upload(self, path: str, content: Content, size: int) -> None:
        """Stores a file of `size` bytes among the artifacts. StoreError."""
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
        response = self._send("PUT", f"{_ARTIFACTS}/{quote(path)}", content, headers, _TRANSFER, _BLOCK)
        if response.status != 200:
            raise StoreError(f"{self.url} does not take {path!r} ({response.status}): {_reason(response)[1]}")

    def _listed(self, root: str, prefix: str) -> Iterator[tuple[str, int | None]]:
        """The names in one folder, with the sizes of files. Hidden ones are left out, as everywhere."""
        folder = f"{root}/{prefix}".rstrip("/")
        response = self._send("GET", f"{_ARTIFACTS}?path={quote(folder, safe='')}", None, {}, _ANSWER, _MOST_JSON)
        if response.status != 200:
            raise self._no_file(folder, response)
        entries = self._object(response.body, folder).get("files", [])
        for entry in entries if isinstance(entries, list) else [entries]:
            name, size, is_folder = _entry(entry)
            if name.startswith(".") and name.strip(".") and "/" not in name:
                continue
            if "/" in name or not is_plain(name) or (size < 0 and not is_folder):
                raise StoreError(
                    f"{self.url} lists {str(entry)[:200]} in {folder}, which is no file with a name and a size"
                )
            yield name, None if is_folder else size

    def _object(self, body: bytes, what: str) -> dict[str, Any]:
        try:
            value = orjson.loads(body)
        except orjson.JSONDecodeError as exc:
            raise StoreError(f"{self.url} answers {what} with what is no JSON: is MLflow there?") from exc
        if not isinstance(value, dict):
            raise StoreError(f"{self.url} answers {what} with JSON that is no object: is MLflow there?")
        return value

    def _no_file(self, path: str, response: Response) -> StoreError:
        # A server before a bucket says 500 for what is not there.
        return StoreError(f"{self.url} does not give {path!r} ({response.status}): {_reason(response)[1]}")

    def _send(
        self, method: str, target: str, body: Content, headers: Mapping[str, str], seconds: float, limit: int
    ) -> Response:
        poster = self._poster(target)
        try:
            given = {**self._authorization, **headers}
            return poster.send(method, body, given, time.monotonic() + seconds, limit)
        except NoResponse as exc:
            raise StoreError(f"can't reach MLflow at {self.url}: {exc}") from exc
        finally:
            poster.close()

    def _poster(self, target: str) -> Poster:
        return Poster(f"{self.url}{target}", "MODEL_PATH", self._env)


def host_of(url: str) -> str:
    """The address in a mlflow+http:// or mlflow+https:// URL, as http:// or https://. InvalidSettings.

    No credentials may be in it: it is logged.
    """
    scheme, _, rest = url.partition("://")
    if scheme not in ("mlflow+http", "mlflow+https"):
        raise InvalidSettings("MLflow is named by a mlflow+http:// or mlflow+https:// URL")
    address = f"{scheme.removeprefix('mlflow+')}://{rest}"
    try:
        parts = urlsplit(address)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    # The URL is not repeated where it may hold a secret.
    if not host or "@" in rest:
        raise InvalidSettings(
            f"expected {scheme}://host:port, without a user in it: MLFLOW_TRACKING_USERNAME and "
            "MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, say who asks"
        )
    if parts.fragment:
        raise InvalidSettings(f"a {scheme}:// URL takes no fragment")
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"


def _authorization(env: Mapping[str, str]) -> dict[str, str]:
    """As MLflow's own client: a user with a password first, then a token."""
    user, password = env.get("MLFLOW_TRACKING_USERNAME"), env.get("MLFLOW_TRACKING_PASSWORD")
    token = env.get("MLFLOW_TRACKING_TOKEN")
    if user and password:
        return {"Authorization": f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"}
    return {"Authorization": f"Bearer {token}"} if token else {}


def _reason(response: Response) -> tuple[str, str]:
    """MLflow's code and message of an error, and what to do where it is about who asks."""
    code, message = "", response.body[:300].decode(errors="replace").strip()
    try:
        value = orjson.loads(response.body)
        code, message = str(value["error_code"]), str(value["message"])[:300]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        if message.startswith("<"):
            message = "a page of HTML: is MLflow there?"
    if response.status in (401, 403):
        message += " (MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, say who asks)"
    return code, " ".join(message.split())


def _entry(entry: Any) -> tuple[str, int, bool]:
    """Name, size and whether it is a folder; a name that is none, or a size below 0, where it has none."""
    if not isinstance(entry, dict):
        return "", -1, False
    name, size = entry.get("path"), entry.get("file_size")
    if isinstance(size, str) and size.isdecimal() and len(size) < 20:
        size = int(size)
    count = size if isinstance(size, int) and not isinstance(size, bool) else -1
    return name if isinstance(name, str) else "", count, entry.get("is_dir") is True

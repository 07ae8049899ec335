"""Direct invocations: the event is the request itself, and what the function returns is the response.

`aws lambda invoke`, AWS's SDKs, Step Functions and AppSync send them. IAM is their guard: no API key is asked for.
"""

from typing import Any

import orjson
from inferry.app import create_app
from inferry.errors import InferryError, InvalidRequest, NotSupported
from inferry.http.asgi import ASGIApp, Scope
from inferry.service import Service

# "6 MB each for request and response (synchronous)", say Lambda's quotas. It refuses larger requests itself.
MAX_ANSWER = (6 * 2**20, "what Lambda passes on")

# What an event has that is a request, and the members that it may have beside that.
_FORMS: dict[str, tuple[str, ...]] = {
    "inputs": ("model_name", "model_version", "id", "parameters", "outputs", "on_error"),
    "features": ("model_name", "on_error"),
    "ready": ("model_name", "model_version", "on_error"),
}
_NAMES = ("model_name", "model_version")
_RAISE, _RETURN = "raise", "return"
# Of what is refused before it is known what it asks for: the application answers that too, and counts it.
_UNPLACED = ("POST", "/v2/models/default/infer")


class InternalError(Exception):
    """A failure that nobody expected; the log has it, by the request's id."""


def is_direct(event: Any) -> bool:
    """Whether an event is a request by itself."""
    return isinstance(event, dict) and not event.keys().isdisjoint(_FORMS)


class Direct:
    """Makes requests of direct invocations; `app` answers them, and asks for no key."""

    def __init__(self, service: Service) -> None:
        self.app: ASGIApp = create_app(service, keys=())
        self._service = service

    def request(self, event: dict[str, Any]) -> "DirectRequest":
        """The request that an event is, whatever it holds; the application answers what is wrong with it."""
        return DirectRequest(event, self._service)


class DirectRequest:
    """A direct invocation: the `scope` and the `body` of its request, and then its `result`."""

    def __init__(self, event: dict[str, Any], service: Service) -> None:
        self._event = event
        self._refused: InferryError | None = None
        self._failures: list[Exception] = []
        method, path = _UNPLACED
        try:
            method, path = _place(event, service)
        except InferryError as exc:
            self._refused = exc
        self.scope: Scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "https",
            "path": path,
            "root_path": "",
            "query_string": b"",
            "headers": [],
        }
        # What the application answers an error for is raised here, under the same name.
        self.failed = self._failures.append

    def body(self) -> bytes:
        """The request in the protocol's JSON. InvalidRequest and NotSupported, where the event is none."""
        if self._refused is not None:
            raise self._refused
        try:
            return orjson.dumps(self._event)
        except orjson.JSONEncodeError:  # half a surrogate pair, or a number of over 64 bits
            import json

            return json.dumps(self._event).encode()

    def result(self, status: int, body: bytes) -> dict[str, Any]:
        """What the function returns: the response, or the error of one for "on_error": "return".

        Else an error is raised: the application's own by its class, and InternalError for what nobody expected.
        """
        response: dict[str, Any] = orjson.loads(body)
        if not self._failures:
            return response
        text = response["error"]
        if self._event.get("on_error") == _RETURN:
            return {"error": text, "status": status}
        failure = self._failures[-1]
        raise (type(failure) if isinstance(failure, InferryError) else InternalError)(text)


def _place(event: dict[str, Any], service: Service) -> tuple[str, str]:
    """The method and the path of a request. InvalidRequest and NotSupported for what can be none."""
    form = _form(event)
    if form == "features":
        return "POST", "/predict"
    model = f"/v2/models/{service.default_model(event.get('model_name'))}"
    if version := event.get("model_version"):
        model += f"/versions/{version}"
    return ("GET", f"{model}/ready") if form == "ready" else ("POST", f"{model}/infer")


def _form(event: dict[str, Any]) -> str:
    form, *others = [name for name in _FORMS if name in event]
    if others:
        raise InvalidRequest(f"'{form}' and '{others[0]}' are of two kinds of requests: send one of them")
    if unknown := sorted(event.keys() - {form, *_FORMS[form]}):
        raise InvalidRequest(
            f"a request with '{form}' has no member {unknown[0][:100]!r}; it may have {', '.join(_FORMS[form])}"
        )
    for name in _NAMES:
        if not isinstance(given := event.get(name, ""), str) or "/" in given:
            raise InvalidRequest(f"'{name}' must be a string without /, got {str(given)[:100]!r}")
    if (handling := event.get("on_error", _RAISE)) not in (_RAISE, _RETURN):
        raise InvalidRequest(f"'on_error' must be 'raise' or 'return', got {str(handling)[:100]!r}")
    if event.get("ready", True) is not True:
        raise InvalidRequest("'ready' must be true: it asks whether the model can be served")
    if _asks_for_binary(event):
        raise NotSupported("the response to a direct invocation is JSON: ask for no binary outputs")
    return form


def _asks_for_binary(event: dict[str, Any]) -> bool:
    outputs = event.get("outputs")
    for one in (event, *(outputs if isinstance(outputs, list) else ())):
        parameters = one.get("parameters") if isinstance(one, dict) else None
        if isinstance(parameters, dict) and (parameters.get("binary_data_output") or parameters.get("binary_data")):
            return True
    return False

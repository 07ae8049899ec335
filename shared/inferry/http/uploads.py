"""What a client gives with its request to load a model: a config, and files."""

import base64
import binascii
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from inferry.errors import InvalidModel, InvalidRequest
from inferry.http.bodies import Document, document
from inferry.repository.layout import CONFIG_FILE, MAX_NAME_BYTES, MODEL_FILE, bad_name
from inferry.runtime.model_config import ModelConfig, parse_config
from inferry.storage.stored import is_plain

_UPLOAD = "file:"


def read(given: Document, model: str) -> tuple[ModelConfig | None, dict[str, bytes]]:
    """The `config` and the `file:VERSION/NAME` parameters of a load request."""
    parameters = document(given).get("parameters")
    if parameters is None:
        return None, {}
    if not isinstance(parameters, dict):
        raise InvalidRequest("'parameters' must be an object")
    return read_parameters(parameters, model, _base64)


def read_parameters(
    parameters: Mapping[str, Any], model: str, content: Callable[[str, Any], bytes]
) -> tuple[ModelConfig | None, dict[str, bytes]]:
    """The same of the parameters themselves; `content` makes a file's bytes of its path and its parameter."""
    text = parameters.get("config")
    files = {key[len(_UPLOAD) :]: value for key, value in parameters.items() if key.startswith(_UPLOAD)}
    if text is None:
        if files:
            raise InvalidRequest("'parameters' with files must hold 'config' as well; '{}' will do")
        return None, {}
    if not isinstance(text, str):
        raise InvalidRequest(f"'config' must be a string that holds JSON, as {CONFIG_FILE} does")
    contents = {path: content(path, value) for path, value in files.items()}
    _check_names(model, files)
    return _config(text, model), contents


def _check_names(model: str, files: Iterable[str]) -> None:
    """InvalidRequest for a name that no model, version or file of a repository has."""
    paths = list(files)
    if paths and (problem := bad_name(model)):
        raise InvalidRequest(f"a model can't be called so: {problem}")
    for path in paths:
        parts = path.split("/")
        if len(parts) < 2 or not is_plain(path) or max(len(part.encode()) for part in parts) > MAX_NAME_BYTES:
            raise InvalidRequest(f"'{_UPLOAD}{path[:100]}' is no file of a version: give it as '{_UPLOAD}1/model.onnx'")
        if problem := bad_name(parts[0]):
            raise InvalidRequest(f"'{_UPLOAD}{path[:100]}' is in no version: {problem}")
    if paths and not any(path.endswith(f"/{MODEL_FILE}") and path.count("/") == 1 for path in paths):
        raise InvalidRequest(f"'parameters' hold no {MODEL_FILE}: give it as '{_UPLOAD}1/{MODEL_FILE}'")


def _config(text: str, model: str) -> ModelConfig:
    try:
        return parse_config(text.encode(), model)
    except InvalidModel as exc:
        raise InvalidRequest(str(exc)) from exc


def _base64(path: str, value: Any) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, TypeError, ValueError) as exc:
        raise InvalidRequest(f"'{_UPLOAD}{path}' must be a string in base64: {exc}") from exc

"""What a client gives with its request to load a model: a config, and files."""

import base64
import binascii
from typing import Any

from inferry.config import ModelConfig, parse_config
from inferry.errors import InvalidModel, InvalidRequest
from inferry.layout import CONFIG_FILE

_UPLOAD = "file:"


def read(parameters: Any, model: str) -> tuple[ModelConfig | None, dict[str, bytes]]:
    """The `config` and the `file:VERSION/NAME` parameters of a load request."""
    if not isinstance(parameters, dict):
        raise InvalidRequest("'parameters' must be an object")
    text = parameters.get("config")
    files = {key[len(_UPLOAD) :]: value for key, value in parameters.items() if key.startswith(_UPLOAD)}
    if text is None:
        if files:
            raise InvalidRequest("'parameters' with files must hold 'config' as well; '{}' will do")
        return None, {}
    if not isinstance(text, str):
        raise InvalidRequest(f"'config' must be a string that holds JSON, as {CONFIG_FILE} does")
    return _config(text, model), {path: _base64(path, value) for path, value in files.items()}


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

"""JSON documents of any size: small ones as Python objects, large ones as simdjson's views of their text."""

import math
import threading
from typing import Any

import orjson

from inferry.errors import InvalidRequest, RequestTooLarge

# Bytes of JSON up to which a Python object per element costs less than simdjson's views of a document.
SMALL = 4096
# Bytes of JSON up to which a parser is kept for the next request; it holds about ten times as many.
REUSED = 4 * 2**20
# Elements of an array that simdjson can count. It would write what a longer one holds past the end of a list.
COUNTED = 2**24 - 1
# Arrays and objects of a document that may become Python's: one of those takes twenty times the memory of `[]`.
CONTAINERS = 2**22

_threads = threading.local()


def parse(text: bytes) -> Any:
    """The JSON document in `text`: Python objects when it is small or holds NaN or Infinity, else simdjson's view."""
    try:
        return orjson.loads(text) if len(text) <= SMALL else _view(text)
    except (ValueError, RuntimeError):
        return _parse_tokens(text, "the request", ". Tensors in binary need the header Inference-Header-Content-Length")


def load(text: bytes, what: str = "the request") -> Any:
    """The JSON document in `text` as Python objects, for code that wants a dict or a list; errors call it `what`."""
    check_size(text)
    try:
        return orjson.loads(text)
    except ValueError:
        return _parse_tokens(text, what)


def check_size(text: bytes) -> None:
    """RequestTooLarge when a document holds too much to become Python objects."""
    if len(text) > CONTAINERS and (text.count(b",") >= COUNTED or text.count(b"[") + text.count(b"{") > CONTAINERS):
        raise RequestTooLarge(
            f"the request's JSON holds over {COUNTED} values, or over {CONTAINERS} arrays and objects: send tensors in "
            "binary, or fewer rows at a time"
        )


def _view(text: bytes) -> Any:
    """Parses with this thread's parser, whose memory is there already: fresh pages cost as much as parsing."""
    import simdjson  # 3 ms, which a process whose bodies are small saves

    if len(text) > REUSED:
        return simdjson.Parser().parse(text)
    try:
        return _threads.parser.parse(text)
    except AttributeError:
        _threads.parser = simdjson.Parser()
    except RuntimeError:  # a document of it is still looked at, or this one is nested too deep for any
        return simdjson.Parser().parse(text)
    return _threads.parser.parse(text)


def _parse_tokens(text: bytes, what: str, hint: str = "") -> Any:
    """tritonclient writes NaN and Infinity as bare tokens, which only the standard library reads.

    Those are all that is infinite: other numbers are what orjson makes of them, or are refused as it does.
    """
    import json

    check_size(text)
    if b"NaN" in text or b"Infinity" in text:
        try:
            document = json.loads(text.decode(), parse_float=_float, parse_int=_integer)
            if b"\\u" in text:
                json.dumps(document, ensure_ascii=False).encode()  # no lone surrogates, which no response could repeat
            return document
        except RecursionError as exc:
            raise InvalidRequest(f"{what} is JSON that is nested too deep") from exc
        except ValueError as exc:
            raise InvalidRequest(f"{what} is not JSON: {_said(exc)}") from exc
    try:
        # JavaScript and Go write the float 1e20 as an integer, which is over 64 bits: simdjson refuses it.
        return orjson.loads(text)
    except orjson.JSONDecodeError as exc:
        raise InvalidRequest(f"{what} is not JSON: {_said(exc)}{hint}") from exc


def _said(exc: ValueError) -> str:
    return f"{exc.msg}, at character {exc.pos + 1}" if isinstance(exc, orjson.JSONDecodeError) else str(exc)


def _float(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text[:40]} is too large for a number; write Infinity if you mean that")
    return number


def _integer(text: str) -> int | float:
    """An integer; one of over 64 bits becomes a float, as in other parsers of JSON."""
    if len(text) < 19:
        return int(text)
    if len(text) <= 20 and -(2**63) <= (number := int(text)) < 2**64:
        return number
    return _float(text)


def is_object(value: Any) -> bool:
    """Whether `value` is a JSON object, of `parse` or of Python's."""
    return isinstance(value, dict) or hasattr(value, "as_dict")


def is_array(value: Any) -> bool:
    """Whether `value` is a JSON array, of `parse` or of Python's."""
    return isinstance(value, list) or is_array_view(value)


def is_array_view(value: Any) -> bool:
    """Whether `value` is an array of a large document, whose numbers can be had as a buffer."""
    return hasattr(value, "as_buffer")


def plain(value: Any) -> Any:
    """`value` as Python objects. `check_size` must have seen the text."""
    if hasattr(value, "as_dict"):
        return value.as_dict()
    return value.as_list() if is_array_view(value) else value

"""A model's config.json."""

import reprlib
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from inferry.errors import InvalidModel

if TYPE_CHECKING:
    from inferry.runtime.boxes import Boxes
    from inferry.runtime.preprocess import Preprocess

# More threads make no run shorter, and each of a client's own config would cost the server memory.
MOST_THREADS = 256
# A crowd that waits longer for company waits for nothing.
MOST_DELAY_US = 1_000_000
# Browsers resample to no more.
MOST_SAMPLES = 96_000

# Not a view of one: configs of large uploads come from another process, pickled.
_NOTHING: Mapping[str, Any] = {}


class DynamicBatching(NamedTuple):
    """Run concurrent requests as one; `max_queue_delay_us`: how long to wait for a fuller batch while others run."""

    max_queue_delay_us: int = 0


class ResponseCache(NamedTuple):
    """Keep the outputs of runs for requests that are the same, if `enable` says so."""

    enable: bool = False


class ModelConfig(NamedTuple):
    """What config.json may hold; every key is optional.

    `labels`: class names by output; `sha256`: expected digests by version; `columns`: the names of the values of a
    row; `max_queue_size`: requests that may wait; `example`: {"inputs": [...], "expect": {...}}, the inputs as in an
    inference request; `warm_up`: run the example when the model loads; `threads`: of its session, 0 for
    INTRA_OP_THREADS; `rows`: "joined" has rows run together without a proof; `preprocess`: how images become rows, by
    input; `response_cache`: whether responses are kept; `postprocess`: which outputs are boxes in an image; `sound`:
    samples per second, by input.
    """

    description: str = ""
    labels: Mapping[str, tuple[str, ...]] = _NOTHING
    max_batch_size: int = 0
    dynamic_batching: DynamicBatching | None = None
    max_queue_size: int = 128
    default_version: str = ""
    sha256: Mapping[str, str] = _NOTHING
    columns: tuple[str, ...] = ()
    example: Mapping[str, Any] = _NOTHING
    warm_up: bool = False
    threads: int = 0
    rows: str = ""
    preprocess: Mapping[str, "Preprocess"] = _NOTHING
    response_cache: ResponseCache = ResponseCache()
    postprocess: "Boxes | None" = None
    sound: Mapping[str, int] = _NOTHING


def parse_config(text: bytes, model: str) -> ModelConfig:
    """The config in `text`. InvalidModel names the key that can't be used."""
    try:
        values = orjson.loads(text)
    except orjson.JSONDecodeError as exc:
        raise InvalidModel(f"config.json of model '{model}' is not JSON: {exc}") from exc
    if not isinstance(values, dict):
        raise InvalidModel(f"config.json of model '{model}' must be a JSON object")
    config = ModelConfig(**_known(_named(ModelConfig._fields), values, model, ""))
    if config.dynamic_batching and config.max_batch_size < 2:
        raise InvalidModel(f"config.json of model '{model}' sets dynamic_batching, which needs max_batch_size >= 2")
    return config


def _named(names: Iterable[str]) -> Mapping[str, Any]:
    return {name: _CHECKS[name] for name in names}


def _known(known: Mapping[str, Any], values: Mapping[str, Any], model: str, prefix: str) -> dict[str, Any]:
    unknown = [key for key in values if key not in known]
    if unknown:
        raise InvalidModel(
            f"config.json of model '{model}' has an unknown key '{prefix}{unknown[0]}'; known are {', '.join(known)}"
        )
    return {key: _checked(known[key], value, model, prefix + key) for key, value in values.items()}


def _checked(check: Any, value: Any, model: str, key: str) -> Any:
    wanted, convert = check
    converted = convert(value, model)
    if converted is None:
        raise InvalidModel(f"'{key}' in config.json of model '{model}' must be {wanted}, got {reprlib.repr(value)}")
    return converted


def _count(value: Any, _: str) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _count_to(most: int, unit: str) -> tuple[str, Callable[[Any, str], int | None]]:
    def convert(value: Any, model: str) -> int | None:
        count = _count(value, model)
        return count if count is not None and count <= most else None

    return f"a whole number{unit} from 0 to {most}", convert


def _string(value: Any, _: str) -> str | None:
    return value if isinstance(value, str) else None


def _strings(value: Any, _: str) -> tuple[str, ...] | None:
    if not isinstance(value, list) or not all(isinstance(item, str | int | float) for item in value):
        return None
    return tuple(map(str, value))


def _string_map(value: Any, _: str) -> dict[str, str] | None:
    return value if isinstance(value, dict) and all(isinstance(text, str) for text in value.values()) else None


def _labels(value: Any, model: str) -> dict[str, tuple[str, ...]] | None:
    if not isinstance(value, dict):
        return None
    lists = {output: _strings(labels, model) for output, labels in value.items()}
    return None if None in lists.values() else lists  # type: ignore[return-value]


def _batching(value: Any, model: str) -> DynamicBatching | None:
    if not isinstance(value, dict):
        return None
    return DynamicBatching(**_known(_named(DynamicBatching._fields), value, model, "dynamic_batching."))


def _response_cache(value: Any, model: str) -> ResponseCache | None:
    if not isinstance(value, dict):
        return None
    return ResponseCache(**_known(_named(ResponseCache._fields), value, model, "response_cache."))


def _preprocess(value: Any, model: str) -> "dict[str, Preprocess] | None":
    from inferry.runtime.preprocess import CHECKS, Preprocess  # for few: most models take no images

    if not isinstance(value, dict) or not all(isinstance(how, dict) for how in value.values()):
        return None
    return {name: Preprocess(**_known(CHECKS, how, model, f"preprocess.{name}.")) for name, how in value.items()}


_FLAG = ("true or false", lambda value, _: value if isinstance(value, bool) else None)


def _rates(value: Any, _: str) -> dict[str, int] | None:
    if not isinstance(value, dict) or not all(
        type(rate) is int and 0 < rate <= MOST_SAMPLES for rate in value.values()
    ):
        return None
    return value


def _postprocess(value: Any, model: str) -> "Boxes | None":
    from inferry.runtime.boxes import CHECKS, Boxes  # for few: most models find no boxes

    return Boxes(**_known(CHECKS, value, model, "postprocess.")) if isinstance(value, dict) else None


_CHECKS = {
    "description": ("a string", _string),
    "labels": ("an object of output names to arrays of labels", _labels),
    "max_batch_size": ("a whole number", _count),
    "dynamic_batching": ("an object", _batching),
    "max_queue_delay_us": _count_to(MOST_DELAY_US, " of microseconds"),
    "max_queue_size": ("a whole number", _count),
    "default_version": ("a string", _string),
    "sha256": ("an object of versions to SHA-256 digests", _string_map),
    "columns": ("an array of names", _strings),
    "example": ("an object with 'inputs'", lambda value, _: value if isinstance(value, dict) else None),
    "warm_up": _FLAG,
    "rows": ('"joined"', lambda value, _: value if value == "joined" else None),
    "preprocess": ("an object of input names to objects that say how their images are read", _preprocess),
    "postprocess": ("an object that says which outputs are boxes", _postprocess),
    "sound": (f"an object of input names to samples per second, up to {MOST_SAMPLES}", _rates),
    "threads": _count_to(MOST_THREADS, ""),
    "response_cache": ("an object with 'enable'", _response_cache),
    "enable": _FLAG,
}

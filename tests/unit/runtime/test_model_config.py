"""A model's config.json: every key, and a message for everything else."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from inferry.errors import InvalidModel
from inferry.runtime.boxes import Boxes
from inferry.runtime.model_config import DynamicBatching, ModelConfig, ResponseCache, parse_config
from inferry.runtime.preprocess import Preprocess

KEYS = (
    "description, labels, max_batch_size, dynamic_batching, max_queue_size, default_version, sha256, columns, "
    "example, warm_up, threads, rows, preprocess, response_cache, postprocess, sound"
)


def refused(text: bytes | str) -> str:
    with pytest.raises(InvalidModel) as caught:
        parse_config(text.encode() if isinstance(text, str) else text, "m")
    return str(caught.value)


def test_no_key_is_required() -> None:
    config = parse_config(b"{}", "m")
    assert config == ModelConfig()
    assert config._asdict() == {
        "description": "",
        "labels": {},
        "max_batch_size": 0,
        "dynamic_batching": None,
        "max_queue_size": 128,
        "default_version": "",
        "sha256": {},
        "columns": (),
        "example": {},
        "warm_up": False,
        "threads": 0,
        "rows": "",
        "preprocess": {},
        "response_cache": ResponseCache(enable=False),
        "postprocess": None,
        "sound": {},
    }


def test_every_key() -> None:
    text = """{
        "description": "Handwritten digits", "labels": {"label": ["zero", "one"], "other": [0, 1]},
        "max_batch_size": 64, "dynamic_batching": {"max_queue_delay_us": 500}, "max_queue_size": 10,
        "default_version": "2", "sha256": {"1": "ab", "2": "cd"}, "columns": ["age", "sex"],
        "example": {"inputs": [{"name": "x"}], "expect": {"y": [1]}}, "warm_up": true, "threads": 2,
        "rows": "joined", "preprocess": {"image": {"resize": "crop", "size": 224}}, "response_cache": {"enable": true},
        "postprocess": {"boxes": "y", "format": "xywh", "labels": ["cat"]}, "sound": {"wave": 16000}
    }"""
    assert list(json.loads(text)) == KEYS.split(", ") == list(ModelConfig._fields)
    assert parse_config(text.encode(), "m") == ModelConfig(
        description="Handwritten digits",
        labels={"label": ("zero", "one"), "other": ("0", "1")},
        max_batch_size=64,
        dynamic_batching=DynamicBatching(500),
        max_queue_size=10,
        default_version="2",
        sha256={"1": "ab", "2": "cd"},
        columns=("age", "sex"),
        example={"inputs": [{"name": "x"}], "expect": {"y": [1]}},
        warm_up=True,
        threads=2,
        rows="joined",
        preprocess={"image": Preprocess("crop", (224, 224))},
        response_cache=ResponseCache(enable=True),
        postprocess=Boxes("y", format="xywh", labels=("cat",)),
        sound={"wave": 16000},
    )


@pytest.mark.parametrize(
    "text", ["", "{", "[1,]", "{'a':1}", '{"threads":NaN}', '{"a":1}x', b"\xff", b"\xef\xbb\xbf{}"]
)
def test_not_json(text: str | bytes) -> None:
    assert refused(text).startswith("config.json of model 'm' is not JSON: ")


@pytest.mark.parametrize("text", ["[]", "1", '"threads"', "null", "true"])
def test_not_an_object(text: str) -> None:
    assert refused(text) == "config.json of model 'm' must be a JSON object"


COUNT = "a whole number"
THREADS = "a whole number from 0 to 256"
BAD = [
    *(
        (key, value, wanted)
        for key, wanted in (("max_batch_size", COUNT), ("max_queue_size", COUNT), ("threads", THREADS))
        for value in ("-1", "1.0", "true", "123456789012345678901234567890")
    ),
    ("threads", '"4"', THREADS),
    ("threads", "null", THREADS),
    ("threads", "[]", THREADS),
    ("threads", "257", THREADS),
    ("description", "1", "a string"),
    ("default_version", "2", "a string"),
    ("labels", '["a"]', "an object of output names to arrays of labels"),
    ("labels", '{"y":"a"}', "an object of output names to arrays of labels"),
    ("sha256", '"ab"', "an object of versions to SHA-256 digests"),
    ("sha256", '{"1":1}', "an object of versions to SHA-256 digests"),
    ("columns", '"age"', "an array of names"),
    ("columns", "{}", "an array of names"),
    ("columns", '["age",["sex"]]', "an array of names"),
    ("columns", "[null]", "an array of names"),
    ("labels", '{"y":[["a"]]}', "an object of output names to arrays of labels"),
    ("example", "[]", "an object with 'inputs'"),
    ("warm_up", "1", "true or false"),
    ("warm_up", '"true"', "true or false"),
    ("rows", '"single"', '"joined"'),
    ("rows", "true", '"joined"'),
    ("preprocess", "[]", "an object of input names to objects that say how their images are read"),
    ("response_cache", "true", "an object with 'enable'"),
    ("postprocess", "true", "an object that says which outputs are boxes"),
    ("sound", '{"wave":"16000"}', "an object of input names to samples per second, up to 96000"),
    ("dynamic_batching", "true", "an object"),
    ("dynamic_batching", "null", "an object"),
]


@pytest.mark.parametrize(("key", "value", "wanted"), BAD)
def test_bad_values(key: str, value: str, wanted: str) -> None:
    start = f"'{key}' in config.json of model 'm' must be {wanted}, got "
    message = refused(f'{{"{key}":{value}}}')
    assert message.startswith(start)
    assert len(message) < len(start) + 70


def test_the_value_is_shown() -> None:
    assert refused('{"threads":-1}') == f"'threads' in config.json of model 'm' must be {THREADS}, got -1"
    assert refused('{"threads":"4"}') == f"'threads' in config.json of model 'm' must be {THREADS}, got '4'"
    assert refused('{"threads":[1,2,3,4,5,6,7]}').endswith(f"must be {THREADS}, got [1, 2, 3, 4, 5, 6, ...]")


def test_every_key_has_bad_values() -> None:
    assert {key for key, _, _ in BAD} == set(ModelConfig._fields)


def test_the_most_that_counts() -> None:
    text = b'{"max_batch_size":2,"threads":256,"dynamic_batching":{"max_queue_delay_us":1000000}}'
    assert parse_config(text, "m") == ModelConfig(
        max_batch_size=2, threads=256, dynamic_batching=DynamicBatching(1_000_000)
    )


@pytest.mark.parametrize("value", ["-1", "0.5", '"1"', "true", "null", "1000001", "1" + "0" * 20])
def test_bad_delays(value: str) -> None:
    text = f'{{"max_batch_size":2,"dynamic_batching":{{"max_queue_delay_us":{value}}}}}'
    assert refused(text).startswith(
        "'dynamic_batching.max_queue_delay_us' in config.json of model 'm' must be a whole number of microseconds "
        "from 0 to 1000000, got "
    )


@pytest.mark.parametrize("value", ["1", '"true"', "null", "{}"])
def test_what_says_neither_whether_responses_are_kept(value: str) -> None:
    text = f'{{"response_cache":{{"enable":{value}}}}}'
    assert refused(text).startswith("'response_cache.enable' in config.json of model 'm' must be true or false, got ")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"batch":1}', f"config.json of model 'm' has an unknown key 'batch'; known are {KEYS}"),
        ('{"threads":1,"Threads":1}', f"config.json of model 'm' has an unknown key 'Threads'; known are {KEYS}"),
        (
            '{"max_queue_delay_us":1}',
            f"config.json of model 'm' has an unknown key 'max_queue_delay_us'; known are {KEYS}",
        ),
        (
            '{"max_batch_size":2,"dynamic_batching":{"delay":1}}',
            "config.json of model 'm' has an unknown key 'dynamic_batching.delay'; known are max_queue_delay_us",
        ),
    ],
)
def test_unknown_keys(text: str, message: str) -> None:
    assert refused(text) == message


@pytest.mark.parametrize("size", ["", '"max_batch_size":0,', '"max_batch_size":1,'])
def test_dynamic_batching_needs_a_batch(size: str) -> None:
    assert refused(f'{{{size}"dynamic_batching":{{}}}}') == (
        "config.json of model 'm' sets dynamic_batching, which needs max_batch_size >= 2"
    )
    assert parse_config(b'{"max_batch_size":2,"dynamic_batching":{}}', "m").dynamic_batching == DynamicBatching(0)


@pytest.mark.parametrize("key", [*KEYS.split(", "), "other"])
@pytest.mark.parametrize("nest", ["[" * 1000 + "]" * 1000, '{"a":' * 1000 + "1" + "}" * 1000])
def test_deep_nests(key: str, nest: str) -> None:
    """Deeper than Python's own recursion goes."""
    try:
        parse_config(f'{{"{key}":{nest}}}'.encode(), "m")
    except InvalidModel as exc:
        assert len(str(exc)) < 300  # noqa: PT017


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)


@pytest.mark.fuzz
@given(st.dictionaries(st.sampled_from([*KEYS.split(", "), "other"]), JSON, max_size=4) | st.binary(max_size=30))
def test_any_config(given_value: dict[str, Any] | bytes) -> None:
    text = given_value if isinstance(given_value, bytes) else json.dumps(given_value).encode()
    try:
        assert isinstance(parse_config(text, "m"), ModelConfig)
    except InvalidModel as exc:
        assert "config.json of model 'm'" in str(exc)  # noqa: PT017

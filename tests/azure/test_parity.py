"""The local server, the Lambda handler and the Functions app give the same answers to the same requests."""

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

import lambda_events
import numpy as np
import pytest
import servers
from functionhosts import hosted, standin
from servers import EXAMPLES, HEADER_LENGTH, JSON, OCTETS, Server
from tritonclient.utils import serialize_byte_tensor

COUNT = 200
MODELS = sorted(path.parent.name for path in EXAMPLES.glob("*/config.json"))
WORDS = ("goal", "rocket", "market", "né", "", "a b", "日本", "election")
CONTEXT: Any = type("Context", (), {"aws_request_id": "i", "get_remaining_time_in_millis": lambda _: 30_000})()

# Status, the header that parts JSON from tensors, body.
Answer = tuple[int, str, bytes]
Ask = Callable[[str, bytes, dict[str, str]], Answer]


def over_http(server: Server) -> Ask:
    def ask(path: str, body: bytes, headers: dict[str, str]) -> Answer:
        answer = server.ask("POST", path, body, headers)
        return answer.status, answer.headers.get(HEADER_LENGTH, ""), answer.body

    return ask


def of_lambda(handler: Any) -> Ask:
    def ask(path: str, body: bytes, headers: dict[str, str]) -> Answer:
        event = lambda_events.http_api("POST", path, body, {name.lower(): value for name, value in headers.items()})
        answer = handler(event, CONTEXT)
        return answer["statusCode"], answer["headers"].get(HEADER_LENGTH, ""), lambda_events.body(answer)

    return ask


@pytest.fixture(scope="module")
def hosts() -> Iterator[dict[str, Ask]]:
    """The three, each over the example models on one thread."""
    with (
        pytest.MonkeyPatch.context() as patch,
        hosted(servers.inferry_serve, EXAMPLES) as local,
        hosted(standin, EXAMPLES) as functions,
    ):
        for name, value in {"MODEL_PATH": str(EXAMPLES), "INTRA_OP_THREADS": "1"}.items():
            patch.setenv(name, value)
        api = importlib.import_module("functions.api")
        yield {"local": over_http(local), "Lambda": of_lambda(api.handler), "Functions": over_http(functions)}
        api.service.close()
        api.gateway.open_loop().close()
    del sys.modules["functions.api"]


def signature(model: str) -> list[dict[str, Any]]:
    """The inputs of an example model, with -1 for the batch, and for what else is of any length."""
    card = json.loads((EXAMPLES / model / "config.json").read_text())["example"]["inputs"]
    return [{**one, "shape": [-1, *([-1] if one["name"] == "input_ids" else one["shape"][1:])]} for one in card]


def tensor(spec: dict[str, Any], shape: list[int], random: np.random.Generator) -> np.ndarray:
    if spec["datatype"] == "BYTES":
        return random.choice(np.array(WORDS, object), shape)
    if spec["datatype"] == "INT64":
        return random.integers(1, 1000, shape)
    assert spec["datatype"] == "FP32"
    return random.normal(0, 10, shape).astype(np.float32)


def inputs(specs: list[dict[str, Any]], random: np.random.Generator) -> list[tuple[dict[str, Any], np.ndarray]]:
    """One tensor for each input, all with one batch size and one length."""
    sizes = iter([int(random.integers(1, 4)), int(random.integers(1, 25))])
    free = {axis: next(sizes) for axis in range(2) if any(spec["shape"][axis : axis + 1] == [-1] for spec in specs)}
    found = []
    for spec in specs:
        shape = [free[axis] if size == -1 else size for axis, size in enumerate(spec["shape"])]
        found.append(
            ({"name": spec["name"], "datatype": spec["datatype"], "shape": shape}, tensor(spec, shape, random))
        )
    return found


def as_json(given: list[tuple[dict[str, Any], np.ndarray]], request_id: str) -> tuple[bytes, dict[str, str]]:
    tensors = [{**head, "data": array.ravel().tolist()} for head, array in given]
    return json.dumps({"id": request_id, "inputs": tensors}).encode(), {"Content-Type": JSON}


def as_binary(given: list[tuple[dict[str, Any], np.ndarray]], request_id: str) -> tuple[bytes, dict[str, str]]:
    parts = [serialize_byte_tensor(a).item() if a.dtype == object else a.tobytes() for _, a in given]
    sizes = [{"parameters": {"binary_data_size": len(part)}} for part in parts]
    tensors = [head | size for (head, _), size in zip(given, sizes, strict=True)]
    document = {"id": request_id, "inputs": tensors, "parameters": {"binary_data_output": True}}
    text = json.dumps(document).encode()
    return b"".join([text, *parts]), {"Content-Type": OCTETS, HEADER_LENGTH: str(len(text))}


@pytest.mark.parametrize("form", [as_json, as_binary])
@pytest.mark.parametrize("model", MODELS)
def test_the_same_answer_everywhere(hosts: dict[str, Ask], model: str, form: Any) -> None:
    random = np.random.default_rng(MODELS.index(model))
    specs = signature(model)
    different = []
    for number in range(COUNT):
        # The length of the id shifts where binary tensors begin in the body.
        body, headers = form(inputs(specs, random), "i" * (1 + number % 64))
        answers = {host: ask(f"/v2/models/{model}/infer", body, headers) for host, ask in hosts.items()}
        assert answers["local"][0] == 200, answers["local"]
        if len(set(answers.values())) > 1:
            different.append(answers)
    assert different == []


WRONG = {
    "unknown model": ("/v2/models/nobody/infer", b"{}"),
    "no JSON": ("/v2/models/digits/infer", b"{"),
    "no inputs": ("/v2/models/digits/infer", b'{"inputs":[]}'),
    "a row": ("/predict", b'{"model_name":"diabetes","features":[1,2]}'),
    "no route": ("/nothing", b""),
}


@pytest.mark.parametrize("name", WRONG)
def test_the_same_error_everywhere(hosts: dict[str, Ask], name: str) -> None:
    path, body = WRONG[name]
    answers = {host: ask(path, body, {"Content-Type": JSON}) for host, ask in hosts.items()}
    assert set(answers.values()) == {answers["local"]}
    assert list(json.loads(answers["local"][2])) == ["error"]

"""What a process beside the server makes of bodies is what the server itself makes of them."""

import asyncio
import gzip
import json
import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import numpy as np
import onnx_models
import pytest
from inferry.app import create_app
from inferry.http import bodies, content
from inferry.http.asgi import ASGIApp
from inferry.http.host import Host
from inferry.http.intake import Intake
from inferry.server.helper import HelperProcess
from inferry.service import Service
from inferry.settings import Settings
from servers import HEADER_LENGTH, Server, ask, serving
from test_bad_input import BAD
from test_golden import GOLDEN
from tiny import MAX_REQUEST_BYTES, TINY


class Case(NamedTuple):
    path: str
    body: bytes
    headers: Mapping[str, str] = {}
    method: str = "POST"


def document(**members: Any) -> bytes:
    return json.dumps(members).encode()


X = {"name": "x", "shape": [2], "datatype": "FP32", "data": [1, 2]}
TEXTS = {"name": "x", "shape": [2, 1], "datatype": "BYTES", "data": ["a", "é"]}
BEST = {"name": "y", "parameters": {"classification": 2}}
CASES = {
    **{f"golden: {name}": Case(f"/v2/models/{g.path}/infer", g.body, g.headers) for name, g in GOLDEN.items()},
    **{f"bad: {name}": Case(bad.path, bad.body, bad.headers, bad.method) for name, bad in BAD.items()},
    "classes": Case(
        "/v2/models/labelled/infer", document(inputs=[{**X, "shape": [1, 3], "data": [1, 3, 2]}], outputs=[BEST])
    ),
    "gzip both ways": Case(
        "/v2/models/echo/infer",
        gzip.compress(document(inputs=[X])),
        {"content-encoding": "gzip", "accept-encoding": "gzip"},
    ),
    "strings": Case("/v2/models/text/infer", document(inputs=[TEXTS])),
    "strings in binary": Case(
        "/v2/models/text/infer", document(inputs=[TEXTS], parameters={"binary_data_output": True})
    ),
    "another datatype": Case("/v2/models/echo/infer", document(inputs=[{**X, "datatype": "INT64"}])),
    "rows": Case("/predict", document(model_name="scaled", features=[[1, 2, 3], [4, 5, 6]])),
    "rows with names": Case("/predict", document(model_name="table", features=[{"a": 1, "b": 2}])),
    "rows with classes": Case("/predict", document(model_name="labelled", features=[[1, 3, 2]] * 3)),
    "rows of KServe v1": Case("/v1/models/classifier:predict", document(instances=[[1, 2], [3, 4]])),
    "the index": Case("/v2/repository/index", document(ready=True)),
}


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ASGIApp, ASGIApp]]:
    """Two applications over the same models: of one every body and answer is a large one."""
    folder = onnx_models.write(tmp_path_factory.mktemp("large"), TINY)
    settings = Settings(model_path=str(folder), model_cache_size=64, max_request_bytes=MAX_REQUEST_BYTES)
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        here = Service.from_settings(settings)
        helper = HelperProcess()
        beside = Service.from_settings(settings, helper=helper)
        stack.callback(here.close)
        stack.callback(helper.close)
        stack.callback(beside.close)
        direct = create_app(here)
        for module, name in ((content, "LARGE"), (bodies, "LARGE_RESPONSE"), (bodies, "LARGE_ROWS")):
            patch.setattr(module, name, -1)
        yield direct, create_app(beside, Host(helper=helper, intake=Intake(settings)))


def _encoded(headers: Mapping[str, str]) -> dict[bytes, bytes]:
    return {name.encode("latin-1"): value.encode("latin-1") for name, value in headers.items()}


def answered(response: httpx.Response) -> tuple[int, dict[str, str], bytes]:
    body = re.sub(rb"\(request [0-9a-f]+\)", b"(request)", response.content)
    return response.status_code, dict(response.headers), body


@pytest.mark.parametrize("name", CASES)
def test_the_answers_are_the_same(both: tuple[ASGIApp, ASGIApp], name: str) -> None:
    case = CASES[name]
    one, other = (ask(app, case.method, case.path, content=case.body, headers=_encoded(case.headers)) for app in both)
    assert answered(one) == answered(other)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    models = {"floats.onnx": onnx_models.identity("FP32", ("n",)), "texts.onnx": onnx_models.identity("BYTES", ("n",))}
    with serving(onnx_models.write(tmp_path_factory.mktemp("served"), models), MODEL_TIMEOUT="60") as running:
        yield running


def test_large_requests_of_a_server(server: Server) -> None:
    values = np.linspace(0, 1, 200_000).astype(np.float32)
    data = b"[" + b",".join(b"%.9g" % value for value in values.tolist()) + b"]"
    text = b'{"inputs":[{"name":"x","shape":[200000],"datatype":"FP32","data":' + data + b"}]}"
    (output,) = server.ask("POST", "/v2/models/floats/infer", text).json["outputs"]
    np.testing.assert_array_equal(np.array(output["data"], np.float32), values)
    head = document(
        inputs=[{"name": "x", "shape": [200_000], "datatype": "FP32", "parameters": {"binary_data_size": 800_000}}],
        parameters={"binary_data_output": True},
    )
    answer = server.ask("POST", "/v2/models/floats/infer", head + values.tobytes(), {HEADER_LENGTH: str(len(head))})
    assert answer.tail == values.tobytes()


def test_many_strings(server: Server) -> None:
    """More than a server's own process takes over: the model runs beside it."""
    strings = [f"{number}é" for number in range(bodies.LARGE_RESPONSE + 5)]
    tensor = {"name": "x", "shape": [len(strings)], "datatype": "BYTES", "data": strings}
    answer = server.ask("POST", "/v2/models/texts/infer", document(inputs=[tensor]))
    assert answer.json["outputs"] == [{"name": "y", **{key: tensor[key] for key in ("shape", "datatype", "data")}}]


def test_the_health_probe_is_answered_meanwhile(server: Server) -> None:
    """In less time than the request takes, though its parser lets nobody else have its interpreter's lock."""
    body = gzip.compress(document(model_name="nobody", features=[[1]] * 2_000_000))
    done = threading.Event()
    sender = threading.Thread(
        target=lambda: (server.ask("POST", "/predict", body, {"content-encoding": "gzip"}), done.set())
    )
    start = time.monotonic()
    sender.start()
    worst = 0.0
    while not done.is_set():
        before = time.monotonic()
        assert server.ask("GET", "/v2/health/live").status == 200
        worst = max(worst, time.monotonic() - before)
    sender.join()
    assert worst < (time.monotonic() - start) / 2


def test_many_that_are_not_large_let_others_in(tmp_path: Path) -> None:
    """Each takes milliseconds on the event loop, and all of them come at once."""
    folder = onnx_models.write(tmp_path, {"m.onnx": onnx_models.identity("FP32", ("n",))})
    settings = Settings(model_path=str(folder))
    body = document(inputs=[{"name": "x", "shape": [3000], "datatype": "FP32", "data": [1] * 3000}])
    answered: list[str] = []

    async def go() -> None:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(served), base_url="http://test") as client:

            async def asked(method: str, path: str, **given: Any) -> None:
                assert (await client.request(method, path, **given)).status_code == 200
                answered.append(path)

            await asked("GET", "/v2/models/m/ready")
            several = (asked("POST", "/v2/models/m/infer", content=body) for _ in range(20))
            await asyncio.gather(*several, asked("GET", "/v2/health/live"))

    with ExitStack() as stack:
        helper = HelperProcess()
        service = Service.from_settings(settings, helper=helper)
        stack.callback(helper.close)
        stack.callback(service.close)
        served = create_app(service, Host(helper=helper, intake=Intake(settings)))
        asyncio.run(go())
    assert len(answered) == 22
    assert answered.index("/v2/health/live") < 10


def test_an_error_repeats_no_more_of_a_request_than_helps(server: Server) -> None:
    tensor = {"name": "a" * 1_000_000, "shape": [1], "datatype": "FP32", "data": [1]}
    answer = server.ask("POST", "/v2/models/floats/infer", document(inputs=[tensor]))
    assert answer.status == 400
    assert answer.json["error"].startswith("unexpected inference input 'aaa")
    assert len(answer.json["error"]) < 20_000

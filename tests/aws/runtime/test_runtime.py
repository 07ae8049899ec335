"""The function under Lambda's runtime client and AWS's emulator: events, limits, failures, and a long life."""

import gzip
import json
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import lambda_events as events
import onnx_models
import pytest
from emulator import PYTHONS, ROOT, Emulator, emulated

from functions.direct import MAX_ANSWER as MAX_DIRECT
from functions.initialization import LIMIT
from functions.sources import MAX_ANSWER, MAX_BODY

HANDLER = "functions.api.handler"
JSON = {"content-type": "application/json"}
INFER = "/v2/models/digits/infer"
HEADER_LENGTH = "inference-header-content-length"


def error(answer: Any) -> tuple[int, str]:
    return answer["statusCode"], json.loads(answer["body"])["error"]


def digit(answer: Any) -> list[int]:
    """The label of an answer in JSON or in binary."""
    headers = answer.get("headers") or {name: value[0] for name, value in answer["multiValueHeaders"].items()}
    body = events.body(answer)
    length = int(headers.get(HEADER_LENGTH, len(body)))
    label = json.loads(body[:length])["outputs"][0]
    return label["data"] if "data" in label else list(struct.unpack("<q", body[length : length + 8]))


@pytest.mark.parametrize("name", [name for name in events.HTTP if name != "http-api-get"])
def test_every_event_gets_its_prediction(examples: Emulator, name: str) -> None:
    answer = examples.invoke(events.load(name))
    assert (answer["statusCode"], digit(answer)) == (200, [7])


def test_aws_own_runtime_client_runs_the_handler_too(python: Path) -> None:
    env: dict[str, Any] = {"MODEL_PATH": str(ROOT / "models"), "DEFAULT_MODEL": "digits"}
    with emulated(HANDLER, python, runtime="awslambdaric", **env) as emulator:
        answers = [emulator.invoke(events.load(name)) for name in events.HTTP if name != "http-api-get"]
    assert [(answer["statusCode"], digit(answer)) for answer in answers] == [(200, [7])] * len(answers)


SEVEN = [{"name": "label", "datatype": "INT64", "shape": [1], "data": [7]}]


@pytest.mark.parametrize("runtime", ["functions", "awslambdaric"])
def test_direct_invocations(python: Path, runtime: str) -> None:
    """Tensors and rows in, JSON out; errors by their classes, or as responses; no key, and a line for each."""
    event = events.load("direct")
    keys: dict[str, Any] = {"API_KEYS": sha256(b"open sesame").hexdigest(), "LOG_FORMAT": "json"}
    with emulated(HANDLER, python, runtime=runtime, MODEL_PATH="models", DEFAULT_MODEL="digits", **keys) as emulator:
        answer = emulator.invoke(event)
        rows = emulator.invoke({"features": event["inputs"][0]["data"]})
        raised = emulator.invoke(event | {"model_name": "nobody"})
        returned = emulator.invoke(event | {"model_name": "nobody", "on_error": "return"})
        unknown = emulator.invoke({"model_name": "digits"})
        log = emulator.log
    assert answer == {"model_name": "digits", "model_version": "2", "id": event["id"], "outputs": SEVEN}
    assert rows["predictions"][0]["label"] == 7
    assert raised["errorType"] == "ModelNotFound"
    assert returned == {"error": raised["errorMessage"], "status": 404}
    assert raised["errorMessage"].startswith("unknown model 'nobody'; the repository has: ")
    assert (unknown["errorType"], "got the keys model_name;" in unknown["errorMessage"]) == ("UnknownEvent", True)
    written = [json.loads(line) for line in log.splitlines() if line.startswith("{") and '"status"' in line]
    assert [line["status"] for line in written if "path" in line] == [200, 200, 404, 404]


def test_what_is_not_the_data_plane(examples: Emulator) -> None:
    answer = examples.invoke(events.load("http-api-get"))
    assert (answer["statusCode"], json.loads(answer["body"])["name"]) == (200, "digits")


ERRORS = {
    "unknown route": (events.http_api("GET", "/v3"), 404, "there is nothing at '/v3'"),
    "unknown model": (events.http_api("POST", "/v2/models/nobody/infer", b"{}", JSON), 404, "unknown model 'nobody'"),
    "not JSON": (events.http_api("POST", INFER, b"{", JSON), 400, "not JSON"),
    "not base64": (events.http_api("POST", INFER) | {"body": "A", "isBase64Encoded": True}, 400, "isn't the base64"),
    "too large": (events.http_api("POST", INFER) | {"body": "A" * (MAX_BODY + 4)}, 413, f"{MAX_BODY}"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_are_the_protocols(examples: Emulator, name: str) -> None:
    event, status, words = ERRORS[name]
    got, text = error(examples.invoke(event))
    assert got == status
    assert words in text


@pytest.mark.parametrize("name", ["s3", "sqs-s3", "eventbridge-schedule"])
def test_other_events_are_named_by_their_keys(examples: Emulator, name: str) -> None:
    event = events.load(name)
    failure = examples.invoke(event)
    assert failure["errorType"] == "UnknownEvent"
    assert f"got the keys {', '.join(sorted(event))}" in failure["errorMessage"]


def test_a_bug_does_not_end_the_process(examples: Emulator) -> None:
    examples.invoke(events.load("http-api"))
    before = examples.runtimes()
    assert examples.invoke([])["errorType"] == "UnknownEvent"
    assert digit(examples.invoke(events.load("http-api"))) == [7]
    assert examples.runtimes() == before


def test_the_init_is_within_lambdas_limit(examples: Emulator) -> None:
    examples.invoke(events.load("http-api"))
    assert examples.init_ms < LIMIT * 1000


def test_a_thousand_requests_leave_nothing_behind(examples: Emulator) -> None:
    bodies = [json.dumps(events.load(name)).encode() for name in events.HTTP]

    def resident() -> int:
        [pid] = examples.runtimes()
        return int(Path(f"/proc/{pid}/status").read_text().partition("VmRSS:")[2].split()[0])

    for number in range(200):
        examples.invoke_raw(bodies[number % len(bodies)])
    before = resident()
    for number in range(1000):
        examples.invoke_raw(bodies[number % len(bodies)])
    assert resident() <= before * 1.02


SECONDS = 5
LIVE = events.http_api("GET", "/v2/health/live")


@pytest.fixture(scope="session")
def tiny(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    folder = onnx_models.write(
        tmp_path_factory.mktemp("tiny"),
        {
            "slow.onnx": onnx_models.slow(),
            "echo.onnx": onnx_models.identity("FP32", ("n",)),
            "words.onnx": onnx_models.identity("BYTES", ("n",)),
        },
    )
    with emulated(HANDLER, python, timeout=SECONDS, MODEL_PATH=str(folder)) as emulator:
        # The emulator takes the init's time off that of the first invocation.
        emulator.invoke(LIVE)
        yield emulator


def floats(count: int) -> tuple[bytes, dict[str, str]]:
    """A request that a model `echo` answers with as much."""
    tensor = {"name": "x", "shape": [count], "datatype": "FP32", "parameters": {"binary_data_size": 4 * count}}
    header = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    return header + bytes(4 * count), {HEADER_LENGTH: str(len(header))}


def test_what_lambda_has_room_for_comes_back(tiny: Emulator) -> None:
    count = (MAX_ANSWER - 1000) // 4
    answer = tiny.invoke(events.http_api("POST", "/v2/models/echo/infer", *floats(count)))
    assert answer["statusCode"] == 200, answer["body"][:500]
    assert events.body(answer).endswith(bytes(4 * count))


def test_an_answer_over_lambdas_limit_says_so(tiny: Emulator) -> None:
    # Zeros are small in gzip: this request is in the limit that its answer is over.
    body, headers = floats(MAX_ANSWER // 4 + 1)
    event = events.http_api(
        "POST", "/v2/models/echo/infer", gzip.compress(body), headers | {"content-encoding": "gzip"}
    )
    status, text = error(tiny.invoke(event))
    assert status == 413
    assert str(MAX_ANSWER) in text


TURNS = {"inputs": [{"name": "turns", "datatype": "INT64", "shape": [1], "data": [10**9]}]}


def said(size: int) -> dict[str, Any]:
    """A direct invocation that a model `words` answers with as much text."""
    tensor = {"name": "x", "shape": [1], "datatype": "BYTES", "data": ["a" * size]}
    return {"model_name": "words", "inputs": [tensor], "outputs": [{"name": "y"}]}


def test_the_largest_response_to_a_direct_invocation(tiny: Emulator) -> None:
    """It comes back, and one byte more is an error that says so."""
    most, _ = MAX_DIRECT
    around = len(json.dumps(tiny.invoke(said(0)), separators=(",", ":")))
    answer = tiny.invoke_raw(json.dumps(said(most - around)).encode())
    assert (len(answer), answer.startswith(b'{"model_name":"words"')) == (most, True)
    failure = tiny.invoke(said(most - around + 1))
    assert (failure["errorType"], f"over {most} (what Lambda passes on)" in failure["errorMessage"]) == (
        "ResponseTooLarge",
        True,
    )


def test_a_direct_invocation_ends_before_lambda_ends_it(tiny: Emulator) -> None:
    before = tiny.runtimes()
    failure = tiny.invoke({"model_name": "slow", **TURNS})
    assert failure["errorType"] == "InferenceTimeout"
    assert "the platform would have ended the request" in failure["errorMessage"]
    assert tiny.runtimes() == before


SLOW = events.http_api("POST", "/v2/models/slow/infer", json.dumps(TURNS).encode(), JSON)


def test_a_prediction_ends_before_lambda_ends_it(tiny: Emulator) -> None:
    before, start = tiny.runtimes(), time.monotonic()
    status, text = error(tiny.invoke(SLOW))
    assert time.monotonic() - start < SECONDS
    assert status == 504
    assert "the platform would have ended the request" in text
    # Lambda would have ended the process.
    assert tiny.runtimes() == before


def test_a_crash_is_followed_by_a_new_process(tiny: Emulator) -> None:
    [crashing] = tiny.runtimes()
    killer = threading.Timer(0.5, os.kill, (crashing, signal.SIGSEGV))
    killer.start()
    assert tiny.invoke(SLOW)["errorType"] == "Runtime.ExitError"
    killer.join()
    assert tiny.invoke(LIVE)["statusCode"] == 200
    assert crashing not in tiny.runtimes()


def test_a_setting_that_can_not_be_used_is_said_by_the_init(python: Path) -> None:
    with emulated(HANDLER, python, MODEL_TIMEOUT="soon") as emulator:
        failure = emulator.invoke(events.load("http-api"))
    assert (failure["errorType"], failure["errorMessage"]) == (
        "InvalidSettings",
        "MODEL_TIMEOUT must be a number, got 'soon'",
    )


def test_a_failure_of_a_model_is_logged_with_the_gateways_id(python: Path, repository: Callable[..., str]) -> None:
    with emulated(HANDLER, python, MODEL_PATH=repository({"failing.onnx": onnx_models.failing()})) as emulator:
        body = b'{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":[1]}]}'
        event = events.http_api("POST", "/v2/models/failing/infer", body, JSON, request_id="JKJaXmPLvHcESHA=")
        status, text = error(emulator.invoke(event))
        assert (status, text.endswith("(request JKJaXmPLvHcESHA=)")) == (500, True)
        assert len([line for line in emulator.log.splitlines() if "JKJaXmPLvHcESHA=" in line]) == 1


def test_a_key_is_asked_for(python: Path) -> None:
    keys: dict[str, Any] = {"API_KEYS": sha256(b"open sesame").hexdigest()}
    with emulated(HANDLER, python, MODEL_PATH="models", DEFAULT_MODEL="digits", **keys) as emulator:
        event = events.load("http-api")
        sent = [event["headers"] | key for key in ({}, {"x-api-key": "wrong"}, {"x-api-key": "open sesame"})]
        statuses = [emulator.invoke({**event, "headers": headers})["statusCode"] for headers in sent]
        assert emulator.invoke(LIVE)["statusCode"] == 200
    assert statuses == [401, 403, 200]


@pytest.mark.parametrize("name", [path.stem for path in events.FOLDER.glob("*.json")])
def test_every_sample_can_be_invoked_by_hand(name: str) -> None:
    """As `make invoke` does it."""
    if not PYTHONS:
        pytest.skip("no Python with the function's packages: make test-aws installs them")
    command = [sys.executable, str(ROOT / "tests/helpers/invoke.py"), str(events.FOLDER / f"{name}.json")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    if name in events.HTTP:
        assert (answer["statusCode"], b'"digits"' in events.body(answer)) == (200, True)
    if name == "direct":
        assert answer["outputs"] == SEVEN
    assert "init" in done.stderr.splitlines()[-1]

"""Messages to workers: every form, and what each bad one is told."""

import json
from typing import Any

import pytest
from inferry.errors import DataRefused, InferryError, InvalidRequest, InvalidSettings
from inferry.jobs.formats.blocks import Cursor
from inferry.jobs.runner import Job, Slice
from inferry.jobs.runs.plan import described
from inferry.settings import Settings
from inferry.worker.messages import MessageReader, Prediction

INPUT, OUTPUT, OTHERS = "s3://files/input", "s3://files/output", "s3://others/data"
SETTINGS = {"batch_input": f"{INPUT}/", "batch_output": OUTPUT, "data_prefixes": (OTHERS,)}
ID = "059f36b4-87a3-44ab-83d2-661970000001"


def messages(**settings: Any) -> MessageReader:
    return MessageReader(Settings(**SETTINGS | settings))


FILES: dict[str, tuple[dict[str, Any], str, Job]] = {
    "a folder names the model": (
        {},
        f"{INPUT}/digits/today.jsonl",
        Job(input=f"{INPUT}/digits/today.jsonl", output=f"{OUTPUT}/digits/", model="digits"),
    ),
    "the first folder does": (
        {},
        f"{INPUT}/digits/2026/a.csv",
        Job(input=f"{INPUT}/digits/2026/a.csv", output=f"{OUTPUT}/digits/2026/", model="digits"),
    ),
    "no folder: the default model": (
        {},
        f"{INPUT}/today.jsonl",
        Job(input=f"{INPUT}/today.jsonl", output=f"{OUTPUT}/"),
    ),
    "BATCH_MODEL": (
        {"batch_model": "encoder"},
        f"{INPUT}/digits/a.csv",
        Job(input=f"{INPUT}/digits/a.csv", output=f"{OUTPUT}/digits/", model="encoder"),
    ),
    "any text": (
        {},
        f"{INPUT}/digits/ü 1+1=%32?#.jsonl",
        Job(input=f"{INPUT}/digits/ü 1+1=%32?#.jsonl", output=f"{OUTPUT}/digits/", model="digits"),
    ),
    "Azure": (
        {"batch_input": "az://input", "batch_output": "az://output"},
        "az://input/digits/a.csv",
        Job(input="az://input/digits/a.csv", output="az://output/digits/", model="digits"),
    ),
    "local": (
        {"batch_input": "/nowhere/in", "batch_output": "file:///nowhere/out"},
        "/nowhere/in/a.csv",
        Job(input="/nowhere/in/a.csv", output="file:///nowhere/out/"),
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_files(name: str) -> None:
    settings, url, job = FILES[name]
    assert messages(**settings).of_file(url) == job


def test_the_mark_of_a_folder_is_no_file() -> None:
    assert messages().of_file(f"{INPUT}/digits/") is None


FILE = f"{INPUT}/digits/a.csv"
JOBS: dict[str, tuple[dict[str, Any], Job]] = {
    "everything": (
        {
            "model": "digits",
            "version": "2",
            "input": f"{OTHERS}/a.txt",
            "output": f"{OUTPUT}/b/",
            "format": "csv",
            "to": "jsonl",
            "keep": ["id"],
            "max_errors": 0.1,
            "batch_size": 7,
            "header": False,
        },
        Job(
            model="digits",
            version="2",
            input=f"{OTHERS}/a.txt",
            output=f"{OUTPUT}/b/",
            format="csv",
            to="jsonl",
            keep=("id",),
            max_errors=0.1,
            batch_size=7,
            header=False,
        ),
    ),
    "a part": (
        {"input": FILE, "part": {"start": [100, 2345], "stop": 200}},
        Job(input=FILE, output=f"{OUTPUT}/digits/", model="digits", part=Slice(Cursor(100, 2345), 200)),
    ),
    "the last part": (
        {"input": FILE, "part": {"start": [0, 0], "stop": None}},
        Job(input=FILE, output=f"{OUTPUT}/digits/", model="digits", part=Slice(Cursor(), None)),
    ),
    "as for a file": (
        {"input": f"{INPUT}/digits/a.csv"},
        Job(input=f"{INPUT}/digits/a.csv", output=f"{OUTPUT}/digits/", model="digits"),
    ),
    "another model, another place": (
        {"input": f"{INPUT}/digits/a.csv", "model": "encoder", "output": f"{OTHERS}/x.jsonl"},
        Job(input=f"{INPUT}/digits/a.csv", output=f"{OTHERS}/x.jsonl", model="encoder"),
    ),
    "right in the output": (
        {"input": f"{INPUT}/a.csv", "output": f"{OUTPUT}/"},
        Job(input=f"{INPUT}/a.csv", output=f"{OUTPUT}/"),
    ),
}


@pytest.mark.parametrize("name", JOBS)
def test_jobs(name: str) -> None:
    """Also those that are described by a plan."""
    document, job = JOBS[name]
    assert messages().read(json.dumps(document).encode(), ID) == job
    assert messages().read(json.dumps(described(job)).encode(), ID) == job


@pytest.mark.parametrize(
    ("members", "model", "version", "name"),
    [
        ({"model_name": "digits"}, "digits", None, ID),
        ({"model_name": "digits", "model_version": "2", "id": "mine-1.a"}, "digits", "2", "mine-1.a"),
        ({"model_name": "", "model_version": "", "id": "../up"}, "", None, ID),
        ({"model_name": "digits", "id": "x" * 101}, "digits", None, ID),
        ({"model_name": "digits", "id": 7}, "digits", None, ID),
        ({"model_name": "digits", "id": "a.jsonl.report"}, "digits", None, ID),
    ],
)
def test_requests(members: dict[str, Any], model: str, version: str | None, name: str) -> None:
    body = json.dumps({**members, "inputs": []}).encode()
    assert messages().read(body, ID) == Prediction(model, version, body, name)
    assert messages().response_url(name) == f"{OUTPUT}/answers/{name}.json"


SHAPES = (
    "a message must be a JSON object: a job with 'input', 'output' and 'model', or a request of the protocol with "
    "'model_name' and 'inputs'; "
)
NO_PLACE = "or one of DATA_PREFIXES, or has a name that can't be used"
MEMBERS = (
    "input, output, model, version, format, to, keep, max_errors, batch_size, header, columns, constants, drop, "
    "delimiter, decimal, quote, escape, null, part"
)
PART = "'part' of a job must be an object with the cursor 'start' and the row 'stop', as a plan has it"
BAD: dict[str, tuple[Any, type[InferryError], str]] = {
    "text": (b"hello", InvalidRequest, f"{SHAPES}this is no JSON"),
    "not UTF-8": (b"\xff", InvalidRequest, f"{SHAPES}this is no JSON"),
    "empty": (b"", InvalidRequest, f"{SHAPES}this is no JSON"),
    "list": ([1], InvalidRequest, f"{SHAPES}got an array"),
    "nothing": ({}, InvalidRequest, f"{SHAPES}got an object with nothing in it"),
    "another object": ({"Type": 1, "b": 2}, InvalidRequest, f"{SHAPES}got an object with 'Type', 'b'"),
    "half a request": ({"model_name": "m"}, InvalidRequest, f"{SHAPES}got an object with 'model_name'"),
    "model": ({"input": FILE, "model": 7}, InvalidRequest, "'model' of a job must be a string, got the number 7"),
    "keep": (
        {"input": FILE, "keep": "id"},
        InvalidRequest,
        "'keep' of a job must be an array of strings, got the string 'id'",
    ),
    "errors": (
        {"input": FILE, "max_errors": 1.5},
        InvalidRequest,
        "'max_errors' of a job must be a count, or a share from 0 to 1, got the number 1.5",
    ),
    "batch": (
        {"input": FILE, "batch_size": True},
        InvalidRequest,
        "'batch_size' of a job must be a number of rows, got true",
    ),
    "unknown": ({"input": FILE, "parts": 1}, InvalidRequest, f"a job has no member 'parts'; it may have {MEMBERS}"),
    "part": ({"input": FILE, "part": 1}, InvalidRequest, f"{PART}, got the number 1"),
    "half a part": ({"input": FILE, "part": {"start": [0, 0]}}, InvalidRequest, f"{PART}, got an object"),
    "half a cursor": (
        {"input": FILE, "part": {"start": [0], "stop": None}},
        InvalidRequest,
        f"{PART}, got an object",
    ),
    "part before the start": (
        {"input": FILE, "part": {"start": [0, 0], "stop": -1}},
        InvalidRequest,
        f"{PART}, got an object",
    ),
    "no output": (
        {"input": f"{OTHERS}/a.csv"},
        InvalidRequest,
        f"name the output of '{OTHERS}/a.csv', which is not below BATCH_INPUT",
    ),
    "another place": (
        {"input": "file:///etc/passwd"},
        DataRefused,
        f"the input 'file:///etc/passwd' is not below BATCH_INPUT {NO_PLACE}",
    ),
    "query": (
        {"input": f"{INPUT}/digits/what?/a.csv"},
        DataRefused,
        f"the input '{INPUT}/digits/what?/a.csv' has a ? in a folder's name, where URLs of stores have a query",
    ),
    "climbing": (
        {"input": f"{INPUT}/../models/a.csv"},
        DataRefused,
        f"the input '{INPUT}/../models/a.csv' is not below BATCH_INPUT {NO_PLACE}",
    ),
    "output elsewhere": (
        {"input": FILE, "output": "s3://elsewhere/"},
        DataRefused,
        f"the output 's3://elsewhere/' is not below BATCH_OUTPUT {NO_PLACE}",
    ),
    "output climbing": (
        {"input": FILE, "output": f"{OUTPUT}/../input/"},
        DataRefused,
        f"the output '{OUTPUT}/../input/' is not below BATCH_OUTPUT {NO_PLACE}",
    ),
    "model name": (
        {"model_name": 7, "inputs": []},
        InvalidRequest,
        "'model_name' must be a string, got the number 7",
    ),
    "version": (
        {"model_name": "m", "model_version": 2, "inputs": []},
        InvalidRequest,
        "'model_version' must be a string, got the number 2",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_said(name: str) -> None:
    document, error, text = BAD[name]
    with pytest.raises(InferryError) as caught:
        messages().read(document if isinstance(document, bytes) else json.dumps(document).encode(), ID)
    assert (type(caught.value), str(caught.value)) == (error, text)


@pytest.mark.parametrize("key", ["digits//a.csv", ".hidden/a.csv", "../output/a.csv", "digits\\a.csv"])
def test_a_file_whose_name_can_not_be_used(key: str) -> None:
    with pytest.raises(DataRefused, match="or has a name that can't be used"):
        messages().of_file(f"{INPUT}/{key}")


@pytest.mark.parametrize("output", [INPUT, f"{INPUT}/output", f"{INPUT}/a/b/"])
def test_results_do_not_become_inputs(output: str) -> None:
    with pytest.raises(InvalidSettings, match="its results would be read as input again"):
        messages(batch_output=output)
    with pytest.raises(InvalidRequest, match="its results would be read as input again"):
        messages(data_prefixes=("s3://files",)).read(
            json.dumps({"input": FILE, "output": f"{output.rstrip('/')}/"}).encode(), ID
        )


def test_results_do_not_become_inputs_where_the_input_is_below_the_output() -> None:
    nested = messages(batch_input=f"{OUTPUT}/in")
    with pytest.raises(InvalidRequest, match="its results would be read as input again"):
        nested.of_file(f"{OUTPUT}/in/in/a.csv")


def test_without_settings() -> None:
    nowhere = MessageReader(Settings())
    with pytest.raises(DataRefused, match="is not below BATCH_INPUT or one of"):
        nowhere.of_file("s3://b/a.csv")
    with pytest.raises(InvalidRequest, match="BATCH_OUTPUT, where results and responses go, isn't set"):
        nowhere.response_url("a")
    with pytest.raises(InvalidRequest, match="BATCH_OUTPUT"):
        messages(batch_output="").of_file(FILE)

"""Tensors by reference: one body over every store, and what may not be named."""

import asyncio
import gzip
import json
import os
import re
import secrets
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import ml_dtypes
import numpy as np
import onnx_models
import pytest
import tritonclient.http as triton
from arrayfiles import LIES, npy
from inferry.http.asgi import ASGIApp
from inferry.protocol.references import _decoded
from inferry.protocol.tensors import DATATYPES
from inferry.protocol.types import Reference
from inferry.storage.files import open_files
from servers import ask, serving

FILES = {
    "m.onnx": onnx_models.identity("FP32", ("n", 2)),
    "pair.onnx": onnx_models.echo({"a": ("FP32", ("n",)), "b": ("INT64", ("m",))}),
    "slow.onnx": onnx_models.slow(),
}
DATATYPE_FILES = {f"{name}.onnx": onnx_models.identity(name, ("n",)) for name in DATATYPES}


@dataclass
class Place:
    """A prefix that may be named, and what is below it."""

    url: str

    def put(self, name: str, content: bytes) -> str:
        with open_files(self.url).write(name) as file:
            file.write(content)
        return f"{self.url}/{name}"

    def get(self, name: str) -> bytes | None:
        return open_files(self.url).read(name)


@pytest.fixture(params=["local", "file", "memory", "s3", "az", "gs"])
def place(request: pytest.FixtureRequest, tmp_path: Path, new_bucket: Callable[[str], str]) -> Place:
    if request.param in ("local", "file"):
        return Place(f"{'file://' if request.param == 'file' else ''}{tmp_path}/data/sub")
    if request.param == "memory":
        return Place(f"memory://data-{secrets.token_hex(4)}")
    return Place(f"{new_bucket(request.param)}/some/prefix")


@pytest.fixture
def folder(tmp_path: Path) -> Place:
    return Place(str(tmp_path / "data"))


def infer(app: ASGIApp, model: str, inputs: list[dict[str, Any]], **members: Any) -> httpx.Response:
    return ask(app, "POST", f"/v2/models/{model}/infer", json={"inputs": inputs, **members})


def at(uri: str, name: str = "x", datatype: str = "FP32", shape: tuple[int, ...] = (2, 2)) -> dict[str, Any]:
    return {"name": name, "shape": shape, "datatype": datatype, "parameters": {"uri": uri}}


VALUES = np.array([[1, 2], [3, 4]], np.float32)


@pytest.mark.parametrize("suffix", ["npy", "bin"])
def test_in_and_out(app: Callable[..., ASGIApp], place: Place, suffix: str) -> None:
    served = app(FILES, data_prefixes=(f"{place.url}/",))
    given = place.put(f"in/x.{suffix}", npy(VALUES) if suffix == "npy" else VALUES.tobytes())
    wanted = f"{place.url}/out/deep/y.{suffix}"
    answer = infer(served, "m", [at(given)], outputs=[{"name": "y", "parameters": {"uri": wanted}}], id="7")
    assert (answer.status_code, answer.json()) == (
        200,
        {
            "model_name": "m",
            "model_version": "1",
            "outputs": [{"name": "y", "datatype": "FP32", "shape": [2, 2]}],
            "parameters": {"uri:y": wanted},
            "id": "7",
        },
    )
    written = place.get(f"out/deep/y.{suffix}")
    assert written == (npy(VALUES) if suffix == "npy" else VALUES.tobytes())
    # What was written can be read again, and is replaced.
    again = infer(served, "m", [at(wanted)], outputs=[{"name": "y", "parameters": {"uri": given}}])
    assert again.status_code == 200
    assert place.get(f"in/x.{suffix}") == written


def test_nothing_is_there(app: Callable[..., ASGIApp], place: Place) -> None:
    uri = f"{place.url}/nothing.npy"
    answer = infer(app(FILES, data_prefixes=(place.url,)), "m", [at(uri)])
    assert (answer.status_code, answer.json()) == (400, {"error": f"there is no input 'x' at {uri!r}"})


def test_no_two_tensors_have_one_place(app: Callable[..., ASGIApp], place: Place) -> None:
    """Nothing is run, nothing is written, and what is there stays."""
    served = app(FILES, data_prefixes=(place.url,))
    given = place.put("a.bin", np.zeros(4, np.float32).tobytes())
    inputs = [at(given, "a", "FP32", (4,)), {"name": "b", "shape": [1], "datatype": "INT64", "data": [5]}]
    for uri, other in ((f"{place.url}/y.bin", "output 'a_out'"), (given, "input 'a'")):
        wanted = [{"name": "a_out", "parameters": {"uri": f"{place.url}/y.bin"}}]
        wanted += [{"name": "b_out", "parameters": {"uri": uri}}]
        answer = infer(served, "pair", inputs, outputs=wanted)
        text = f"output 'b_out' would replace {other}, as both are at {uri!r}: give each a URI of its own"
        assert (answer.status_code, answer.json()) == (400, {"error": text})
    assert (place.get("y.bin"), place.get("a.bin")) == (None, bytes(16))
    assert ask(served, "GET", "/v2/models/pair/stats").json()["model_stats"][0]["execution_count"] == 0
    answer = infer(served, "pair", inputs, outputs=[wanted[0], {"name": "b_out", "parameters": {"uri": f"{given}2"}}])
    assert (answer.status_code, place.get("y.bin"), place.get("a.bin2")) == (200, bytes(16), b"\5" + bytes(7))


def test_one_place_of_two_names(app: Callable[..., ASGIApp], folder: Place, tmp_path: Path) -> None:
    """Through a link, and with the scheme or without."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data/there").mkdir()
    (tmp_path / "data/link").symlink_to("there")
    served = app(FILES, data_prefixes=(folder.url,))
    inputs = [
        {"name": "a", "shape": [1], "datatype": "FP32", "data": [1]},
        {"name": "b", "shape": [1], "datatype": "INT64", "data": [5]},
    ]
    for uri in (f"file://{folder.url}/there/y", f"{folder.url}/link/y"):
        wanted = [{"name": "a_out", "parameters": {"uri": f"{folder.url}/there/y"}}]
        answer = infer(served, "pair", inputs, outputs=[*wanted, {"name": "b_out", "parameters": {"uri": uri}}])
        text = f"output 'b_out' would replace output 'a_out', as both are at {uri!r}: give each a URI of its own"
        assert (answer.status_code, answer.json()) == (400, {"error": text})
    assert list((tmp_path / "data/there").iterdir()) == []


def test_mixed_with_other_tensors(app: Callable[..., ASGIApp], folder: Place) -> None:
    served = app(FILES, data_prefixes=(folder.url,))
    uri = folder.put("b.npy", npy(np.array([5, 6, 7])))
    body = json.dumps(
        {
            "inputs": [
                at(uri, "b", "INT64", (3,)),
                {"name": "a", "shape": [1], "datatype": "FP32", "parameters": {"binary_data_size": 4}},
            ],
            "outputs": [
                {"name": "b_out"},
                {"name": "a_out", "parameters": {"uri": f"{folder.url}/a", "binary_data": True}},
            ],
        }
    ).encode()
    names = ask(served, "GET", "/v2/models/pair").json()["outputs"]
    body = body.replace(b"b_out", names[1]["name"].encode()).replace(b"a_out", names[0]["name"].encode())
    headers = {"inference-header-content-length": str(len(body))}
    content = body + np.float32(1.5).tobytes()
    answer = ask(served, "POST", "/v2/models/pair/infer", content=content, headers=headers)
    assert answer.status_code == 200, answer.text
    assert [output.get("data") for output in answer.json()["outputs"]] == [[5, 6, 7], None]
    assert folder.get("a") == np.float32(1.5).tobytes()


SAMPLES = {name: np.array([0, 1, 1], datatype.dtype) for name, datatype in DATATYPES.items() if name != "BYTES"}


@pytest.mark.parametrize("name", DATATYPES)
def test_datatypes(app: Callable[..., ASGIApp], folder: Place, name: str) -> None:
    served = app({f"{name}.onnx": DATATYPE_FILES[f"{name}.onnx"]}, data_prefixes=(folder.url,))
    raw = b"\1\0\0\0a\0\0\0\0\2\0\0\0\xc3\xa9" if name == "BYTES" else SAMPLES[name].tobytes()
    given = at(folder.put("raw", raw), "x", name, (3,))
    answer = infer(served, name, [given], outputs=[{"name": "y", "parameters": {"uri": f"{folder.url}/raw2"}}])
    assert answer.status_code == 200, answer.text
    assert folder.get("raw2") == raw
    wanted = [{"name": "y", "parameters": {"uri": f"{folder.url}/y.npy"}}]
    answer = infer(served, name, [given], outputs=wanted)
    if name in ("BYTES", "BF16"):
        text = f"output 'y' is {name}, which a NumPy file can't hold: use another name, for raw bytes"
        assert (answer.status_code, answer.json()) == (400, {"error": text})
        return
    assert folder.get("y.npy") == npy(SAMPLES[name])
    # The other byte order, and columns first.
    swapped = SAMPLES[name].astype(SAMPLES[name].dtype.newbyteorder(">"))
    answer = infer(served, name, [at(folder.put("big.npy", npy(swapped)), "x", name, (3,))], outputs=wanted)
    assert answer.status_code == 200, answer.text
    assert folder.get("y.npy") == npy(SAMPLES[name])


def test_columns_first(app: Callable[..., ASGIApp], folder: Place) -> None:
    uri = folder.put("x.npy", npy(np.asfortranarray(VALUES)))
    answer = infer(app(FILES, data_prefixes=(folder.url,)), "m", [at(uri)])
    assert answer.json()["outputs"][0]["data"] == [1, 2, 3, 4]


HEADER = npy(VALUES)[:-16]
BROKEN: dict[str, tuple[str, bytes, str]] = {
    "short": ("x", b"\0" * 15, "input byte size mismatch for input 'x' at '{uri}'. Expected 16 bytes for shape [2, 2]"),
    "no npy": ("x.npy", VALUES.tobytes(), "input 'x' at '{uri}' is not an NPY file: "),
    "empty": ("x.npy", b"", "input 'x' at '{uri}' is not an NPY file: "),
    "version": ("x.npy", b"\x93NUMPY\x09\x00" + HEADER[8:], "input 'x' at '{uri}' is not an NPY file: "),
    "cut off": (
        "x.npy",
        npy(VALUES)[:-1],
        "input 'x' at '{uri}' is cut off: float32 [2, 2] has 16 bytes, 15 are behind",
    ),
    "longer": ("x.npy", npy(VALUES) + b"\0", "input 'x' at '{uri}' is longer than its header says: float32 [2, 2]"),
    "shape": ("x.npy", npy(VALUES[:1]), "input 'x' at '{uri}' holds float32 [1, 2], but the request says FP32 [2, 2]"),
    "dtype": ("x.npy", npy(VALUES.astype(int)), "input 'x' at '{uri}' holds int64 [2, 2], but the request says FP32"),
    "integers for floats": (
        "x.npy",
        npy(VALUES.astype(np.int32)),
        "input 'x' at '{uri}' holds int32 [2, 2], but the request says FP32",
    ),
    "pickle": ("x.npy", npy(np.array([[{}, {}], [{}, {}]], object)), "input 'x' at '{uri}' holds Python objects"),
    "bfloat16": ("x.npy", npy(VALUES.astype(ml_dtypes.bfloat16)), "input 'x' at '{uri}' holds |V2 [2, 2], but"),
    **{name: ("x.npy", content, "") for name, (content, _) in LIES.items()},
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_objects(app: Callable[..., ASGIApp], folder: Place, case: str) -> None:
    name, content, text = BROKEN[case]
    uri = folder.put(name, content)
    answer = infer(app(FILES, data_prefixes=(folder.url,)), "m", [at(uri)])
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"].startswith(text.replace("{uri}", uri)), answer.text
    assert LIES.get(case, ("", ""))[1] in answer.json()["error"]


def test_a_bool_other_than_0_and_1(app: Callable[..., ASGIApp], folder: Place) -> None:
    uri = folder.put("x.npy", npy(np.array([False, True]))[:-1] + b"\2")
    files = {"m.onnx": onnx_models.identity("BOOL", ("n",))}
    answer = infer(app(files, data_prefixes=(folder.url,)), "m", [at(uri, "x", "BOOL", (2,))])
    assert answer.status_code == 400
    assert answer.json()["error"] == f"a BOOL of input 'x' at '{uri}' is a byte other than 0 and 1"


@pytest.mark.parametrize("name", ["x.npy", "x"])
def test_what_was_read_starts_on_the_boundary(name: str) -> None:
    for length in range(1, 40):
        array = np.zeros(length, np.float32)
        given = Reference("x", DATATYPES["FP32"], (length,), name)
        content = npy(array) if name.endswith(".npy") else array.tobytes()
        assert _decoded(given, content, "x").__array_interface__["data"][0] % 64 == 0


def test_nothing_is_read_for_what_may_not_be_written(
    app: Callable[..., ASGIApp], folder: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inferry.protocol.references.References._fetch", lambda *_: pytest.fail("read"))
    wanted = [{"name": "y", "parameters": {"uri": "/etc/y"}}]
    answer = infer(app(FILES, data_prefixes=(folder.url,)), "m", [at(f"{folder.url}/x")], outputs=wanted)
    assert (answer.status_code, answer.json()) == (403, {"error": refusal("/etc/y")})


def refusal(uri: str, empty: bool = False) -> str:
    hint = ", which is empty; set it to the prefixes that requests may name" if empty else ""
    return f"{uri!r} may not be read or written: name an object below one of DATA_PREFIXES{hint}"


OUTSIDE = [
    "/etc/passwd",
    "file:///etc/passwd",
    "{folder}",
    "{folder}/",
    "{folder}2/x",
    "{folder}/../other",
    "{folder}/a/../../other",
    "{folder}/./x",
    "{folder}//x",
    "{folder}/.hidden",
    "{folder}/a\\..\\x",
    "{folder}/a\u0000",
    "{folder}/link/passwd",
    "{folder}/linked",
    "s3://bucket/private/x",
    "s3://bucket/tensors",
    "s3://bucket/tensors2/x",
    "s3://bucket/tensors/../private",
    "S3://bucket/tensors/x",
    "az://bucket/tensors/x",
    "https://bucket/tensors/x",
    "x",
]


@pytest.mark.parametrize("pattern", OUTSIDE)
def test_what_is_elsewhere_is_not_touched(app: Callable[..., ASGIApp], folder: Place, pattern: str) -> None:
    folder.put("x", VALUES.tobytes())
    root = Path(folder.url)
    (root / "link").symlink_to("/etc")
    (root / "linked").symlink_to("/etc/passwd")
    (root.parent / "other").write_bytes(VALUES.tobytes())
    uri = pattern.replace("{folder}", folder.url)
    served = app(FILES, data_prefixes=(folder.url, "s3://bucket/tensors/"))
    read = infer(served, "m", [at(uri)])
    written = infer(served, "m", [at(f"{folder.url}/x")], outputs=[{"name": "y", "parameters": {"uri": uri}}])
    for answer in (read, written):
        assert (answer.status_code, answer.json()) == (403, {"error": refusal(uri)})
    assert (root.parent / "other").read_bytes() == VALUES.tobytes()


def test_a_link_that_stays_inside(app: Callable[..., ASGIApp], folder: Place) -> None:
    folder.put("x", VALUES.tobytes())
    (Path(folder.url) / "same").symlink_to("x")
    assert infer(app(FILES, data_prefixes=(folder.url,)), "m", [at(f"{folder.url}/same")]).status_code == 200


@pytest.mark.parametrize(
    ("name", "reason"),
    [("a" * 300, "file name too long"), ("file/x", "not a directory"), ("folder", "is a directory")],
)
def test_names_that_no_file_can_have(app: Callable[..., ASGIApp], folder: Place, name: str, reason: str) -> None:
    """The request's fault, and no reason to tell where the server writes."""
    x = folder.put("x", VALUES.tobytes())
    folder.put("file", b"")
    folder.put("folder/file", b"")
    served, uri = app(FILES, data_prefixes=(folder.url,)), f"{folder.url}/{name}"
    answer = infer(served, "m", [at(x)], outputs=[{"name": "y", "parameters": {"uri": uri}}])
    assert (answer.status_code, answer.json()) == (400, {"error": f"{uri!r} can't exist: {reason}"})
    answer = infer(served, "m", [at(uri)])
    assert answer.status_code == 400
    assert re.match(r"there is no input 'x'|input 'x'.* can't exist: ", answer.json()["error"])


def test_an_output_below_more_folders_than_python_calls_itself(app: Callable[..., ASGIApp], folder: Place) -> None:
    x, name = folder.put("x", VALUES.tobytes()), "d/" * 1200 + "y"
    served, uri = app(FILES, data_prefixes=(folder.url,)), f"{folder.url}/{name}"
    answer = infer(served, "m", [at(x)], outputs=[{"name": "y", "parameters": {"uri": uri}}])
    stored = folder.get(name)
    subprocess.run(["rm", "-r", f"{folder.url}/d"], check=True)  # pytest would call itself for each, too
    assert (answer.status_code, stored) == (200, VALUES.tobytes())


def test_nothing_may_be_named_by_default(app: Callable[..., ASGIApp], folder: Place) -> None:
    uri = folder.put("x", VALUES.tobytes())
    answer = infer(app(FILES), "m", [at(uri)])
    assert (answer.status_code, answer.json()) == (403, {"error": refusal(uri, empty=True)})


@pytest.mark.parametrize(
    "path", ["/v2/models/pair/infer", "/v2/models/pair/versions/1/infer", "/v2/models/pair/requests"]
)
@pytest.mark.parametrize("prefixes", [(), ("/data",)], ids=["nowhere", "somewhere"])
def test_a_request_with_more_inputs_than_its_model(
    app: Callable[..., ASGIApp],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    prefixes: tuple[str, ...],
) -> None:
    """A few kB of gzip hold so many that it has to end before anything is made of them."""
    monkeypatch.setattr("inferry.protocol.decoder.Reference", lambda *_: pytest.fail("made"))
    places = {"batch_input": str(tmp_path / "in"), "batch_output": str(tmp_path / "out")}
    served = app(FILES, data_prefixes=prefixes, **places)
    item = json.dumps(at("/data/x", "NAME", "FP32", (1,)))
    inputs = ",".join(item.replace("NAME", name) for name in ("a", "b", *map(str, range(100_000))))
    content = gzip.compress(f'{{"inputs":[{inputs}]}}'.encode())
    answer = ask(served, "POST", path, content=content, headers={"content-encoding": "gzip"})
    text = (
        "unexpected inference input '0' for model 'pair', whose inputs are 'a', 'b': the request has 100002 inputs, "
        "the model 2"
    )
    assert (answer.status_code, answer.json()) == (400, {"error": text})


def test_the_first_reference_is_the_last_where_none_may_be(
    app: Callable[..., ASGIApp], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Reference] = []
    monkeypatch.setattr(
        "inferry.protocol.decoder.Reference", lambda *values: made.append(Reference(*values)) or made[-1]
    )
    inputs = [at("/data/a", "a", "FP32", (1,)), at("/data/b", "b", "INT64", (1,))]
    answer = infer(app(FILES), "pair", inputs)
    assert (answer.status_code, answer.json()) == (403, {"error": refusal("/data/a", empty=True)})
    assert [reference.name for reference in made] == ["a"]


def test_percent_signs_are_only_signs(app: Callable[..., ASGIApp], tmp_path: Path) -> None:
    place = Place(str(tmp_path / "data"))
    (tmp_path / "other").write_bytes(VALUES.tobytes())
    answer = infer(app(FILES, data_prefixes=(place.url,)), "m", [at(f"{place.url}/%2e%2e/other")])
    assert (answer.status_code, answer.json()["error"][:11]) == (400, "there is no")


@pytest.mark.parametrize(
    ("members", "text"),
    [
        ({"parameters": {"uri": 5}}, "'uri' of input 'x' for model 'm' must be the URL of an object, got the number 5"),
        (
            {"parameters": {"uri": ""}},
            "'uri' of input 'x' for model 'm' must be the URL of an object, got the string ''",
        ),
        (
            {"parameters": {"uri": "/x"}, "data": [1, 2, 3, 4]},
            "input 'x' for model 'm' must set only one of 'data', and 'binary_data_size' or 'uri' in 'parameters'",
        ),
        (
            {"parameters": {"uri": "/x", "binary_data_size": 16}},
            "input 'x' for model 'm' must set only one of 'data', and 'binary_data_size' or 'uri' in 'parameters'",
        ),
    ],
)
def test_bad_requests(app: Callable[..., ASGIApp], members: dict[str, Any], text: str) -> None:
    answer = infer(app(FILES), "m", [{"name": "x", "shape": [2, 2], "datatype": "FP32", **members}])
    assert answer.status_code == 400
    assert answer.json()["error"].replace('"', "'") == text


@pytest.mark.parametrize("padding", ["", " " * 5000], ids=["small", "large"])
def test_one_name_twice(app: Callable[..., ASGIApp], padding: str) -> None:
    served = app(FILES)
    plain = {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}
    for inputs in ([at("/x"), at("/x")], [at("/x"), plain], [plain, at("/x")]):
        content = padding + json.dumps({"inputs": inputs})
        answer = ask(served, "POST", "/v2/models/m/infer", content=content)
        assert (answer.status_code, "given more than once" in answer.json()["error"]) == (400, True)


def test_limits(app: Callable[..., ASGIApp], folder: Place) -> None:
    uri = folder.put("x", VALUES.tobytes())
    out = [{"name": "y", "parameters": {"uri": f"{folder.url}/y"}}]

    def answered(limit: int, inputs: list[dict[str, Any]], **members: Any) -> tuple[int, str]:
        answer = infer(app(FILES, data_prefixes=(folder.url,), max_data_bytes=limit), "m", inputs, **members)
        return answer.status_code, answer.json().get("error", "")

    assert answered(16, [at(uri)], outputs=out) == (200, "")
    assert answered(15, [at(uri)]) == (
        413,
        f"input 'x' at {uri!r} has 16 bytes, which makes the request's tensors more than 15 (MAX_DATA_BYTES): send "
        "fewer rows at a time",
    )
    os.unlink(f"{folder.url}/y")
    plain = {"name": "x", "shape": [2, 2], "datatype": "FP32", "data": [1, 2, 3, 4]}
    assert answered(15, [plain], outputs=out) == (
        413,
        "the outputs by reference have 16 bytes, over 15 (MAX_DATA_BYTES): ask for fewer rows",
    )
    assert folder.get("y") is None


def test_the_inputs_of_a_request_count_together(app: Callable[..., ASGIApp], folder: Place) -> None:
    uri = folder.put("a", np.zeros(4, np.float32).tobytes())
    inputs = [at(uri, "a", "FP32", (4,)), at(uri, "b", "INT64", (2,))]
    statuses = [
        infer(app(FILES, data_prefixes=(folder.url,), max_data_bytes=limit), "pair", inputs).status_code
        for limit in (32, 31)
    ]
    assert statuses == [200, 413]


@pytest.mark.parametrize(("limit", "timeout"), [(0.2, 0), (0.2, 60_000_000), (30.0, 200_000)])
def test_moving_tensors_ends_at_the_deadline(
    app: Callable[..., ASGIApp], folder: Place, monkeypatch: pytest.MonkeyPatch, limit: float, timeout: int
) -> None:
    monkeypatch.setattr("inferry.protocol.references.References._fetch", lambda *_: time.sleep(1))
    served = app(FILES, data_prefixes=(folder.url,), model_timeout=limit)
    answer = infer(served, "m", [at(f"{folder.url}/x")], parameters={"timeout": timeout})
    assert (answer.status_code, answer.json()) == (
        504,
        {"error": "the prediction was out of time while its tensors were read or written"},
    )


def test_moving_tensors_ends_before_the_host_ends_it(
    app: Callable[..., ASGIApp], folder: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inferry.protocol.references.References._fetch", lambda *_: time.sleep(1))
    served, deadline = app(FILES, data_prefixes=(folder.url,)), time.monotonic() + 0.2

    async def hosted(scope: Any, receive: Any, send: Any) -> None:
        await served({**scope, "inferry": {"deadline": deadline}}, receive, send)

    answer = infer(hosted, "m", [at(f"{folder.url}/x")])
    assert answer.status_code == 504
    assert "its tensors were read or written; the platform would have ended the request" in answer.json()["error"]


def test_requests_beside_one_that_waits_for_its_tensors(
    app: Callable[..., ASGIApp], folder: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The event loop serves others meanwhile."""
    monkeypatch.setattr("inferry.protocol.references.References._fetch", lambda *_: time.sleep(0.5) or {})
    served = app(FILES, data_prefixes=(folder.url,))

    async def go() -> float:
        transport = httpx.ASGITransport(served)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            body = {"inputs": [at(f"{folder.url}/x")]}
            waiting = asyncio.create_task(client.post("/v2/models/m/infer", json=body))
            await asyncio.sleep(0.1)
            start = time.monotonic()
            assert (await client.get("/v2/health/live")).status_code == 200
            took = time.monotonic() - start
            await waiting
            return took

    assert asyncio.run(go()) < 0.2


def test_tritonclient(tmp_path: Path) -> None:
    data = Place(str(tmp_path / "data"))
    folder = onnx_models.write(tmp_path / "models", FILES)
    uri = data.put("x.npy", npy(VALUES))
    with serving(folder, DATA_PREFIXES=data.url) as server, triton.InferenceServerClient(server.address) as client:
        given = triton.InferInput("x", [2, 2], "FP32")
        given._parameters["uri"] = uri
        wanted = triton.InferRequestedOutput("y", binary_data=False)
        wanted._parameters["uri"] = f"{data.url}/y.npy"
        answer = client.infer("m", [given], outputs=[wanted])
        assert answer.get_response()["parameters"] == {"uri:y": f"{data.url}/y.npy"}
        assert answer.get_output("y") == {"name": "y", "datatype": "FP32", "shape": [2, 2]}
        assert data.get("y.npy") == npy(VALUES)
        # Without the reference, as ever.
        assert (client.infer("m", [given]).as_numpy("y") == VALUES).all()

"""Rows together give what each gives alone, or each is a run of its own: at every door, whatever the outputs are."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx_models
import onnxruntime
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import row_models
from inferry.cli import infer
from inferry.errors import InferryError
from inferry.jobs.runner import Job, run
from inferry.service import Service
from inferry.settings import Settings
from servers import Answer, Server, serving

Array = np.ndarray[Any, Any]

STEPS = np.arange(8 * 8 * 2, dtype=np.float32).reshape(8, 8, 2) - 60
WIDE = np.random.default_rng(1).integers(-3, 3, (8, 4)).astype(np.float32)
WIDE[2] = 0
# Each model's file, and rows; some of these have as many hits, or steps, as there are rows.
MODELS: dict[str, tuple[bytes, Array]] = {
    "plain": (onnx_models.identity("FP32", ("n", 4)), WIDE),
    "turned": (row_models.turned(), STEPS),
    "turned-unnamed": (row_models.turned(None, None), STEPS),
    "hits": (row_models.hits(), np.eye(8, 4, dtype=np.float32)),
    "hits-unnamed": (row_models.hits(None), WIDE),
    "mean": (row_models.with_mean(), WIDE),
    "folded": (row_models.folded(), STEPS[:, :3]),
    "folded-unnamed": (row_models.folded("Reshapey_dim_0"), STEPS[:, :3]),
    "conditional": (row_models.conditional(), WIDE),
    "quantised": (row_models.quantised(), WIDE * 100),
    "label": (row_models.label(), WIDE),
    "misdeclared": (row_models.misdeclared(), STEPS),
    "single": (onnx_models.identity("FP32", (1, 4)), WIDE),
}
# Those whose rows may be joined.
PROVEN = {"plain", "label", "misdeclared"}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> str:
    files = {f"{name}.onnx": content for name, (content, _) in MODELS.items()}
    return str(onnx_models.write(tmp_path_factory.mktemp("apart"), files))


@pytest.fixture(scope="module")
def server(models: str) -> Iterator[Server]:
    with serving(models, MODEL_CACHE_SIZE="64") as running:
        yield running


@pytest.fixture(scope="module")
def alone() -> Callable[[str], list[dict[str, Any]]]:
    """What ONNX Runtime gives for each row of a model by itself."""

    def go(name: str) -> list[dict[str, Any]]:
        content, rows = MODELS[name]
        session = onnxruntime.InferenceSession(content)
        names = [output.name for output in session.get_outputs()]
        found = [dict(zip(names, session.run(None, {"x": rows[at : at + 1]}), strict=True)) for at in range(len(rows))]
        return [{name: array.reshape(-1).tolist() for name, array in row.items()} for row in found]

    return go


def flat(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each value of each row as a list of numbers, which say which row it is."""
    return [{name: np.asarray(value).reshape(-1).tolist() for name, value in row.items()} for row in rows]


def close(rows: list[dict[str, Any]]) -> Any:
    return [{name: pytest.approx(values, rel=1e-4, abs=1e-4) for name, values in row.items()} for row in rows]


def post(server: Server, path: str, body: Any) -> Answer:
    return server.ask("POST", path, json.dumps(body).encode())


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("turn", ["first", "second"])
def test_predict(server: Server, alone: Callable[[str], Any], name: str, turn: str) -> None:
    """Once before the model has shown anything, once behind that."""
    answer = post(server, "/predict", {"model_name": name, "features": MODELS[name][1].tolist()})
    assert answer.status == 200, answer.json
    assert flat(answer.json["predictions"]) == close(alone(name)), turn


@pytest.mark.parametrize("name", MODELS)
def test_kserve_v1(server: Server, alone: Callable[[str], Any], name: str) -> None:
    answer = post(server, f"/v1/models/{name}:predict", {"instances": MODELS[name][1].tolist()})
    expected = alone(name)
    found = answer.json["predictions"]
    if len(expected[0]) == 1:
        (output,) = expected[0]
        found = [{output: value} for value in found]
    assert flat(found) == close(expected)


@pytest.mark.parametrize("name", MODELS)
def test_a_whole_request_is_one_run(server: Server, name: str) -> None:
    """The protocol's own requests are not cut, whatever their outputs are."""
    content, rows = MODELS[name]
    if name == "single":
        rows = rows[:1]
    data = {"name": "x", "shape": rows.shape, "datatype": "FP32", "data": rows.reshape(-1).tolist()}
    answer = post(server, f"/v2/models/{name}/infer", {"inputs": [data]})
    session = onnxruntime.InferenceSession(content)
    expected = [(list(array.shape), array.reshape(-1).tolist()) for array in session.run(None, {"x": rows})]
    found = [(output["shape"], output["data"]) for output in answer.json["outputs"]]
    assert [shape for shape, _ in found] == [shape for shape, _ in expected]
    assert [data for _, data in found] == [pytest.approx(data, rel=1e-5) for _, data in expected]


def test_metadata_say_it(server: Server) -> None:
    for name, (_, rows) in MODELS.items():
        post(server, "/predict", {"model_name": name, "features": rows.tolist()})
        properties = server.ask("GET", f"/v2/models/{name}").json["properties"]
        assert (name, properties["rows"]) == (name, "proven" if name in PROVEN else "single")
        assert ("rows_reason" in properties) is (name not in PROVEN)


def write(path: Path, rows: Array) -> None:
    """The rows in the format that the path's extension says; `requests.jsonl` are requests of the protocol."""
    if path.suffix == ".npy":
        np.save(path, rows)
    elif path.suffix == ".parquet":
        pq.write_table(pa.table({"x": rows.tolist()}, pa.schema([("x", nested(rows.ndim - 1))])), path)
    elif path.name == "requests.jsonl":
        requests = [
            {"inputs": [{"name": "x", "shape": [1, *row.shape], "datatype": "FP32", "data": row.reshape(-1).tolist()}]}
            for row in rows
        ]
        path.write_text("".join(json.dumps(request) + "\n" for request in requests))
    else:
        path.write_text("".join(json.dumps({"x": row.tolist()}) + "\n" for row in rows))


def nested(depth: int) -> pa.DataType:
    return pa.list_(nested(depth - 1)) if depth else pa.float32()


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("file", ["x.npy", "x.parquet", "x.jsonl", "requests.jsonl"])
def test_jobs(models: str, tmp_path: Path, alone: Callable[[str], Any], name: str, file: str) -> None:
    write(tmp_path / file, MODELS[name][1])
    service = Service.from_settings(Settings(model_path=models, intra_op_threads=1))
    report = run(Job(input=f"{tmp_path}/{file}", output=f"{tmp_path}/out.jsonl", model=name), service)
    service.close()
    assert (report.rows, report.errors, report.reason) == (len(MODELS[name][1]), 0, "")
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    if file == "requests.jsonl":
        lines = [{output["name"]: output["data"] for output in line["outputs"]} for line in lines]
    assert flat(lines) == close(alone(name))


@pytest.mark.parametrize("name", MODELS)
def test_infer_command(models: str, tmp_path: Path, alone: Callable[[str], Any], name: str) -> None:
    np.save(tmp_path / "x.npy", MODELS[name][1])
    lines = infer.predict(Settings(model_path=models), Job(input=f"{tmp_path}/x.npy", output="", model=name))
    assert flat([json.loads(line) for line in lines]) == close(alone(name))


def batched(folder: Path, name: str, **config: Any) -> Server:
    files = {
        "m/1/model.onnx": MODELS[name][0],
        "m/config.json": json.dumps({"max_batch_size": 64, "dynamic_batching": {}, **config}).encode(),
    }
    return serving(onnx_models.write(folder / "models", files))  # type: ignore[return-value]


@pytest.mark.parametrize("name", sorted(MODELS.keys() - PROVEN - {"single"}))
def test_dynamic_batching_is_refused(tmp_path: Path, name: str) -> None:
    files = {"m/1/model.onnx": MODELS[name][0], "m/config.json": b'{"max_batch_size": 64, "dynamic_batching": {}}'}
    service = Service.from_settings(Settings(model_path=str(onnx_models.write(tmp_path, files))))
    with pytest.raises(
        InferryError, match=r"its rows can't run together: .*\. Remove .* \"rows\": \"joined\""
    ) as caught:
        service.repository.get("m")
    service.close()
    assert service.repository.entries()[0].reason == str(caught.value)


@pytest.mark.parametrize("name", sorted(PROVEN))
def test_dynamic_batching(tmp_path: Path, alone: Callable[[str], Any], name: str) -> None:
    rows = MODELS[name][1]
    with batched(tmp_path, name) as server, ThreadPoolExecutor(8) as pool:  # type: ignore[attr-defined]
        bodies = [
            {"inputs": [{"name": "x", "shape": [1, *row.shape], "datatype": "FP32", "data": row.reshape(-1).tolist()}]}
            for row in rows
        ] * 8
        answers = list(pool.map(lambda body: post(server, "/v2/models/m/infer", body), bodies))
        found = [{output["name"]: output["data"] for output in answer.json["outputs"]} for answer in answers]
        assert flat(found) == close(alone(name) * 8)


def test_joined_by_the_config_until_a_run_has_no_row_per_row(tmp_path: Path) -> None:
    """The user's word counts until it is seen to be wrong: then each request is a run of its own, for good."""
    rows = np.eye(8, 4, dtype=np.float32)
    rows[5] = 1
    with batched(tmp_path, "hits", rows="joined") as server, ThreadPoolExecutor(8) as pool:  # type: ignore[attr-defined]
        bodies = [
            {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": row.tolist()}]} for row in rows
        ]
        assert server.ask("GET", "/v2/models/m").json["properties"]["rows"] == "proven"
        for _ in range(100):
            answers = list(pool.map(lambda body: post(server, "/v2/models/m/infer", body), bodies * 8))
            if server.ask("GET", "/v2/models/m").json["properties"]["rows"] == "single":
                break
        else:
            pytest.fail("no batch was ever made")
        answers = list(pool.map(lambda body: post(server, "/v2/models/m/infer", body), bodies * 8))
        found = [answer.json["outputs"][0]["shape"] for answer in answers]
        assert found == [[int(row.astype(bool).sum()), 2] for row in rows] * 8
        assert "its rows are not joined any more" in server.log


def test_models_without_rows(tmp_path: Path) -> None:
    """Whole requests only: rows are refused with the reason, requests run, one by one or put off."""
    files = {"state.onnx": row_models.stateful(), "fixed.onnx": onnx_models.identity("FP32", (2, 4))}
    folder = onnx_models.write(tmp_path / "models", files)
    request = {
        "inputs": [
            {"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]},
            {"name": "state", "shape": [2, 1, 3], "datatype": "FP32", "data": [0, 1, 2, 3, 4, 5]},
            {"name": "rate", "shape": [], "datatype": "INT64", "data": [4]},
        ]
    }
    (tmp_path / "requests.jsonl").write_text(json.dumps(request) + "\n" + json.dumps(request) + "\n")
    service = Service.from_settings(Settings(model_path=str(folder)))
    job = Job(input=f"{tmp_path}/requests.jsonl", output=f"{tmp_path}/out.jsonl", model="state")
    assert (run(job, service).rows, run(job, service).errors) == (2, 0)
    service.close()
    expected = [("y", [1, 3], [4.0, 8.0, 12.0]), ("after", [2, 1, 3], [0.0, 1.0, 2.0, 3.0, 4.0, 5.0])]
    for line in (tmp_path / "out.jsonl").read_text().splitlines():
        outputs = json.loads(line)["outputs"]
        assert [(output["name"], output["shape"], output["data"]) for output in outputs] == expected
    with serving(folder) as server:
        answer = post(server, "/predict", {"model_name": "fixed", "features": [[1, 2, 3, 4], [5, 6, 7, 8]]})
        assert (answer.status, answer.json) == (
            400,
            {
                "error": "model 'fixed' takes no rows, as the first axis of input 'x' is fixed: [2, 4]: send whole "
                "requests to /v2/models/fixed/infer"
            },
        )
        assert server.ask("GET", "/v2/models/fixed").json["properties"]["rows"] == "none"

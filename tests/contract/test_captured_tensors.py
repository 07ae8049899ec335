"""Inputs and outputs that are kept in the request log: what clients sent and got, to the bit."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnx_models
import pytest
from databases import Cluster, Database, migrate
from loopback import free_port
from servers import HEADER_LENGTH, Server, serving
from timeseries import eventually
from tritonclient.grpc import service_pb2
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

pytestmark = pytest.mark.local

FILES = {
    "m.onnx": onnx_models.identity("FP32", ("n",)),
    "words.onnx": onnx_models.identity("BYTES", ("n",)),
    "rows/1/model.onnx": onnx_models.identity("FP32", ("n", 2)),
    "failing.onnx": onnx_models.failing(),
}
X = np.array([1.5, float("nan")], np.float32)
SELECT = "SELECT kind, name, datatype, shape, data, sha256 FROM inferry.tensors WHERE request_id = '{}' ORDER BY 1, 2"


@pytest.fixture
def made(cluster: Cluster) -> Database:
    database = cluster.database()
    migrate(database.url())
    return database


@pytest.fixture
def models(tmp_path: Path) -> Path:
    return onnx_models.write(tmp_path / "models", FILES)


def kept(database: Database, name: str) -> list[tuple[Any, ...]]:
    """What is kept of a request, each with the SHA-256 that it should have."""
    rows = database.rows(SELECT.format(name))
    assert all(data is None or sha256(data).hexdigest() == digest for *_, data, digest in rows)
    return [row[:-1] for row in rows]


def post(server: Server, name: str, model: str, inputs: Any) -> int:
    body = json.dumps({"inputs": [inputs]}).encode()
    return server.ask("POST", f"/v2/models/{model}/infer", body, {"X-Request-Id": name}).status


def test_what_is_kept_is_what_was_sent(made: Database, models: Path) -> None:
    """In JSON, binary, raw, as rows, and over gRPC; strings as well. By a role that may only insert."""
    role = made.role("writer")
    migrate(made.url(), "--writer", role)
    env = {"REQUEST_LOG_URL": made.url(role), "CAPTURE": "*=1", "GRPC_PORT": str(free_port())}
    with serving(models, **env) as server:
        assert post(server, "json", "m", {"name": "x", "datatype": "FP32", "shape": [2], "data": [1.5, 2]}) == 200
        assert post(server, "words", "words", {"name": "x", "datatype": "BYTES", "shape": [1], "data": ["é"]}) == 200
        head = {"name": "x", "datatype": "FP32", "shape": [2], "parameters": {"binary_data_size": 8}}
        text = json.dumps({"inputs": [head], "parameters": {"binary_data_output": True}}).encode()
        headers = {"X-Request-Id": "binary", HEADER_LENGTH: str(len(text))}
        assert server.ask("POST", "/v2/models/m/infer", text + X.tobytes(), headers).status == 200
        headers = {"X-Request-Id": "raw", HEADER_LENGTH: "0"}
        assert server.ask("POST", "/v2/models/m/infer", X.tobytes(), headers).status == 200
        body = json.dumps({"model_name": "rows", "features": [[1, 2], [3, 4]]}).encode()
        assert server.ask("POST", "/predict", body, {"X-Request-Id": "rows"}).status == 200
        with grpc.insecure_channel(server.grpc) as channel:
            request = service_pb2.ModelInferRequest(model_name="m")
            request.inputs.add(name="x", datatype="FP32", shape=[2])
            request.raw_input_contents.append(X.tobytes())
            GRPCInferenceServiceStub(channel).ModelInfer(request, metadata=[("x-request-id", "grpc")])
    both = [("input", "x", "FP32", [2], X.tobytes()), ("output", "y", "FP32", [2], X.tobytes())]
    assert [kept(made, name) for name in ("binary", "raw", "grpc")] == [both] * 3
    numbers = np.array([1.5, 2], np.float32).tobytes()
    assert kept(made, "json") == [("input", "x", "FP32", [2], numbers), ("output", "y", "FP32", [2], numbers)]
    word = b"\2\0\0\0\xc3\xa9"
    assert kept(made, "words") == [("input", "x", "BYTES", [1], word), ("output", "y", "BYTES", [1], word)]
    table = np.array([[1, 2], [3, 4]], np.float32).tobytes()
    assert kept(made, "rows") == [("input", "x", "FP32", [2, 2], table), ("output", "y", "FP32", [2, 2], table)]
    # Each belongs to the row of its request.
    joined = (
        "SELECT count(*) FROM inferry.tensors JOIN inferry.requests USING (time, request_id, model, version, digest)"
    )
    assert made.value(joined) == made.value("SELECT count(*) FROM inferry.tensors") == 12
    assert "don't get" not in server.final_log


def test_failures_are_kept_where_that_is_asked_for(made: Database, models: Path) -> None:
    x = {"name": "x", "datatype": "FP32", "shape": [2], "data": [1.5, 2]}
    env = {"REQUEST_LOG_URL": made.url(), "CAPTURE": "*=0", "CAPTURE_ERRORS": "true"}
    with serving(models, **env) as server:
        assert post(server, "fine", "m", x) == 200
        assert post(server, "failed", "failing", x) == 500
        assert post(server, "unfit", "m", {**x, "shape": [1, 2]}) == 400
    numbers = np.array([1.5, 2], np.float32).tobytes()
    assert kept(made, "fine") == []
    assert kept(made, "failed") == [("input", "x", "FP32", [2], numbers)]
    assert kept(made, "unfit") == [("input", "x", "FP32", [1, 2], numbers)]


def test_of_large_tensors_the_digest_is_kept(made: Database, models: Path) -> None:
    env = {"REQUEST_LOG_URL": made.url(), "CAPTURE": "m=1", "CAPTURE_MAX_BYTES": "7"}
    with serving(models, **env) as server:
        assert post(server, "large", "m", {"name": "x", "datatype": "FP32", "shape": [2], "data": [1.5, 2]}) == 200
    digest = sha256(np.array([1.5, 2], np.float32).tobytes()).hexdigest()
    assert [row[-2:] for row in made.rows(SELECT.format("large"))] == [(None, digest)] * 2


def test_nothing_is_kept_unless_that_is_asked_for(made: Database, models: Path) -> None:
    with serving(models, REQUEST_LOG_URL=made.url()) as server:
        assert post(server, "row", "m", {"name": "x", "datatype": "FP32", "shape": [1], "data": [1]}) == 200
    assert made.value("SELECT count(*) FROM inferry.requests WHERE request_id = 'row'") == 1
    assert made.value("SELECT count(*) FROM inferry.tensors") == 0


def test_a_share_is_about_as_large_as_it_should_be(made: Database, models: Path) -> None:
    with serving(models, REQUEST_LOG_URL=made.url(), CAPTURE="m=0.5") as server:
        for _ in range(200):
            assert post(server, "many", "m", {"name": "x", "datatype": "FP32", "shape": [1], "data": [1]}) == 200
    # Outside of this once in ten million times.
    assert 60 <= made.value("SELECT count(*) FROM inferry.tensors WHERE kind = 'input'") <= 140


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({"CAPTURE": "*=1"}, "CAPTURE needs REQUEST_LOG_URL"),
        ({"CAPTURE": "*=2", "REQUEST_LOG_URL": "postgresql://"}, "CAPTURE must have shares from 0 to 1"),
    ],
)
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_server_does_not_start_with_what_it_can_not_do(
    models: Path, env: dict[str, str], said: str, workers: str
) -> None:
    with pytest.raises(AssertionError, match=said), serving(models, "--workers", workers, **env):
        pass


def test_an_older_database_waits_for_its_owner(cluster: Cluster, models: Path) -> None:
    """Tables of version 1, whose writer this server is: it says what to do, and goes on once that is done."""
    import psycopg
    from inferry.observability.request_log import schema

    database = cluster.database()
    role = database.role("writer")
    with psycopg.connect(database.url(), autocommit=True) as connection:
        tables, schema.TABLES = schema.TABLES, ("requests",)
        try:
            schema.maintain(connection, schema.look(connection), 0, schema.MIGRATIONS[:1])
        finally:
            schema.TABLES = tables
        connection.execute(f"GRANT USAGE ON SCHEMA inferry TO {role}")
        connection.execute(f"GRANT SELECT ON inferry.migrations TO {role}")
    with serving(models, REQUEST_LOG_URL=database.url(role), CAPTURE="*=1") as server:
        assert post(server, "early", "m", {"name": "x", "datatype": "FP32", "shape": [1], "data": [1]}) == 200
        eventually(
            lambda: "are of version 1, and this inferry needs 2: run its `inferry migrate`" in server.log, True, 30
        )
        migrate(database.url(), "--writer", role)
        eventually(lambda: len(kept(database, "early")), 2, 60)

"""The request log in a real PostgreSQL: what its rows say, who may write them, and what is lost with the database."""

import json
import os
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnx_models
import psycopg
import pytest
from databases import PASSWORD, QUOTED, Cluster, Database, migrate
from inferry.errors import InvalidSettings
from inferry.observability import catalogue
from inferry.observability.record import RequestRecord
from inferry.observability.registry import Metrics
from inferry.observability.request_log import postgres, schema
from inferry.observability.request_log.request_log import RequestLog
from inferry.observability.request_log.rows import COLUMNS
from inferry.settings import Settings
from loopback import free_port
from servers import Server, serving
from timeseries import eventually
from tritonclient.grpc import service_pb2
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

pytestmark = pytest.mark.local

FILES = {
    "m.onnx": onnx_models.identity("FP32", ("n",)),
    "failing.onnx": onnx_models.failing(),
    "b/1/model.onnx": onnx_models.identity("FP32", ("n", 1)),
    "b/config.json": b'{"max_batch_size": 8, "dynamic_batching": {}}',
}
X = {"name": "x", "shape": [2], "datatype": "FP32", "data": [1, 2]}
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"
COUNT = "SELECT count(*) FROM inferry.requests"
IDS = "SELECT request_id FROM inferry.requests ORDER BY time"
# What lines have and rows have under another name, or not at all.
OF_LINES = {"level", "location", "message", "timestamp", "path"}


@pytest.fixture
def database(cluster: Cluster) -> Database:
    return cluster.database()


@pytest.fixture
def models(tmp_path: Path) -> Path:
    return onnx_models.write(tmp_path / "models", FILES)


@pytest.fixture
def made(database: Database) -> Database:
    """With the tables in it, by a role that owns them."""
    migrate(database.url())
    return database


def infer(server: Server, name: str, model: str = "m") -> int:
    """The status of the response to a request with this id."""
    body = json.dumps({"inputs": [X]}).encode()
    return server.ask("POST", f"/v2/models/{model}/infer", body, {"X-Request-Id": name}).status


def ids(database: Database) -> list[str]:
    return [name for (name,) in database.rows(IDS)]


def counted(server: Server) -> dict[str, float]:
    """Rows that were written, and that were dropped, by all processes of a server."""
    text = server.ask("GET", "/metrics").body.decode()
    found = re.findall(r'inferry_request_log_rows_(\w*total)\{sink="postgres"[^}]*\} (\d+)', text)
    return {name: sum(int(value) for other, value in found if other == name) for name, _ in found}


def rows(database: Database) -> dict[str, dict[str, Any]]:
    """Each row without its NULLs, by the request's id."""
    names = ", ".join(COLUMNS)
    found = [dict(zip(COLUMNS, row, strict=True)) for row in database.rows(f"SELECT {names} FROM inferry.requests")]
    return {row["request_id"]: {name: value for name, value in row.items() if value is not None} for row in found}


def test_rows_say_what_lines_say(database: Database, models: Path) -> None:
    """Whatever a request is and comes to, over HTTP and gRPC; a row has the route and the digest besides."""
    env = {"REQUEST_LOG_URL": database.url(), "LOG_FORMAT": "json", "APP_NAME": "mine", "GRPC_PORT": str(free_port())}
    with serving(models, **env) as server:
        digests = {
            name: server.ask("GET", f"/v2/models/{name}").json["properties"]["sha256"] for name in ("m", "b", "failing")
        }
        assert infer(server, "plain") == 200
        body = json.dumps({"inputs": [X]}).encode()
        server.ask("POST", "/v2/models/m/infer", body, {"X-Request-Id": "traced", "traceparent": PARENT})
        assert infer(server, "fails", "failing") == 500
        assert infer(server, "nowhere", "nobody") == 404
        batch = json.dumps({"inputs": [{**X, "shape": [2, 1]}]}).encode()
        assert server.ask("POST", "/v2/models/b/infer", batch, {"X-Request-Id": "batch"}).status == 200
        assert server.ask("POST", "/v2/models/m/infer", b"{", {"X-Request-Id": "no-json"}).status == 400
        rows_of_predict = json.dumps({"model_name": "b", "features": [[1], [2]]}).encode()
        server.ask("POST", "/predict", rows_of_predict, {"X-Request-Id": "predict"})
        assert server.ask("HEAD", "/v2/models", None, {"X-Request-Id": "head"}).status == 200
        assert server.ask("PUT", "/coffee%09%00", None, {"X-Request-Id": "back\\slash"}).status == 404
        with grpc.insecure_channel(server.grpc) as channel:
            request = service_pb2.ModelInferRequest(model_name="m")
            request.inputs.add(name="x", datatype="FP32", shape=[2])
            request.raw_input_contents.append(np.array([1, 2], np.float32).tobytes())
            stub = GRPCInferenceServiceStub(channel)
            stub.ModelInfer(request, metadata=[("x-request-id", "unary")])
            assert len([*stub.ModelStreamInfer(iter([request, request]))]) == 2
        assert server.ask("GET", "/v2/health/live").status == 200
    lines = {line["request_id"]: line for line in map(json.loads, server.final_log.splitlines()) if "outcome" in line}
    found = rows(database)
    assert len(found) == database.value(COUNT) == len(lines)
    assert {"plain", "traced", "fails", "nowhere", "batch", "no-json", "predict", "head", "unary"} < found.keys()
    for name, line in lines.items():
        row, expected = found[name], {key: value for key, value in line.items() if key not in OF_LINES}
        time_of_row, route, digest = row.pop("time"), row.pop("route", ""), row.pop("digest", "")
        assert {
            key: pytest.approx(value, abs=5.1e-4) if key[-3:] == "_ms" else value for key, value in row.items()
        } == {key: value for key, value in expected.items() if value != ""}
        assert f"{time_of_row.astimezone(UTC):%Y-%m-%d %H:%M:%S}" in (stamp(line, 0), stamp(line, 1))
        assert digest == digests.get(line.get("model", ""), "")
        assert re.sub(r"\{\w+\}", "", route).split("/")[:2] == line["path"].split("/")[:2] or not route
    assert found["plain"]["service"] == "mine"


def stamp(line: dict[str, Any], seconds: int) -> str:
    """The second of a line, or one that is so much earlier: its fraction is cut, a row's is not."""
    written = datetime.strptime(line["timestamp"], "%Y-%m-%d %H:%M:%S,%f%z").astimezone(UTC)
    return f"{written - timedelta(seconds=seconds):%Y-%m-%d %H:%M:%S}"


@pytest.mark.parametrize("workers", ["1", "2"])
def test_every_request_has_its_row(database: Database, models: Path, workers: str) -> None:
    """Those of the last moment too; of a log in text as well. All workers make the tables at once."""
    names = [f"id-{number}" for number in range(300)]
    options = ("--workers", workers)
    with serving(models, *options, REQUEST_LOG_URL=database.url()) as server, ThreadPoolExecutor(8) as pool:
        assert {*pool.map(lambda name: infer(server, name), names)} == {200}
    assert sorted(name for name in ids(database) if name.startswith("id-")) == sorted(names)
    assert database.rows("SELECT version FROM inferry.migrations ORDER BY 1") == [(1,), (2,)]


def test_rows_are_there_within_moments(database: Database, models: Path) -> None:
    with serving(models, REQUEST_LOG_URL=database.url()) as server:
        assert infer(server, "soon") == 200
        eventually(lambda: tables(database) and "soon" in ids(database), True, 30)
        assert counted(server)["dropped_total"] == 0
        assert counted(server)["total"] >= 1


def tables(database: Database) -> bool:
    return database.value("SELECT to_regclass('inferry.requests') IS NOT NULL") is True


def test_of_a_first_start_of_many_processes(database: Database) -> None:
    """Each waits for who makes the tables; they are made once."""
    with ThreadPoolExecutor(6) as pool:
        said = [*pool.map(lambda _: migrate(database.url()), range(6))]
    assert database.rows("SELECT version, oldest_writer FROM inferry.migrations ORDER BY 1") == [(1, 1), (2, 1)]
    assert sorted(days(database)) == [today() + timedelta(number) for number in range(-1, 8)]
    assert sum("added" in text for text in said) == 1


def days(database: Database) -> list[date]:
    """Those that have a partition, by the bounds that it has."""
    found = database.rows(
        "SELECT pg_get_expr(c.relpartbound, c.oid) FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid "
        "WHERE i.inhparent = 'inferry.requests'::regclass ORDER BY c.relname"
    )
    texts = [re.findall(r"'(\d+-\d+-\d+) 00:00:00\+00'", bounds) for (bounds,) in found]
    bounds = [[date.fromisoformat(text) for text in pair] for pair in texts]
    assert all(end - begin == timedelta(1) for begin, end in bounds)
    return [begin for begin, _ in bounds]


def today() -> date:
    return datetime.now(UTC).date()


def test_a_later_version_of_the_tables(made: Database) -> None:
    """Only what is missing is done, once, and all of it or nothing; a writer that may go on does."""
    column = schema.Migration(1, ("ALTER TABLE inferry.requests ADD COLUMN note text",))
    broken = schema.Migration(1, ("CREATE TABLE inferry.more ()", "SELECT * FROM inferry.nothing"))
    with psycopg.connect(made.url(), autocommit=True) as connection:
        with pytest.raises(psycopg.errors.UndefinedTable):
            schema.maintain(connection, schema.look(connection), 0, (*schema.MIGRATIONS, column, broken))
        assert made.rows("SELECT version FROM inferry.migrations ORDER BY 1") == [(1,), (2,)]
        assert made.value("SELECT to_regclass('inferry.more') IS NULL") is True
        for _ in range(2):
            changes = schema.maintain(connection, schema.look(connection), 0, (*schema.MIGRATIONS, column))
            assert (changes.version, changes.added) == (3, [])
        schema.check(connection, schema.look(connection))
    assert made.rows("SELECT version, oldest_writer FROM inferry.migrations ORDER BY 1") == [(1, 1), (2, 1), (3, 1)]


def test_partitions_over_the_retention_are_dropped(made: Database) -> None:
    """A partition that somebody reads is left for the next time, and nobody waits; one of another name stays."""
    old = [today() - timedelta(number) for number in (1, 2, 3, 40)]
    for day in old[1:]:
        add_partition(made, day)
    late = name(today() + timedelta(7))
    made.execute(f"DROP TABLE inferry.{late}")
    reader = psycopg.connect(made.url())
    reader.execute("SELECT * FROM inferry.requests")
    with reader:
        said = migrate(made.url(), REQUEST_LOG_RETENTION="2")
    assert f"added {late}" in said.splitlines()
    assert [line for line in said.splitlines() if name(old[3]) in line] == [
        f"left {name(old[3])}, which somebody reads"
    ]
    made.execute("CREATE TABLE inferry.mine PARTITION OF inferry.requests DEFAULT")
    said = migrate(made.url(), REQUEST_LOG_RETENTION="2")
    assert f"dropped {name(old[3])}" in said.splitlines()
    kept = made.rows("SELECT relname FROM pg_class WHERE relname ~ '^(requests_2|mine)' AND relkind = 'r' ORDER BY 1")
    assert [table for (table,) in kept] == ["mine", *(name(today() + timedelta(number)) for number in range(-2, 8))]


def add_partition(database: Database, day: date) -> None:
    bounds = f"FROM ('{day} 00:00+00') TO ('{day + timedelta(1)} 00:00+00')"
    database.execute(f"CREATE TABLE inferry.{name(day)} PARTITION OF inferry.requests FOR VALUES {bounds}")


def name(day: date) -> str:
    return f"requests_{day:%Y%m%d}"


def test_a_server_that_owns_the_tables_maintains_them(made: Database, models: Path) -> None:
    old, late = today() - timedelta(9), today() + timedelta(7)
    add_partition(made, old)
    made.execute(f"DROP TABLE inferry.{name(late)}")
    with serving(models, REQUEST_LOG_URL=made.url(), REQUEST_LOG_RETENTION="5") as server:
        assert infer(server, "first") == 200
        eventually(lambda: late in days(made) and old not in days(made), True, 30)


@pytest.fixture
def writer(made: Database) -> str:
    """A role that may insert, by its name."""
    role = made.role("writer")
    migrate(made.url(), "--writer", role)
    return role


def test_a_role_that_may_only_insert(made: Database, models: Path, writer: str) -> None:
    """It writes; it neither reads, changes nor deletes what it wrote, nor the tables."""
    with serving(models, REQUEST_LOG_URL=made.url(writer)) as server:
        assert infer(server, "written") == 200
    assert "written" in ids(made)
    assert "don't get" not in server.final_log
    with psycopg.connect(made.url(writer), autocommit=True) as connection:
        for statement in (
            "SELECT * FROM inferry.requests",
            "UPDATE inferry.requests SET model = 'x'",
            "DELETE FROM inferry.requests",
            "TRUNCATE inferry.requests",
            f"SELECT * FROM inferry.{name(today())}",
            f"DROP TABLE inferry.{name(today())}",
            "INSERT INTO inferry.migrations VALUES (9, 9)",
            "CREATE TABLE inferry.more ()",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement)


@pytest.mark.parametrize(
    ("before", "said"),
    [
        (("CREATE TABLE inferry.requests ()",), "somebody else's"),
        (("CREATE TABLE inferry.migrations (name text)",), "somebody else's"),
        (
            (
                "CREATE TABLE inferry.migrations (version int, oldest_writer int)",
                "INSERT INTO inferry.migrations VALUES (9, 9)",
            ),
            "are of version 9, and this inferry knows 2: update it",
        ),
    ],
    ids=["another's tables", "another's migrations", "newer"],
)
def test_tables_that_are_not_ours(database: Database, models: Path, before: tuple[str, ...], said: str) -> None:
    """Nothing is written or changed, the log says what to do, and once that is done, nothing was lost."""
    for statement in ("CREATE SCHEMA inferry", *before):
        database.execute(statement)
    with serving(models, REQUEST_LOG_URL=database.url()) as server:
        assert infer(server, "early") == 200
        eventually(lambda: said in server.log, True, 30)
        assert database.value("SELECT count(*) FROM pg_class WHERE relnamespace = 'inferry'::regnamespace") <= 2
        database.execute("DROP SCHEMA inferry CASCADE")
        eventually(lambda: tables(database) and "early" in ids(database), True, 60)
    assert server.final_log.count(said) == 1
    assert "again; 0 were dropped" in server.final_log


# What keeps a role from writing, what the log says of it, and what lets it write.
DENIALS = {
    "no tables": ("DROP SCHEMA inferry CASCADE", "run `inferry migrate`", None),
    "no rights": (
        "REVOKE INSERT ON inferry.requests FROM {role}",
        "permission denied for table requests; let the owner of the tables run `inferry migrate --writer ROLE`",
        "GRANT INSERT ON inferry.requests TO {role}",
    ),
    "read-only": (
        "ALTER ROLE {role} SET default_transaction_read_only = on",
        "read-only transaction; give the URL of a primary whose role may write",
        "ALTER ROLE {role} RESET default_transaction_read_only",
    ),
    "another password": (
        "ALTER ROLE {role} PASSWORD 'another'",
        'password authentication failed for user "{role}"',
        "ALTER ROLE {role} PASSWORD '{password}'",
    ),
    "no login": ("ALTER ROLE {role} NOLOGIN", "is not permitted to log in", "ALTER ROLE {role} LOGIN"),
    "no connections": (
        "ALTER ROLE {role} CONNECTION LIMIT 0",
        "too many connections for role",
        "ALTER ROLE {role} CONNECTION LIMIT -1",
    ),
    "no partition": (
        "DROP TABLE inferry.{today}, inferry.{tomorrow}",
        "has no partition for tomorrow: let the owner of the tables run `inferry migrate`",
        None,
    ),
}


@pytest.mark.parametrize("denial", DENIALS)
def test_a_role_that_can_not_write(made: Database, models: Path, writer: str, denial: str) -> None:
    """The log says what to do, once and without the password; once that is done, everything is written."""
    spoil, said, repair = DENIALS[denial]
    words = {"role": writer, "password": PASSWORD, "today": name(today()), "tomorrow": name(today() + timedelta(1))}
    made.execute(spoil.format(**words))
    with serving(models, REQUEST_LOG_URL=made.url(writer)) as server:
        assert infer(server, "early") == 200
        eventually(lambda: said.format(**words) in server.log, True, 30)
        if repair is not None:
            made.execute(repair.format(**words))
        else:
            migrate(made.url(), "--writer", writer)
        eventually(lambda: "early" in ids(made), True, 60)
        assert counted(server)["dropped_total"] == 0
    assert server.final_log.count(said.format(**words)) == 1
    assert not any(secret in server.final_log for secret in (PASSWORD, QUOTED))


@pytest.fixture
def own_cluster(cluster: Cluster) -> Iterator[Cluster]:
    """One that may be stopped: the module's, which is up again afterwards."""
    yield cluster
    cluster.ensure_started()


def test_a_database_that_is_down_for_a_while(own_cluster: Cluster, database: Database, models: Path) -> None:
    """Requests are answered as quickly as ever, and have their rows once it is back."""
    own_cluster.stop()
    with serving(models, REQUEST_LOG_URL=database.url()) as server:
        assert infer(server, "before-its-start") == 200
        eventually(lambda: "Connection refused" in server.log, True, 30)
        own_cluster.start()
        eventually(lambda: tables(database) and "before-its-start" in ids(database), True, 60)
        own_cluster.stop()
        names = [f"while-it-was-away-{number}" for number in range(50)]
        assert {infer(server, name) for name in names} == {200}
        own_cluster.start()
        eventually(lambda: {*names} <= {*ids(database)}, True, 60)
        assert counted(server)["dropped_total"] == 0
    assert len(ids(database)) == len({*ids(database)})


def test_the_end_does_not_wait_for_a_database_that_is_away(
    own_cluster: Cluster, database: Database, models: Path
) -> None:
    with serving(models, REQUEST_LOG_URL=database.url(), MODEL_TIMEOUT="1") as server:
        assert infer(server, "written") == 200
        eventually(lambda: tables(database) and "written" in ids(database), True, 30)
        with database.frozen():
            assert infer(server, "not-written") == 200
            began = time.monotonic()
            server.terminate()
            assert server.wait() == 0
            assert time.monotonic() - began < 12
    assert re.search(r"[1-9]\d* requests of the last seconds are missing in postgres", server.final_log)


def test_passwords_from_files(made: Database, models: Path, writer: str, tmp_path: Path) -> None:
    """libpq's own variables say what the URL leaves out."""
    (tmp_path / "pass").write_text(f"*:*:*:{writer}:{PASSWORD.replace(':', chr(92) + ':')}\n")
    (tmp_path / "pass").chmod(0o600)
    env = {"PGHOST": "127.0.0.1", "PGPORT": str(made.cluster.port), "PGUSER": writer, "PGDATABASE": made.name}
    env |= {"PGPASSFILE": str(tmp_path / "pass"), "PGAPPNAME": "by-variables"}
    with serving(models, REQUEST_LOG_URL="postgresql://", **env) as server:
        assert infer(server, "with-a-file") == 200
        eventually(lambda: "with-a-file" in ids(made), True, 30)
        found = made.rows(f"SELECT application_name FROM pg_stat_activity WHERE usename = '{writer}'")
        assert found == [("by-variables",)]


def test_tls(own_cluster: Cluster, database: Database, models: Path, tmp_path: Path) -> None:
    """As sslmode says: verified where it is asked for, and nothing is sent where it can't be had."""
    url = f"{database.url()}?sslmode=verify-full&sslrootcert={own_cluster.folder}/server.crt"
    with serving(models, REQUEST_LOG_URL=url) as server:
        assert infer(server, "secret") == 200
        eventually(lambda: "server does not support SSL, but SSL was required" in server.log, True, 30)
        own_cluster.stop()
        own_cluster.start(tls=True)
        eventually(lambda: tables(database) and "secret" in ids(database), True, 60)
        encrypted = "SELECT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE client_port > 0"
        assert database.rows(encrypted) == [(True,)]


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:se/cret@db/requests",
        "postgresql://me:12/cret@db/requests",
        "postgresql://me:se%cret@db/requests",
        "postgresql://me:secret@db:port/requests",
        "postgresql://me:secret@db/requests?cret=1",
        "postgresql://me:secret@[db/requests",
    ],
)
def test_a_url_that_is_none(url: str, tmp_path: Path) -> None:
    """The server does not start, and says nothing of a password."""
    with pytest.raises(InvalidSettings) as caught:
        postgres.parameters(url)
    assert "REQUEST_LOG_URL must be a URL of PostgreSQL's" in str(caught.value)
    assert "cret" not in f"{caught.value}{caught.value.__cause__}"


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_server_does_not_start_with_a_url_that_is_none(models: Path, workers: str) -> None:
    refused = pytest.raises(AssertionError, match="inferry: REQUEST_LOG_URL must be a URL")
    with refused as caught, serving(models, "--workers", workers, REQUEST_LOG_URL="postgresql://me:se/cret@db"):
        pass
    assert "cret" not in str(caught.value)


@pytest.fixture
def logged(made: Database) -> Iterator[tuple[RequestLog, Metrics]]:
    """The log of this process, which takes rows each 20 ms."""
    metrics = Metrics()
    log = RequestLog(
        postgres.Postgres(Settings(request_log_url=made.url())), metrics, most=20_000, interval=0.02
    ).start()
    yield log, metrics
    log.close()


def add(log: RequestLog, *names: str) -> None:
    for name in names:
        record = RequestRecord("POST", "/v2/models/m/infer", name.encode(), b"", time.perf_counter_ns())
        record.sink, record.status, record.route = log, 200, "/v2/models/{model}/infer"
        record.end()


def dropped(metrics: Metrics) -> float:
    found = next(item for item in metrics.collect() if item.metric is catalogue.LOG_DROPPED)
    return float(found.series[("postgres",)])  # type: ignore[arg-type]


def test_a_database_that_stands_still(
    made: Database,
    logged: tuple[RequestLog, Metrics],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Nobody waits for it, what is too much is dropped and counted, and no row is there twice when it goes on."""
    log, metrics = logged
    monkeypatch.setattr(postgres, "_SILENCE", 0.5)
    add(log, "before")
    eventually(lambda: ids(made), ["before"], 30)
    with made.frozen():
        add(log, "first")
        eventually(lambda: any("wait timeout expired" in text for text in caplog.messages), True, 30)
        names = [f"id-{number:03}" for number in range(999)]
        began = time.monotonic()
        add(log, *names)
        assert time.monotonic() - began < 1
        eventually(lambda: dropped(metrics) >= 700, True, 30)
    eventually(lambda: made.value(COUNT) + dropped(metrics), 1001, 30)
    found = ids(made)
    assert found == sorted(found, key=["before", "first", *names].index)
    assert len(found) == len({*found}) <= 301
    assert sum("are dropped until it takes them" in text for text in caplog.messages) == 1
    eventually(lambda: "requests get into postgres again" in caplog.messages[-1], True, 30)


def test_a_table_that_somebody_locks(
    made: Database,
    logged: tuple[RequestLog, Metrics],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    log, metrics = logged
    monkeypatch.setattr(postgres, "_BEGIN", "BEGIN; SET LOCAL statement_timeout = '200ms'")
    add(log, "before")
    eventually(lambda: ids(made), ["before"], 30)
    with psycopg.connect(made.url()) as connection:
        connection.execute("LOCK TABLE inferry.requests IN ACCESS EXCLUSIVE MODE")
        add(log, "behind-it")
        eventually(lambda: any("who holds a lock on the tables" in text for text in caplog.messages), True, 30)
    eventually(lambda: ids(made), ["before", "behind-it"], 30)
    assert dropped(metrics) == 0


def test_a_commit_of_which_nobody_knows(
    made: Database, logged: tuple[RequestLog, Metrics], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch whose commit was not confirmed may be there, and is counted as dropped: it is not written again."""
    log, metrics = logged
    monkeypatch.setattr(postgres, "_SILENCE", 0.5)
    made.execute(
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(3); RETURN NULL; END'"
    )
    made.execute(
        f"CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON inferry.{name(today())} DEFERRABLE INITIALLY DEFERRED "
        "FOR EACH ROW EXECUTE FUNCTION slow()"
    )
    add(log, "unknown")
    eventually(lambda: dropped(metrics), 1, 30)
    made.execute(f"DROP TRIGGER slow ON inferry.{name(today())}")
    add(log, "next")
    eventually(lambda: "next" in ids(made), True, 30)
    assert len(ids(made)) == len({*ids(made)})


def test_a_connection_that_was_closed_meanwhile(
    made: Database, logged: tuple[RequestLog, Metrics], caplog: pytest.LogCaptureFixture
) -> None:
    """As by a pooler, when nobody asked anything for a while: it is opened again, and nothing is said."""
    log, metrics = logged
    add(log, "before")
    eventually(lambda: ids(made), ["before"], 30)
    made.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'inferry'")
    eventually(lambda: made.value("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'inferry'"), 0, 30)
    add(log, "after")
    eventually(lambda: ids(made), ["before", "after"], 30)
    assert (caplog.messages, dropped(metrics)) == ([], 0)


@pytest.mark.skipif(os.getuid() != 0, reason="a disk that is small is root's to mount")
def test_a_disk_that_is_full(cluster: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    """The log says so; once there is room again, what waited is written."""
    with cluster.small_disk() as disk:
        database = cluster.database(tablespace=disk.tablespace)
        migrate(database.url())
        settings, metrics = Settings(request_log_url=database.url()), Metrics()
        log = RequestLog(postgres.Postgres(settings), metrics, interval=0.02).start()
        disk.fill()
        add(log, "no-room")
        try:
            eventually(lambda: any("No space left on device" in text for text in caplog.messages), True, 30)
            assert "give the database more disk, or keep fewer days (REQUEST_LOG_RETENTION)" in caplog.messages[0]
            disk.clear()
            eventually(lambda: ids(database), ["no-room"], 30)
        finally:
            log.close()
            database.drop()
        assert dropped(metrics) == 0

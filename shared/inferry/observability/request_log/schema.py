"""The tables of the request log: their versions, a partition for each day, and who may write."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, LiteralString, NamedTuple, TypeAlias

from psycopg import Connection, errors, sql

Database: TypeAlias = Connection[Any]

# Partitions are there so many days before their day comes.
AHEAD = 7
# One process at a time changes tables: a key of PostgreSQL's advisory locks, "inferry" in ASCII.
_LOCK = 0x696E6665727279
# Each has a partition for a day.
TABLES: tuple[str, ...] = ("requests", "tensors")


class Migration(NamedTuple):
    """What makes a version of the schema out of the one before; writers of `oldest_writer` and newer can go on."""

    oldest_writer: int
    statements: tuple[LiteralString, ...]


# Version 1 is the first. One that was released is never changed.
MIGRATIONS: tuple[Migration, ...] = (
    Migration(
        1,
        (
            "CREATE SCHEMA IF NOT EXISTS inferry",
            """
            CREATE TABLE inferry.migrations (
                version integer PRIMARY KEY,
                oldest_writer integer NOT NULL,
                applied timestamptz NOT NULL DEFAULT now()
            )
            """,
            """
            CREATE TABLE inferry.requests (
                time timestamptz NOT NULL,
                service text NOT NULL,
                request_id text,
                trace_id text,
                method text NOT NULL,
                route text,
                status smallint NOT NULL,
                outcome text NOT NULL,
                model text,
                version text,
                digest text,
                rows integer,
                batch_rows integer,
                duration_ms double precision NOT NULL,
                decode_ms double precision,
                queue_ms double precision,
                infer_ms double precision,
                encode_ms double precision,
                load_ms double precision,
                request_bytes bigint NOT NULL,
                response_bytes bigint NOT NULL,
                cold_start boolean NOT NULL
            ) PARTITION BY RANGE (time)
            """,
            "CREATE INDEX ON inferry.requests (request_id)",
        ),
    ),
    Migration(
        1,
        (
            """
            CREATE TABLE inferry.tensors (
                time timestamptz NOT NULL,
                request_id text,
                model text NOT NULL,
                version text NOT NULL,
                digest text NOT NULL,
                kind text NOT NULL,
                name text NOT NULL,
                datatype text NOT NULL,
                shape bigint[] NOT NULL,
                data bytea,
                sha256 text NOT NULL
            ) PARTITION BY RANGE (time)
            """,
            "CREATE INDEX ON inferry.tensors (request_id)",
        ),
    ),
)


class Unusable(Exception):
    """The schema can't be written to; the text says why, and what to do."""


class Schema(NamedTuple):
    """What a role finds in its database.

    `owned`: whether the role may change the schema, or make it; `used`: whether it has tables, `ours`: among them that
    of versions.
    """

    database: str
    role: str
    exists: bool
    owned: bool
    used: bool
    ours: bool


class Changes(NamedTuple):
    """What `maintain` did: the `version` now, and names of partitions."""

    version: int
    added: list[str]
    dropped: list[str]
    in_use: list[str]


def look(database: Database) -> Schema:
    """What is there, by catalogues that everybody may read."""
    row = database.execute(
        """
        SELECT current_database(), current_user, n.oid IS NOT NULL,
               coalesce(pg_has_role(n.nspowner, 'USAGE'), has_database_privilege(current_database(), 'CREATE')),
               EXISTS (SELECT FROM pg_class WHERE relnamespace = n.oid),
               EXISTS (SELECT FROM pg_class WHERE relnamespace = n.oid AND relname = 'migrations')
        FROM (SELECT) AS one LEFT JOIN pg_namespace AS n ON n.nspname = 'inferry'
        """
    ).fetchone()
    assert row is not None
    return Schema(*row)


def check(database: Database, schema: Schema, migrations: Sequence[Migration] = MIGRATIONS) -> None:
    """Unusable unless the schema is one that this version of inferry can write to."""
    if not schema.ours:
        raise Unusable(
            f"there are no tables for requests in the database {schema.database}, and {schema.role} may not make them: "
            "run `inferry migrate` with the URL of a role that may"
        )
    version, oldest = _version(database, schema)
    if oldest > len(migrations):
        raise Unusable(
            f"the tables in the database {schema.database} are of version {version}, and this inferry knows "
            f"{len(migrations)}: update it, or give it another database"
        )
    if version < len(migrations):
        raise Unusable(
            f"the tables in the database {schema.database} are of version {version}, and this inferry needs "
            f"{len(migrations)}: run its `inferry migrate` with the URL of the role that owns them"
        )


def maintain(
    database: Database, schema: Schema, retention: int, migrations: Sequence[Migration] = MIGRATIONS
) -> Changes:
    """Brings an owned schema up to date, adds partitions for the days to come, and drops those that are over.

    `retention`: full days that are kept, 0 for all. Several processes may do so at once. Unusable.
    """
    with database.transaction():
        # Who has to wait longer tries again later: behind a lock that waits, nobody writes.
        database.execute("SET LOCAL lock_timeout = '5s'")
        database.execute("SET LOCAL statement_timeout = '10s'")
        database.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
        schema = look(database)
        if schema.used and not schema.ours:
            raise Unusable(
                f"the database {schema.database} has a schema `inferry` that is somebody else's: it has no table "
                "`migrations`; give REQUEST_LOG_URL another database"
            )
        _migrate(database, _version(database, schema)[0] if schema.ours else 0, migrations)
        schema = look(database)
        check(database, schema, migrations)
        today = datetime.now(UTC).date()
        known = {table: _partitions(database, table) for table in TABLES}
        # What waited while the database was away may be of yesterday.
        wanted = [today + timedelta(days) for days in range(-1, AHEAD + 1)]
        added = [_add(database, table, day) for table in TABLES for day in wanted if day not in known[table]]
        version, _ = _version(database, schema)
    dropped: list[str] = []
    in_use: list[str] = []
    if retention:
        for table in TABLES:
            for day in sorted(day for day in known[table] if (today - day).days > retention):
                (dropped if _drop(database, table, day) else in_use).append(_name(table, day))
    return Changes(version, added, dropped, in_use)


def has_tomorrow(database: Database) -> bool:
    """Whether tomorrow has a partition already."""
    return datetime.now(UTC).date() + timedelta(1) in _partitions(database, TABLES[0])


def grant(database: Database, role: str) -> None:
    """Lets a role write requests, and nothing else. Errors are psycopg's."""
    rights = ("USAGE ON SCHEMA inferry", "INSERT ON inferry.requests, inferry.tensors", "SELECT ON inferry.migrations")
    for right in rights:
        database.execute(sql.SQL("GRANT {} TO {}").format(sql.SQL(right), sql.Identifier(role)))


def _version(database: Database, schema: Schema) -> tuple[int, int]:
    """The version of the tables, and the oldest that can write to them."""
    try:
        row = database.execute("SELECT max(version), max(oldest_writer) FROM inferry.migrations").fetchone()
    except errors.UndefinedColumn as exc:
        raise Unusable(
            f"the database {schema.database} has a schema `inferry` that is somebody else's: its table `migrations` "
            "has other columns; give REQUEST_LOG_URL another database"
        ) from exc
    assert row is not None
    version, oldest = row
    return version or 0, oldest or 0


def _migrate(database: Database, version: int, migrations: Sequence[Migration]) -> None:
    for number, migration in enumerate(migrations, 1):
        if number > version:
            for statement in migration.statements:
                database.execute(statement)
            database.execute(
                "INSERT INTO inferry.migrations (version, oldest_writer) VALUES (%s, %s)",
                [number, migration.oldest_writer],
            )


def _name(table: str, day: date) -> str:
    return f"{table}_{day:%Y%m%d}"


def _partitions(database: Database, table: str) -> set[date]:
    """The days that have a partition; what has another name is somebody's own."""
    rows = database.execute(
        "SELECT c.relname FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid "
        "WHERE i.inhparent = %s::regclass AND c.relname ~ %s",
        [f"inferry.{table}", f"^{table}_[0-9]{{8}}$"],
    )
    return {datetime.strptime(name[-8:], "%Y%m%d").replace(tzinfo=UTC).date() for (name,) in rows}


def _add(database: Database, table: str, day: date) -> str:
    """Adds a day's partition. One that is made first and attached then waits for nobody who reads."""
    name = _name(table, day)
    whole, partition = sql.Identifier("inferry", table), sql.Identifier("inferry", name)
    bounds = [sql.Literal(f"{bound.isoformat()} 00:00+00") for bound in (day, day + timedelta(1))]
    database.execute(sql.SQL("CREATE TABLE {} (LIKE {} INCLUDING ALL)").format(partition, whole))
    database.execute(
        sql.SQL("ALTER TABLE {} ATTACH PARTITION {} FOR VALUES FROM ({}) TO ({})").format(whole, partition, *bounds)
    )
    return name


def _drop(database: Database, table: str, day: date) -> bool:
    """Drops a day's partition; False where somebody reads the table: writers would wait behind us."""
    partition = sql.Identifier("inferry", _name(table, day))
    try:
        with database.transaction():
            database.execute("SET LOCAL lock_timeout = '1s'")
            database.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(partition))
    except errors.LockNotAvailable:
        return False
    return True

"""The request log in PostgreSQL, by psycopg: batches through COPY, over one connection of the process."""

import logging
import select
import time
from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import Conninfo

from inferry.errors import InvalidSettings
from inferry.observability.record import RequestRecord
from inferry.observability.request_log import schema
from inferry.observability.request_log.request_log import Block, NotWritten
from inferry.observability.request_log.rows import COLUMNS, END, HEAD, TENSOR_COLUMNS, offset, rows, tensors
from inferry.settings import Settings

log = logging.getLogger("inferry")

_COPY, _COPY_TENSORS = (
    sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(
        sql.Identifier("inferry", table), sql.SQL(", ").join(map(sql.Identifier, columns))
    )
    for table, columns in (("requests", COLUMNS), ("tensors", TENSOR_COLUMNS))
)
# Seconds that the server may say nothing, some more than it may take for a batch.
_SILENCE = 15.0
_BEGIN = "BEGIN; SET LOCAL statement_timeout = '10s'"
# Seconds between looks after the partitions.
_MAINTENANCE = 3600.0
# Where neither the URL nor libpq's variables say otherwise: the kernel knows after 20 s of a server that is gone.
_DEFAULTS = {
    "connect_timeout": "5",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "2",
    "tcp_user_timeout": "20000",
    "fallback_application_name": "inferry",
}
# What to do, by the error's SQLSTATE: PostgreSQL's manual, appendix A.
_ADVICE = {
    "25006": "give the URL of a primary whose role may write, such as one with target_session_attrs=read-write",
    "42501": "let the owner of the tables run `inferry migrate --writer ROLE`",
    "23514": "let the owner of the tables run `inferry migrate`, which adds partitions, once a week at least",
    "42P01": "let the owner of the tables run `inferry migrate`",
    "53100": "give the database more disk, or keep fewer days (REQUEST_LOG_RETENTION)",
    "53300": "give the database more connections (max_connections), or the server fewer WORKERS",
    "55P03": "see who holds a lock on the tables (pg_locks)",
    "57014": "see what makes the database slow, or who holds a lock on the tables (pg_locks)",
}
_ADVICE_OTHERWISE = "see that the database is up, and what REQUEST_LOG_URL and libpq's PG* variables say"
_NOT_A_URL = (
    "REQUEST_LOG_URL must be a URL of PostgreSQL's, such as postgresql://user@host/database; in a user, a password or "
    "a name, write other characters than letters and digits as %XX"
)
# Bytes of a kept tensor beside its data, about.
_TENSOR = 1_000
# What is wrong with values of a row stays wrong.
_BAD_DATA = "22"


class _Connection(psycopg.Connection[Any]):
    """psycopg's, which does not wait for ever: a server that is stopped takes what comes, and says nothing."""

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        return super().wait(gen, interval, timeout or _SILENCE)


class Postgres:
    """Writes records to the database at REQUEST_LOG_URL.

    A role that owns the tables makes and maintains them as well; any other may only insert.
    """

    name = "postgres"

    def __init__(self, settings: Settings) -> None:
        """InvalidSettings where the URL can't be read."""
        self._parameters = parameters(settings.request_log_url)
        self._retention = settings.request_log_retention
        self._service = settings.app_name
        self._connection: _Connection | None = None
        self._maintained = 0.0
        # Until when nothing more is said of a partition that is missing.
        self._quiet = 0.0

    def block(self, records: Sequence[RequestRecord]) -> Block:
        """The rows of the table `requests`, as COPY takes them, and those of the table `tensors`."""
        since = offset()
        content, kept = rows(records, self._service, since), tensors(records, since)
        weight = len(content) + sum(_TENSOR + len(row[-2] or b"") for row in kept)
        return Block(len(records), weight, (content, kept))

    def write(self, blocks: Sequence[Block]) -> None:
        """Writes all of them in one transaction, or raises NotWritten."""
        content = b"".join((HEAD, *(block.content[0] for block in blocks), END))
        kept = [row for block in blocks for row in block.content[1]]
        try:
            connection = self._ready()
            connection.execute(_BEGIN)
            with connection.cursor() as cursor, cursor.copy(_COPY) as copy:
                copy.write(content)
            if kept:
                with connection.cursor() as cursor, cursor.copy(_COPY_TENSORS) as copy:
                    copy.set_types([*TENSOR_COLUMNS.values()])
                    for row in kept:
                        copy.write_row(row)
        except schema.Unusable as exc:
            self.close()
            raise NotWritten(str(exc)) from exc
        except psycopg.Error as exc:
            self.close()
            raise NotWritten(reason(exc), (exc.sqlstate or "").startswith(_BAD_DATA)) from exc
        try:
            connection.execute("COMMIT")
        except psycopg.Error as exc:
            self.close()
            # Where the server did not refuse it, nobody knows.
            raise NotWritten(reason(exc), exc.sqlstate is None) from exc

    def close(self) -> None:
        """Ends the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _ready(self) -> _Connection:
        """A connection to a database whose tables are as they should be."""
        connection = self._connection
        if connection is not None and _is_readable(connection):
            # Nobody has asked it anything: it was closed, or is about to be.
            self.close()
            connection = None
        if connection is None:
            connection = self._connection = _Connection.connect(**self._parameters, autocommit=True)
            self._maintained = 0.0
        if not self._maintained or time.monotonic() > self._maintained + _MAINTENANCE:
            self._maintain(connection)
            self._maintained = time.monotonic()
        return connection

    def _maintain(self, connection: _Connection) -> None:
        found = schema.look(connection)
        if not found.owned:
            schema.check(connection, found)
            # Every new connection finds it, and there is one after each failure.
            if not schema.has_tomorrow(connection) and time.monotonic() > self._quiet:
                self._quiet = time.monotonic() + _MAINTENANCE
                log.warning("the table of requests has no partition for tomorrow: %s", _ADVICE["23514"])
            return
        changes = schema.maintain(connection, found, self._retention)
        for name in changes.dropped:
            log.info("dropped %s: over REQUEST_LOG_RETENTION, %d days", name, self._retention)
        for name in changes.in_use:
            log.warning("could not drop %s, as somebody reads the table: tried again in an hour", name)


def migrate(settings: Settings, writers: Sequence[str]) -> schema.Changes:
    """Does what an owner has to do, and lets each of the `writers` insert. NotWritten."""
    try:
        with _Connection.connect(**parameters(settings.request_log_url), autocommit=True) as connection:
            found = schema.look(connection)
            if not found.owned:
                raise schema.Unusable(f"{found.role} does not own the tables, and may not make any: {_ADVICE['42501']}")
            changes = schema.maintain(connection, found, settings.request_log_retention)
            for role in writers:
                schema.grant(connection, role)
            return changes
    except schema.Unusable as exc:
        raise NotWritten(str(exc)) from exc
    except psycopg.Error as exc:
        raise NotWritten(reason(exc)) from exc


def parameters(url: str) -> dict[str, Any]:
    """What psycopg connects with. InvalidSettings where it is no URL of PostgreSQL's; its text has nothing of it."""
    try:
        given = conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        # Not `from`: what libpq says may have a part of the password.
        raise InvalidSettings(_NOT_A_URL) from None
    port = str(given.get("port", "0"))
    if any("@" in str(given.get(name, "")) for name in ("host", "dbname")) or not port.replace(",", "").isdigit():
        raise InvalidSettings(_NOT_A_URL)
    # As libpq has them without a URL: out of its variables.
    said = {item.keyword.decode() for item in Conninfo.get_defaults() if item.envvar and item.val}
    return {**{name: value for name, value in _DEFAULTS.items() if name not in said}, **given}


def reason(exc: psycopg.Error) -> str:
    """What is wrong, and what to do, in one line; libpq's and PostgreSQL's words have no password in them."""
    text = " ".join(str(exc).split()) or type(exc).__name__
    return f"{text}; {_ADVICE.get(exc.sqlstate or '', _ADVICE_OTHERWISE)}"


def _is_readable(connection: _Connection) -> bool:
    return bool(select.select([connection.fileno()], [], [], 0)[0])

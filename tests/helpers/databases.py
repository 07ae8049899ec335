"""A PostgreSQL of the tests' own on loopback, from Debian's package, and databases in it."""

import os
import pwd
import secrets
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from loopback import free_port

BINARIES = max(
    Path("/usr/lib/postgresql").glob("*/bin"), default=Path("/usr/lib/postgresql"), key=lambda path: path.parent.name
)
MISSING = "PostgreSQL is missing: .ci/install installs it"
# PostgreSQL refuses root.
USER = "nobody"
PASSWORD = "a word/with@signs"
QUOTED = "a%20word%2Fwith%40signs"
OPTIONS = (
    "listen_addresses=127.0.0.1",
    "fsync=off",
    "full_page_writes=off",
    "shared_buffers=32MB",
    "max_connections=40",
)


@dataclass
class Cluster:
    """A PostgreSQL server, which can be stopped and started again on its port. Its superuser is `postgres`."""

    folder: Path
    port: int = field(default_factory=free_port)

    def start(self, tls: bool = False) -> None:
        """With `tls` it has the certificate `server.crt`, of 127.0.0.1, in its folder."""
        given = (
            *OPTIONS,
            "ssl=on",
            f"ssl_cert_file={self.folder}/server.crt",
            f"ssl_key_file={self.folder}/server.key",
        )
        settings = given if tls else OPTIONS
        options = " ".join(["-p", str(self.port), "-k", str(self.folder), *(f"-c {option}" for option in settings)])
        self._run("pg_ctl", "-D", str(self.data), "-w", "-l", str(self.folder / "log"), "-o", options, "start")

    def stop(self) -> None:
        """As when its machine is switched off."""
        self._run("pg_ctl", "-D", str(self.data), "-w", "-m", "immediate", "stop")

    def ensure_started(self) -> None:
        """As a test left it, or started again."""
        if not (self.data / "postmaster.pid").exists():
            self.start()

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def make(self) -> None:
        """The files of a new server."""
        (self.folder / "password").write_text(PASSWORD)
        os.chown(self.folder / "password", *_ids())
        authentication = ("--auth-local=trust", "--auth-host=scram-sha-256", "--pwfile", str(self.folder / "password"))
        self._run("initdb", "-D", str(self.data), "-U", "postgres", "-E", "UTF8", "--no-sync", *authentication)
        subject = ("-subj", "/CN=inferry", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2")
        key = (
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-keyout",
            str(self.folder / "server.key"),
        )
        self._run("openssl", "req", "-x509", *key, "-out", str(self.folder / "server.crt"), *subject)

    def database(self, tablespace: str = "pg_default") -> "Database":
        """A new one."""
        name = f"test_{secrets.token_hex(4)}"
        with self._connected("postgres") as connection:
            connection.execute(f"CREATE DATABASE {name} TABLESPACE {tablespace}")
        return Database(self, name)

    @contextmanager
    def small_disk(self) -> Iterator["Disk"]:
        """A file system of 24 MB for a database, which needs 8; root's to make."""
        folder = Path(tempfile.mkdtemp(prefix="inferry-disk-"))
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m,mode=777", "tmpfs", str(folder)], check=True)
        disk = Disk(folder, f"small_{secrets.token_hex(4)}")
        (folder / "tables").mkdir()
        os.chown(folder / "tables", *_ids())
        try:
            with self._connected("postgres") as connection:
                connection.execute(f"CREATE TABLESPACE {disk.tablespace} LOCATION '{folder}/tables'")
                yield disk
                connection.execute(f"DROP TABLESPACE {disk.tablespace}")
        finally:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)
            folder.rmdir()

    @contextmanager
    def _connected(self, database: str) -> Iterator[psycopg.Connection[Any]]:
        with psycopg.connect(
            host=str(self.folder), port=self.port, user="postgres", dbname=database, autocommit=True
        ) as connection:
            yield connection

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(BINARIES / program) if (BINARIES / program).exists() else program, *arguments]
        if os.getuid() == 0:
            command = ["setpriv", f"--reuid={USER}", "--regid=nogroup", "--clear-groups", *command]
        # Not captured: the server, which goes on, has the output.
        with (self.folder / "output").open("ab") as output:
            done = subprocess.run(command, stdout=output, stderr=output, cwd=self.folder, timeout=60)
        assert done.returncode == 0, (self.folder / "output").read_text()


@dataclass(frozen=True)
class Disk:
    """A file system, and the tablespace on it."""

    folder: Path
    tablespace: str

    def fill(self) -> None:
        """Leaves no room on it."""
        with (self.folder / "filler").open("wb", buffering=0) as file, suppress(OSError):
            while file.write(bytes(4096)):
                pass

    def clear(self) -> None:
        """Makes room again."""
        (self.folder / "filler").unlink()


@dataclass(frozen=True)
class Database:
    """One database of a cluster, asked by its superuser."""

    cluster: Cluster
    name: str

    def url(self, role: str = "postgres", password: str = QUOTED) -> str:
        return f"postgresql://{role}:{password}@127.0.0.1:{self.cluster.port}/{self.name}"

    def role(self, name: str, rights: str = "LOGIN") -> str:
        """The name of a new role, one of this database's own."""
        role = f"{name}_{self.name}"
        self.execute(f"CREATE ROLE {role} {rights} PASSWORD '{PASSWORD}'")
        return role

    def drop(self) -> None:
        with self.cluster._connected("postgres") as connection:
            connection.execute(f"DROP DATABASE {self.name} WITH (FORCE)")

    def execute(self, statement: str) -> None:
        with self.cluster._connected(self.name) as connection:
            connection.execute(statement)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with self.cluster._connected(self.name) as connection:
            return connection.execute(query).fetchall()

    def value(self, query: str) -> Any:
        ((value,),) = self.rows(query)
        return value

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """The server and those of its processes that have connections to this database are stopped by SIGSTOP."""
        others = "datname = current_database() AND pid <> pg_backend_pid()"
        server = int((self.cluster.data / "postmaster.pid").read_text().split()[0])
        pids = [server, *(pid for (pid,) in self.rows(f"SELECT pid FROM pg_stat_activity WHERE {others}"))]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)


def migrate(url: str, *arguments: str, **env: str) -> str:
    """What `inferry migrate` prints; AssertionError with that when it fails."""
    known = {name: value for name, value in os.environ.items() if name == "PATH" or name.startswith("COVERAGE_")}
    done = subprocess.run(
        [sys.executable, "-m", "inferry", "migrate", *arguments],
        env={**known, "REQUEST_LOG_URL": url, **env},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _ids() -> tuple[int, int]:
    found = pwd.getpwnam(USER) if os.getuid() == 0 else pwd.getpwuid(os.getuid())
    return found.pw_uid, found.pw_gid


@contextmanager
def running() -> Iterator[Cluster]:
    """A new server, until the block ends."""
    with tempfile.TemporaryDirectory(prefix="inferry-postgres-") as folder:
        os.chown(folder, *_ids())
        cluster = Cluster(Path(folder))
        cluster.make()
        cluster.start()
        try:
            yield cluster
        finally:
            cluster.stop()

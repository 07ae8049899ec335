"""Files of rows for the app, good and bad, and what becomes of them here."""

import json
import random
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from inferry.cli.main import main
from inferry.jobs.runs.storage_queue import StorageQueue
from servers import EXAMPLES
from standin.storage import Storage

from azure_app import names

SECONDS = 60.0
# Of which every seventh has no result.
LARGE = 15_000
SMALL = 40


def lines(count: int) -> bytes:
    digits = random.Random(count)
    rows = ([digits.randrange(17) for _ in range(64)] for _ in range(count))
    return b"".join(b'{"pixels":%s}\n' % (json.dumps(row) if n % 7 else '"?"').encode() for n, row in enumerate(rows))


def csv(count: int) -> bytes:
    return b"pixels\n" + b"".join(
        b'"%s"\n' % json.dumps(json.loads(row)["pixels"]).replace('"', '""').encode()
        for row in lines(count).splitlines()
    )


def parquet(count: int) -> bytes:
    rows = [json.loads(row)["pixels"] for row in lines(count).splitlines()]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"pixels": [row if isinstance(row, list) else [1] for row in rows]}), sink)
    return bytes(sink.getvalue())


FILES = {
    "large.csv": csv(LARGE),
    "small.jsonl": lines(SMALL),
    "ü 1&2=3#+%20/日本.jsonl": lines(SMALL + 1),
    "deep/er/small.parquet": parquet(SMALL),
    "poison.parquet": b"no Parquet",
    "notes.txt": b"no rows",
}


def results(storage: Storage, container: str, folder: str) -> dict[str, bytes]:
    """All that is there but reports, by the name below the folder."""
    found = (name for name in storage.blobs(container) if name.startswith(f"{folder}/"))
    return {
        name.removeprefix(f"{folder}/"): storage.download(container, name)
        for name in found
        if not name.endswith(".report.json")
    }


def drained(storage: Storage) -> None:
    """Waits until there is no message, and none that somebody works on."""
    env = {"AZURE_STORAGE_ACCOUNT_NAME": storage.account, "AZURE_STORAGE_ACCOUNT_KEY": storage.key}
    queue = StorageQueue(f"{storage.queue_endpoint}/{names.JOBS_QUEUE}", {**env, "AZURE_ALLOW_HTTP": "true"})
    deadline = time.monotonic() + SECONDS
    while queue.count():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def straight(folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[Any, dict[str, bytes]]:
    """What a run here says, and its results."""
    for name, content in FILES.items():
        path = folder / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    arguments = ["batch", f"{folder}/in", f"{folder}/out", "--model", "digits", "--models", str(EXAMPLES), "--json"]
    assert main(arguments) == 1
    found = (path for path in (folder / "out").rglob("*") if path.is_file() and not path.name.endswith(".report.json"))
    return json.loads(capsys.readouterr().out), {
        str(path.relative_to(folder / "out")): path.read_bytes() for path in found
    }

"""local.settings.json.example: with it, and Azurite, all of the app runs on a desk."""

import json
import time
from collections.abc import Iterator

import pytest
import services
from functionhosts import ROOT, running
from servers import EXAMPLES, Server
from standin.storage import Storage

from azure_app import names

if not services.AZURITE.exists():
    pytest.skip(services.AZURITE_MISSING, allow_module_level=True)

VALUES: dict[str, str] = json.loads((ROOT / "local.settings.json.example").read_text())["Values"]
# Azurite's own account, which UseDevelopmentStorage=true means; everybody knows its key.
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
DIGIT = json.loads((EXAMPLES / "digits/config.json").read_text())["example"]["inputs"][0]["data"]


@pytest.fixture
def storage() -> Iterator[Storage]:
    with services.azurite(ACCOUNT, KEY) as azurite:
        found = Storage(azurite.account, azurite.key, azurite.blob_endpoint, azurite.queue_endpoint)
        for queue in (names.JOBS_QUEUE, names.POISON_QUEUE):
            found.create_queue(queue)
        for container in names.CONTAINERS:
            found.create_container(container)
        yield found


@pytest.fixture
def app(storage: Storage) -> Iterator[Server]:
    """The example's values, at the ports that Azurite has here."""
    here = {name: storage.connection for name, value in VALUES.items() if value == "UseDevelopmentStorage=true"}
    blobs = storage.blob_endpoint.removesuffix(f"/{ACCOUNT}")
    assert here.keys() == {"AzureWebJobsStorage", names.CONNECTION}
    with running(ROOT, **{**VALUES, **here, "AZURITE_BLOB_STORAGE_URL": blobs}) as server:
        yield server


def test_a_file_that_a_message_names_is_predicted(app: Server, storage: Storage) -> None:
    """There is no Event Grid on a desk."""
    storage.upload(names.INPUT, "digits/one.jsonl", json.dumps({"pixels": DIGIT}).encode())
    storage.send(names.JOBS_QUEUE, json.dumps({"input": f"az://{names.INPUT}/digits/one.jsonl"}))
    deadline = time.monotonic() + 60
    while "digits/one.jsonl" not in storage.blobs(names.OUTPUT):
        assert time.monotonic() < deadline, app.log
        time.sleep(0.1)
    assert storage.download(names.OUTPUT, "digits/one.jsonl").startswith(b'{"label":7,')

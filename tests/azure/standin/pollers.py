"""Queue triggers: look, invoke, and after too many failures put aside in the poison queue. Event Grid before them."""

import asyncio
import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any

from azure_functions_runtime.bindings.datumdef import Datum

from standin import worker
from standin.storage import Message, Storage
from standin.worker import Function, Outcome


@dataclass(frozen=True)
class Limits:
    """Of host.json; seconds."""

    batch: int = 16
    invisible: int = 0
    tries: int = 5
    interval: float = 0.2
    encoding: str = "base64"

    @classmethod
    def parse(cls, host: Mapping[str, Any]) -> "Limits":
        queues = host.get("extensions", {}).get("queues", {})
        hours, minutes, seconds = map(int, queues.get("visibilityTimeout", "00:00:00").split(":"))
        return cls(
            queues.get("batchSize", 16),
            hours * 3600 + minutes * 60 + seconds,
            queues.get("maxDequeueCount", 5),
            encoding=queues.get("messageEncoding", "base64"),
        )

    def decoded(self, text: str) -> bytes:
        """A message for a function. ValueError, of which the host says nothing to it."""
        return text.encode() if self.encoding == "none" else base64.b64decode(text, validate=True)

    def encoded(self, body: str | bytes) -> str:
        """What a function puts out, for a queue."""
        content = body.encode() if isinstance(body, str) else body
        return content.decode() if self.encoding == "none" else base64.b64encode(content).decode()


@dataclass
class Queue:
    """A queue trigger."""

    function: Function
    storage: Storage
    name: str
    limits: Limits
    log: Callable[[str], None]
    # The host's is ten minutes, and extended while a function runs.
    lease: int
    running: set["asyncio.Task[None]"] = field(default_factory=set)

    async def poll(self) -> None:
        """For ever: up to `batch` messages at a time, each an invocation of its own."""
        await asyncio.to_thread(self.storage.create_queue, self.name)
        while True:
            free = self.limits.batch - len(self.running)
            found = await asyncio.to_thread(self.storage.receive, self.name, free, self.lease) if free else []
            for message in found:
                task = asyncio.create_task(self._process(message))
                self.running.add(task)
                task.add_done_callback(self.running.discard)
            await asyncio.sleep(0 if found else self.limits.interval)

    async def _process(self, message: Message) -> None:
        try:
            body = self.limits.decoded(message.text)
        except ValueError:
            await self._put_aside(message)
            return
        outcome = await worker.invoke(self.function, _text(body), _metadata(message))
        report(self.function, outcome, self.log)
        if not outcome.error:
            await asyncio.to_thread(deliver, self.function, outcome, self.storage, self.limits)
            await asyncio.to_thread(self.storage.delete, self.name, message)
        elif message.dequeued < self.limits.tries:
            await asyncio.to_thread(self.storage.release, self.name, message, self.limits.invisible)
        else:
            await self._put_aside(message)

    async def _put_aside(self, message: Message) -> None:
        poison = f"{self.name}-poison"
        self.log(f"Message has reached MaxDequeueCount of {self.limits.tries}. Moving message to queue '{poison}'.")
        await asyncio.to_thread(self.storage.create_queue, poison)
        await asyncio.to_thread(self.storage.send, poison, message.text)
        await asyncio.to_thread(self.storage.delete, self.name, message)


@dataclass
class Subscription:
    """Event Grid's to a container: each blob, once for each of its contents, becomes an event in a queue."""

    storage: Storage
    container: str
    queue: str
    seen: dict[str, str] = field(default_factory=dict)

    async def poll(self) -> None:
        """For ever."""
        await asyncio.to_thread(self.storage.create_container, self.container)
        while True:
            found = await asyncio.to_thread(self.storage.blobs, self.container)
            fresh = [name for name, tag in found.items() if self.seen.get(name) != tag]
            self.seen |= found
            for name in fresh:
                await asyncio.to_thread(self.storage.put, self.queue, json.dumps(self._event(name)).encode())
            await asyncio.sleep(0.2)

    def _event(self, name: str) -> dict[str, Any]:
        """As events/event-grid-blob.json is one."""
        account = f"/resourceGroups/g/providers/Microsoft.Storage/storageAccounts/{self.storage.account}"
        return {
            "topic": f"/subscriptions/00000000-0000-0000-0000-000000000000{account}",
            "subject": f"/blobServices/default/containers/{self.container}/blobs/{name}",
            "eventType": "Microsoft.Storage.BlobCreated",
            "eventTime": "2026-11-26T12:41:07.9584103Z",
            "id": "831e1650-001e-001b-66ab-eeb76e069631",
            "data": {"api": "PutBlob", "url": f"{self.storage.blob_endpoint}/{self.container}/{name}"},
            "dataVersion": "",
            "metadataVersion": "1",
        }


def report(function: Function, outcome: Outcome, log: Callable[[str], None]) -> None:
    ended = "Failed" if outcome.error else "Succeeded"
    log(f"Executed 'Functions.{function.name}' ({ended}) in {outcome.traceparent} {outcome.error}".strip())


def deliver(function: Function, outcome: Outcome, storage: Storage, limits: Limits) -> None:
    """What the invocation put out goes to the queues of its bindings, which have the trigger's connection."""
    for binding in function.bindings:
        datum = outcome.outputs.get(binding["name"])
        if binding["type"] == "queue" and datum is not None:
            assert binding["connection"] == function.trigger["connection"]
            storage.send(binding["queueName"], limits.encoded(datum.value))


def pollers(
    functions: list[Function], env: Mapping[str, str], limits: Limits, log: Callable[[str], None]
) -> list[Queue | Subscription]:
    """One for each queue trigger, and Event Grid's subscription where STANDIN_EVENTS says "container=queue"."""
    found: list[Queue | Subscription] = []
    for function in functions:
        if function.trigger["type"] == "queueTrigger":
            try:
                found.append(_queue(function, env, limits, log))
            except KeyError as exc:  # the host serves the other functions all the same
                log(f"The '{function.name}' function is in error: {exc}")
    if events := env.get("STANDIN_EVENTS"):
        container, _, queue = events.partition("=")
        found.append(Subscription(Storage.parse(env["AzureWebJobsStorage"]), container, queue))
    return found


def _queue(function: Function, env: Mapping[str, str], limits: Limits, log: Callable[[str], None]) -> Queue:
    trigger = function.trigger
    name, lease = _resolved(trigger["queueName"], env), int(env.get("STANDIN_LEASE", "600"))
    return Queue(function, _connection(trigger, env), name, limits, log, lease)


def _connection(trigger: Mapping[str, Any], env: Mapping[str, str]) -> Storage:
    """Of the setting that the trigger names: a connection string, or an identity's URIs, for which a key does here."""
    name = trigger.get("connection") or "AzureWebJobsStorage"
    if name in env:
        return Storage.parse(env[name])
    if f"{name}__queueServiceUri" not in env:
        raise KeyError(f"the trigger's connection {name} is no setting")
    local = Storage.parse(env["AzureWebJobsStorage"])
    return Storage(local.account, local.key, "", env[f"{name}__queueServiceUri"])


def _resolved(text: str, env: Mapping[str, str]) -> str:
    """A binding expression: %NAME% is a setting."""
    parts = text.split("%")
    parts[1::2] = [env[name] for name in parts[1::2]]
    return "".join(parts)


def _text(body: bytes) -> Datum:
    try:
        return Datum(body.decode(), "string")
    except UnicodeDecodeError:
        return Datum(body, "bytes")


def _metadata(message: Message) -> dict[str, Datum]:
    times = {"InsertionTime": message.inserted, "ExpirationTime": message.expires, "NextVisibleTime": message.visible}
    return {
        "Id": Datum(message.id, "string"),
        "PopReceipt": Datum(message.receipt, "string"),
        "DequeueCount": Datum(str(message.dequeued), "json"),
        **{name: Datum(json.dumps(parsedate_to_datetime(at).isoformat()), "json") for name, at in times.items()},
    }

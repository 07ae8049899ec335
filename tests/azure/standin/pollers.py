"""Queue and blob triggers: look, invoke, and after too many failures put aside in the poison queue with the reason."""

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

# Where the host puts the blobs that no try could be made with.
BLOB_POISON = "webjobs-blobtrigger-poison"


@dataclass(frozen=True)
class Limits:
    """Of host.json; seconds."""

    batch: int = 16
    invisible: int = 0
    tries: int = 5
    blob_tries: int = 5
    interval: float = 0.2
    encoding: str = "base64"

    @classmethod
    def parse(cls, host: Mapping[str, Any]) -> "Limits":
        queues = host.get("extensions", {}).get("queues", {})
        blobs = host.get("extensions", {}).get("blobs", {})
        hours, minutes, seconds = map(int, queues.get("visibilityTimeout", "00:00:00").split(":"))
        return cls(
            queues.get("batchSize", 16),
            hours * 3600 + minutes * 60 + seconds,
            queues.get("maxDequeueCount", 5),
            blobs.get("poisonBlobThreshold", 5),
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
class Blobs:
    """A blob trigger: every blob whose path fits, once for each of its contents."""

    function: Function
    storage: Storage
    container: str
    prefix: str
    limits: Limits
    log: Callable[[str], None]
    seen: dict[str, str] = field(default_factory=dict)

    async def poll(self) -> None:
        """For ever."""
        await asyncio.to_thread(self.storage.create_container, self.container)
        while True:
            found = await asyncio.to_thread(self.storage.blobs, self.container)
            fresh = {n: tag for n, tag in found.items() if n.startswith(self.prefix) and self.seen.get(n) != tag}
            self.seen |= fresh
            await asyncio.gather(*(self._process(name, tag) for name, tag in fresh.items()))
            await asyncio.sleep(self.limits.interval)

    async def _process(self, name: str, tag: str) -> None:
        content = await asyncio.to_thread(self.storage.download, self.container, name)
        metadata = {
            "BlobTrigger": Datum(f"{self.container}/{name}", "string"),
            "Uri": Datum(f"{self.storage.blob_endpoint}/{self.container}/{name}", "string"),
            "Properties": Datum(json.dumps({"ContentLength": len(content)}), "json"),
            "Metadata": Datum("{}", "json"),
        }
        for _ in range(self.limits.blob_tries):
            outcome = await worker.invoke(self.function, Datum(content, "bytes"), metadata)
            report(self.function, outcome, self.log)
            if not outcome.error:
                await asyncio.to_thread(deliver, self.function, outcome, self.storage, self.limits)
                return
        self.log(f"Blob '{self.container}/{name}' failed {self.limits.blob_tries} times. Moving to '{BLOB_POISON}'.")
        note = {"FunctionId": self.function.name, "ContainerName": self.container, "BlobName": name, "ETag": tag}
        await asyncio.to_thread(self.storage.create_queue, BLOB_POISON)
        await asyncio.to_thread(self.storage.put, BLOB_POISON, json.dumps(note).encode())


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
) -> list[Queue | Blobs]:
    """One for each queue and blob trigger."""
    found: list[Queue | Blobs] = []
    for function in functions:
        if make := _POLLERS.get(function.trigger["type"]):
            try:
                found.append(make(function, env, limits, log))
            except KeyError as exc:  # the host serves the other functions all the same
                log(f"The '{function.name}' function is in error: {exc}")
    return found


def _queue(function: Function, env: Mapping[str, str], limits: Limits, log: Callable[[str], None]) -> Queue:
    trigger = function.trigger
    name, lease = _resolved(trigger["queueName"], env), int(env.get("STANDIN_LEASE", "600"))
    return Queue(function, _connection(trigger, env), name, limits, log, lease)


def _blobs(function: Function, env: Mapping[str, str], limits: Limits, log: Callable[[str], None]) -> Blobs:
    container, _, pattern = _resolved(function.trigger["path"], env).partition("/")
    storage = _connection(function.trigger, env)
    return Blobs(function, storage, container, pattern.partition("{")[0], limits, log)


_POLLERS: dict[str, Callable[..., Queue | Blobs]] = {"queueTrigger": _queue, "blobTrigger": _blobs}


def _connection(trigger: Mapping[str, Any], env: Mapping[str, str]) -> Storage:
    """Of the setting that the trigger names: a connection string, or an identity's URIs, for which a key does here."""
    name = trigger.get("connection") or "AzureWebJobsStorage"
    if name in env:
        return Storage.parse(env[name])
    uris = {kind: env[f"{name}__{kind}ServiceUri"] for kind in ("blob", "queue") if f"{name}__{kind}ServiceUri" in env}
    if not uris:
        raise KeyError(f"the trigger's connection {name} is no setting")
    local = Storage.parse(env["AzureWebJobsStorage"])
    return Storage(local.account, local.key, uris.get("blob", ""), uris.get("queue", ""))


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

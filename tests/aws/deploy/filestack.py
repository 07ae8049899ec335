"""A stack of files and messages in the emulated account, its function under the real runtime with the role's rights."""

import json
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import quote

import onnx_models
from account import Account
from assemblies import EXAMPLES
from codedeploy import CodeDeploy
from deployed import Environment
from emulator import Emulator
from emulator import emulated as running
from relay import PATIENCE, Relay, relayed

from cdk.batch import HANDLER

# What waits at MiniStack's mapping is received, and would be received again before its turn had come.
SIDE_BY_SIDE = 2
LOST = "Invoke DONE failed: Runtime.ExitError"


@dataclass
class Files:
    """What a user of the stack has: a bucket, and two queues."""

    environment: Environment
    relay: Relay
    emulator: Emulator
    rights: dict[str, str]
    """The credentials that the function has."""

    @cached_property
    def s3(self) -> Any:
        return self.environment.account.client("s3")

    @cached_property
    def sqs(self) -> Any:
        return self.environment.account.client("sqs")

    @cached_property
    def names(self) -> dict[str, str]:
        return self.environment.outputs

    def put(self, key: str, content: bytes) -> None:
        self.s3.put_object(Bucket=self.names["Files"], Key=key, Body=content)

    def read(self, key: str) -> bytes:
        content: bytes = self.s3.get_object(Bucket=self.names["Files"], Key=key)["Body"].read()
        return content

    def keys(self, prefix: str) -> set[str]:
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.names["Files"], Prefix=prefix)
        return {item["Key"].removeprefix(prefix) for page in pages for item in page.get("Contents", [])}

    def send(self, body: Any) -> str:
        text = body if isinstance(body, str) else json.dumps(body)
        return str(self.sqs.send_message(QueueUrl=self.names["Jobs"], MessageBody=text)["MessageId"])

    def arrived(self, key: str) -> str:
        """Sends the event that S3 has sent already."""
        s3 = {"bucket": {"name": self.names["Files"]}, "object": {"key": quote(key).replace("%20", "+")}}
        record = {"eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "s3": s3}
        return self.send({"Records": [record]})

    def clean(self) -> None:
        """Nothing of another test is left, done or not."""
        self.until(self.is_idle)
        while self.dead():
            pass

    def dead(self) -> list[tuple[str, dict[str, str]]]:
        """Takes what is in the queue of dead letters."""
        found = []
        asked = {"QueueUrl": self.names["DeadLetters"], "MaxNumberOfMessages": 10, "MessageAttributeNames": ["All"]}
        for message in self.sqs.receive_message(**asked).get("Messages", []):
            attributes = message.get("MessageAttributes", {})
            found.append((message["Body"], {name: value["StringValue"] for name, value in attributes.items()}))
            self.sqs.delete_message(QueueUrl=self.names["DeadLetters"], ReceiptHandle=message["ReceiptHandle"])
        return found

    def is_idle(self) -> bool:
        """Whether nothing waits and nothing is in work."""
        if self.relay.is_busy:
            return False
        counts = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found = self.sqs.get_queue_attributes(QueueUrl=self.names["Jobs"], AttributeNames=counts)["Attributes"]
        return all(found[count] == "0" for count in counts)

    def until(self, done: Callable[[], Any]) -> Any:
        """What `done` says as soon as that is something."""
        deadline = time.monotonic() + PATIENCE
        while not (found := done()):
            assert time.monotonic() < deadline, self.emulator.log[-5000:]
            time.sleep(0.2)
        return found

    def report(self, key: str) -> dict[str, Any]:
        report: dict[str, Any] = json.loads(self.read(f"output/{key}.report.json"))
        return report


@contextmanager
def killing(files: Files, random: Random, times: int) -> Iterator[None]:
    """Kills the function's process so often, at random moments of its work; AssertionError when it hadn't that much.

    Between two kills it answers at least once: a message has five tries, however long the machine takes to start again.
    """
    over = threading.Event()
    before = files.emulator.log.count(LOST)

    def kill() -> int:
        killed, answered = 0, files.relay.answered - 1
        while killed < times and not over.wait(random.uniform(0.1, 0.6)):
            if files.relay.is_busy and files.relay.answered > answered:
                answered = files.relay.answered
                for pid in files.emulator.runtimes():
                    os.kill(pid, signal.SIGKILL)
                killed += 1
        return killed

    with ThreadPoolExecutor(1) as pool:
        killed = pool.submit(kill)
        try:
            yield
        finally:
            over.set()
        assert killed.result() == times
        assert files.emulator.log.count(LOST) > before, "no invocation was in work"


@contextmanager
def deployed(
    account: Account, codedeploy: CodeDeploy, folder: Path, context: Mapping[str, Any], seconds: int
) -> Iterator[Files]:
    """The stack of this context; Lambda ends the function's invocations after so many seconds."""
    with ExitStack() as stack:
        relay = stack.enter_context(relayed())
        name = f"{context['project']}-dev"
        environment = Environment(account, codedeploy, folder, stack, name, {HANDLER: relay.url})
        # The function behind the API is none of this story, and the bucket's name isn't known yet.
        status, said = environment.deploy(None, context, BATCH_INPUT="", BATCH_OUTPUT="")
        assert status == 0, said
        function = environment.physical("AWS::Lambda::Function", "BatchHandler")
        found = account.client("lambda").get_function_configuration(FunctionName=function)
        models = onnx_models.write(
            shutil.copytree(EXAMPLES, folder / "models"), {"heavy/1/model.onnx": onnx_models.heavy()}
        )
        (models / "heavy" / "config.json").write_text('{"max_batch_size": 64}')
        told = {**found["Environment"]["Variables"], "MODEL_PATH": str(models)}
        rights = environment.credentials("BatchRole")
        emulator = stack.enter_context(running(HANDLER, sys.executable, timeout=seconds, memory=1769, **told, **rights))
        queue = {"QueueUrl": environment.outputs["Jobs"], "VisibilityTimeout": 0}
        sqs = account.client("sqs")
        relay.start(emulator, lambda handle: sqs.change_message_visibility(**queue, ReceiptHandle=handle))
        [mapping] = account.client("lambda").list_event_source_mappings(FunctionName=function)["EventSourceMappings"]
        account.client("lambda").update_event_source_mapping(
            UUID=mapping["UUID"], ScalingConfig={"MaximumConcurrency": SIDE_BY_SIDE}
        )
        yield Files(environment, relay, emulator, rights)
        environment.destroy()

"""Sends messages to queues of SQS."""

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from functions.signed import JsonService

# What XML 1.0 has no characters for, SQS takes neither in bodies nor in attributes.
_FOREIGN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_LONGEST = 2000


class SendFailed(Exception):
    """SQS didn't take a message."""


class Queue:
    """A queue of SQS, by its URL."""

    def __init__(self, url: str, setting: str, env: Mapping[str, str]) -> None:
        """`env`: AWS_REGION, and the credentials. InvalidSettings, which names `setting`, when the URL is none."""
        self._url = url
        parts = urlsplit(url)
        region = env.get("AWS_REGION") or env.get("AWS_DEFAULT_REGION") or "us-east-1"
        self._service = JsonService(f"{parts.scheme}://{parts.netloc}/", region, "sqs", setting, env)

    def send(self, body: str, attributes: Mapping[str, str]) -> None:
        """Sends a message. NoResponse when SQS does not answer, SendFailed when it refuses."""
        typed = {
            name: {"DataType": "String", "StringValue": _FOREIGN.sub("?", value)[:_LONGEST] or "-"}
            for name, value in attributes.items()
        }
        request = {"QueueUrl": self._url, "MessageBody": body, "MessageAttributes": typed}
        response = self._service.call("AmazonSQS.SendMessage", "1.0", request)
        if response.status != 200:
            raise SendFailed(f"{self._url} answers {response.status}: {response.body[:500].decode(errors='replace')}")

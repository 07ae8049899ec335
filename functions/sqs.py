"""Sends messages to queues of SQS: one signed request, where boto3 would add half a second to a cold start."""

import json
import re
import time
from collections.abc import Mapping
from urllib.parse import urlsplit

from inferry.cloud.http_client import Poster
from inferry.cloud.sigv4 import Environment, Signer, now

_SECONDS = 5.0
# What XML 1.0 has no characters for, SQS takes neither in bodies nor in attributes.
_FOREIGN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_LONGEST = 2000


class SendFailed(Exception):
    """SQS didn't take a message."""


class Queue:
    """The queue at a URL."""

    def __init__(self, url: str, setting: str, env: Mapping[str, str]) -> None:
        """`env`: AWS_REGION, and the credentials. InvalidSettings, which names `setting`, when the URL is none."""
        self._url = url
        parts = urlsplit(url)
        self._endpoint = f"{parts.scheme}://{parts.netloc}/"
        self._poster = Poster(self._endpoint, setting)
        self._signer = Signer(env.get("AWS_REGION") or env.get("AWS_DEFAULT_REGION") or "us-east-1", "sqs")
        self._credentials = Environment(env)

    def send(self, body: str, attributes: Mapping[str, str]) -> None:
        """Sends a message. NoAnswer, SendFailed."""
        told = {
            name: {"DataType": "String", "StringValue": _FOREIGN.sub("?", value)[:_LONGEST] or "-"}
            for name, value in attributes.items()
        }
        request = json.dumps({"QueueUrl": self._url, "MessageBody": body, "MessageAttributes": told}).encode()
        headers = {"Content-Type": "application/x-amz-json-1.0", "X-Amz-Target": "AmazonSQS.SendMessage"}
        deadline = time.monotonic() + _SECONDS
        signed = self._signer.headers("POST", self._endpoint, headers, request, self._credentials.get(deadline), now())
        answer = self._poster.post(request, signed, deadline)
        if answer.status != 200:
            raise SendFailed(f"{self._url} answers {answer.status}: {answer.body[:500].decode(errors='replace')}")

"""Messages as the texts of a queue of Azure Storage."""

import base64
import binascii


def encoded(body: bytes) -> str:
    """A message as a queue's text. That is XML, which can't hold every character."""
    return base64.b64encode(body).decode()


def decoded(text: bytes) -> bytes:
    """A message as it was meant. Plain text is one too: JSON begins with a character that base64 has not."""
    try:
        return base64.b64decode(b"".join(text.split()), validate=True)
    except binascii.Error:
        return text

"""What a kept response is found by: a digest of everything that its outputs depend on, and of whose it is."""

import hashlib
from collections.abc import Sequence

import orjson

from inferry.protocol.tensors import Tensor, to_bytes
from inferry.runtime import cpu_kind
from inferry.runtime.model import Model
from inferry.runtime.session import RUNTIME

# In every key, and in front of every entry in Redis: whoever changes what is hashed, or how entries look, counts on.
FORMAT = b"inferry1"


def identity(model: Model) -> bytes:
    """What the bits of a model's outputs depend on beside its inputs: docs/models.md, "The same bits"."""
    form = (model.form.kind, model.form.manifest) if model.form else None
    machine = (RUNTIME, cpu_kind.kind() or cpu_kind.architecture(), model.session.threads)
    return orjson.dumps([FORMAT.decode(), model.name, model.version, model.digest, form, machine])


def key(identity: bytes, owner: str, inputs: Sequence[Tensor], outputs: Sequence[str]) -> bytes:
    """32 bytes for `outputs` of checked `inputs`, sorted by name, for `owner`.

    ValueError for strings that are no text.
    """
    described = [(tensor.name, tensor.datatype.name, tensor.array.shape) for tensor in inputs]
    head = orjson.dumps([owner, outputs, described])
    # What follows has its length in it, as strings have theirs: no two requests are the same bytes.
    found = hashlib.sha256(b"%d %b%d %b" % (len(identity), identity, len(head), head))
    for tensor in inputs:
        found.update(to_bytes(tensor))
    return found.digest()

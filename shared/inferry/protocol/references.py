"""Tensors by reference: inputs that are read from an object, and outputs that are written to one.

An object holds a tensor's bytes as the protocol's binary extension has them, or is a NumPy file if its name ends
in .npy. Only names below the prefixes of DATA_PREFIXES are read or written.
"""

import asyncio
import errno
import io
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import numpy as np

from inferry.concurrency import Client, Threads, nobody
from inferry.errors import InferenceTimeout, InvalidRequest, RequestTooLarge, ResponseTooLarge, StoreError
from inferry.protocol import npy
from inferry.protocol.tensors import Array, Buffer, Datatype, Tensor, aligned, from_bytes, to_bytes
from inferry.protocol.types import InferRequest, InferResponse, Reference, not_below
from inferry.storage.files import Files, open_files
from inferry.storage.stored import StoredFile, is_plain

# Of requests at once: each holds its tensors in memory.
THREADS = 4
NPY = ".npy"
_NO_NAMES = (errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR)

T = TypeVar("T")


@dataclass(frozen=True)
class Prefix:
    """A place whose objects may be named; `url` without a slash at its end, a path for a local folder."""

    url: str

    @cached_property
    def files(self) -> Files:
        return open_files(self.url)

    def below(self, uri: str) -> str | None:
        """The name of `uri` relative to this place, None if it is elsewhere: climbing and hidden names are."""
        start = f"{self.url}/"
        name = uri.removeprefix(start)
        if name == uri or not is_plain(name):
            return None
        if "://" not in self.url and not os.path.realpath(uri).startswith(f"{os.path.realpath(self.url)}/"):
            return None  # a symbolic link leads out
        return name


class References:
    """Reads and writes what requests name, at most `limit` bytes for each request and direction."""

    def __init__(self, prefixes: Iterable[str], limit: int, client: Client = nobody) -> None:
        self._prefixes = [Prefix(_local(prefix).rstrip("/")) for prefix in prefixes]
        self._limit = limit
        self._threads = Threads(THREADS, "inferry-data", client)

    async def fetch(self, request: InferRequest, deadline: float) -> Mapping[str, str]:
        """Replaces the request's references by tensors, and returns where its outputs are to be stored.

        InvalidRequest, DataRefused, RequestTooLarge, StoreError, InferenceTimeout.
        """
        targets = {output.name: output.uri for output in request.outputs if output.uri}
        self._check(targets, request.references or {})  # before anything is run in vain
        if request.references:
            request.inputs |= await self._in_thread(deadline, self._fetch, list(request.references.values()))
        request.by_reference = False
        return targets

    async def size(self, request: InferRequest, deadline: float) -> int:
        """The bytes of what the request refers to, before any is read; the same errors as `fetch`."""
        references = list((request.references or {}).values())
        return await self._in_thread(deadline, self._size, references) if references else 0

    async def store(self, response: InferResponse, targets: Mapping[str, str], deadline: float) -> None:
        """Stores the outputs that have a place. ResponseTooLarge, StoreError, InferenceTimeout."""
        stored = [tensor for tensor in response.outputs if tensor.name in targets]
        await self._in_thread(deadline, self._store, stored, targets)
        response.stored = targets

    def _check(self, targets: Mapping[str, str], references: Mapping[str, Reference]) -> None:
        """DataRefused for a place that may not be named, InvalidRequest for one that two tensors have."""
        for uri in (*(reference.uri for reference in references.values()), *targets.values()):
            self._place(uri)
        taken = {_identity(reference.uri): f"input '{name}'" for name, reference in references.items()}
        for name, uri in targets.items():
            other = taken.setdefault(_identity(uri), f"output '{name}'")
            if other != f"output '{name}'":
                raise InvalidRequest(
                    f"output '{name}' would replace {other}, as both are at {uri[:500]!r}: give each a URI of its own"
                )

    def close(self) -> None:
        """Ends the threads that read and write files."""
        self._threads.close()

    async def _in_thread(self, deadline: float, function: Callable[..., T], *arguments: Any) -> T:
        done = self._threads.run(self._threads.client(), function, *arguments)
        try:
            return await asyncio.wait_for(done, deadline - time.monotonic())
        except TimeoutError as exc:
            raise InferenceTimeout("the prediction was out of time while its tensors were read or written") from exc

    def _place(self, uri: str) -> tuple[Files, str]:
        local = _local(uri)
        for prefix in self._prefixes:
            if (name := prefix.below(local)) is not None:
                return prefix.files, name
        raise not_below(uri, self._prefixes)

    def _fetch(self, references: Sequence[Reference]) -> dict[str, Tensor]:
        left, tensors = self._limit, {}
        for reference in references:
            what = _named_input(reference)
            files, found = self._found(reference.uri, left, what)
            with files.open(found) as file:
                content = file.read()
            left -= len(content)
            array = _decoded(reference, content, what)
            tensors[reference.name] = Tensor(reference.name, reference.datatype, array)
        return tensors

    def _size(self, references: Sequence[Reference]) -> int:
        size = 0
        for reference in references:
            size += self._found(reference.uri, self._limit - size, _named_input(reference))[1].size
        return size

    def _found(self, uri: str, limit: int, what: str) -> tuple[Files, StoredFile]:
        files, name = self._place(uri)
        with _named(what):
            found = files.stat(name)
        if found is None:
            raise InvalidRequest(f"there is no {what}")
        if found.size > limit:
            raise RequestTooLarge(
                f"{what} has {found.size} bytes, which makes the request's tensors more than {self._limit} "
                "(MAX_DATA_BYTES): send fewer rows at a time"
            )
        return files, found

    def _store(self, tensors: Sequence[Tensor], targets: dict[str, str]) -> None:
        contents = [(_encoded(tensor, targets[tensor.name]), targets[tensor.name]) for tensor in tensors]
        size = sum(len(content) for content, _ in contents)
        if size > self._limit:
            raise ResponseTooLarge(
                f"the outputs by reference have {size} bytes, over {self._limit} (MAX_DATA_BYTES): ask for fewer rows"
            )
        for content, uri in contents:
            files, name = self._place(uri)
            with _named(repr(uri[:500])), files.write(name) as file:
                file.write(content)


@contextmanager
def _named(what: str) -> Iterator[None]:
    """A name that no file can have is the request's fault, not the store's."""
    try:
        yield
    except StoreError as exc:
        reason = exc.__cause__
        if isinstance(reason, OSError) and reason.errno in _NO_NAMES:
            raise InvalidRequest(f"{what} can't exist: {os.strerror(reason.errno).lower()}") from exc
        raise


def _named_input(reference: Reference) -> str:
    return f"input '{reference.name}' at {reference.uri[:500]!r}"


def _local(uri: str) -> str:
    return uri.removeprefix("file://")


def _identity(uri: str) -> str:
    """The same for all names of an object: a local one may be reached through several folders."""
    local = _local(uri)
    return uri if "://" in local else os.path.realpath(local)


def _decoded(reference: Reference, content: bytes, what: str) -> Array:
    if not reference.uri.endswith(NPY):
        return from_bytes(reference.datatype, reference.shape, content, what)
    _check_npy(reference.datatype, what)
    array, expected = npy.read_array(content, what), reference.datatype.dtype
    if array.dtype.newbyteorder("=") != expected or array.shape != reference.shape:
        raise InvalidRequest(
            f"{what} holds {array.dtype!s:.80} {list(array.shape)}, but the request says {reference.datatype.name} "
            f"{list(reference.shape)}"
        )
    if expected == np.bool_:  # a byte other than 0 and 1 is no bool
        return from_bytes(reference.datatype, reference.shape, array.tobytes(), what)
    return aligned(array.astype(expected, "C", copy=False))


def _encoded(tensor: Tensor, uri: str) -> Buffer:
    if not uri.endswith(NPY):
        return to_bytes(tensor)
    _check_npy(tensor.datatype, f"output '{tensor.name}'")
    file = io.BytesIO()
    np.lib.format.write_array(file, np.ascontiguousarray(tensor.array), allow_pickle=False)
    return file.getbuffer()


def _check_npy(datatype: Datatype, what: str) -> None:
    if datatype.dtype.hasobject or datatype.is_bits:
        raise InvalidRequest(
            f"{what} is {datatype.name}, which a NumPy file can't hold: use another name, for raw bytes"
        )

"""Objects in s3://, az://, gs:// and memory:// stores, listed and read with obstore."""

import os
import re
from collections.abc import Mapping
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, TypeAlias

import obstore.store
from obstore.exceptions import BaseError

from inferry.errors import InvalidSettings, StoreError
from inferry.storage import identities
from inferry.storage.stored import Listing, StoredFile, is_plain, limited, translated

if TYPE_CHECKING:
    from obstore import ObjectMeta
    from obstore.store import BackoffConfig, MemoryStore, ObjectStore, RetryConfig

Backend: TypeAlias = "ObjectStore"

ERRORS = (BaseError, OSError, ValueError)

BACKENDS = {"s3": "S3Store", "az": "AzureStore", "gs": "GCSStore"}
# Four attempts of 2 s bound an endpoint that is down to about 10 s. A download is given up when nothing
# arrives for 10 s, not because it is long. These go in as `config`: given `client_options`, obstore forgets
# what it read from the environment (AWS_ALLOW_HTTP, AWS_PROXY_URL, ...).
CLIENT = {"connect_timeout": "2s", "read_timeout": "10s", "timeout": "1h"}
ATTEMPTS = 4
_memories: "dict[str, MemoryStore]" = {}


class Bucket:
    """Objects below a prefix; `backend` is obstore's own store, `origin` tells it from all others."""

    def __init__(self, url: str, backend: "ObjectStore", origin: str) -> None:
        self.url = url
        self.backend = backend
        self.origin = origin

    def list(self) -> Listing:
        with translated(f"can't list {self.url}", ERRORS):
            found = [stored(meta) for page in self.backend.list(chunk_size=1000) for meta in page]
        plain = {file.path: file for file in found if is_plain(file.path)}
        # Consoles mark a folder with an object of its name, and a disk has no file and folder of one name.
        folders = {path[:end] for path in plain for end, letter in enumerate(path) if letter == "/"}
        return [plain[path] for path in sorted(plain.keys() - folders)]

    def read(self, path: str, limit: int) -> bytes:
        with translated(f"can't read {path!r} in {self.url}", ERRORS):
            found = self.backend.get(path)
            if found.meta["size"] <= limit:
                return limited(found.bytes().to_bytes(), limit, path)
        raise StoreError(f"{path!r} in {self.url} has {found.meta['size']} bytes; at most {limit} are read")


def open_bucket(url: str, scheme: str, rest: str) -> Bucket:
    """The objects at a URL, split into its scheme and what follows ://. InvalidSettings when it names none."""
    if scheme == "memory":
        return _in_memory(url, _memory(rest))
    return Bucket(url, _backend(url, scheme, rest), url)


def memory_bucket(files: Mapping[str, bytes], name: str | None = None) -> Bucket:
    """A bucket in memory that holds `files`: the one at memory://`name`, or without a name one of its own."""
    backend = obstore.store.MemoryStore() if name is None else _memory(name)
    url = f"memory://{os.urandom(8).hex() if name is None else name}"
    with translated(f"can't fill {url}", ERRORS):
        for path, content in files.items():
            backend.put(path, content)
    return _in_memory(url, backend)


def _in_memory(url: str, backend: "MemoryStore") -> Bucket:
    # Identities are mere counters here: without its mark, a process would take another's files from the cache.
    return Bucket(url, backend, f"{url} {_process()}")


def _memory(name: str) -> "MemoryStore":
    return _memories.setdefault(name, obstore.store.MemoryStore())


@cache
def _process() -> str:
    return os.urandom(8).hex()


def _backend(url: str, scheme: str, rest: str) -> "ObjectStore":
    if scheme not in BACKENDS:
        known = ", ".join(f"{name}://" for name in ("file", "memory", *BACKENDS))
        raise InvalidSettings(f"a store can't be a {scheme}:// URL; give a folder or one of {known}")
    bucket, _, prefix = rest.partition("/")
    if re.search("[@:?]", bucket) or "?" in prefix:
        # The URL is not repeated: it would carry the credentials into the logs.
        raise InvalidSettings(f"a {scheme}:// URL takes no credentials and no query: use the environment")
    if not bucket:
        raise InvalidSettings(f"{url}: expected {scheme}://bucket/prefix")
    own = identities.provider(scheme)
    options = {"credential_provider": own} if own else {}
    with translated(f"can't open {url}", ERRORS):
        made: ObjectStore = getattr(obstore.store, BACKENDS[scheme])(
            bucket, prefix=prefix.strip("/") or None, config=CLIENT, retry_config=_retries(), **options
        )
    return made


def _retries() -> "RetryConfig":
    backoff: BackoffConfig = {
        "init_backoff": timedelta(milliseconds=100),
        "max_backoff": timedelta(seconds=1),
        "base": 2,
    }
    return {"max_retries": ATTEMPTS - 1, "retry_timeout": timedelta(minutes=3), "backoff": backoff}


def stored(meta: "ObjectMeta") -> StoredFile:
    # Azure quotes the tag in an answer's header and not in a listing.
    tag = (meta["e_tag"] or "").strip('"') or f"{meta['size']}-{meta['last_modified'].isoformat()}"
    return StoredFile(meta["path"], meta["size"], tag)

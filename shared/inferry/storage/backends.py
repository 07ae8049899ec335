"""obstore's stores by URL: s3://, az://, gs:// and memory://, with endpoints and credentials from the environment.

obstore itself reads AWS_*, AZURE_* and GOOGLE_* variables (AWS_ENDPOINT_URL, AWS_REGION, AWS_ALLOW_HTTP,
AZURE_STORAGE_ACCOUNT_NAME, AZURE_STORAGE_ENDPOINT, GOOGLE_APPLICATION_CREDENTIALS, ...), then asks the machine for an
identity; `identities` knows who somebody is on a laptop.
"""

import re
from datetime import timedelta
from typing import TYPE_CHECKING, TypeAlias

import obstore.store
from obstore.exceptions import BaseError

from inferry.errors import InvalidSettings
from inferry.storage import identities
from inferry.storage.stored import StoredFile, translated

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


def memory(name: str) -> "MemoryStore":
    """The store of this name, one while the process lives."""
    return _memories.setdefault(name, obstore.store.MemoryStore())


def open_backend(url: str, scheme: str, rest: str) -> "ObjectStore":
    """The store at a URL, split into its scheme and what follows ://. InvalidSettings when it names none."""
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
    # Azure quotes the tag in a response's header and not in a listing.
    tag = (meta["e_tag"] or "").strip('"') or f"{meta['size']}-{meta['last_modified'].isoformat()}"
    return StoredFile(meta["path"], meta["size"], tag)

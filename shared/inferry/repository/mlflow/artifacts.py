"""Where MLflow keeps the files of a version: it passes them on itself, or they are in a bucket."""

import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from inferry.errors import InvalidModel
from inferry.repository.mlflow import mlmodel
from inferry.repository.mlflow.client import MlflowClient
from inferry.repository.remote_store import PARALLEL, FetchedStore
from inferry.storage.stored import Listing, StoredFile, is_plain

_WASB = re.compile(r"wasbs?://([^@/:]+)@([^./@:]+)\.blob\.core\.windows\.net/(.*)")
_AZURE_ACCOUNT = "AZURE_STORAGE_ACCOUNT_NAME"


class Place(NamedTuple):
    """A folder: `root` of what MLflow's server passes on, or the URL of a `bucket`, as `open_files` takes it."""

    root: str = ""
    bucket: str = ""


def place_of(uri: str, client: MlflowClient, env: Mapping[str, str]) -> Place:
    """The folder at a URI of MLflow's. InvalidModel when nobody here can read it.

    `env` names the account of Azure that there are credentials for.
    """
    scheme, _, _ = uri.partition(":")
    if scheme == "mlflow-artifacts":
        return Place(root=_root(uri, client))
    if scheme in ("wasbs", "wasb"):
        return Place(bucket=_azure(uri, env))
    if scheme in ("s3", "gs"):
        return Place(bucket=uri)
    raise InvalidModel(
        f"its files are at {uri[:300]}, which only MLflow's own machine can read: have MLflow pass them on "
        "(mlflow server --artifacts-destination), or keep them in S3, Azure or Google Cloud"
    )


class ProxiedFiles(FetchedStore):
    """The files of a version, below a folder of artifacts, as MLflow's server passes them on."""

    def __init__(self, client: MlflowClient, root: str, made: str, cache: Path | None, in_full: bool) -> None:
        """`made`: another text for a version that was made anew."""
        self.url = f"{client.url} (mlflow-artifacts:/{root})"
        self.origin = f"{client.url} {root}"
        self._client = client
        self._root = root
        self._made = made
        self._cache = cache
        self._in_full = in_full

    def list(self) -> Listing:
        return [StoredFile(path, size, f"{self._made} {size}") for path, size in self._client.files(self._root)]

    def read(self, path: str, limit: int | None = None) -> bytes:
        return self._client.read(f"{self._root}/{path}", mlmodel.MAX_BYTES if limit is None else limit)

    def _download(self, folder: Path, wanted: Mapping[str, StoredFile]) -> None:
        for name in wanted:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)

        def copy(item: tuple[str, StoredFile]) -> None:
            self._client.download(f"{self._root}/{item[1].path}", item[1].size, folder / item[0])

        with ThreadPoolExecutor(PARALLEL, "inferry-fetch") as pool:
            for _ in pool.map(copy, wanted.items()):
                pass


def _root(uri: str, client: MlflowClient) -> str:
    """The path of a folder that this server passes on, and no other, which would get our token."""
    parts = urlsplit(uri)
    root = parts.path.strip("/")
    if parts.netloc not in ("", urlsplit(client.url).netloc):
        raise InvalidModel(f"its files are at {uri[:300]}, which is another server than {client.url}")
    if parts.query or parts.fragment or not root or not is_plain(root):
        raise InvalidModel(f"its files are at {uri[:300]!r}, which is no folder of {client.url}")
    return root


def _azure(uri: str, env: Mapping[str, str]) -> str:
    """The az:// URL of a wasbs:// one, whose account must be the one that there are credentials for."""
    found = _WASB.fullmatch(uri)
    if not found:
        raise InvalidModel(
            f"its files are at {uri[:300]}, expected wasbs://container@account.blob.core.windows.net/..."
        )
    container, account, path = found.groups()
    known = env.get(_AZURE_ACCOUNT, "")
    if account != known:
        raise InvalidModel(f"its files are in the account {account!r} of Azure, and {_AZURE_ACCOUNT} is {known!r}")
    return f"az://{container}/{path}"

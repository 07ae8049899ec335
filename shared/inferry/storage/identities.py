"""Who somebody is on a machine of their own: AWS's profiles, with SSO and whatever else they name, and Azure's logins.

obstore knows keys in variables and the identities of machines in a cloud. What it doesn't know, the clouds' own
libraries do, which the extra `clouds` brings. Nothing of them is imported where obstore knows enough, as in functions.
"""

import os
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from inferry.errors import InvalidSettings, extra

# Where one of these is set, obstore has what it needs.
_AWS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_SKIP_SIGNATURE",
)
_AZURE = (
    "AZURE_STORAGE_ACCOUNT_KEY",
    "AZURE_STORAGE_ACCESS_KEY",
    "AZURE_STORAGE_SAS_KEY",
    "AZURE_STORAGE_SAS_TOKEN",
    "AZURE_STORAGE_TOKEN",
    "AZURE_STORAGE_CLIENT_ID",
    "AZURE_CLIENT_SECRET",
    "AZURE_FEDERATED_TOKEN_FILE",
    "AZURE_STORAGE_USE_EMULATOR",
    "AZURE_SKIP_SIGNATURE",
    "AZURE_USE_AZURE_CLI",
    "IDENTITY_ENDPOINT",
)
_SCOPE = "https://storage.azure.com/.default"


def provider(scheme: str) -> Callable[[], Any] | None:
    """What gives obstore its credentials for s3:// or az://; None where it needs none of ours.

    InvalidSettings for a profile of AWS that can't be used.
    """
    if scheme == "s3" and not _has(_AWS):
        profile = os.environ.get("AWS_PROFILE", "")
        files = tuple(os.environ.get(name) or default for name, default in _FILES.items())
        if profile or any(Path(file).expanduser().exists() for file in files):
            return _aws(profile, files)
    if scheme == "az" and not _has(_AZURE) and find_spec("azure") and find_spec("azure.identity"):
        return _azure()
    return None


_FILES = {"AWS_CONFIG_FILE": "~/.aws/config", "AWS_SHARED_CREDENTIALS_FILE": "~/.aws/credentials"}


def _has(names: tuple[str, ...]) -> bool:
    return any(os.environ.get(name) for name in names)


@cache
def _aws(profile: str, _: tuple[str, ...]) -> Callable[[], Any] | None:
    """Kept for each profile: a session reads its files, and asks for its tokens, once."""
    try:
        from obstore.auth.boto3 import Boto3CredentialProvider
    except ImportError as exc:
        if not profile:
            return None
        raise InvalidSettings(f"AWS_PROFILE={profile} needs boto3: {extra('clouds')} ({exc})") from exc
    from botocore.exceptions import BotoCoreError

    try:
        found: Callable[[], Any] = Boto3CredentialProvider()
    except BotoCoreError as exc:
        raise InvalidSettings(f"AWS's profile can't be used: {exc}") from exc
    except ValueError as exc:
        if not profile:  # none has credentials, and the machine itself may have some
            return None
        raise InvalidSettings(f"the profile AWS_PROFILE={profile} has no credentials") from exc
    return found


@cache
def _azure() -> Callable[[], Any]:
    from azure.core.exceptions import AzureError
    from azure.identity import DefaultAzureCredential

    credential = DefaultAzureCredential()

    def token() -> dict[str, Any]:
        try:
            found = credential.get_token(_SCOPE)
        except AzureError as exc:  # in a line, as an error's first one is shown
            raise ValueError(" ".join(str(exc).split())) from exc
        return {"token": found.token, "expires_at": datetime.fromtimestamp(found.expires_on, UTC)}

    return token

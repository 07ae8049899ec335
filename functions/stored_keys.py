"""API keys whose digests are in a secret: a function's environment, which may have 4 KB, has room for some fifty."""

import json
from collections.abc import Mapping
from typing import Any

from inferry.errors import InvalidSettings

SECRET, VERSION = "API_KEYS_SECRET", "API_KEYS_VERSION"
# No key has this digest. It is always there: an empty list would mean that no key is asked for.
NOBODY = "0" * 64


def settings(env: Mapping[str, str]) -> dict[str, str]:
    """API_KEYS, as the secret has them whose ARN or name is API_KEYS_SECRET; nothing where that is empty.

    InvalidSettings when they can't be had: no key is better than none asked for.
    """
    if not env.get(SECRET):
        return {}
    if env.get("API_KEYS"):
        raise InvalidSettings(f"API_KEYS and {SECRET} both say which keys there are: leave one of them out")
    return {"API_KEYS": ",".join(filter(None, (NOBODY, _digests(_value(env)))))}


def _value(env: Mapping[str, str]) -> dict[str, Any]:
    # Only where they are needed: the init of other functions doesn't wait for these imports.
    from inferry.cloud.http_client import NoResponse

    from functions.signed import JsonService

    secret = env[SECRET]
    request = {"SecretId": secret, **({"VersionId": env[VERSION]} if env.get(VERSION) else {})}
    endpoint, region = _endpoint(secret, env)
    service = JsonService(endpoint, region, "secretsmanager", SECRET, env)
    try:
        response = service.call("secretsmanager.GetSecretValue", "1.1", request)
    except NoResponse as exc:
        raise InvalidSettings(f"{SECRET} {secret}: {exc}") from exc
    if response.status != 200:
        said = response.body[:500].decode(errors="replace")
        raise InvalidSettings(f"{SECRET} {secret}: Secrets Manager answers {response.status}: {said}")
    return _document(secret, response.body)


def _endpoint(secret: str, env: Mapping[str, str]) -> tuple[str, str]:
    """That of the secret's region, or the one that AWS's own clients would use by these variables; and the region."""
    region = _region(secret, env)
    domain = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    named = env.get("AWS_ENDPOINT_URL_SECRETS_MANAGER") or env.get("AWS_ENDPOINT_URL")
    return (f"{named.rstrip('/')}/" if named else f"https://secretsmanager.{region}.{domain}/"), region


def _region(secret: str, env: Mapping[str, str]) -> str:
    if not secret.startswith("arn:"):
        return env.get("AWS_REGION") or env.get("AWS_DEFAULT_REGION") or "us-east-1"
    _, _, service, region, *_ = [*secret.split(":"), "", "", ""]
    if service != "secretsmanager":
        raise InvalidSettings(f"{SECRET} must be a secret's name or ARN (arn:aws:secretsmanager:...), got {secret}")
    return region


def _document(secret: str, body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(json.loads(body)["SecretString"])
    except (ValueError, LookupError, TypeError) as exc:
        # Not what it is: that may be printed in a log.
        raise InvalidSettings(f"{SECRET} {secret}: its value is no JSON object of up to 60 KB") from exc
    if not isinstance(found, dict):
        raise InvalidSettings(f"{SECRET} {secret}: its value must be a JSON object, with the digests in 'digests'")
    return found


def _digests(value: Mapping[str, Any]) -> str:
    digests = value.get("digests")
    if not isinstance(digests, str):
        raise InvalidSettings(f"{SECRET}: its 'digests' must be a text of digests with commas between them")
    return digests

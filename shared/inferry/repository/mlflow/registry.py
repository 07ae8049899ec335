"""What MLflow's registry answers: registered models with their aliases, their versions with their tags."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from inferry.errors import InvalidSettings, StoreError
from inferry.repository.mlflow.client import MlflowClient

# The tag of a version that `inferry push` leaves: the digest of its files.
DIGEST_TAG = "inferry.sha256"
# What MLflow lets a page of a search have.
_MODELS_A_PAGE, _VERSIONS_A_PAGE = 1000, 10_000


class Choice(NamedTuple):
    """What makes a version its model's default: an alias, or a tag, with a value if any; neither: its number."""

    alias: str = ""
    tag: str = ""
    value: str | None = None

    def __str__(self) -> str:
        value = "" if self.value is None else f"={self.value}"
        return f"the alias '{self.alias}'" if self.alias else f"the tag '{self.tag}{value}'"


class Registered(NamedTuple):
    """A version as the registry has it; `key` is another one where its number was given again."""

    name: str
    version: str
    key: tuple[str, str, str]
    status: str
    tags: Mapping[str, str]

    @property
    def folder(self) -> str:
        return f"{self.name}/{self.version}"


def choice_of(query: str) -> Choice:
    given = parse_qsl(query, keep_blank_values=True)
    name, value = given[0] if given else ("", "")
    if len(given) > 1 or name not in ("", "alias", "tag") or (name and not value):
        # The query is not repeated: it may hold a secret.
        raise InvalidSettings("after its address, MLflow's URL takes ?alias=NAME or ?tag=NAME=VALUE, and nothing else")
    if name != "tag":
        return Choice(alias=value)
    tag, has_value, wanted = value.partition("=")
    return Choice(tag=tag, value=wanted if has_value else None)


def aliases(client: MlflowClient, model_name: str = "") -> dict[str, dict[str, str]]:
    """The registered models, or the one that is named, and which version each of their aliases is. StoreError."""
    found = {}
    for model in client.pages("registered-models/search", "registered_models", {"max_results": _MODELS_A_PAGE}):
        name = text(client, model, "name")
        if model_name in ("", name):
            found[name] = dict(_pairs(client, model, "aliases", "alias", "version"))
    return found


def versions(client: MlflowClient) -> Sequence[Registered]:
    """The versions of all models, the highest of each last. StoreError."""
    found: dict[tuple[str, str], Registered] = {}
    for one in client.pages("model-versions/search", "model_versions", {"max_results": _VERSIONS_A_PAGE}):
        name, version = text(client, one, "name"), text(client, one, "version")
        if not (version.isascii() and version.isdecimal() and len(version) < 20):
            raise StoreError(f"{client.url} has a version {version[:50]!r} of model {name[:100]!r}: expected a number")
        made = str(one.get("creation_timestamp", ""))
        key = text(client, one, "source"), made, str(one.get("model_id") or "")
        tags = dict(_pairs(client, one, "tags", "key", "value"))
        found[name, version] = Registered(name, version, key, text(client, one, "status"), tags)
    return sorted(found.values(), key=lambda one: (one.name, int(one.version)))


def wanted(choice: Choice, found: Sequence[Registered], models: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """The models to serve and their default versions: those that have one where it is named, else all, with ""."""
    if choice.alias:
        return {name: its[choice.alias] for name, its in models.items() if choice.alias in its}
    if choice.tag:
        # The last one wins, which is the highest.
        has = (one for one in found if choice.tag in one.tags and choice.value in (None, one.tags[choice.tag]))
        return {one.name: one.version for one in has if one.name in models}
    return dict.fromkeys(models, "")


def text(client: MlflowClient, value: Mapping[str, Any], key: str) -> str:
    """A text in an object, empty where there is none. StoreError when it is something else."""
    found = value.get(key, "")
    if not isinstance(found, str):
        raise StoreError(f"{client.url} answers with {key!r} that is no text: {str(found)[:100]}")
    return found


def _pairs(client: MlflowClient, value: Mapping[str, Any], key: str, first: str, second: str) -> list[tuple[str, str]]:
    """The objects in a list, as pairs of two of their texts."""
    found = value.get(key) or []
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise StoreError(f"{client.url} answers with {key!r} that is no list of objects: {str(found)[:100]}")
    return [(text(client, item, first), text(client, item, second)) for item in found]

"""API keys whose digests are in Secrets Manager (moto's): how many there are, and what is wrong with a secret."""

import json
from collections.abc import Callable, Iterator
from hashlib import sha256
from typing import Any

import boto3
import lambda_events as events
import pytest
from contract.services import S3, moto
from inferry.errors import InvalidSettings
from inferry.settings import Settings
from wrappers.conftest import Function

from functions import stored_keys

Make = Callable[..., Function]
KEYS = [f"key {number}" for number in range(800)]
DIGESTS = [sha256(key.encode()).hexdigest() for key in KEYS]


@pytest.fixture(scope="module")
def account() -> Iterator[S3]:
    with moto() as account:
        yield account


@pytest.fixture
def client(account: S3) -> Any:
    return boto3.client(
        "secretsmanager",
        region_name="us-east-1",
        endpoint_url=account.endpoint,
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )


@pytest.fixture
def stored(client: Any, request: pytest.FixtureRequest) -> Callable[[str], str]:
    """`stored(value)`: the ARN of a new secret."""

    def store(value: str) -> str:
        return str(client.create_secret(Name=f"keys-{abs(hash(request.node.name))}", SecretString=value)["ARN"])

    return store


def test_more_keys_than_the_environment_has_room_for(function: Make, account: S3, stored: Callable[[str], str]) -> None:
    arn = stored(json.dumps({"digests": ",".join(DIGESTS), "check": "check's"}))
    served = function(API_KEYS_SECRET=arn, **account.environment)
    assert [asked(served, key) for key in (KEYS[0], KEYS[-1], "none of them", "")] == [200, 200, 403, 401]


def asked(served: Function, key: str) -> int:
    event = events.load("http-api")
    event["headers"] = {**event["headers"], **({"x-api-key": key} if key else {})}
    status: int = served(event)["statusCode"]
    return status


def test_a_version_of_the_secret(client: Any, account: S3, stored: Callable[[str], str]) -> None:
    """That which the deployment named, whatever was stored since; without one it is the latest."""
    arn = stored(json.dumps({"digests": DIGESTS[0]}))
    [version] = client.describe_secret(SecretId=arn)["VersionIdsToStages"]
    client.put_secret_value(SecretId=arn, SecretString=json.dumps({"digests": DIGESTS[1]}))
    env = {**account.environment, "API_KEYS_SECRET": arn}
    assert stored_keys.settings({**env, "API_KEYS_VERSION": version}) == {"API_KEYS": f"{'0' * 64},{DIGESTS[0]}"}
    assert stored_keys.settings(env) == {"API_KEYS": f"{'0' * 64},{DIGESTS[1]}"}


def test_no_digest_at_all_lets_nobody_in(function: Make, account: S3, stored: Callable[[str], str]) -> None:
    served = function(API_KEYS_SECRET=stored('{"digests": ""}'), **account.environment)
    assert [asked(served, key) for key in (KEYS[0], "")] == [403, 401]


def test_no_secret(account: S3) -> None:
    assert stored_keys.settings(account.environment) == {}
    assert stored_keys.settings({**account.environment, "API_KEYS_SECRET": ""}) == {}


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("no JSON", "its value is no JSON object of up to 60 KB"),
        ('"text"', "its value must be a JSON object, with the digests in 'digests'"),
        ('{"check": "secret"}', "its 'digests' must be a text of digests with commas between them"),
        ('{"digests": ["a"]}', "its 'digests' must be a text of digests with commas between them"),
        (json.dumps({"digests": "a" * 65_500}), "its value is no JSON object of up to 60 KB"),
    ],
)
def test_a_value_that_is_none_of_ours(account: S3, stored: Callable[[str], str], value: str, said: str) -> None:
    """What is in there is not said: it may be printed in a log."""
    with pytest.raises(InvalidSettings) as caught:
        stored_keys.settings({**account.environment, "API_KEYS_SECRET": stored(value)})
    assert str(caught.value).endswith(f": {said}")
    assert 'secret"' not in str(caught.value)


def test_a_secret_that_is_not_there(account: S3) -> None:
    arn = "arn:aws:secretsmanager:us-east-1:123456789012:secret:none-a1b2c3"
    with pytest.raises(InvalidSettings, match=r"Secrets Manager answers 4\d\d: .*ResourceNotFoundException"):
        stored_keys.settings({**account.environment, "API_KEYS_SECRET": arn})


@pytest.mark.parametrize("arn", ["arn:", "arn:aws:sqs:us-east-1:123456789012:queue"])
def test_no_arn_of_a_secret(account: S3, arn: str) -> None:
    with pytest.raises(InvalidSettings, match=f"API_KEYS_SECRET must be a secret's name or ARN .*, got {arn}"):
        stored_keys.settings({**account.environment, "API_KEYS_SECRET": arn})


def test_a_secret_by_its_name(client: Any, account: S3) -> None:
    client.create_secret(Name="by-name", SecretString=json.dumps({"digests": DIGESTS[0]}))
    found = stored_keys.settings({**account.environment, "API_KEYS_SECRET": "by-name"})
    assert found == {"API_KEYS": f"{'0' * 64},{DIGESTS[0]}"}


def test_two_sources_of_keys(account: S3) -> None:
    with pytest.raises(InvalidSettings, match="API_KEYS and API_KEYS_SECRET both say which keys there are"):
        stored_keys.settings({**account.environment, "API_KEYS_SECRET": "arn", "API_KEYS": DIGESTS[0]})


@pytest.mark.parametrize(
    ("secret", "region", "endpoint"),
    [
        ("arn:aws:secretsmanager:eu-west-1:1:secret:a", "eu-west-1", "https://secretsmanager.eu-west-1.amazonaws.com/"),
        (
            "arn:aws-cn:secretsmanager:cn-north-1:1:secret:a",
            "cn-north-1",
            "https://secretsmanager.cn-north-1.amazonaws.com.cn/",
        ),
        ("a", "eu-north-1", "https://secretsmanager.eu-north-1.amazonaws.com/"),
    ],
)
def test_the_region_is_the_secrets(secret: str, region: str, endpoint: str) -> None:
    assert stored_keys._endpoint(secret, {"AWS_REGION": "eu-north-1"}) == (endpoint, region)


def test_what_the_environment_has_no_room_for() -> None:
    """Why they are in a secret: "4 KB, for all environment variables", say Lambda's quotas."""
    assert len(Settings(api_keys=tuple(DIGESTS[:60])).to_env()["API_KEYS"]) > 3800

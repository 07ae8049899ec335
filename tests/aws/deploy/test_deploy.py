"""A life of an environment in an emulated account: bootstrap, its versions through the alias, and its end.

The CDK's own command line deploys the real template to MiniStack. The versions are the real handler under Lambda's
runtime emulator, one process each. What is replaced, and by what: account.py and codedeploy.py.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import tritonclient.http as triton
from account import Account
from botocore.exceptions import ClientError
from codedeploy import CodeDeploy
from deployed import CARD, Environment, digits

from functions.stored_keys import NOBODY

KEY, OTHER_KEY = "the key of a caller", "the key of another caller"
DIGESTS = ",".join(hashlib.sha256(key.encode()).hexdigest() for key in (KEY, OTHER_KEY))
CLOSED = {"authorization": "api-keys", "function_url": "true"}


@pytest.fixture(scope="module")
def environment(
    account: Account, codedeploy: CodeDeploy, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Environment]:
    with ExitStack() as emulators:
        yield Environment(account, codedeploy, tmp_path_factory.mktemp("deployed"), emulators)


@pytest.fixture(scope="module")
def version(environment: Environment) -> str:
    """Of the secret, when the keys have been stored, as an operator does it after the first deployment."""
    given = {
        "SecretId": environment.outputs["ApiKeysSecret"],
        "SecretString": json.dumps({"digests": DIGESTS}),
    }
    return str(environment.account.client("secretsmanager").put_secret_value(**given)["VersionId"])


@pytest.fixture(scope="module")
def reading(environment: Environment, version: str) -> dict[str, str]:
    """What the function has that reads the secret: its role's rights, and what its template says."""
    secret = {"API_KEYS_SECRET": environment.outputs["ApiKeysSecret"], "API_KEYS_VERSION": version}
    return {**environment.credentials("FunctionRole"), **secret}


def release(environment: Environment, models: Path, reading: dict[str, str]) -> "tuple[int, str]":
    context = {**CLOSED, "api_keys_version": reading["API_KEYS_VERSION"]}
    return environment.deploy(models, context, **reading)


# One story, told in the order of these tests.


def test_first_version(environment: Environment, tmp_path: Path) -> None:
    """It is deployed without a check, and closed: the secret has a digest, and nobody the key."""
    # MiniStack's random text has all characters, whatever the template excludes.
    status, said = environment.deploy(digits(tmp_path, 1), CLOSED, API_KEYS=NOBODY, API_KEYS_SECRET="")
    assert status == 0, said
    assert (environment.status, environment.alias["FunctionVersion"]) == ("CREATE_COMPLETE", "1")
    assert environment.codedeploy.statuses == {}
    assert environment.environment["API_KEYS_SECRET"] == environment.outputs["ApiKeysSecret"]
    with pytest.raises(triton.InferenceServerException, match="the API key is not a valid one") as caught:
        environment.predict(x_api_key=KEY)
    assert caught.value.status() == "403"


def test_second_version(environment: Environment, reading: dict[str, str], tmp_path: Path) -> None:
    """With keys and a new model: the check, without a key, runs the card's example against it; the alias moves."""
    status, said = release(environment, digits(tmp_path, 1, 2), reading)
    assert status == 0, said
    assert list(environment.codedeploy.statuses.values()) == ["Succeeded"]
    assert environment.alias["FunctionVersion"] == "2"
    assert environment.environment == {
        "API_KEYS_SECRET": reading["API_KEYS_SECRET"],
        "API_KEYS_VERSION": reading["API_KEYS_VERSION"],
        "APP_NAME": environment.stack,
        "DEFAULT_MODEL": "digits",
        "INTRA_OP_THREADS": "1",
        "LOG_FORMAT": "json",
        "METRICS_SINKS": "prometheus,emf",
        "MODEL_TIMEOUT": "28.0",
    }
    assert environment.predict(x_api_key=KEY) == {"version": "2", "label": [7]}
    with pytest.raises(triton.InferenceServerException):
        environment.predict(x_api_key="another key")
    assert environment.predict_at_function_url().status_code == 401
    assert environment.predict_at_function_url(x_api_key=KEY).status_code == 200
    assert environment.curl(API_KEY=KEY)["model_version"] == "2"
    answer = environment.invoke({"model_name": "digits", "inputs": CARD["example"]["inputs"]})
    assert (answer["model_version"], answer["outputs"][0]["data"]) == ("2", [7])


def test_nothing_is_left_to_deploy(environment: Environment) -> None:
    assert "differences: 0" in environment.diff()


def test_a_version_that_fails_its_check(environment: Environment, reading: dict[str, str], tmp_path: Path) -> None:
    """Its model answers otherwise than its card says: no request reaches it."""
    wrong = {**CARD["example"], "expect": {**CARD["example"]["expect"], "label": [3]}}
    status, said = release(environment, digits(tmp_path, 3, example=wrong), reading)
    assert status != 0
    assert "the hook BeforeAllowTraffic failed" in said
    assert "digits: label is [7], and its card says [3]" in said
    assert list(environment.codedeploy.statuses.values()) == ["Succeeded", "Failed"]
    assert environment.status == "UPDATE_ROLLBACK_COMPLETE"
    assert environment.alias["FunctionVersion"] == "2"
    assert environment.predict(x_api_key=KEY) == {"version": "2", "label": [7]}


def test_a_version_that_makes_an_alarm_ring(environment: Environment, reading: dict[str, str], tmp_path: Path) -> None:
    alarm = environment.physical("AWS::CloudWatch::Alarm", "AlarmsErrors")
    cloudwatch = environment.account.client("cloudwatch")
    cloudwatch.set_alarm_state(AlarmName=alarm, StateValue="ALARM", StateReason="the test says so")
    status, said = release(environment, digits(tmp_path, 4), reading)
    assert status != 0
    assert f"alarms: ['{alarm}']" in said
    assert environment.status == "UPDATE_ROLLBACK_COMPLETE"
    assert (environment.alias["FunctionVersion"], environment.alias.get("RoutingConfig")) in (("2", None), ("2", {}))
    assert environment.predict(x_api_key=KEY) == {"version": "2", "label": [7]}


def test_destroy(environment: Environment) -> None:
    status, said = environment.destroy()
    assert status == 0, said
    with pytest.raises(ClientError, match="does not exist"):
        _ = environment.status
    assert environment.account.client("apigatewayv2").get_apis()["Items"] == []
    functions = environment.account.client("lambda").list_functions()["Functions"]
    assert [f["FunctionName"] for f in functions if f["FunctionName"].startswith(environment.stack)] == []
    groups = environment.account.client("logs").describe_log_groups()["logGroups"]
    assert [g["logGroupName"] for g in groups if environment.stack in g["logGroupName"]] == []

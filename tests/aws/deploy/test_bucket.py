"""Models in a bucket, read from there by the function and by the check, behind an API for signed requests."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import tritonclient.http as triton
from account import Account
from codedeploy import CodeDeploy
from deployed import Environment, digits

CONTEXT = {"models": "bucket", "project": "bucket", "function_url": "true"}
CALLER = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "execute-api:Invoke", "Resource": "arn:aws:execute-api:*:*:*"}],
}

URL_CALLER = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Action": ["lambda:InvokeFunctionUrl", "lambda:InvokeFunction"],
            "Resource": "arn:aws:lambda:*:*:function:bucket-dev-*:live",
        }
    ],
}


@pytest.fixture(scope="module")
def environment(
    account: Account, codedeploy: CodeDeploy, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Environment]:
    with ExitStack() as emulators:
        folder = tmp_path_factory.mktemp("deployed")
        yield Environment(account, codedeploy, folder, emulators, stack="bucket-dev")


# One story, told in the order of these tests.


def test_first_version(environment: Environment) -> None:
    """The bucket is empty."""
    status, said = environment.deploy(None, CONTEXT)
    assert status == 0, said
    assert environment.environment["MODEL_PATH"] == f"s3://{environment.outputs['ModelBucket']}/models"


def test_models_from_the_bucket(environment: Environment, tmp_path: Path) -> None:
    """A new version, by its name alone, loads what is there now."""
    bucket = environment.outputs["ModelBucket"]
    models = digits(tmp_path, 5)
    for path in sorted(models.rglob("*.*")):
        environment.account.client("s3").upload_file(str(path), bucket, f"models/{path.relative_to(models)}")
    settings = {"DEFAULT_MODEL": "digits", "APP_VERSION": "with-models"}
    context = {**CONTEXT, "environments": {"dev": {"settings": settings}}}
    rights = environment.credentials("FunctionRole")
    status, said = environment.deploy(None, context, **rights, MODEL_PATH=f"s3://{bucket}/models")
    assert status == 0, said
    assert list(environment.codedeploy.statuses.values()) == ["Succeeded"]
    answer = environment.predict_signed(environment.account.environment)
    assert (answer.status_code, answer.json()["model_version"]) == (200, "5")


def test_who_may_call(environment: Environment) -> None:
    """Whoever signs a request and has the right: nobody else, however well it is signed."""
    with pytest.raises(triton.InferenceServerException) as caught:
        environment.predict()
    assert caught.value.status() == "403"
    others = environment.credentials("CheckRole")
    assert environment.predict_signed(others).status_code == 403
    caller = environment.user("caller", CALLER)
    assert environment.predict_signed(caller).status_code == 200
    forged = {**caller, "AWS_SECRET_ACCESS_KEY": "guessed"}
    assert environment.predict_signed(forged).status_code == 403
    assert environment.curl(**caller) == {"live": True, "ready": True}


def test_who_may_call_the_function_s_own_url(environment: Environment) -> None:
    """The same, with a right of its own."""
    assert environment.predict_at_function_url().status_code == 403
    assert environment.predict_at_function_url(environment.user("of-the-api", CALLER)).status_code == 403
    caller = environment.user("of-the-url", URL_CALLER)
    answer = environment.predict_at_function_url(caller)
    assert (answer.status_code, answer.json()["model_version"]) == (200, "5")
    forged = {**caller, "AWS_SECRET_ACCESS_KEY": "guessed"}
    assert environment.predict_at_function_url(forged).status_code == 403


def test_destroy(environment: Environment) -> None:
    """The bucket goes too; on AWS with its objects, which a function of the CDK's own deletes."""
    bucket = environment.outputs["ModelBucket"]
    client = environment.account.client("s3")
    versions = client.list_object_versions(Bucket=bucket)["Versions"]
    for item in versions:
        client.delete_object(Bucket=bucket, Key=item["Key"], VersionId=item["VersionId"])
    status, said = environment.destroy()
    assert status == 0, said
    assert bucket not in [item["Name"] for item in client.list_buckets()["Buckets"]]

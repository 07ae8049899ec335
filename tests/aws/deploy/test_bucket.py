"""Models in a bucket: read from there by the function and by the check, and gone with the stack."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from account import Account
from codedeploy import CodeDeploy
from deployed import Environment, digits

CONTEXT = {"authorization": "none", "models": "bucket", "project": "bucket"}


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
    there = {**environment.account.environment, "AWS_ALLOW_HTTP": "true", "MODEL_PATH": f"s3://{bucket}/models"}
    status, said = environment.deploy(None, context, **there)
    assert status == 0, said
    assert list(environment.codedeploy.statuses.values()) == ["Succeeded"]
    assert environment.predict() == {"version": "5", "label": [7]}


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

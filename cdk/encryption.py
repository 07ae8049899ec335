"""A key of one's own for what the stack stores, in place of AWS's own keys."""

from collections.abc import Iterable

from aws_cdk import Stack
from aws_cdk.aws_iam import IRole, PolicyStatement
from aws_cdk.aws_lambda import CfnFunction
from aws_cdk.aws_logs import CfnLogGroup
from aws_cdk.aws_s3 import CfnBucket
from aws_cdk.aws_secretsmanager import CfnSecret
from aws_cdk.aws_sns import CfnTopic
from aws_cdk.aws_sqs import CfnQueue


def encrypt(stack: Stack, key: str, roles: Iterable[IRole]) -> None:
    """Has `key`, an ARN, encrypt all that is in the stack by now; `roles` read and write it.

    By the resources themselves: the CDK's constructs would grant more than is needed.
    """
    for construct in stack.node.find_all():
        match construct:
            case CfnBucket():
                construct.bucket_encryption = _of_buckets(key)
            case CfnQueue():
                construct.sqs_managed_sse_enabled = None
                construct.kms_master_key_id = key
            case CfnTopic():
                construct.kms_master_key_id = key
            case CfnLogGroup() | CfnSecret():
                construct.kms_key_id = key
            case CfnFunction():
                construct.kms_key_arn = key
    for role in roles:
        role.add_to_principal_policy(PolicyStatement(actions=["kms:Decrypt", "kms:GenerateDataKey"], resources=[key]))


def _of_buckets(key: str) -> CfnBucket.BucketEncryptionProperty:
    default = CfnBucket.ServerSideEncryptionByDefaultProperty(sse_algorithm="aws:kms", kms_master_key_id=key)
    # A key of the bucket's own, made by `key`: without it each object would be a request to KMS, which costs.
    rule = CfnBucket.ServerSideEncryptionRuleProperty(
        bucket_key_enabled=True, server_side_encryption_by_default=default
    )
    return CfnBucket.BucketEncryptionProperty(server_side_encryption_configuration=[rule])

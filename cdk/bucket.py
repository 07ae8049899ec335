"""Buckets: private, encrypted, versioned, TLS only; and the one with models in it."""

from aws_cdk import Duration, RemovalPolicy
from aws_cdk.aws_iam import PolicyStatement, Role
from aws_cdk.aws_s3 import BlockPublicAccess, Bucket, BucketEncryption, IBucket, LifecycleRule, ObjectOwnership
from constructs import Construct

from cdk.nag import acknowledge, wildcard
from cdk.props import Props

MODELS = "models"


def private_bucket(scope: Construct, name: str, props: Props, rules: list[LifecycleRule] | None = None) -> Bucket:
    """A bucket that goes with its stack, and takes its objects along, unless the environment retains."""
    bucket = Bucket(
        scope,
        name,
        versioned=True,
        encryption=BucketEncryption.S3_MANAGED,
        enforce_ssl=True,
        minimum_tls_version=1.2,
        block_public_access=BlockPublicAccess.BLOCK_ALL,
        object_ownership=ObjectOwnership.BUCKET_OWNER_ENFORCED,
        removal_policy=RemovalPolicy.RETAIN if props.retain else RemovalPolicy.DESTROY,
        auto_delete_objects=not props.retain,
        lifecycle_rules=[
            LifecycleRule(noncurrent_version_expiration=Duration.days(props.log_retention)),
            LifecycleRule(abort_incomplete_multipart_upload_after=Duration.days(1)),
            *(rules or []),
        ],
    )
    acknowledge(
        bucket, {"S1": "CloudTrail's data events log access where an account wants it, without a second bucket"}
    )
    return bucket


class ModelBucket(Construct):
    """The model repositories of an environment, one for each function."""

    def __init__(self, scope: Construct, name: str, props: Props) -> None:
        super().__init__(scope, name)
        own = props.model_bucket
        self.bucket: IBucket = (
            Bucket.from_bucket_name(self, "Bucket", own) if own else private_bucket(self, "Bucket", props)
        )

    def url(self, prefix: str = MODELS) -> str:
        """The MODEL_PATH of a function."""
        return f"s3://{self.bucket.bucket_name}/{prefix}"

    def grant_read(self, role: Role, prefix: str = MODELS) -> None:
        """Listing and reading below the repository's prefix, and nothing else."""
        objects = self.bucket.arn_for_objects(f"{prefix}/*")
        role.add_to_policy(PolicyStatement(actions=["s3:GetObject"], resources=[objects]))
        role.add_to_policy(
            PolicyStatement(
                actions=["s3:ListBucket"],
                resources=[self.bucket.bucket_arn],
                conditions={"StringLike": {"s3:prefix": [prefix, f"{prefix}/*"]}},
            )
        )
        acknowledge(role, {wildcard(role, objects): "a repository's files are not known in advance"})

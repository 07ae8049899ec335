"""The bucket of files: what arrives below its input is predicted, results and answers go below its output."""

from aws_cdk import Duration
from aws_cdk.aws_iam import PolicyStatement, Role
from aws_cdk.aws_s3 import Bucket, IBucket, LifecycleRule
from constructs import Construct

from cdk.bucket import private_bucket
from cdk.nag import acknowledge, wildcard
from cdk.props import Props

# ANSWERS and REQUESTS are inferry's own names; a test compares them, as importing its modules would load everything.
INPUT, OUTPUT, ANSWERS, REQUESTS = "input", "output", "answers", "requests"
_EXPIRING = (f"{OUTPUT}/{ANSWERS}/", f"{INPUT}/{REQUESTS}/", f"{OUTPUT}/{REQUESTS}/")
# What results need: reading the input, everything below the output.
_WORK = {
    INPUT: ["s3:GetObject"],
    OUTPUT: ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"],
}
# What requests need that are answered later: they are files, and their answers are results.
_DEFER = {f"{INPUT}/{REQUESTS}": ["s3:GetObject", "s3:PutObject"], f"{OUTPUT}/{REQUESTS}": ["s3:GetObject"]}


class Files(Construct):
    """`input` and `output` are the settings BATCH_INPUT and BATCH_OUTPUT."""

    def __init__(self, scope: Construct, name: str, props: Props) -> None:
        super().__init__(scope, name)
        self.bucket = self._bucket(props)
        self.input = f"s3://{self.bucket.bucket_name}/{INPUT}"
        self.output = f"s3://{self.bucket.bucket_name}/{OUTPUT}"

    def _bucket(self, props: Props) -> IBucket:
        if props.files_bucket:
            return Bucket.from_bucket_name(self, "Bucket", props.files_bucket)
        kept = Duration.days(props.batch_answers)
        rules = [LifecycleRule(prefix=prefix, expiration=kept) for prefix in _EXPIRING]
        return private_bucket(self, "Bucket", props, rules)

    def grant_work(self, role: Role) -> None:
        """For who predicts the files."""
        self._grant(role, _WORK)

    def grant_requests(self, role: Role) -> None:
        """For who takes requests that are answered later."""
        self._grant(role, _DEFER)

    def _grant(self, role: Role, below: dict[str, list[str]]) -> None:
        for prefix, actions in below.items():
            objects = self.bucket.arn_for_objects(f"{prefix}/*")
            role.add_to_policy(PolicyStatement(actions=actions, resources=[objects]))
            acknowledge(role, {wildcard(role, objects): "files are not known in advance"})
        # Without it, and without a condition, S3 says "forbidden" of objects that are not there.
        role.add_to_policy(PolicyStatement(actions=["s3:ListBucket"], resources=[self.bucket.bucket_arn]))

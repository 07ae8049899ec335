"""API keys: SHA-256 digests in Secrets Manager. The function reads them in its init, and checks keys itself."""

from aws_cdk import RemovalPolicy
from aws_cdk.aws_iam import PolicyStatement, Role
from aws_cdk.aws_secretsmanager import Secret, SecretStringGenerator
from constructs import Construct

from cdk.nag import acknowledge
from cdk.props import Props

DIGEST_LENGTH = 64
NOT_HEXADECIMAL = "ghijklmnopqrstuvwxyz"


class ApiKeys(Construct):
    """A secret of {"digests": "HEX,HEX"}; `variables` say to the function where it is.

    A new secret has a random digest: the API is closed until real ones are stored.
    """

    def __init__(self, scope: Construct, name: str, props: Props) -> None:
        super().__init__(scope, name)
        self.secret = Secret(
            self,
            "Secret",
            description=f"Digests of the API keys of {props.stack_name}",
            generate_secret_string=SecretStringGenerator(
                # Nothing reads "check" any more. Without it CloudFormation would make a new secret, over keys in use.
                secret_string_template='{"check":""}',  # noqa: S106
                generate_string_key="digests",
                password_length=DIGEST_LENGTH,
                exclude_characters=NOT_HEXADECIMAL,
                exclude_uppercase=True,
                exclude_punctuation=True,
                require_each_included_type=False,
            ),
            removal_policy=RemovalPolicy.RETAIN if props.retain else RemovalPolicy.DESTROY,
        )
        self.variables = {"API_KEYS_SECRET": self.secret.secret_arn}
        if props.api_keys_version:
            self.variables["API_KEYS_VERSION"] = props.api_keys_version
        acknowledge(self.secret, {"SMG4": "callers hold these keys: only they can say when a new one is in use"})

    def grant_read(self, role: Role) -> None:
        role.add_to_policy(
            PolicyStatement(actions=["secretsmanager:GetSecretValue"], resources=[self.secret.secret_arn])
        )

"""API keys: SHA-256 digests in Secrets Manager, handed to the function, which checks them itself."""

from aws_cdk import RemovalPolicy, SecretValue
from aws_cdk.aws_secretsmanager import Secret, SecretStringGenerator
from constructs import Construct

from cdk.nag import acknowledge
from cdk.props import Props

# No key has this digest. It is always there: an empty list would mean that no key is asked for.
NOBODY = "0" * 64
NOT_HEXADECIMAL = "ghijklmnopqrstuvwxyz"


class ApiKeys(Construct):
    """A secret of {"digests": "HEX,HEX", "check": KEY}; `digests`, for API_KEYS, has the reference that CloudFormation
    resolves. A new secret has a random digest: the API is closed until real ones are stored.
    """

    def __init__(self, scope: Construct, name: str, props: Props) -> None:
        super().__init__(scope, name)
        self.secret = Secret(
            self,
            "Secret",
            description=f"API keys of {props.stack_name}: digests, and the key of the check of new versions",
            generate_secret_string=SecretStringGenerator(
                secret_string_template='{"check":""}',  # noqa: S106  (a key that is put there later)
                generate_string_key="digests",
                password_length=len(NOBODY),
                exclude_characters=NOT_HEXADECIMAL,
                exclude_uppercase=True,
                exclude_punctuation=True,
                require_each_included_type=False,
            ),
            removal_policy=RemovalPolicy.RETAIN if props.retain else RemovalPolicy.DESTROY,
        )
        version = props.api_keys_version or None
        value = SecretValue.secrets_manager(self.secret.secret_arn, json_field="digests", version_id=version)
        # Digests are no secrets, as long as keys are random: the function's environment may show them.
        self.digests = (NOBODY, value.unsafe_unwrap())
        acknowledge(self.secret, {"SMG4": "callers hold these keys: only they can say when a new one is in use"})

"""The line of curl that a deployment ends with: a prediction, where the default model's card has an example."""

import json
import shlex
from pathlib import Path

from aws_cdk import Aws

from cdk.props import Props

# Longer ones would fill the terminal that they are printed on.
MAX_BODY = 1000
_SIGNED = (
    f'--aws-sigv4 "aws:amz:{Aws.REGION}:execute-api" --user "$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY" '
    '-H "x-amz-security-token: $AWS_SESSION_TOKEN" '
)
CREDENTIALS = {"iam": _SIGNED, "jwt": '-H "Authorization: Bearer $TOKEN" ', "api-keys": '-H "x-api-key: $API_KEY" '}


def curl_line(props: Props, url: str, source: Path) -> str:
    """A command for a shell that has the caller's credentials in variables."""
    credentials = CREDENTIALS.get(props.authorization, "")
    model = props.settings.default_model
    body = _example(source / "models" / model / "config.json") if model and props.models == "image" else ""
    if not body:
        return f"curl {credentials}{url}/v2/health/ready"
    return f"curl {credentials}{url}/v2/models/{model}/infer -d {shlex.quote(body)}"


def _example(card: Path) -> str:
    inputs = json.loads(card.read_text()).get("example", {}).get("inputs") if card.exists() else None
    body = json.dumps({"inputs": inputs}, separators=(",", ":")) if inputs else ""
    return body if len(body) <= MAX_BODY else ""

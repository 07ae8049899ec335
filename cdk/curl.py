"""The line of curl that a deployment ends with: a prediction, where the models are known."""

import json
import shlex

from aws_cdk import Aws

from cdk.models import ModelFolder
from cdk.props import Props

# Longer ones would fill the terminal that they are printed on.
MAX_BODY = 1000
_SIGNED = (
    f'--aws-sigv4 "aws:amz:{Aws.REGION}:execute-api" --user "$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY" '
    '-H "x-amz-security-token: $AWS_SESSION_TOKEN" '
)
CREDENTIALS = {"iam": _SIGNED, "jwt": '-H "Authorization: Bearer $TOKEN" ', "api-keys": '-H "x-api-key: $API_KEY" '}


def curl_line(props: Props, url: str, models: ModelFolder | None) -> str:
    """A command for a shell that has the caller's credentials in variables; no `models`: a bucket has them."""
    credentials = CREDENTIALS.get(props.authorization, "")
    if not models:
        return f"curl {credentials}{url}/v2/health/ready"
    model = props.settings.default_model or models.names[0]
    request = models.request(model)
    body = json.dumps(request, separators=(",", ":")) if request else ""
    if not 0 < len(body) <= MAX_BODY:
        return f"curl {credentials}{url}/v2/models/{model}"
    return f"curl {credentials}{url}/v2/models/{model}/infer -d {shlex.quote(body)}"

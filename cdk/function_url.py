"""The function's own URL, for callers that need more than API Gateway's 30 seconds."""

from aws_cdk.aws_lambda import Alias, FunctionUrlAuthType

from cdk.props import Props

# Lambda checks signatures; keys are the application's business, as behind the API.
_AUTH = {"iam": FunctionUrlAuthType.AWS_IAM, "api-keys": FunctionUrlAuthType.NONE, "none": FunctionUrlAuthType.NONE}


def add_function_url(props: Props, alias: Alias) -> str:
    return alias.add_function_url(auth_type=_AUTH[props.authorization]).url

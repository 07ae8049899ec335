"""What the tests of the templates look for."""

from typing import Any

from assemblies import Assembly

FUNCTION = "AWS::Lambda::Function"
ALIAS = "AWS::Lambda::Alias"
ROUTE = "AWS::ApiGatewayV2::Route"
ALARM = "AWS::CloudWatch::Alarm"


def constants(value: Any) -> Any:
    """`value` without what refers to other resources, and without tags."""
    if not isinstance(value, dict):
        return value
    return {k: constants(v) for k, v in value.items() if k != "Tags" and not refers(v)}


def refers(value: Any) -> bool:
    return isinstance(value, dict) and len(value) == 1 and next(iter(value)).startswith(("Ref", "Fn::"))


def function(assembly: Assembly) -> dict[str, Any]:
    return assembly.only(FUNCTION, "FunctionHandler")

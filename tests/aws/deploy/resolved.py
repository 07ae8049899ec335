"""A template as an account has it: what refers to other resources replaced by names and ARNs of an account."""

import re
from collections.abc import Mapping
from typing import Any

ACCOUNT, REGION = "123456789012", "eu-west-1"
PSEUDO = {
    "AWS::AccountId": ACCOUNT,
    "AWS::Region": REGION,
    "AWS::Partition": "aws",
    "AWS::URLSuffix": "amazonaws.com",
    "AWS::StackName": "stack",
}
_PLACE = f"{REGION}:{ACCOUNT}"
ARNS = {
    "AWS::CloudWatch::Alarm": f"arn:aws:cloudwatch:{_PLACE}:alarm:{{name}}",
    "AWS::Events::Rule": f"arn:aws:events:{_PLACE}:rule/{{name}}",
    "AWS::IAM::Role": f"arn:aws:iam::{ACCOUNT}:role/{{name}}",
    "AWS::KMS::Key": f"arn:aws:kms:{_PLACE}:key/{{name}}",
    "AWS::Lambda::CapacityProvider": f"arn:aws:lambda:{_PLACE}:capacity-provider:{{name}}",
    "AWS::Lambda::Function": f"arn:aws:lambda:{_PLACE}:function:{{name}}",
    "AWS::Logs::LogGroup": f"arn:aws:logs:{_PLACE}:log-group:{{name}}:*",
    "AWS::S3::Bucket": "arn:aws:s3:::{name}",
    "AWS::SNS::Topic": f"arn:aws:sns:{_PLACE}:{{name}}",
    "AWS::SQS::Queue": f"arn:aws:sqs:{_PLACE}:{{name}}",
    "AWS::SecretsManager::Secret": f"arn:aws:secretsmanager:{_PLACE}:secret:{{name}}-a1b2c3",
    "AWS::StepFunctions::StateMachine": f"arn:aws:states:{_PLACE}:stateMachine:{{name}}",
}
# Of these, Ref is the ARN; of others it is the name.
_ARN_IS_REF = {"AWS::SNS::Topic", "AWS::SecretsManager::Secret", "AWS::StepFunctions::StateMachine"}


def resolved(template: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The resources by their logical names, which are their names in the account too."""
    resources: Mapping[str, dict[str, Any]] = template["Resources"]
    return {
        name: {**item, "Properties": _value(item.get("Properties", {}), resources)} for name, item in resources.items()
    }


def arn(name: str, resources: Mapping[str, dict[str, Any]]) -> str:
    return ARNS[resources[name]["Type"]].format(name=name)


def _value(value: Any, resources: Mapping[str, dict[str, Any]]) -> Any:
    match value:
        case {"Ref": str(name)}:
            return _ref(name, resources)
        case {"Fn::GetAtt": [name, attribute]}:
            return arn(name, resources) if attribute == "Arn" else f"{name}.{attribute}"
        case {"Fn::Join": [separator, parts]}:
            return separator.join(str(_value(part, resources)) for part in parts)
        case {"Fn::Sub": str(text)}:
            return re.sub(r"\$\{([\w:]+)\}", lambda found: _ref(found[1], resources), text)
        case {"Fn::Select": [index, parts]}:
            return _value(parts, resources)[int(index)]
        case {"Fn::Split": [separator, text]}:
            return _value(text, resources).split(separator)
        case dict():
            return {key: _value(item, resources) for key, item in value.items()}
        case list():
            return [_value(item, resources) for item in value]
    return value


def _ref(name: str, resources: Mapping[str, dict[str, Any]]) -> str:
    if name not in resources:
        return PSEUDO[name]
    item = resources[name]
    match item["Type"]:
        case "AWS::Lambda::Version":
            return f"{_value(item['Properties']['FunctionName'], resources)}:7"
        case "AWS::Lambda::Alias":
            function, alias = (_value(item["Properties"][key], resources) for key in ("FunctionName", "Name"))
            return f"{ARNS['AWS::Lambda::Function'].format(name=function)}:{alias}"
        case "AWS::SQS::Queue":
            return f"https://sqs.{REGION}.amazonaws.com/{ACCOUNT}/{name}"
        case kind if kind in _ARN_IS_REF:
            return arn(name, resources)
    return name

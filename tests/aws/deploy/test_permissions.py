"""Whether IAM would allow what the resources of each variant do to each other, and whether the rules would notice."""

import re
from copy import deepcopy
from datetime import date
from typing import Any

import pytest
from assemblies import VARIANTS, Assembly
from permission_rules import RULES
from permissions import denied
from resolved import ACCOUNT, REGION

# What these do to others needs nobody's leave, or only that of whoever deploys them.
PASSIVE = {
    "AWS::ApiGateway::Deployment",
    "AWS::ApiGateway::Resource",
    "AWS::ApiGatewayV2::Api",
    "AWS::ApiGatewayV2::ApiMapping",
    "AWS::ApiGatewayV2::Authorizer",
    "AWS::ApiGatewayV2::DomainName",
    "AWS::CloudWatch::Dashboard",
    "AWS::CodeDeploy::Application",
    "AWS::EC2::SecurityGroup",
    "AWS::EC2::VPCEndpoint",
    "AWS::Lambda::Version",
    "AWS::Logs::MetricFilter",
    "AWS::Route53::RecordSet",
    "AWS::SecretsManager::Secret",
    "AWS::WAFv2::WebACLAssociation",
}
# Rules look at these, or read from them what they allow.
KNOWN = {
    "AWS::ApiGateway::Method",
    "AWS::ApiGateway::RestApi",
    "AWS::ApiGateway::Stage",
    "AWS::ApiGatewayV2::Integration",
    "AWS::ApiGatewayV2::Route",
    "AWS::ApiGatewayV2::Stage",
    "AWS::Budgets::Budget",
    "AWS::CloudWatch::Alarm",
    "AWS::CodeDeploy::DeploymentGroup",
    "AWS::Events::Rule",
    "AWS::IAM::Policy",
    "AWS::IAM::Role",
    "AWS::Lambda::Alias",
    "AWS::Lambda::CapacityProvider",
    "AWS::Lambda::EventSourceMapping",
    "AWS::Lambda::Function",
    "AWS::Lambda::Permission",
    "AWS::Lambda::Url",
    "AWS::Logs::LogGroup",
    "AWS::S3::Bucket",
    "AWS::S3::BucketPolicy",
    "AWS::SNS::Subscription",
    "AWS::SNS::Topic",
    "AWS::SNS::TopicPolicy",
    "AWS::SQS::Queue",
    "AWS::SQS::QueuePolicy",
    "AWS::StepFunctions::StateMachine",
    "Custom::S3AutoDeleteObjects",
}


def test_each_variant(assemblies: dict[str, Assembly]) -> None:
    found = dict(zip(VARIANTS, denied(assemblies[name].template for name in VARIANTS), strict=True))
    assert found == {name: [] for name in VARIANTS}


def test_every_kind_of_resource_has_been_thought_of(assemblies: dict[str, Assembly]) -> None:
    assert {item["Type"] for name in VARIANTS for item in assemblies[name].resources().values()} == KNOWN | PASSIVE


def test_every_rule_says_where_the_provider_says_so() -> None:
    for rule, words in RULES.items():
        assert words.address.startswith("https://docs.aws.amazon.com/"), rule
        assert re.match(r"(Amazon|AWS) [\w ]+: \w", words.title), rule
        assert words.said, rule
        assert date.fromisoformat(words.read) >= date(2026, 11, 30), rule


@pytest.mark.parametrize(
    ("variant", "kind", "start", "noticed"),
    [
        (
            "prod",
            "AWS::SNS::TopicPolicy",
            "",
            ["cloudwatch.amazonaws.com may not sns:Publish TOPIC", "budgets.amazonaws.com may not sns:Publish TOPIC"],
        ),
        ("batch", "AWS::SQS::QueuePolicy", "BatchJobs", ["s3.amazonaws.com may not sqs:SendMessage QUEUE"]),
        (
            "batch",
            "AWS::IAM::Policy",
            "BatchRunsRole",
            [
                "ROLE may not logs:CreateLogDelivery *",
                "ROLE may not logs:DescribeLogGroups *",
                "ROLE may not lambda:InvokeFunction FUNCTION",
            ],
        ),
        ("batch", "AWS::IAM::Policy", "BatchRunsAgain", ["ROLE may not states:StartExecution MACHINE"]),
        (
            "batch",
            "AWS::IAM::Policy",
            "BatchRoleDefault",
            [
                "ROLE may not sqs:ReceiveMessage QUEUE",
                "ROLE may not sqs:SendMessage QUEUE",
                "ROLE may not logs:PutLogEvents STREAM",
                "ROLE may not xray:PutTraceSegments *",
            ],
        ),
        (
            "dev",
            "AWS::Lambda::Permission",
            "ApiDefaultRoute",
            ["apigateway.amazonaws.com may not lambda:InvokeFunction FUNCTION:live"],
        ),
        (
            "open",
            "AWS::Lambda::Permission",
            "FunctionAliasinvokefunctionurl",
            ["everybody may not lambda:InvokeFunctionUrl FUNCTION:live"],
        ),
        (
            "open",
            "AWS::Lambda::Permission",
            "FunctionAliasinvokefunction",
            ["everybody may not lambda:InvokeFunction FUNCTION:live"],
        ),
        (
            "dev",
            "AWS::IAM::Policy",
            "RolloutRole",
            ["ROLE may not lambda:UpdateAlias FUNCTION", "ROLE may not cloudwatch:DescribeAlarms *"],
        ),
        (
            "dev",
            "AWS::IAM::Policy",
            "RolloutReport",
            ["ROLE may not codedeploy:PutLifecycleEventHookExecutionStatus GROUP"],
        ),
        (
            "network",
            "AWS::SQS::QueuePolicy",
            "Batch",
            ["events.amazonaws.com may not sqs:SendMessage QUEUE"],
        ),
        (
            "network",
            "AWS::Lambda::Permission",
            "ApiApiPermission",
            ["apigateway.amazonaws.com may not lambda:InvokeFunction FUNCTION:live"],
        ),
        (
            "network",
            "AWS::IAM::Policy",
            "CheckRole",
            [
                "ROLE may not ec2:DescribeSubnets *",
                "ROLE may not ec2:CreateNetworkInterface arn:aws:ec2:eu-west-1:123456789012:subnet/"
                "subnet-0123456789abcdef0",
                "ROLE may not ec2:DeleteNetworkInterface arn:aws:ec2:eu-west-1:123456789012:network-interface/"
                "eni-0123456789abcdef0",
            ],
        ),
        (
            "instances",
            "AWS::IAM::Policy",
            "FunctionCapacityRole",
            [
                "ROLE may not ec2:RunInstances arn:aws:ec2:eu-west-1:123456789012:instance/i-0123456789abcdef0",
                "ROLE may not ec2:DescribeInstances *",
                "ROLE may not logs:PutLogEvents STREAM",
            ],
        ),
        (
            "batch",
            "AWS::S3::BucketPolicy",
            "Data",
            ["ROLE may not s3:DeleteObjectVersion arn:aws:s3:::DataBucketE6B0FAA8/key"],
        ),
    ],
)
def test_what_is_missing_is_noticed(
    assemblies: dict[str, Assembly], variant: str, kind: str, start: str, noticed: list[str]
) -> None:
    """Without the resources of a kind whose names start so."""
    template = deepcopy(assemblies[variant].template)
    resources = template["Resources"]
    gone = [name for name, item in resources.items() if item["Type"] == kind and name.startswith(start)]
    assert gone
    template["Resources"] = {name: item for name, item in resources.items() if name not in gone}
    [found] = denied([template])
    assert [line for line in noticed if line not in {_general(line) for line in found}] == []


def _general(line: str) -> str:
    """Without names that the CDK makes."""
    line = re.split(": (?=[A-Z{])", line)[0]
    for pattern, name in (
        (r"arn:aws:sns:\S+", "TOPIC"),
        (r"arn:aws:sqs:\S+", "QUEUE"),
        (r"arn:aws:states:\S+", "MACHINE"),
        (r"arn:aws:logs:\S+", "STREAM"),
        (r"arn:aws:codedeploy:\S+", "GROUP"),
        (r"arn:aws:lambda:[\w-]+:\d+:function:\w+", "FUNCTION"),
        (r"arn:aws:kms:\S+", "KEY"),
        (r"arn:aws:iam::\d+:role/\w+", "ROLE"),
    ):
        line = re.sub(pattern, name, line)
    return line


def resource(kind: str, **properties: Any) -> dict[str, Any]:
    return {"Type": f"AWS::{kind}", "Properties": properties}


def allow(service: str, *actions: str, **more: Any) -> dict[str, Any]:
    principal = {"Service": f"{service}.amazonaws.com"}
    return {"Effect": "Allow", "Principal": principal, "Action": list(actions), "Resource": "*", **more}


def policy(*statements: dict[str, Any]) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": list(statements)}


def arn(name: str) -> dict[str, Any]:
    return {"Fn::GetAtt": [name, "Arn"]}


def key(*statements: dict[str, Any]) -> dict[str, Any]:
    account = {
        "Effect": "Allow",
        "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"},
        "Action": "kms:*",
        "Resource": "*",
    }
    return resource("KMS::Key", KeyPolicy=policy(account, *statements))


def function(role: str = "Role") -> dict[str, Any]:
    return resource("Lambda::Function", Role=arn(role), LoggingConfig={"LogGroup": "Logs"})


# A role that may do anything, so that the rest of a case is what it is about.
ROLE = resource(
    "IAM::Role",
    AssumeRolePolicyDocument=policy(
        {
            "Effect": "Allow",
            "Principal": {"Service": ["lambda.amazonaws.com", "states.amazonaws.com", "events.amazonaws.com"]},
            "Action": "sts:AssumeRole",
        }
    ),
    Policies=[{"PolicyName": "all", "PolicyDocument": policy({"Effect": "Allow", "Action": "*", "Resource": "*"})}],
)
MINE = {"Condition": {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}}}
OTHERS = {"Condition": {"StringEquals": {"aws:SourceAccount": "999999999999"}}}
USES = ("kms:Decrypt", "kms:GenerateDataKey*")
ALARM = resource("CloudWatch::Alarm", AlarmActions=[{"Ref": "Topic"}])
TOPIC = resource("SNS::Topic", KmsMasterKeyId={"Ref": "Key"})
QUEUE = resource("SQS::Queue", KmsMasterKeyId=arn("Key"))


def topic_policy(*statements: dict[str, Any]) -> dict[str, Any]:
    return resource("SNS::TopicPolicy", Topics=[{"Ref": "Topic"}], PolicyDocument=policy(*statements))


def queue_policy(*statements: dict[str, Any]) -> dict[str, Any]:
    return resource("SQS::QueuePolicy", Queues=[{"Ref": "Queue"}], PolicyDocument=policy(*statements))


def rule(target: str, **more: Any) -> dict[str, Any]:
    return resource("Events::Rule", Targets=[{"Id": "1", "Arn": arn(target), **more}])


def permission(service: str, **more: Any) -> dict[str, Any]:
    return resource(
        "Lambda::Permission",
        FunctionName=arn("Function"),
        Action="lambda:InvokeFunction",
        Principal=f"{service}.amazonaws.com",
        **more,
    )


ALLOWED: dict[str, dict[str, Any]] = {
    "alarm to an encrypted topic": {
        "Alarm": ALARM,
        "Topic": TOPIC,
        "Policy": topic_policy(allow("cloudwatch", "sns:Publish", **MINE)),
        "Key": key(allow("cloudwatch", *USES, **MINE)),
    },
    "EventBridge to an encrypted queue": {
        "Rule": rule("Queue"),
        "Queue": QUEUE,
        "Policy": queue_policy(
            allow("events", "sqs:SendMessage", Condition={"ArnEquals": {"aws:SourceArn": arn("Rule")}})
        ),
        "Key": key(allow("events", *USES)),
    },
    "EventBridge to a function": {
        "Rule": rule("Function"),
        "Function": function(),
        "Role": ROLE,
        "Permission": permission("events", SourceArn=arn("Rule"), SourceAccount={"Ref": "AWS::AccountId"}),
    },
    "S3 to an encrypted queue": {
        "Bucket": resource(
            "S3::Bucket", NotificationConfiguration={"QueueConfigurations": [{"Queue": arn("Queue"), "Event": "s3:*"}]}
        ),
        "Queue": QUEUE,
        "Policy": queue_policy(allow("s3", "sqs:SendMessage", **MINE)),
        "Key": key(allow("s3", *USES)),
    },
    "topic to a queue": {
        "Subscription": resource("SNS::Subscription", Protocol="sqs", Endpoint=arn("Queue"), TopicArn={"Ref": "Topic"}),
        "Topic": resource("SNS::Topic"),
        "Queue": resource("SQS::Queue"),
        "Policy": queue_policy(
            allow("sns", "sqs:SendMessage", Condition={"ArnEquals": {"aws:SourceArn": {"Ref": "Topic"}}})
        ),
    },
    "encrypted log group": {
        "Logs": resource("Logs::LogGroup", KmsKeyId=arn("Key")),
        "Key": key(allow(f"logs.{REGION}", "kms:Encrypt", "kms:Describe*", *USES)),
    },
    "queue to its dead letters": {
        "Queue": resource("SQS::Queue", RedrivePolicy={"deadLetterTargetArn": arn("Dead"), "maxReceiveCount": 5}),
        "Dead": resource(
            "SQS::Queue", RedriveAllowPolicy={"redrivePermission": "byQueue", "sourceQueueArns": [arn("Queue")]}
        ),
    },
    "encrypted queue to a function": {
        "Mapping": resource(
            "Lambda::EventSourceMapping", EventSourceArn=arn("Queue"), FunctionName={"Ref": "Function"}
        ),
        "Function": function(),
        "Role": ROLE,
        "Queue": QUEUE,
        "Key": key(),
    },
}


@pytest.mark.parametrize("case", ALLOWED)
def test_allowed(case: str) -> None:
    assert denied([{"Resources": ALLOWED[case]}]) == [[]]


DENIED: dict[str, tuple[str, dict[str, Any], list[str]]] = {
    "a policy for another account": (
        "alarm to an encrypted topic",
        {"Policy": topic_policy(allow("cloudwatch", "sns:Publish", **OTHERS))},
        ["cloudwatch.amazonaws.com may not sns:Publish TOPIC"],
    ),
    "a policy for unencrypted requests": (
        "alarm to an encrypted topic",
        {
            "Policy": topic_policy(
                allow("cloudwatch", "sns:Publish", Condition={"Bool": {"aws:SecureTransport": "false"}})
            )
        },
        ["cloudwatch.amazonaws.com may not sns:Publish TOPIC"],
    ),
    "a key that knows no service": (
        "alarm to an encrypted topic",
        {"Key": key()},
        [
            "cloudwatch.amazonaws.com may not kms:GenerateDataKey KEY",
            "cloudwatch.amazonaws.com may not kms:Decrypt KEY",
        ],
    ),
    "the key that SNS has of its own": (
        "alarm to an encrypted topic",
        {"Topic": resource("SNS::Topic", KmsMasterKeyId="alias/aws/sns")},
        [
            "cloudwatch.amazonaws.com may not kms:GenerateDataKey alias/aws/sns",
            "cloudwatch.amazonaws.com may not kms:Decrypt alias/aws/sns",
        ],
    ),
    "a condition that EventBridge's requests to keys don't meet": (
        "EventBridge to an encrypted queue",
        {"Key": key(allow("events", *USES, **MINE))},
        ["events.amazonaws.com may not kms:GenerateDataKey KEY", "events.amazonaws.com may not kms:Decrypt KEY"],
    ),
    "the policy for another rule": (
        "EventBridge to an encrypted queue",
        {
            "Policy": queue_policy(
                allow("events", "sqs:SendMessage", Condition={"ArnEquals": {"aws:SourceArn": "arn:aws:x"}})
            )
        },
        ["events.amazonaws.com may not sqs:SendMessage QUEUE"],
    ),
    "dead letters of a rule": (
        "EventBridge to a function",
        {"Rule": rule("Function", DeadLetterConfig={"Arn": arn("Dead")}), "Dead": resource("SQS::Queue")},
        ["events.amazonaws.com may not sqs:SendMessage QUEUE"],
    ),
    "a permission for another service": (
        "EventBridge to a function",
        {"Permission": permission("s3")},
        ["events.amazonaws.com may not lambda:InvokeFunction FUNCTION"],
    ),
    "a queue that knows no bucket": (
        "S3 to an encrypted queue",
        {"Policy": queue_policy(allow("sns", "sqs:SendMessage"))},
        ["s3.amazonaws.com may not sqs:SendMessage QUEUE"],
    ),
    "a queue that knows no topic": (
        "topic to a queue",
        {"Policy": queue_policy(allow("s3", "sqs:SendMessage"))},
        ["sns.amazonaws.com may not sqs:SendMessage QUEUE"],
    ),
    "a key that knows no logs": (
        "encrypted log group",
        {"Key": key(allow("logs", "kms:Encrypt", "kms:Describe*", *USES))},
        [
            f"logs.{REGION}.amazonaws.com may not {action} KEY"
            for action in ("kms:Encrypt", "kms:Decrypt", "kms:GenerateDataKey", "kms:DescribeKey")
        ],
    ),
    "dead letters of no queue": (
        "queue to its dead letters",
        {"Dead": resource("SQS::Queue", RedriveAllowPolicy={"redrivePermission": "denyAll"})},
        ["sqs.amazonaws.com may not sqs:SendMessage QUEUE"],
    ),
    "dead letters of another queue": (
        "queue to its dead letters",
        {
            "Dead": resource(
                "SQS::Queue",
                RedriveAllowPolicy={"redrivePermission": "byQueue", "sourceQueueArns": ["arn:aws:sqs:x:y:z"]},
            )
        },
        ["sqs.amazonaws.com may not sqs:SendMessage QUEUE"],
    ),
    "a key that doesn't trust the account's roles": (
        "encrypted queue to a function",
        {"Key": resource("KMS::Key", KeyPolicy=policy(allow("s3", *USES)))},
        ["ROLE may not kms:Decrypt KEY"],
    ),
    "a role of another service": (
        "encrypted queue to a function",
        {
            "Role": {
                **ROLE,
                "Properties": {
                    **ROLE["Properties"],
                    "AssumeRolePolicyDocument": policy(
                        {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}
                    ),
                },
            }
        },
        ["lambda.amazonaws.com may not sts:AssumeRole ROLE"],
    ),
}


@pytest.mark.parametrize("case", DENIED)
def test_denied(case: str) -> None:
    """What would be allowed, but for one resource."""
    base, changed, expected = DENIED[case]
    [found] = denied([{"Resources": {**ALLOWED[base], **changed}}])
    assert [_general(line) for line in found] == expected

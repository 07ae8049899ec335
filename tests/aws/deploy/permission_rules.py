"""What AWS's services must be allowed for a stack to work, in the provider's words: a rule for each kind of action."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from resolved import ACCOUNT, REGION
from stacks import VERSION, Stack

PUBLIC = {"type": "Anonymous"}


class Words(NamedTuple):
    """Where the provider says what a rule asks for; `read` is the day on which it was looked up."""

    title: str
    address: str
    said: str
    read: str = "2026-11-30"


@dataclass(frozen=True)
class Need:
    """`who`, a service's principal, the ARN of a role, or PUBLIC, must be allowed `action` on `target`."""

    who: Any
    action: str
    target: str
    context: Mapping[str, str] = field(default_factory=dict)
    policy: Any = None
    """That of the target, where it is none that the stack's resources say."""
    is_listed: bool = True
    """Whether AWS's reference of actions knows which kind of resource it is for."""

    def __str__(self) -> str:
        who = "everybody" if self.who == PUBLIC else self.who
        return f"{who} may not {self.action} {self.target}"


# What reaches a topic, a queue or a function, and the key that it may be encrypted with.
SENDING = {
    "AWS::SNS::Topic": ("sns:Publish", "KmsMasterKeyId"),
    "AWS::SQS::Queue": ("sqs:SendMessage", "KmsMasterKeyId"),
    "AWS::Lambda::Function": ("lambda:InvokeFunction", ""),
}


def send(
    stack: Stack, who: str, target: str, context: Mapping[str, str], *, is_key_told: bool = True
) -> Iterator[Need]:
    """`who` sends to `target`; `is_key_told`: the requests to the key have the context too."""
    kind, given = stack.find(target)
    action, key = SENDING[kind]
    yield Need(who, action, target, context)
    if key in given:
        for action in ("kms:GenerateDataKey", "kms:Decrypt"):
            yield Need(who, action, stack.arns.get(given[key], given[key]), context if is_key_told else {})


def source(address: str) -> dict[str, str]:
    return {"aws:SourceAccount": ACCOUNT, "aws:SourceArn": address}


def alarms(stack: Stack) -> Iterator[Need]:
    for alarm, given in stack.of("AWS::CloudWatch::Alarm"):
        for state in ("AlarmActions", "OKActions", "InsufficientDataActions"):
            for target in given.get(state, []):
                is_topic = stack.find(target)[0] == "AWS::SNS::Topic"
                service = "cloudwatch.amazonaws.com" if is_topic else "lambda.alarms.cloudwatch.amazonaws.com"
                yield from send(stack, service, target, source(alarm))


def budgets(stack: Stack) -> Iterator[Need]:
    for name, given in stack.of("AWS::Budgets::Budget"):
        for notification in given["NotificationsWithSubscribers"]:
            for subscriber in notification["Subscribers"]:
                if subscriber["SubscriptionType"] == "SNS":
                    budget = f"arn:aws:budgets::{ACCOUNT}:budget/{name}"
                    yield from send(stack, "budgets.amazonaws.com", subscriber["Address"], source(budget))


def events(stack: Stack) -> Iterator[Need]:
    for rule, given in stack.of("AWS::Events::Rule"):
        for target in given.get("Targets", []):
            if role := target.get("RoleArn"):
                yield Need("events.amazonaws.com", "sts:AssumeRole", role, policy=stack.trust(role))
                yield Need(role, "states:StartExecution", target["Arn"])
            else:
                yield from send(stack, "events.amazonaws.com", target["Arn"], source(rule), is_key_told=False)
            if dead := target.get("DeadLetterConfig", {}).get("Arn"):
                yield from send(stack, "events.amazonaws.com", dead, source(rule), is_key_told=False)


def notifications(stack: Stack) -> Iterator[Need]:
    for bucket, given in stack.of("AWS::S3::Bucket"):
        told = given.get("NotificationConfiguration", {})
        for kind, key in (("Queue", "Queue"), ("Topic", "Topic"), ("Lambda", "Function")):
            for configuration in told.get(f"{kind}Configurations", []):
                yield from send(stack, "s3.amazonaws.com", configuration[key], source(bucket), is_key_told=False)


def subscriptions(stack: Stack) -> Iterator[Need]:
    for _, given in stack.of("AWS::SNS::Subscription"):
        if given["Protocol"] in ("sqs", "lambda"):
            topic = {"aws:SourceArn": given["TopicArn"]}
            yield from send(stack, "sns.amazonaws.com", given["Endpoint"], topic, is_key_told=False)


def functions(stack: Stack) -> Iterator[Need]:
    for _, given in stack.of("AWS::Lambda::Function"):
        role = given["Role"]
        yield Need("lambda.amazonaws.com", "sts:AssumeRole", role, policy=stack.trust(role))
        group = given.get("LoggingConfig", {}).get("LogGroup", "/aws/lambda/unnamed")
        streams = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{group}:"
        yield Need(role, "logs:CreateLogStream", f"{streams}*")
        yield Need(role, "logs:PutLogEvents", f"{streams}log-stream:2026/11/30/7")
        if given.get("TracingConfig", {}).get("Mode") == "Active":
            yield from traces(role)
        if dead := given.get("DeadLetterConfig", {}).get("TargetArn"):
            yield from send(stack, role, dead, {})
        if key := given.get("KmsKeyArn"):
            yield Need(role, "kms:Decrypt", key)
        if subnets := given.get("VpcConfig", {}).get("SubnetIds"):
            yield from interfaces(role, subnets[0])


def interfaces(role: str, subnet: str) -> Iterator[Need]:
    """Lambda makes network interfaces with the role's rights; the function's code, by its key, may not."""
    place = f"arn:aws:ec2:{REGION}:{ACCOUNT}"
    for action in ("ec2:DescribeNetworkInterfaces", "ec2:DescribeSubnets"):
        yield Need(role, action, "*")
    yield Need(role, "ec2:CreateNetworkInterface", f"{place}:subnet/{subnet}")
    for action in ("CreateNetworkInterface", "DeleteNetworkInterface", "AssignPrivateIpAddresses"):
        yield Need(role, f"ec2:{action}", f"{place}:network-interface/eni-0123456789abcdef0")
    yield Need(role, "ec2:UnassignPrivateIpAddresses", f"{place}:network-interface/eni-0123456789abcdef0")


def capacities(stack: Stack) -> Iterator[Need]:
    """What Lambda does with the operator's role: RunInstances asks for each kind of resource that a launch names."""
    place, scaler = f"arn:aws:ec2:{REGION}:{ACCOUNT}", {"ec2:ManagedResourceOperator": "scaler.lambda.amazonaws.com"}
    for _, given in stack.of("AWS::Lambda::CapacityProvider"):
        role = given["PermissionsConfig"]["CapacityProviderOperatorRoleArn"]
        yield Need("lambda.amazonaws.com", "sts:AssumeRole", role, policy=stack.trust(role))
        for made in (
            "instance/i-0123456789abcdef0",
            "network-interface/eni-0123456789abcdef0",
            "volume/vol-0123456789",
        ):
            yield Need(role, "ec2:RunInstances", f"{place}:{made}", scaler)
            yield Need(role, "ec2:CreateTags", f"{place}:{made}", scaler)
        for subnet in given["VpcConfig"]["SubnetIds"]:
            yield Need(role, "ec2:RunInstances", f"{place}:subnet/{subnet}")
        for group in given["VpcConfig"]["SecurityGroupIds"]:
            yield Need(role, "ec2:RunInstances", f"{place}:security-group/{group}")
        yield Need(
            role, "ec2:RunInstances", f"arn:aws:ec2:{REGION}::image/ami-0123456789abcdef0", {"ec2:Owner": "amazon"}
        )
        for action in ("DescribeInstances", "DescribeInstanceTypes", "DescribeSubnets", "DescribeSecurityGroups"):
            yield Need(role, f"ec2:{action}", "*")
        group = given["TelemetryConfig"]["LoggingConfig"]["LogGroup"]
        yield Need(role, "logs:PutLogEvents", f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{group}:log-stream:scaler")


def traces(role: str) -> Iterator[Need]:
    for action in ("xray:PutTraceSegments", "xray:PutTelemetryRecords"):
        yield Need(role, action, "*")


def told(stack: Stack) -> Iterator[Need]:
    """What a function is told to send to and to read from."""
    for _, given in stack.of("AWS::Lambda::Function"):
        for value in given.get("Environment", {}).get("Variables", {}).values():
            if str(value).startswith("https://sqs."):
                yield from send(stack, given["Role"], stack.queue(value), {})
            if str(value).startswith("arn:aws:secretsmanager:"):
                yield Need(given["Role"], "secretsmanager:GetSecretValue", value)


def mappings(stack: Stack) -> Iterator[Need]:
    for _, given in stack.of("AWS::Lambda::EventSourceMapping"):
        role, queue = stack.find(stack.function(given["FunctionName"]))[1]["Role"], given["EventSourceArn"]
        for action in ("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"):
            yield Need(role, action, queue)
        if key := stack.find(queue)[1].get("KmsMasterKeyId"):
            yield Need(role, "kms:Decrypt", stack.arns.get(key, key))
        if failed := given.get("DestinationConfig", {}).get("OnFailure", {}).get("Destination"):
            yield from send(stack, role, failed, {})


def redrives(stack: Stack) -> Iterator[Need]:
    """Queues of dead letters say themselves which queues may put messages there."""
    for queue, given in stack.of("AWS::SQS::Queue"):
        if dead := given.get("RedrivePolicy", {}).get("deadLetterTargetArn"):
            allowed = _redrive(dead, stack.find(dead)[1].get("RedriveAllowPolicy", {}))
            yield Need("sqs.amazonaws.com", "sqs:SendMessage", dead, source(queue), policy=allowed)


def _redrive(dead: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """A redrive allow policy as a policy of IAM's."""
    permission = given.get("redrivePermission", "allowAll")
    statement: dict[str, Any] = {
        "Effect": "Deny" if permission == "denyAll" else "Allow",
        "Principal": {"Service": "sqs.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": dead,
    }
    if permission == "byQueue":
        statement["Condition"] = {"ArnEquals": {"aws:SourceArn": given["sourceQueueArns"]}}
    return {"Version": VERSION, "Statement": [statement]}


DELIVERIES = ("CreateLogDelivery", "GetLogDelivery", "UpdateLogDelivery", "DeleteLogDelivery", "ListLogDeliveries")
LOG_POLICIES = ("PutResourcePolicy", "DescribeResourcePolicies", "DescribeLogGroups")


def machines(stack: Stack) -> Iterator[Need]:
    for machine, given in stack.of("AWS::StepFunctions::StateMachine"):
        role = given["RoleArn"]
        yield Need("states.amazonaws.com", "sts:AssumeRole", role, policy=stack.trust(role))
        if given.get("LoggingConfiguration", {}).get("Destinations"):
            for action in (*DELIVERIES, *LOG_POLICIES):
                yield Need(role, f"logs:{action}", "*")
        if given.get("TracingConfiguration", {}).get("Enabled"):
            yield from traces(role)
        for state in _states(json.loads(given["DefinitionString"])["States"]):
            yield from _state(stack, machine, given, state)


def _states(states: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for state in states.values():
        yield state
        yield from _states(state.get("ItemProcessor", {}).get("States", {}))
        for branch in state.get("Branches", []):
            yield from _states(branch["States"])


def _state(stack: Stack, machine: str, given: Mapping[str, Any], state: Mapping[str, Any]) -> Iterator[Need]:
    """What one state needs. The buckets that a map reads are known in each run only."""
    role, substitutions = given["RoleArn"], given.get("DefinitionSubstitutions", {})
    if state["Type"] == "Task":
        assert state["Resource"].endswith(":states:::lambda:invoke"), f"no rule for {state['Resource']}"
        named = state["Parameters"]["FunctionName"]
        yield Need(role, "lambda:InvokeFunction", substitutions.get(named.strip("${}"), named))
    if state.get("ItemProcessor", {}).get("ProcessorConfig", {}).get("Mode") == "DISTRIBUTED":
        yield Need(role, "states:StartExecution", machine)
        name = machine.rpartition(":")[2]
        for action in ("states:DescribeExecution", "states:StopExecution"):
            yield Need(role, action, f"arn:aws:states:{REGION}:{ACCOUNT}:execution:{name}.Name:1")


def routes(stack: Stack) -> Iterator[Need]:
    integrations = dict(stack.of("AWS::ApiGatewayV2::Integration"))
    for _, given in stack.of("AWS::ApiGatewayV2::Route"):
        function = integrations[given["Target"].removeprefix("integrations/")]["IntegrationUri"]
        for _, stage in stack.of("AWS::ApiGatewayV2::Stage"):
            route = f"{given['ApiId']}/{stage['StageName']}/{given['RouteKey'].replace(' ', '')}"
            address = {"aws:SourceArn": f"arn:aws:execute-api:{REGION}:{ACCOUNT}:{route}"}
            yield Need("apigateway.amazonaws.com", "lambda:InvokeFunction", function, address)


def methods(stack: Stack) -> Iterator[Need]:
    """Those of REST APIs; who may call them, and from where, is the callers' business."""
    for _, given in stack.of("AWS::ApiGateway::Method"):
        function = given["Integration"]["Uri"].partition("/functions/")[2].removesuffix("/invocations")
        for _, stage in stack.of("AWS::ApiGateway::Stage"):
            called = f"{given['RestApiId']}/{stage['StageName']}/POST/predict"
            address = {"aws:SourceArn": f"arn:aws:execute-api:{REGION}:{ACCOUNT}:{called}"}
            yield Need("apigateway.amazonaws.com", "lambda:InvokeFunction", function, address)


def urls(stack: Stack) -> Iterator[Need]:
    for _, given in stack.of("AWS::Lambda::Url"):
        if given["AuthType"] == "NONE":
            function = ":".join(filter(None, (given["TargetFunctionArn"], given.get("Qualifier"))))
            yield Need(PUBLIC, "lambda:InvokeFunctionUrl", function, {"lambda:FunctionUrlAuthType": "NONE"})
            yield Need(PUBLIC, "lambda:InvokeFunction", function, {"lambda:InvokedViaFunctionUrl": "true"})


def groups(stack: Stack) -> Iterator[Need]:
    for group, given in stack.of("AWS::Logs::LogGroup"):
        if key := given.get("KmsKeyId"):
            context = {"kms:EncryptionContext:aws:logs:arn": group.removesuffix(":*")}
            for action in ("kms:Encrypt", "kms:Decrypt", "kms:GenerateDataKey", "kms:DescribeKey"):
                yield Need(f"logs.{REGION}.amazonaws.com", action, key, context)


def deployments(stack: Stack) -> Iterator[Need]:
    for name, given in stack.of("AWS::CodeDeploy::DeploymentGroup"):
        role = given["ServiceRoleArn"]
        yield Need("codedeploy.amazonaws.com", "sts:AssumeRole", role, policy=stack.trust(role))
        if given.get("AlarmConfiguration", {}).get("Enabled"):
            yield Need(role, "cloudwatch:DescribeAlarms", "*")
        group = f"arn:aws:codedeploy:{REGION}:{ACCOUNT}:deploymentgroup:{given['ApplicationName']}/{name}"
        yield from _deployment(stack, role, group, name)


def _deployment(stack: Stack, role: str, group: str, name: str) -> Iterator[Need]:
    """What moving the group's alias needs, and calling the functions that check the new version."""
    for item in stack.resources.values():
        update = item.get("UpdatePolicy", {}).get("CodeDeployLambdaAliasUpdate")
        if not update or update["DeploymentGroupName"] != {"Ref": name}:
            continue
        function = stack.arns[item["Properties"]["FunctionName"]]
        for action in ("lambda:GetAlias", "lambda:UpdateAlias"):
            yield Need(role, action, function)
        alias = f"{function}:{item['Properties']['Name']}"
        yield Need(role, "lambda:GetProvisionedConcurrencyConfig", alias, is_listed=False)
        for hook in ("BeforeAllowTrafficHook", "AfterAllowTrafficHook"):
            if hook in update:
                checking = update[hook]["Ref"]
                yield Need(role, "lambda:InvokeFunction", stack.arns[checking])
                own = stack.resources[checking]["Properties"]["Role"]
                yield Need(own, "codedeploy:PutLifecycleEventHookExecutionStatus", group, is_listed=False)


def emptied(stack: Stack) -> Iterator[Need]:
    """The CDK's own function empties buckets before they go."""
    for _, given in stack.of("Custom::S3AutoDeleteObjects"):
        role, bucket = stack.find(given["ServiceToken"])[1]["Role"], stack.arns[given["BucketName"]]
        for action, target in (
            ("s3:ListBucket", bucket),
            ("s3:ListBucketVersions", bucket),
            ("s3:PutBucketPolicy", bucket),
            ("s3:DeleteObject", f"{bucket}/key"),
            ("s3:DeleteObjectVersion", f"{bucket}/key"),
        ):
            yield Need(role, action, target)


Rule = Callable[[Stack], Iterator[Need]]
RULES: dict[Rule, Words] = {
    alarms: Words(
        "Amazon SNS: Example cases for Amazon SNS access control",
        "https://docs.aws.amazon.com/sns/latest/dg/sns-access-policy-use-cases.html",
        "a topic's policy names cloudwatch.amazonaws.com for sns:Publish; with a key of one's own,"
        " sns-key-management.html asks for kms:GenerateDataKey* and kms:Decrypt",
    ),
    budgets: Words(
        "AWS Cost Management: Creating an Amazon SNS topic for budget notifications",
        "https://docs.aws.amazon.com/cost-management/latest/userguide/budgets-sns-policy.html",
        "Your budget must have permissions to send a notification to your topic.",
    ),
    events: Words(
        "Amazon EventBridge: Using resource-based policies for Amazon EventBridge",
        "https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-use-resource-based.html",
        "For Lambda, Amazon SNS, and Amazon SQS resources, EventBridge can use either an IAM execution role or a"
        " resource-based policy.",
    ),
    notifications: Words(
        "Amazon S3: Granting permissions to publish event notification messages to a destination",
        "https://docs.aws.amazon.com/AmazonS3/latest/userguide/grant-destinations-permissions-to-s3.html",
        "You must grant the Amazon S3 principal the necessary permissions to call the relevant API to publish messages"
        " to an SNS topic, an SQS queue, or a Lambda function.",
    ),
    subscriptions: Words(
        "Amazon SNS: Subscribing an Amazon SQS queue to an Amazon SNS topic",
        "https://docs.aws.amazon.com/sns/latest/dg/subscribe-sqs-queue-to-sns-topic.html",
        "the queue's policy lets sns.amazonaws.com send; a function's lets it invoke",
    ),
    functions: Words(
        "AWS Lambda: Defining Lambda function permissions with an execution role",
        "https://docs.aws.amazon.com/lambda/latest/dg/lambda-intro-execution-role.html",
        "the role trusts lambda.amazonaws.com, and has logs:CreateLogStream and logs:PutLogEvents;"
        " xray:PutTraceSegments and xray:PutTelemetryRecords for tracing; in a VPC, those of configuration-vpc.html to"
        " make network interfaces",
    ),
    capacities: Words(
        "AWS Lambda: Capacity providers",
        "https://docs.aws.amazon.com/lambda/latest/dg/lambda-managed-instances-capacity-providers.html",
        "IAM roles for Lambda to manage EC2 resources; AWSLambdaManagedEC2ResourceOperator says what they need",
        "2026-12-01",
    ),
    told: Words(
        "AWS Secrets Manager: GetSecretValue; Amazon SQS: SendMessage",
        "https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_GetSecretValue.html",
        "Required permissions: secretsmanager:GetSecretValue.",
    ),
    mappings: Words(
        "AWS Lambda: Creating and configuring an Amazon SQS event source mapping",
        "https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html",
        "sqs:ReceiveMessage, sqs:DeleteMessage and sqs:GetQueueAttributes, and kms:Decrypt for an encrypted queue",
    ),
    redrives: Words(
        "Amazon SQS: Using dead-letter queues in Amazon SQS",
        "https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-dead-letter-queues.html",
        "The redrive allow policy defines which source queues can access the dead-letter queue.",
    ),
    machines: Words(
        "AWS Step Functions: Using CloudWatch Logs to log execution history in Step Functions; IAM policies for using"
        " Distributed Map state; IAM policies for calling Lambda",
        "https://docs.aws.amazon.com/step-functions/latest/dg/cw-logs.html",
        "You will also need to configure your IAM role to have the proper permission to log to CloudWatch Logs.",
    ),
    routes: Words(
        "Amazon API Gateway: AWS Lambda integrations for HTTP APIs",
        "https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html",
        "the function's policy lets apigateway.amazonaws.com invoke it, for the API's ARN",
    ),
    methods: Words(
        "Amazon API Gateway: Lambda proxy integrations in API Gateway",
        "https://docs.aws.amazon.com/apigateway/latest/developerguide/set-up-lambda-proxy-integrations.html",
        "the function's policy lets apigateway.amazonaws.com invoke it, for the API's ARN",
        "2026-12-01",
    ),
    urls: Words(
        "AWS Lambda: Control access to Lambda function URLs",
        "https://docs.aws.amazon.com/lambda/latest/dg/urls-auth.html",
        "Starting in October 2025, new function URLs will require both lambda:InvokeFunctionUrl and"
        " lambda:InvokeFunction permissions.",
    ),
    groups: Words(
        "Amazon CloudWatch Logs: Encrypt log data in CloudWatch Logs using AWS Key Management Service",
        "https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/encrypt-log-data-kms.html",
        "the key's policy lets logs.REGION.amazonaws.com use it, with the log group's ARN as encryption context",
    ),
    deployments: Words(
        "AWS CodeDeploy: Create a service role for CodeDeploy; AWS SAM: Deploying serverless applications gradually",
        "https://docs.aws.amazon.com/codedeploy/latest/userguide/getting-started-create-service-role.html",
        "the service's role moves the alias, reads the alarms and calls the hooks; these report with"
        " codedeploy:PutLifecycleEventHookExecutionStatus for the deployment group, as SAM's policy has it",
    ),
    emptied: Words(
        "AWS CDK: aws_s3.Bucket, autoDeleteObjects",
        "https://docs.aws.amazon.com/cdk/api/v2/docs/aws-cdk-lib.aws_s3.Bucket.html",
        "Whether all objects should be automatically deleted when the bucket is removed from the stack",
    ),
}

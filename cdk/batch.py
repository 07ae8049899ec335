"""Files and messages: a bucket whose input calls a queue, and the function that works on what is in it."""

from dataclasses import replace
from pathlib import Path

from aws_cdk import Duration
from aws_cdk.aws_events import EventPattern, Rule
from aws_cdk.aws_events_targets import SqsQueue
from aws_cdk.aws_lambda_event_sources import SqsEventSource
from aws_cdk.aws_s3 import CfnBucket, IBucket
from aws_cdk.aws_sqs import CfnQueuePolicy, DeadLetterQueue, Queue, QueueEncryption
from constructs import Construct
from inferry.settings import Settings

from cdk.alarms import Alarms
from cdk.files import INPUT, Files
from cdk.function import image_function
from cdk.logs import log_group
from cdk.network import Network
from cdk.props import Props
from cdk.role import function_role
from cdk.runs import Runs
from cdk.services import allow_service

HANDLER = "functions.batch.handler"
# Lambda's own advice for queues: what is in work must not come a second time, throttled attempts included.
VISIBILITY = 6
RECEIVES = 5
KEPT = Duration.days(14)
MESSAGES = 10


class Batch(Construct):
    """`queue` gets word of files that arrive, and takes jobs and requests too; `dead` gets what can't be done."""

    def __init__(
        self,
        scope: Construct,
        name: str,
        props: Props,
        source: Path,
        told: Settings,
        files: Files,
        alarms: Alarms,
        network: Network | None,
    ) -> None:
        """`told`: what the function behind the API is told; this one needs no keys."""
        super().__init__(scope, name)
        self.dead = Queue(
            self, "DeadLetters", encryption=QueueEncryption.SQS_MANAGED, enforce_ssl=True, retention_period=KEPT
        )
        self.queue = Queue(
            self,
            "Jobs",
            encryption=QueueEncryption.SQS_MANAGED,
            enforce_ssl=True,
            retention_period=KEPT,
            visibility_timeout=Duration.seconds(VISIBILITY * props.batch_timeout),
            dead_letter_queue=DeadLetterQueue(queue=self.dead, max_receive_count=RECEIVES),
        )
        if props.files_bucket:
            self._listen(props.files_bucket)
        else:
            _notify(files.bucket, self.queue)
        logs = log_group(self, "Logs", props)
        self.role = function_role(self, "Role", logs, tracing=props.tracing)
        files.grant_work(self.role)
        # Both for what goes on: jobs that need more time, and what can't be done.
        self.queue.grant_send_messages(self.role)
        self.dead.grant_send_messages(self.role)
        self.told = replace(
            told,
            batch_queue=self.queue.queue_url,
            batch_dead_letters=self.dead.queue_url,
            batch_tries=RECEIVES,
            api_keys=(),
            # This one has environments of Lambda's own, whatever the other one runs on.
            intra_op_threads=props.settings.intra_op_threads or props.cpus,
        )
        self.function = image_function(
            self,
            HANDLER,
            props,
            source,
            self.told,
            description=f"Predictions of {props.stack_name} over files and messages",
            timeout=props.batch_timeout,
            role=self.role,
            network=network,
            log_group=logs,
        )
        events = SqsEventSource(
            self.queue,
            batch_size=MESSAGES,
            max_concurrency=props.batch_concurrency,
            report_batch_item_failures=True,
        )
        self.function.add_event_source(events)
        self.runs = Runs(self, "Runs", props, self.function, files, told)
        self._watch(props, alarms)

    def _listen(self, bucket: str) -> None:
        """By EventBridge: a notification is part of the bucket, whose owner may have others there."""
        created = EventPattern(
            source=["aws.s3"],
            detail_type=["Object Created"],
            detail={"bucket": {"name": [bucket]}, "object": {"key": [{"prefix": f"{INPUT}/"}]}},
        )
        Rule(
            self,
            "Files",
            description=f"Files that arrive in {bucket}",
            event_pattern=created,
            targets=[SqsQueue(self.queue, dead_letter_queue=self.dead)],
        )

    def _watch(self, props: Props, alarms: Alarms) -> None:
        age = self.queue.metric_approximate_age_of_oldest_message()
        alarms.add("BatchAge", age, props.max_batch_age, "seconds old is the oldest message of the batch queue")
        dead = self.dead.metric_approximate_number_of_messages_visible()
        alarms.add("DeadLetters", dead, 0, "messages can't be done, and wait in the queue of dead letters")
        # Those of single jobs are not among them: a run may tolerate some.
        alarms.add("Runs", self.runs.machine.metric_failed(), 0, "runs of many files failed")


def _notify(bucket: IBucket, queue: Queue) -> None:
    """The bucket's own property, where the CDK would deploy a function with rights over all buckets."""
    # The bucket's name isn't known before it is made, and S3 asks the queue when it is: the account has to do.
    queue.add_to_resource_policy(allow_service("s3.amazonaws.com", "sqs:SendMessage", queue.queue_arn))
    made = bucket.node.default_child
    assert isinstance(made, CfnBucket)
    rule = CfnBucket.FilterRuleProperty(name="prefix", value=f"{INPUT}/")
    made.notification_configuration = CfnBucket.NotificationConfigurationProperty(
        queue_configurations=[
            CfnBucket.QueueConfigurationProperty(
                event="s3:ObjectCreated:*",
                queue=queue.queue_arn,
                filter=CfnBucket.NotificationFilterProperty(s3_key=CfnBucket.S3KeyFilterProperty(rules=[rule])),
            )
        ]
    )
    policy = queue.node.find_child("Policy").node.default_child
    assert isinstance(policy, CfnQueuePolicy)
    made.add_resource_dependency(policy)

"""A monthly budget for one stack; the account must have activated the cost allocation tag it counts by."""

from aws_cdk.aws_budgets import CfnBudget
from aws_cdk.aws_sns import ITopic
from constructs import Construct

from cdk.props import Props
from cdk.services import allow_service

# Percent of the budget: the first is a warning by forecast, the second has been spent.
_NOTICES = (("FORECASTED", 100), ("ACTUAL", 80))


def add_budget(scope: Construct, props: Props, topic: ITopic) -> CfnBudget:
    topic.add_to_resource_policy(allow_service("budgets.amazonaws.com", "sns:Publish", topic.topic_arn))
    subscriber = CfnBudget.SubscriberProperty(address=topic.topic_arn, subscription_type="SNS")
    return CfnBudget(
        scope,
        "Budget",
        budget=CfnBudget.BudgetDataProperty(
            budget_type="COST",
            time_unit="MONTHLY",
            budget_limit=CfnBudget.SpendProperty(amount=props.budget, unit="USD"),
            # Two values of one filter would be joined by "or". CloudFormation gives this tag to all it makes.
            cost_filters={"TagKeyValue": [f"aws:cloudformation:stack-name${props.stack_name}"]},
        ),
        notifications_with_subscribers=[
            CfnBudget.NotificationWithSubscribersProperty(
                notification=CfnBudget.NotificationProperty(
                    comparison_operator="GREATER_THAN", notification_type=kind, threshold=percent
                ),
                subscribers=[subscriber],
            )
            for kind, percent in _NOTICES
        ],
    )

"""What `cdk` runs: the stack of the environment that the context names, checked by cdk-nag."""

from pathlib import Path

from aws_cdk import App, Validations
from cdk_nag import AwsSolutionsChecks

from cdk.props import Props
from cdk.stack import InferryStack

ROOT = Path(__file__).parents[1]


def build(app: App, source: Path = ROOT) -> InferryStack:
    stack = InferryStack(app, Props.from_context(app.node.try_get_context), source)
    Validations.of(app).add_plugins(AwsSolutionsChecks(app, write_suppressions_to_cloud_formation=True))
    return stack


if __name__ == "__main__":
    app = App()
    build(app)
    app.synth()

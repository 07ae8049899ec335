"""The container image: one build that serves every function, each with its own handler."""

from pathlib import Path

from aws_cdk import IgnoreMode
from aws_cdk.aws_ecr_assets import Platform
from aws_cdk.aws_lambda import Architecture, DockerImageCode

# What the image is built from. Anything else, tests and docs included, must not change its hash.
CONTEXT = ("functions", "images", "shared", "models")
# How the example models were made.
MAKERS = ("models/*.py", "models/*.json")
PLATFORMS = {"arm64": Platform.LINUX_ARM64, "x86_64": Platform.LINUX_AMD64}
ARCHITECTURES = {"arm64": Architecture.ARM_64, "x86_64": Architecture.X86_64}


def image(source: Path, architecture: str, handler: str, *, traces: bool) -> DockerImageCode:
    """The image built from the project's folder, with `handler` ("functions.api.handler") as its command."""
    return DockerImageCode.from_image_asset(
        str(source),
        file="functions/Dockerfile",
        cmd=[handler],
        build_args={"EXTRAS": "aws,batch,otel"} if traces else None,
        # Lambda refuses an image for another processor, which is what a laptop would build by itself.
        platform=PLATFORMS[architecture],
        exclude=["*", *(f"!{name}" for name in CONTEXT), *MAKERS, "**/__pycache__"],
        ignore_mode=IgnoreMode.DOCKER,
    )

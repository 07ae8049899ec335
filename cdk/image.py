"""The container image, built or in a registry: one that serves every function, each with its own handler."""

from pathlib import Path

from aws_cdk import Aws, FileSystem, IgnoreMode
from aws_cdk.aws_ecr import Repository
from aws_cdk.aws_ecr_assets import DockerImageAssetInvalidationOptions, Platform
from aws_cdk.aws_lambda import Architecture, DockerImageCode
from constructs import Construct

# What the image is built from. Anything else, tests and docs included, must not change its hash.
CONTEXT = ("functions", "images", "shared")
# What the Dockerfile installs if nobody says more.
EXTRAS = "aws,batch"
# The stage of the Dockerfile that has the models, and the folder that it takes them from.
MODELS = "models"
# How the example models were made.
MAKERS = ("models/*.py", "models/*.json")
PLATFORMS = {"arm64": Platform.LINUX_ARM64, "x86_64": Platform.LINUX_AMD64}
ARCHITECTURES = {"arm64": Architecture.ARM_64, "x86_64": Architecture.X86_64}


def stored_image(scope: Construct, uri: str, handler: str) -> DockerImageCode:
    """An image that is in ECR, by its digest."""
    registry, _, named = uri.partition("/")
    name, _, digest = named.partition("@")
    account, _, _, region, *_ = registry.split(".")
    arn = f"arn:{Aws.PARTITION}:ecr:{region}:{account}:repository/{name}"
    repository = Repository.from_repository_attributes(scope, "Repository", repository_arn=arn, repository_name=name)
    return DockerImageCode.from_ecr(repository, tag_or_digest=digest, cmd=[handler])


def image(
    source: Path, models: Path, architecture: str, handler: str, *, extras: str, prepare: str = "none"
) -> DockerImageCode:
    """The image of the project's folder and of the models', with `handler` ("functions.api.handler") as its command.

    `extras`: those of its packages, as images/packages has a list for them.
    """
    wanted = {"EXTRAS": extras if extras != EXTRAS else "", "PREPARE": prepare if prepare != "none" else ""}
    own = models.resolve() != (source / MODELS).resolve()
    context = CONTEXT if own else (*CONTEXT, MODELS)
    return DockerImageCode.from_image_asset(
        str(source),
        file="functions/Dockerfile",
        cmd=[handler],
        build_args={name: value for name, value in wanted.items() if value} or None,
        # In place of the stage of this name, wherever the folder is. The hash is that of what is in it.
        build_contexts={MODELS: str(models.resolve())} if own else None,
        extra_hash=FileSystem.fingerprint(str(models)) if own else None,
        invalidation=DockerImageAssetInvalidationOptions(build_contexts=False),
        # Lambda refuses an image for another processor, which is what a laptop would build by itself.
        platform=PLATFORMS[architecture],
        exclude=["*", *(f"!{name}" for name in context), *MAKERS, "**/__pycache__"],
        ignore_mode=IgnoreMode.DOCKER,
    )

"""Where the API has each of several functions."""

import re
from typing import NamedTuple

from aws_cdk.aws_lambda import Alias

from cdk.props import InvalidProps

# What a path of API Gateway may have between two slashes.
_SEGMENT = re.compile("[A-Za-z0-9._-]+")


class Mount(NamedTuple):
    """A function with the whole API below its name, and with its models where clients look for models."""

    name: str
    models: tuple[str, ...]
    alias: Alias

    @property
    def paths(self) -> tuple[str, ...]:
        """All that lead to it, each with what is below; the application takes the name off again."""
        if wrong := [name for name in self.models if not _SEGMENT.fullmatch(name)]:
            raise InvalidProps(f"functions: {self.name}: model {wrong[0]} can't be in a path of API Gateway")
        return (f"/{self.name}", *(f"/v2/models/{name}" for name in self.models))

"""What CloudWatch takes for names. It drops metrics of others without a word, and bills their lines as a log."""

import re
from collections.abc import Mapping

from inferry.errors import InvalidSettings
from inferry.settings import Settings

_NAMESPACE = (
    re.compile(r"(?!:|AWS/| *\Z)[A-Za-z0-9._/#: -]{1,255}"),
    "a namespace of CloudWatch: 1 to 255 letters, digits, spaces and . - _ / # :, no colon first, and not AWS/",
)
_DIMENSION = (
    re.compile(r"(?!:| *\Z)[ -~]{1,1024}"),
    "the value of a dimension of CloudWatch: 1 to 1024 characters of ASCII, no colon first",
)
_NAMES = {"POWERTOOLS_METRICS_NAMESPACE": _NAMESPACE, "POWERTOOLS_SERVICE_NAME": _DIMENSION}


def check(settings: Settings, env: Mapping[str, str]) -> None:
    """InvalidSettings names the variable that the sink emf can't take its namespace or its service from."""
    for variable, (pattern, rule) in _NAMES.items():
        said = env.get(variable)
        name = said or settings.app_name
        if not pattern.fullmatch(name):
            where = variable if said else "APP_NAME"
            raise InvalidSettings(f"METRICS_SINKS has emf, so {where} must be {rule}; got {name[:300]!r}")

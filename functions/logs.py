"""The log of a function, in Powertools' form, which has the id of the X-Ray trace too."""

import logging
import os
from collections.abc import Mapping
from functools import cached_property

from inferry.observability import logs
from inferry.observability.logs import JsonFormatter
from inferry.settings import Settings


class PowertoolsFormatter(JsonFormatter):
    """Records have Powertools' own form, and lines without a record the same. Powertools comes with the first record:
    a request that goes well makes none.
    """

    def format(self, record: logging.LogRecord) -> str:
        return self._powertools.format(record)

    def more(self) -> Mapping[str, str]:
        """The trace, as `_get_latest_trace_id` of Powertools has it."""
        trace = os.environ.get("_X_AMZN_TRACE_ID")
        return {"xray_trace_id": trace.partition(";")[0].replace("Root=", "")} if trace else {}

    @cached_property
    def _powertools(self) -> logging.Formatter:
        from aws_lambda_powertools.logging.formatter import LambdaPowertoolsFormatter

        return LambdaPowertoolsFormatter(service=self._service)


def configure(settings: Settings) -> None:
    """Sets the level and the form of the log; text goes through the handler that Lambda's runtime has."""
    if settings.log_format == "text":
        logs.configure(settings, hosted=True)
    else:
        logs.configure(settings, PowertoolsFormatter(settings.app_name))

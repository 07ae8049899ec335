"""The log of a function, in Powertools' form, which has the id of the X-Ray trace too."""

from inferry import logs
from inferry.settings import Settings


def configure(settings: Settings) -> None:
    """Sets the level and the form of the log; text goes through the handler that Lambda's runtime has."""
    if settings.log_format == "text":
        logs.configure(settings, hosted=True)
        return
    from aws_lambda_powertools.logging.formatter import LambdaPowertoolsFormatter

    logs.configure(settings, LambdaPowertoolsFormatter(service=settings.app_name))

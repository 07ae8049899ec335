"""Lambda's runtime around a handler, as the image starts it: python -m functions functions.api.handler."""

import sys

from awslambdaric import __main__ as aws
from awslambdaric import bootstrap
from awslambdaric.lambda_config import LambdaConfigProvider

from functions.runtime import RuntimeClient

config = LambdaConfigProvider(sys.argv)
if config.is_multi_concurrent:
    # Lambda's managed instances: AWS's runtime has processes there that share the events.
    aws.main(sys.argv)
else:
    bootstrap.run(config.handler, RuntimeClient(config.api_address))

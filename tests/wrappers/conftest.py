"""The Lambda function in this process, imported anew for each environment."""

import importlib
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from awslambdaric.lambda_context import LambdaContext

ARN = "arn:aws:lambda:eu-central-1:123456789012:function:inferry:live"
INVOCATION = "2b8e1c2f-6d0e-4f7b-9f53-0c8f6f1f2a3d"
EXAMPLES = Path(__file__).parents[2] / "models"


def context(seconds: float = 30) -> LambdaContext:
    """What the runtime hands to a handler that has this time left."""
    return LambdaContext(INVOCATION, None, None, int((time.time() + seconds) * 1000), ARN)


class Function:
    """`functions.api` as it is after its import; calling it is an invocation."""

    def __init__(self, module: Any) -> None:
        self.module = module

    def __call__(self, event: Any, seconds: float = 30) -> dict[str, Any]:
        answer: dict[str, Any] = self.module.handler(event, context(seconds))
        return answer


DEFAULTS = {"MODEL_PATH": str(EXAMPLES), "DEFAULT_MODEL": "digits", "INTRA_OP_THREADS": "1"}


@pytest.fixture
def function(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Function]]:
    """`function(MODEL_PATH=...)` imports the handler in that environment."""
    with ExitStack() as services:

        def make(**env: str) -> Function:
            for name, value in (DEFAULTS | env).items():
                monkeypatch.setenv(name, value)
            sys.modules.pop("functions.api", None)
            module = importlib.import_module("functions.api")
            services.callback(module.service.close)
            services.callback(module.gateway.open_loop().close)
            return Function(module)

        yield make
    sys.modules.pop("functions.api", None)

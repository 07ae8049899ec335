"""The core's protocol suite, unchanged, through the Functions app under Microsoft's runtime library."""

from test_access import *  # noqa: F403
from test_bad_input import *  # noqa: F403
from test_golden import *  # type: ignore[assignment]  # noqa: F403
from test_predict import *  # noqa: F403
from test_schema import *  # type: ignore[assignment]  # noqa: F403
from test_tritonclient import *  # type: ignore[assignment]  # noqa: F403

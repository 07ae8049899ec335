"""What is sent after the response: an internal extension, a thread of the runtime that Lambda waits for.

Lambda hands an invocation's response to its caller once the runtime has it, and freezes the environment when the
runtime and every extension ask for the next event. The time between is ours, and delays nobody.
"""

import http.client
import json
import logging
import threading
import time
from collections.abc import Callable

log = logging.getLogger("inferry")

_API = "/2020-01-01/extension"
_NAME = "inferry-metrics"
_SECONDS = 5.0


class Extension:
    """Calls `after` once after each invocation, and then lets Lambda freeze the environment."""

    def __init__(self, after: Callable[[], None], address: str) -> None:
        """`address`: AWS_LAMBDA_RUNTIME_API. OSError when Lambda refuses; only an init may register an extension."""
        self._after = after
        self._answered = threading.Semaphore(0)
        self._connection = http.client.HTTPConnection(address, timeout=_SECONDS)
        self._connection.request(
            "POST", f"{_API}/register", json.dumps({"events": ["INVOKE"]}), {"Lambda-Extension-Name": _NAME}
        )
        response = self._connection.getresponse()
        response.read()
        if response.status != 200:
            raise OSError(f"Lambda answers {response.status} to the registration of an extension")
        self._id = response.headers["Lambda-Extension-Identifier"]
        self._connection.timeout = None  # the next event comes when it comes
        if self._connection.sock:
            self._connection.sock.settimeout(None)
        threading.Thread(target=self._run, name="inferry-extension", daemon=True).start()

    def answered(self) -> None:
        """The handler of an invocation is done; its response is on the way."""
        self._answered.release()

    def _run(self) -> None:
        try:
            while True:
                event = self._next()
                left = event.get("deadlineMs", 0) / 1000 - time.time()
                self._answered.acquire(timeout=max(left, 0))
                self._after()
        except (OSError, http.client.HTTPException, ValueError) as exc:
            log.warning("nothing is sent after responses any more: the extension's API fails: %s", exc)
            self._connection.close()

    def _next(self) -> dict[str, float]:
        self._connection.request("GET", f"{_API}/event/next", headers={"Lambda-Extension-Identifier": self._id})
        event: dict[str, float] = json.loads(self._connection.getresponse().read())
        return event

"""What is seen of one request on its way: by whom it was predicted, how long each part took, why it failed."""

from contextvars import ContextVar

from inferry import context
from inferry.stats import Timings


class Observation:
    """Filled in where things happen; moments are of time.perf_counter_ns, 0 for what didn't happen.

    The defaults are the class's: a request sets few of them.
    """

    model: str = ""
    version: str = ""
    rows: int = 0
    timings: Timings | None = None
    taken: int = 0
    """When the request was handed to its loaded model."""
    loading: int = 0
    loaded: int = 0
    error: BaseException | None = None
    status: int = 0
    received: int = 0
    """Bytes of the request's body, as they came."""
    sent: int = 0
    cold_start: bool = False

    def __init__(self, request_id: str, trace: str | bytes, headers: list[tuple[bytes, bytes]]) -> None:
        """`trace`: as `context.trace_id` takes it; `headers` belong into the answer."""
        self.request_id = request_id
        self.trace = trace
        self.headers = headers

    @property
    def trace_id(self) -> str:
        """Read when it is asked for, which is when nobody waits for the answer any more."""
        return context.trace_id(self.trace)

    def begin(self, model: str, version: str, timings: Timings, taken: int) -> None:
        """The request goes to this version; `timings` is what its parts will have taken."""
        self.model, self.version, self.timings, self.taken = model, version, timings, taken


# None where nobody looks: then a request pays for one look at this variable.
observed: ContextVar[Observation | None] = ContextVar("inferry.observation", default=None)

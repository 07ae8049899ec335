"""What a server gives to the application that it serves."""

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from inferry.concurrency import Client, Helper, Threads, nobody

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from inferry.http.asgi import Headers
    from inferry.http.guard import Guard
    from inferry.http.intake import Intake
    from inferry.observability.record import RequestSink
    from inferry.observability.sinks.prometheus import Format

# What GET /metrics answers, by its format and an Accept-Encoding header: the body, and headers that say its encoding.
Scraped: TypeAlias = "Callable[[Format, str], Awaitable[tuple[bytes, Headers]]]"


class Host(NamedTuple):
    """The parts of a server that the application uses where they are there.

    A function needs none: it has one request at a time, and does not live on behind its response.

    `guard` checks every request; `scrape` makes what GET /metrics answers, of all processes that serve one port;
    `background` answers requests that are put off, which is else done by whoever finds their files; `helper` does,
    in another process, what would keep other clients waiting, `loading` the same for models that are uploaded; `intake`
    takes the bodies of several clients, and `client` tells whose the request is that is worked on; `requests` has the
    record of each request that is over. `page`: people open it in a browser, unless the settings say otherwise.
    """

    guard: "Guard | None" = None
    scrape: "Scraped | None" = None
    background: Threads | None = None
    helper: Helper | None = None
    loading: Helper | None = None
    intake: "Intake | None" = None
    client: Client = nobody
    requests: "RequestSink | None" = None
    page: bool = False

"""Which function an HTTP request is for, and whether its key will do: what the host decides before the app sees it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from hmac import compare_digest
from urllib.parse import unquote

from standin.worker import Function


class BadRoute(Exception):
    """ASP.NET makes no route of a template: the host doesn't start."""


class Segment(IntEnum):
    """Kinds of a route's segments, the first that fits wins (ASP.NET's precedence)."""

    LITERAL = 0
    PARAMETER = 1
    REST = 2


@dataclass(frozen=True)
class Route:
    """An HTTP trigger; no methods are all methods."""

    function: Function
    segments: tuple[str, ...]
    methods: frozenset[str]
    level: str

    @property
    def precedence(self) -> tuple[Segment, ...]:
        return tuple(kind(segment) for segment in self.segments)

    def match(self, method: str, path: Sequence[str]) -> bool:
        if self.methods and method not in self.methods:
            return False
        kinds = self.precedence
        if kinds and kinds[-1] is Segment.REST:
            kinds, path = kinds[:-1], path[: len(kinds) - 1]
        parts = zip(kinds, self.segments, path, strict=False)
        return len(kinds) == len(path) and all(
            kind is Segment.PARAMETER or segment.lower() == part.lower() for kind, segment, part in parts
        )


# The keys that open a level.
FITTING = {"function": ("function", "admin"), "admin": ("admin",)}


def kind(segment: str) -> Segment:
    if segment.startswith("{*"):
        return Segment.REST
    return Segment.PARAMETER if segment.startswith("{") else Segment.LITERAL


def routes(functions: Sequence[Function], prefix: str) -> list[Route]:
    """The routes of the HTTP triggers in the order in which they are tried."""
    found = []
    for function in functions:
        trigger = function.trigger
        if trigger["type"] == "httpTrigger":
            path = f"{prefix}/{trigger.get('route', function.name)}"
            if prefix and "//" in path:
                raise BadRoute(
                    f"An error occurred while creating the route with name '{function.name}' and template '{path}'. "
                    "The route template separator character '/' cannot appear consecutively."
                )
            methods = frozenset(method.upper() for method in trigger.get("methods", ()))
            level = str(trigger.get("authLevel", "function")).lower()
            found.append(Route(function, _split(path), methods, level))
    return sorted(found, key=lambda route: route.precedence)


def find(routes: Sequence[Route], method: str, path: str) -> Route | None:
    parts = _split(unquote(path))
    return next((route for route in routes if route.match(method, parts)), None)


def _split(path: str) -> tuple[str, ...]:
    return tuple(part for part in path.split("/") if part)


def allowed(route: Route, headers: Mapping[str, str], query: Mapping[str, str], keys: Mapping[str, str]) -> bool:
    """Whether the request has a key of its function's level or above; without `keys` nobody needs one, as on a desk."""
    if not keys or route.level == "anonymous":
        return True
    given = headers.get("x-functions-key") or query.get("code", "")
    fitting = [keys[level] for level in FITTING[route.level] if level in keys]
    return any(compare_digest(given.encode(), key.encode()) for key in fitting)

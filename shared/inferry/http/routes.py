"""Every route, once: `data_plane` and `management` are dispatched and documented from here.

By hand, for cold starts: this takes 1 ms to import and Starlette's router 39 ms; a path that comes again is found in
0.06 us, where that takes 1.9 us each time (AMD EPYC, Python 3.11).
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from inferry.errors import InferryError

# The names of routes end so that are of one version of a model.
OF_VERSION = "_of_version"


class RouteNotFound(InferryError):
    """No route has this path."""


class MethodNotAllowed(InferryError):
    """The path has routes, but none with this method; `allowed` are those it has."""

    def __init__(self, text: str, allowed: tuple[str, ...]) -> None:
        super().__init__(text)
        self.allowed = allowed


class Route(NamedTuple):
    """`path` has `{parameters}` of one segment each, with an optional literal behind them.

    `public` ones need no API key: probes have none, nor has a browser before its user typed it in on the page.
    """

    method: str
    path: str
    operation: str
    summary: str = ""
    tag: str = "Models"
    public: bool = False

    @property
    def name(self) -> str:
        """One per route, and the same from release to release: generated clients call their functions so."""
        if self.operation == "unsupported":
            return re.sub(r"\W+", "_", f"{self.method.lower()}{self.path}").strip("_")
        return self.operation + (OF_VERSION if "{version}" in self.path else "")


def _of_model(method: str, suffix: str, operation: str, summary: str) -> tuple[Route, ...]:
    paths = (f"/v2/models/{{model}}{suffix}", f"/v2/models/{{model}}/versions/{{version}}{suffix}")
    return tuple(Route(method, path, operation, summary) for path in paths)


def _unsupported(tag: str, *routes: str) -> tuple[Route, ...]:
    return tuple(
        Route(method, path, "unsupported", f"Not offered: {tag.lower()}", tag)
        for method, _, path in (route.partition(" ") for route in routes)
    )


def _shared_memory(kind: str) -> tuple[Route, ...]:
    base = f"/v2/{kind}sharedmemory"
    return _unsupported(
        "Shared memory",
        f"GET {base}/status",
        f"GET {base}/region/{{region}}/status",
        f"POST {base}/region/{{region}}/register",
        f"POST {base}/unregister",
        f"POST {base}/region/{{region}}/unregister",
    )


ROUTES = (
    *_of_model("POST", "/infer", "infer", "Predict: tensors in, tensors out, as JSON or binary"),
    Route(
        "POST", "/v2/models/{model}/requests", "defer", "Predict later: the same request, its response to be fetched"
    ),
    Route("GET", "/v2/models/{model}/requests/{request}", "deferred", "The response to a request, once it is there"),
    *_of_model("GET", "/ready", "model_ready", "Whether the model can serve"),
    Route("GET", "/v2/health/live", "live", "Whether the server runs", "Health", public=True),
    Route("GET", "/v2/health/ready", "ready", "Whether the server can take requests", "Health", public=True),
    Route("GET", "/health", "health", "Name, version and models, for people and load balancers", "Health", public=True),
    Route("GET", "/metrics", "metrics", "Metrics in Prometheus' text format", "Health"),
    Route("POST", "/predict", "predict", "Predict: one row of features, or a list of rows", "Simple"),
    Route("GET", "/v2", "server_metadata", "Name, version and protocol extensions", "Server"),
    Route("GET", "/v2/models", "models", "Names of the models", "Models"),
    Route("GET", "/v2/models/stats", "stats", "Statistics of all loaded models"),
    *_of_model("GET", "", "model_metadata", "Inputs, outputs, versions, digest"),
    *_of_model("GET", "/config", "model_config", "Configuration in Triton's form"),
    *_of_model("GET", "/stats", "model_stats", "Statistics since this process started"),
    Route("POST", "/v2/repository/index", "index", "Every model version and its state", "Repository"),
    Route("POST", "/v2/repository/models/{model}/load", "load", "Load, or load anew", "Repository"),
    Route("POST", "/v2/repository/models/{model}/unload", "unload", "Unload", "Repository"),
    Route("GET", "/v1/models", "v1_models", "Names of the models", "KServe v1"),
    Route("GET", "/v1/models/{model}", "v1_model", "Whether the model can serve", "KServe v1"),
    Route(
        "POST",
        "/v1/models/{model}:predict",
        "v1_predict",
        "Predict: instances in, predictions out",
        "KServe v1",
    ),
    *_unsupported("Explanations", "POST /v1/models/{model}:explain"),
    *_unsupported(
        "Streams",
        *(
            f"POST /v2/models/{{model}}{version}/{action}"
            for version in ("", "/versions/{version}")
            for action in ("generate", "generate_stream")
        ),
    ),
    *_unsupported(
        "Trace",
        "GET /v2/trace/setting",
        "POST /v2/trace/setting",
        "GET /v2/models/{model}/trace/setting",
        "POST /v2/models/{model}/trace/setting",
    ),
    *_unsupported("Logging", "GET /v2/logging", "POST /v2/logging"),
    *_shared_memory("system"),
    *_shared_memory("cuda"),
    Route("GET", "/", "home", "Where to look next; a page to browsers", "Server", public=True),
    Route("GET", "/page/{file}", "page_asset", "Files of the page at / for browsers", "Server", public=True),
    Route("GET", "/page/models/{model}", "page_model", "What the page shows of a model", "Server"),
    Route("GET", "/page/models/{model}/versions/{version}", "page_model", "What the page shows of a model", "Server"),
    Route("GET", "/docs", "docs", "This page", "Server", public=True),
    Route("GET", "/docs/assets/{file}", "docs_asset", "Files of the documentation page", "Server", public=True),
    Route("GET", "/openapi.json", "openapi", "OpenAPI description", "Server", public=True),
)

# The operations that are answered without FastAPI, those that document all of them, and those of the page at /.
DATA_PLANE = frozenset(("infer", "model_ready", "live", "ready", "health", "metrics"))
PAGES = frozenset(("docs", "docs_asset", "openapi"))
HOME = frozenset(("home", "page_asset", "page_model"))

# Those of all paths; "" of the root.
FIRST_SEGMENTS = frozenset(route.path.split("/")[1] for route in ROUTES)


def _pattern(path: str) -> tuple[str, ...]:
    return tuple(path.split("/"))


def _by_length() -> dict[int, list[tuple[tuple[str, ...], dict[str, Route]]]]:
    table: dict[int, dict[tuple[str, ...], dict[str, Route]]] = {}
    for route in ROUTES:
        pattern = _pattern(route.path)
        table.setdefault(len(pattern), {}).setdefault(pattern, {})[route.method] = route
    return {
        length: sorted(patterns.items(), key=lambda item: [_openness(part) for part in item[0]])
        for length, patterns in table.items()
    }


def _openness(part: str) -> int:
    """Literal segments go first: /v2/models/stats is not the model `stats`, nor is /v1/models/a:predict `a:predict`."""
    if not part.startswith("{"):
        return 0
    return 2 if part.endswith("}") else 1


_TABLE = _by_length()


@lru_cache(maxsize=256)
def match(method: str, path: str) -> tuple[Route, Mapping[str, str]]:
    """The route of a request and the values of its parameters; a trailing slash makes no difference.

    RouteNotFound or MethodNotAllowed. HEAD is GET without a body.
    """
    segments = (path.rstrip("/") or "/").split("/")
    for pattern, methods in _TABLE.get(len(segments), ()):
        parameters = _match(pattern, segments)
        if parameters is not None:
            route = methods.get("GET" if method == "HEAD" else method)
            if route is None:
                allowed = tuple(sorted(methods))
                raise MethodNotAllowed(
                    f"{method[:20]} is not allowed on {path[:200]!r}; use {', '.join(allowed)}", allowed
                )
            return route, parameters
    raise RouteNotFound(f"there is nothing at {path[:200]!r}; GET /docs lists every route")


def _match(pattern: tuple[str, ...], segments: list[str]) -> dict[str, str] | None:
    parameters = {}
    for part, segment in zip(pattern, segments, strict=True):
        if part[:1] != "{":
            if part != segment:
                return None
            continue
        name, _, literal = part[1:].partition("}")
        if not segment.endswith(literal) or len(segment) == len(literal):
            return None
        parameters[name] = segment[: len(segment) - len(literal)]
    return parameters

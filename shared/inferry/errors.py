"""The exceptions that inferry raises. They know no HTTP: `app.STATUS` maps each to its status.

InferryError
+-- InvalidRequest            the request can't be understood or doesn't fit the model
|   +-- InvalidArgument       the model's run found that a value doesn't fit
|   +-- RequestTooLarge       the body, or what it inflates to, is over MAX_REQUEST_BYTES
|   +-- RequestTimeout        next to nothing came of the body for BODY_TIMEOUT
|   +-- UnsupportedEncoding   a Content-Encoding other than gzip and deflate
|   +-- InvalidFile           a batch job's file can't be read, or doesn't fit the model at all
|   +-- TooManyErrors         more rows of a batch job failed than it allows
+-- NotSupported              a part of the protocol that inferry doesn't offer
+-- ResponseTooLarge          the response is over MAX_RESPONSE_BYTES
+-- KeyMissing                API_KEYS are set, and the request has no key
+-- KeyRefused                the request's key is none of API_KEYS
+-- OriginRefused             the request comes from a page of a site that CORS_ORIGINS doesn't name
+-- HostRefused               the request is for a host that a local server doesn't know
+-- DataRefused               a tensor's URI is not below any of DATA_PREFIXES
+-- ModelControlDisabled      load or unload without MODEL_CONTROL
+-- ModelNotFound             no such model or version in the repository
+-- DeferredNotFound          no request with this id waits for its response, or has one
+-- ModelUnavailable          the model is there and can't be served; says why
|   +-- InvalidModel          its file or its config is broken, or of a kind that can't be carried
|   +-- StoreError            its files can't be read from the store
+-- QueueFull                 more requests wait than the model's config, or the server, allows
+-- Overloaded                the server holds as much of other requests as it may
+-- InferenceTimeout          the request's time was over before its response was there
+-- InferenceFailed           ONNX Runtime failed on a request that fits the model
+-- JobFailed                 a batch job met an error that nobody expected, a bug
+-- InvalidSettings           a setting that can't be used
"""

from inferry import __version__


def extra(name: str) -> str:
    """What to do for the packages of an extra. By a name alone a registry might give what a stranger put there."""
    wheel = f"inferry-{__version__}-py3-none-any.whl"
    return f"install the extra '{name}': pip install '.[{name}]' in a clone, or '{wheel}[{name}]'"


class InferryError(Exception):
    """Base of every error that inferry raises on purpose; its text is meant for the caller."""


class InvalidRequest(InferryError):
    """The request can't be understood or doesn't fit the model."""


class InvalidArgument(InvalidRequest):
    """The model's run found that a value doesn't fit: the request's, or one that the model computed."""


class RequestTooLarge(InvalidRequest):
    """The body, or what it inflates to, is over MAX_REQUEST_BYTES."""


class RequestTimeout(InvalidRequest):
    """Nothing, or next to nothing, came of the request's body for BODY_TIMEOUT."""


class UnsupportedEncoding(InvalidRequest):
    """The body is in a Content-Encoding other than gzip and deflate."""


class InvalidFile(InvalidRequest):
    """A batch job's file can't be read, or doesn't fit the model at all."""


class TooManyErrors(InvalidRequest):
    """More rows of a batch job failed than it allows."""


class NotSupported(InferryError):
    """A part of the protocol that inferry doesn't offer."""


class ResponseTooLarge(InferryError):
    """The response is over MAX_RESPONSE_BYTES."""


class KeyMissing(InferryError):
    """API_KEYS are set, and the request has no key."""


class KeyRefused(InferryError):
    """The request's key is none of API_KEYS."""


class OriginRefused(InferryError):
    """The request comes from a page of a site that CORS_ORIGINS doesn't name."""


class HostRefused(InferryError):
    """The request is for a host that a local server doesn't know."""


class DataRefused(InferryError):
    """A tensor's URI is not below any of DATA_PREFIXES."""


class ModelControlDisabled(InferryError):
    """Load or unload was asked for, and MODEL_CONTROL is off."""


class ModelNotFound(InferryError):
    """No such model or version in the repository."""


class DeferredNotFound(InferryError):
    """No request with this id waits for its response, or has one."""


class ModelUnavailable(InferryError):
    """The model is in the repository and can't be served."""


class InvalidModel(ModelUnavailable):
    """A model's file or config is broken, or of a kind that can't be carried."""


class StoreError(ModelUnavailable):
    """A model's files can't be read from the store."""


class QueueFull(InferryError):
    """More requests wait than the model's config, or the server, allows."""


class Overloaded(InferryError):
    """The server holds as much of other requests as it may."""


class InferenceTimeout(InferryError):
    """The request's time was over before its response was there.

    `queue` and `infer`: the nanoseconds that it had waited for its run, and that this had taken, where that is known.
    """

    queue = infer = 0

    def spent(self, since: int, began: int, now: int) -> None:
        """It waited from `since`, its run `began` or is 0, and it is `now`: moments of time.perf_counter_ns."""
        self.queue, self.infer = (began or now) - since, now - (began or now)


class InferenceFailed(InferryError):
    """ONNX Runtime failed on a request that fits the model."""


class JobFailed(InferryError):
    """A batch job met an error that nobody expected, a bug."""


class InvalidSettings(InferryError):
    """A setting that can't be used."""

"""Errors as statuses of gRPC: those that Triton gives them."""

from grpc import StatusCode

from inferry import errors
from inferry.errors import InferryError

# Every error has its status here or under one of its bases; tests/unit/grpc/test_statuses.py proves it.
STATUS: dict[type[InferryError], StatusCode] = {
    errors.InvalidRequest: StatusCode.INVALID_ARGUMENT,
    errors.RequestTooLarge: StatusCode.RESOURCE_EXHAUSTED,
    errors.RequestTimeout: StatusCode.DEADLINE_EXCEEDED,
    errors.NotSupported: StatusCode.UNIMPLEMENTED,
    errors.ResponseTooLarge: StatusCode.RESOURCE_EXHAUSTED,
    errors.KeyMissing: StatusCode.UNAUTHENTICATED,
    errors.KeyRefused: StatusCode.PERMISSION_DENIED,
    errors.OriginRefused: StatusCode.PERMISSION_DENIED,
    errors.HostRefused: StatusCode.PERMISSION_DENIED,
    errors.DataRefused: StatusCode.PERMISSION_DENIED,
    errors.ModelControlDisabled: StatusCode.UNAVAILABLE,
    errors.ModelNotFound: StatusCode.NOT_FOUND,
    errors.DeferredNotFound: StatusCode.NOT_FOUND,
    errors.ModelUnavailable: StatusCode.UNAVAILABLE,
    errors.QueueFull: StatusCode.UNAVAILABLE,
    errors.Overloaded: StatusCode.UNAVAILABLE,
    errors.InferenceTimeout: StatusCode.DEADLINE_EXCEEDED,
    errors.InferenceFailed: StatusCode.INTERNAL,
    errors.JobFailed: StatusCode.INTERNAL,
    errors.InvalidSettings: StatusCode.INTERNAL,
}


def status(exc: Exception) -> StatusCode:
    """The status of an error; INTERNAL for what nobody expected."""
    return next((STATUS[base] for base in type(exc).__mro__ if base in STATUS), StatusCode.INTERNAL)

"""The status of gRPC for each error."""

from inferry import errors
from inferry.errors import InferryError
from inferry.grpc.errors import STATUS, status
from inferry.http.errors import STATUS as HTTP
from inferry.http.routes import MethodNotAllowed, RouteNotFound

# Of paths and verbs, which gRPC has none of.
OF_HTTP = {RouteNotFound, MethodNotAllowed}


def test_every_error_has_a_status() -> None:
    assert STATUS.keys() | {errors.UnsupportedEncoding} == HTTP.keys() - OF_HTTP


def test_statuses() -> None:
    expected = {
        "INVALID_ARGUMENT": {
            "InvalidRequest",
            "InvalidArgument",
            "UnsupportedEncoding",
            "InvalidFile",
            "TooManyErrors",
        },
        "RESOURCE_EXHAUSTED": {"RequestTooLarge", "ResponseTooLarge"},
        "UNIMPLEMENTED": {"NotSupported"},
        "UNAUTHENTICATED": {"KeyMissing"},
        "PERMISSION_DENIED": {"KeyRefused", "OriginRefused", "HostRefused", "DataRefused"},
        "NOT_FOUND": {"ModelNotFound", "DeferredNotFound"},
        "UNAVAILABLE": {
            *("ModelControlDisabled", "ModelUnavailable", "InvalidModel", "StoreError", "QueueFull", "Overloaded"),
        },
        "DEADLINE_EXCEEDED": {"InferenceTimeout", "RequestTimeout"},
        "INTERNAL": {"InferenceFailed", "JobFailed", "InvalidSettings"},
    }
    found: dict[str, set[str]] = {}
    for name, value in vars(errors).items():
        if isinstance(value, type) and value is not InferryError:
            found.setdefault(status(value("why")).name, set()).add(name)
    assert found == expected


def test_what_nobody_expected_is_internal() -> None:
    assert status(ValueError("why")).name == "INTERNAL"
    assert status(InferryError("why")).name == "INTERNAL"

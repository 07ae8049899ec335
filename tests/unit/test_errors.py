"""The tree of exceptions, as it is drawn, and the HTTP status of each."""

import re
from collections.abc import Iterator

import pytest
from inferry import errors
from inferry.errors import InferryError
from inferry.http.errors import STATUS, error_response

ERRORS = {name: value for name, value in vars(errors).items() if isinstance(value, type)}


def drawn() -> Iterator[tuple[str, str | None]]:
    """Each class in the drawing with the class above it."""
    above: dict[int, str | None] = {-1: None}
    for line in (errors.__doc__ or "").splitlines():
        match = re.fullmatch(r"((?:\|   |    )*)(\+-- )?([A-Z]\w+)(?: {2,}(\S.*))?", line)
        if match:
            indent, branch, name, text = match.groups()
            depth = len(indent) // 4 + bool(branch)
            assert depth == 0 or text, f"{name} is drawn without a sentence"
            above[depth] = name
            yield name, above[depth - 1]


def test_the_drawing_is_the_tree() -> None:
    assert dict(drawn()) == {
        name: value.__bases__[0].__name__ if value is not InferryError else None for name, value in ERRORS.items()
    }
    assert [name for name, _ in drawn()] == list(ERRORS)


def test_one_base() -> None:
    assert InferryError.__bases__ == (Exception,)
    for value in ERRORS.values():
        assert len(value.__bases__) == 1
        assert value.__doc__


def subclasses(base: type[InferryError]) -> Iterator[type[InferryError]]:
    for child in base.__subclasses__():
        yield child
        yield from subclasses(child)


def test_every_error_has_a_status() -> None:
    """Its own or that of a base, also where modules add errors of their own."""
    known = [item for item in subclasses(InferryError) if item.__module__.startswith("inferry")]
    assert {item for item in known if not set(item.__mro__) & set(STATUS)} == set()
    assert set(STATUS) <= set(known)
    assert {item for item in ERRORS.values() if item is not InferryError} <= set(known)


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("InvalidRequest", 400),
        ("InvalidArgument", 400),
        ("RequestTooLarge", 413),
        ("ResponseTooLarge", 413),
        ("RequestTimeout", 408),
        ("OriginRefused", 403),
        ("HostRefused", 421),
        ("KeyMissing", 401),
        ("KeyRefused", 403),
        ("DataRefused", 403),
        ("UnsupportedEncoding", 415),
        ("InvalidFile", 400),
        ("TooManyErrors", 400),
        ("NotSupported", 501),
        ("ModelControlDisabled", 403),
        ("DeferredNotFound", 404),
        ("ModelNotFound", 404),
        ("ModelUnavailable", 503),
        ("InvalidModel", 503),
        ("StoreError", 503),
        ("QueueFull", 429),
        ("Overloaded", 503),
        ("InferenceTimeout", 504),
        ("InferenceFailed", 500),
        ("JobFailed", 500),
        ("InvalidSettings", 500),
    ],
)
def test_status(name: str, status: int) -> None:
    assert error_response(ERRORS[name]("why"), {})[0] == status


def test_the_table_above_is_complete() -> None:
    marks: list[pytest.Mark] = vars(test_status)["pytestmark"]
    cases = {case[0] for case in marks[0].args[1]}
    assert cases == ERRORS.keys() - {"InferryError"}


def test_the_nearest_class_counts() -> None:
    """An error that nobody has thought of yet has the status of what it is a kind of."""
    narrower = type("Narrower", (errors.RequestTooLarge,), {})
    assert error_response(narrower("why"), {})[0] == 413
    assert error_response(InferryError("why"), {})[0] == 500
    assert error_response(ValueError("why"), {})[0] == 500

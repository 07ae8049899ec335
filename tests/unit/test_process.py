"""inferry/process.py: imports without searches for garbage, which go on afterwards."""

import gc

import pytest
from inferry.process import importing


def test_nothing_is_searched_for_garbage_while_modules_are_imported() -> None:
    with importing():
        assert not gc.isenabled()
    assert gc.isenabled()


def test_it_is_searched_for_again_after_an_import_that_failed() -> None:
    with pytest.raises(ImportError), importing():
        raise ImportError
    assert gc.isenabled()


def test_what_was_imported_is_not_searched_afterwards() -> None:
    with importing():
        kept: list[list[int]] = [[] for _ in range(10_000)]
    assert not any(found is kept for found in gc.get_objects())
    gc.unfreeze()

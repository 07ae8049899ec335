"""Imports that happen when they are first used, for packages that import what a first prediction does without."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any


class _Postponed(ModuleType):
    """Stands in for the module of its name, which the first look at something in it imports."""

    def __getattr__(self, name: str) -> Any:
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(import_module(self.__name__), name)


@contextmanager
def postponed(name: str) -> Iterator[None]:
    """What is imported inside gets a stand-in for the module `name`, unless that is there already."""
    if name in sys.modules:
        yield
        return
    stand_in = sys.modules[name] = _Postponed(name)
    try:
        yield
    finally:
        if sys.modules[name] is stand_in:
            del sys.modules[name]

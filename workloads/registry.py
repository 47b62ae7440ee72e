"""Things of one sort, found by name: ours, those of installed packages, and those of a user by their place."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Collection
from importlib.metadata import entry_points
from typing import Any, Generic, TypeVar

from workloads.errors import KisError

T = TypeVar("T", bound=type)


class Registry(Generic[T]):
    """Classes by name.

    what: what they are, for messages, of which `error` is made. group: of the entry points in which packages name
    theirs. fits: whether something found at a place is one; hint: what to give instead.
    """

    @classmethod
    def of_subclasses(cls, base: type, what: str, error: type[KisError], group: str) -> Registry[T]:
        """Of classes that derive from `base`."""

        def fits(candidate: Any) -> bool:
            return isinstance(candidate, type) and issubclass(candidate, base)

        return cls(what, error, group, fits, f"derive it from {base.__module__}.{base.__qualname__}")

    def __init__(self, what: str, error: type[KisError], group: str, fits: Callable[[Any], bool], hint: str) -> None:
        self._what, self._error, self._group, self._fits, self._hint = what, error, group, fits, hint
        self._by_name: dict[str, T] = {}
        self._packages_asked = False

    def add(self, name: str, cls: T) -> None:
        """`error` if another class has that name; the same one, imported again, replaces itself."""
        other = self._by_name.get(name, cls)
        if (other.__module__, other.__qualname__) != (cls.__module__, cls.__qualname__):
            raise self._error(f"{self._what} '{name}' is there twice: in {other.__module__} and in {cls.__module__}")
        self._by_name[name] = cls

    def known(self) -> dict[str, T]:
        """By name, those of installed packages too."""
        if not self._packages_asked:  # every installed distribution is looked at: tens of milliseconds
            for entry in entry_points(group=self._group):
                entry.load()  # a class adds itself
            self._packages_asked = True
        return dict(self._by_name)

    def find(self, name: str) -> T:
        """The class of that name, or at that place: `my_module:MyClass`. `error` names the nearest known name."""
        if name in self._by_name:
            return self._by_name[name]
        module, colon, attribute = name.partition(":")
        if colon:
            return self._at(module, attribute)
        known = self.known()
        if name not in known:
            raise self._error(f"unknown {self._what} '{name}': {nearest(name, known)}")
        return known[name]

    def checked(self, name: str) -> str:
        """The name itself, as a validator of pydantic's: ValueError if nothing has it."""
        try:
            self.find(name)
        except KisError as error:
            raise ValueError(str(error)) from None
        return name

    def _at(self, module: str, attribute: str) -> T:
        try:
            candidate: Any = getattr(importlib.import_module(module), attribute, None)
        except (ImportError, ValueError, TypeError) as error:  # the latter two of what is no name of a module
            raise self._error(f"{self._what} '{module}:{attribute}': {error}: is its folder on PYTHONPATH?") from None
        if not self._fits(candidate):
            raise self._error(f"{self._what} '{module}:{attribute}' is none: {self._hint}")
        fitting: T = candidate
        return fitting


def nearest(wrong: str, known: Collection[str]) -> str:
    """The end of a message about a name that is not known."""
    near = difflib.get_close_matches(wrong, known, n=1)
    return f"did you mean '{near[0]}'?" if near else f"known are {', '.join(known)}"

"""A registry finds what packages that are installed name as their entry points."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from typing import Any

import pytest

from workloads import registry
from workloads.errors import KisError
from workloads.registry import Registry


class Installed:
    """What an installed package has."""


def test_what_an_installed_package_names_is_found_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    things: Registry[Any] = Registry("thing", KisError, "kis.things", lambda found: True, "give one")

    class Named(EntryPoint):
        def load(self) -> Any:
            things.add(self.name, Installed)

    def entry_points(group: str) -> list[EntryPoint]:
        assert group == "kis.things"
        return [Named("installed", "package:Installed", group)]

    monkeypatch.setattr(registry, "entry_points", entry_points)
    assert things.find("installed") is Installed
    assert list(things.known()) == ["installed"]
    with pytest.raises(KisError, match="unknown thing 'instaled': did you mean 'installed'"):
        things.find("instaled")
    with pytest.raises(KisError, match="unknown thing 'x': known are installed"):
        things.find("x")


@pytest.mark.parametrize("name", [":x", ".:x", "..a:x", "a\0b:x", ":", "no_such_module:x"])
def test_a_place_that_is_none_is_refused(name: str) -> None:
    things: Registry[Any] = Registry("thing", KisError, "kis.things", lambda found: True, "give one")
    with pytest.raises(KisError, match="is its folder on PYTHONPATH"):
        things.find(name)

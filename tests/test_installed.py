"""What is said of what is not installed: in a checkout, and where a wheel was installed."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from testbed import installed

NOT_THERE = Path("none")


def test_a_checkout_is_told_to_make_its_environment() -> None:
    assert installed.how_to_install(installed.extra_of("torch")) == "make env"
    assert installed.how_to_install(installed.extra_of("ray")) == "pip install '.[ray]'"


@pytest.mark.parametrize("package", ["gymnasium", "stable_baselines3", "onnx"])
def test_a_wheel_is_named_with_the_extra(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    monkeypatch.setattr(installed, "PROJECT", NOT_THERE)
    monkeypatch.setattr(installed, "version", lambda _: "1.2.3")
    extra = installed.extra_of(package)
    assert installed.how_to_install(extra) == "pip install 'kis_testbed-1.2.3-py3-none-any.whl[train]'"
    assert installed.needed(extra) == "needs the extra train"


def test_a_checkout_that_is_not_installed_has_a_version(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(installed, "version", fails)
    assert installed.kis_version() == "0.1.0 (not installed)"

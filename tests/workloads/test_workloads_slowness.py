"""The emulated accelerator's slowness: a number in a file, looked at now and then."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from workloads.backends.slowness import Slowness


def test_without_a_file_it_is_one(tmp_path: Path):
    assert Slowness(None).factor(0.0) == 1.0
    assert Slowness(tmp_path / "none").factor(0.0) == 1.0


def test_a_change_holds_from_the_next_look_on_and_its_end_too(tmp_path: Path):
    file = tmp_path / "slowness"
    slowness = Slowness(file)
    assert slowness.factor(0.0) == 1.0
    file.write_text("1.4\n")
    assert slowness.factor(0.05) == 1.0  # not looked at yet
    assert slowness.factor(0.11) == 1.4
    file.write_text("0.75")
    assert slowness.factor(0.3) == 0.75
    file.unlink()
    assert slowness.factor(0.5) == 1.0


@pytest.mark.parametrize("nonsense", ["", "fast", "nan", "inf", "0", "-1", "1e9", "1" * 100])
def test_nonsense_is_ignored_and_told_once(tmp_path: Path, nonsense: str, capfd: pytest.CaptureFixture[str]):
    file = tmp_path / "slowness"
    file.write_text("1.4")
    slowness = Slowness(file)
    assert slowness.factor(0.0) == 1.4
    file.write_text(nonsense)
    os.utime(file, (1, 1))
    assert slowness.factor(1.0) == slowness.factor(2.0) == 1.4
    assert capfd.readouterr().err.count("it stays 1.4") == 1
    file.write_text("2.0")
    assert slowness.factor(3.0) == 2.0


def test_a_folder_is_no_number(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    assert Slowness(tmp_path).factor(0.0) == 1.0
    assert "it stays 1" in capfd.readouterr().err

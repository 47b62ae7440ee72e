"""`kis calibrate --server`: who goes on goes on with the same server."""

from __future__ import annotations

import json
import shutil
from importlib import resources
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from loadgen.access import Access, AccessError
from testbed.cli.main import application
from testbed.errors import ConfigError
from tests.reporting.synthetic_runs import write_run
from workloads.catalog import ServiceConfig


def test_a_campaign_on_ones_own_server_goes_on_with_that_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Any, ...]] = []

    def remote(server: str, model: str | None, metrics: str | None, shapes: Any, sent: Any, access: Access) -> Any:
        asked.append((server, model, metrics, shapes, access.ca, access.header_values()))
        return SimpleNamespace(model="mine", service=ServiceConfig(), notes=())

    def interrupted(settings: Any, folder: Path, reporter: Any, target: Any, **_: Any) -> Path:
        assert target is not None
        return folder / "report.html"

    monkeypatch.setattr("testbed.pipeline.target.remote", remote)
    monkeypatch.setattr("testbed.pipeline.calibrate.calibrate", interrupted)
    out = tmp_path / "out"
    monkeypatch.setenv("KIS_HEADER_X_KEY", "")  # is there again, as it was, after the test
    access = ["--ca", "ca.crt", "--header", "X-Key: s3cret"]
    for arguments in (["--server", "http://10.0.0.1:8000", "--shape", "x:128", *access], []):
        done = CliRunner().invoke(application(), ["calibrate", *arguments, "--measure-only", "--out", str(out)])
        assert done.exit_code == 0, done.output
    first, second = asked[:2]
    reached = (Path("ca.crt"), {"x-key": "s3cret"})
    assert first == ("http://10.0.0.1:8000", None, None, {"x": (128,)}, *reached)
    assert second == ("http://10.0.0.1:8000", "mine", None, {"x": (128,)}, *reached)
    with pytest.raises(ConfigError, match="--quick is a campaign of its own"):
        CliRunner().invoke(application(), ["calibrate", "--quick", "--out", str(out)], catch_exceptions=False)
    written = (out / "server.json").read_text()
    assert json.loads(written)["model"] == "mine"
    assert "s3cret" not in written
    once_more = ["calibrate", "--header", "X-Key: other", "--measure-only", "--out", str(out)]
    CliRunner().invoke(application(), once_more, catch_exceptions=False)
    assert asked[-1][-2:] == (Path("ca.crt"), {"x-key": "other"})
    monkeypatch.delenv("KIS_HEADER_X_KEY")
    with pytest.raises(AccessError, match="KIS_HEADER_X_KEY is not set: give --header again"):
        CliRunner().invoke(application(), ["calibrate", "--out", str(out)], catch_exceptions=False)


def test_a_campaign_ends_with_its_profiles_and_what_they_are_worth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The campaign itself is left out: two runs, and a profile, are there."""
    arrivals = np.linspace(0, 9.9e9, 200).astype(np.int64)
    write_run(tmp_path / "runs", "one", arrivals, arrivals / 1e9 + 0.1)
    write_run(tmp_path / "runs", "one-sim", arrivals, arrivals / 1e9 + 0.1, kind="simulated", simulates="one")
    shutil.copy(str(resources.files("testbed") / "examples" / "emulated.json"), tmp_path / "profile-emulated.json")
    monkeypatch.setattr("testbed.pipeline.calibrate.calibrate", lambda _, folder, *__, **___: folder / "report.html")
    done = CliRunner().invoke(application(), ["calibrate", "--out", str(tmp_path)], catch_exceptions=False)
    claimed, *paths = done.stdout.splitlines()[-3:]
    assert ": over one valid held-out run (200 requests" in claimed
    assert paths == [str(tmp_path / "profile-emulated.json"), str(tmp_path / "report.html")]

"""`kis calibrate --server`: who goes on goes on with the same server."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from testbed.cli.main import application
from testbed.errors import ConfigError
from workloads.catalog import ServiceConfig


def test_a_campaign_on_ones_own_server_goes_on_with_that_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Any, ...]] = []

    def remote(server: str, model: str | None, metrics: str | None, shapes: Any) -> Any:
        asked.append((server, model, metrics, shapes))
        return SimpleNamespace(model="mine", service=ServiceConfig())

    def interrupted(settings: Any, folder: Path, reporter: Any, target: Any, **_: Any) -> Path:
        assert target is not None
        return folder / "report.html"

    monkeypatch.setattr("testbed.pipeline.target.remote", remote)
    monkeypatch.setattr("testbed.pipeline.calibrate.calibrate", interrupted)
    out = tmp_path / "out"
    for arguments in (["--server", "http://10.0.0.1:8000", "--shape", "x:128"], []):
        done = CliRunner().invoke(application(), ["calibrate", *arguments, "--measure-only", "--out", str(out)])
        assert done.exit_code == 0, done.output
    first, second = asked
    assert first == ("http://10.0.0.1:8000", None, None, {"x": (128,)})
    assert second == ("http://10.0.0.1:8000", "mine", None, {"x": (128,)})
    with pytest.raises(ConfigError, match="--quick is a campaign of its own"):
        CliRunner().invoke(application(), ["calibrate", "--quick", "--out", str(out)], catch_exceptions=False)
    assert json.loads((out / "server.json").read_text())["model"] == "mine"

"""`kis traffic`: what is said of a log of traffic."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from loadgen.traces import read_recorded
from testbed.cli.main import application
from testbed.config import TraceConfig
from testbed.pipeline.described import described
from testbed.reporting.traffic import sentence, span_text


def facts_of(path: Path, times_s: Any) -> dict[str, Any]:
    path.write_text("\n".join(f"{time:.6f}" for time in np.sort(times_s)))
    return described(read_recorded(path), TraceConfig(trace=path))


def poisson(rng: np.random.Generator, share: Any, duration_s: float, count: int) -> Any:
    times_s = rng.uniform(0, duration_s, count)
    return times_s[rng.random(count) < share(times_s)]


def test_a_poisson_process_has_dispersion_one_and_no_season(tmp_path: Path) -> None:
    facts = facts_of(tmp_path / "t", np.random.default_rng(1).uniform(0, 3000, 30_000))
    assert facts["rate_rps"] == pytest.approx(10, rel=0.02)
    assert [window["dispersion"] for window in facts["windows"]] == pytest.approx([1, 1, 1], abs=0.35)
    assert facts["season"] is None
    assert "about as even as a Poisson process" in sentence(facts)


def test_peaks_and_bursts_are_of_windows(tmp_path: Path) -> None:
    burst = np.linspace(500.0, 500.9, 200)
    facts = facts_of(tmp_path / "t", np.concatenate([np.arange(1000.0), burst]))
    second, ten, minute = facts["windows"]
    assert second["peak_rps"] == 201
    assert ten["peak_rps"] == 21
    assert minute["peak_to_mean"] == pytest.approx((60 + 200) / 60 / 1.2, rel=0.05)
    assert second["dispersion"] > 30


@pytest.mark.parametrize(("cycles", "count"), [(3.3, 40_000), (5, 40_000), (14, 3000), (40, 6000)])
def test_a_season_is_found_whatever_it_repeats(tmp_path: Path, cycles: float, count: int) -> None:
    rng = np.random.default_rng(2)
    wave = poisson(rng, lambda t: 0.5 + 0.4 * np.sin(2 * np.pi * cycles * t / 900), 900, count)
    season = facts_of(tmp_path / "t", wave)["season"]
    assert season["period_s"] == pytest.approx(900 / cycles, rel=0.06)
    spikes = poisson(rng, lambda t: np.where((cycles * t / 900) % 1 < 0.1, 1.0, 0.1), 900, 2 * count)
    season = facts_of(tmp_path / "s", spikes)["season"]
    assert season["period_s"] == pytest.approx(900 / cycles, rel=0.06)


@pytest.mark.parametrize("share", [lambda t: t / 900, lambda t: np.exp(-(((t - 450) / 135) ** 2))])
def test_growth_and_a_single_hump_are_no_season(tmp_path: Path, share: Any) -> None:
    assert facts_of(tmp_path / "t", poisson(np.random.default_rng(3), share, 900, 20_000))["season"] is None


def test_windows_below_the_clocks_steps_have_no_figures(tmp_path: Path) -> None:
    facts = facts_of(tmp_path / "t", np.repeat(np.arange(0.0, 3600.0, 60.0), 3))
    assert [window["window_s"] for window in facts["windows"]] == [60]
    assert facts["resolution_s"] == 60


def test_windows_within_an_interval_that_was_counted_have_no_figures(tmp_path: Path) -> None:
    (tmp_path / "counts.csv").write_text("timestamp,count\n" + "".join(f"{60 * k},{60 + k % 5}\n" for k in range(40)))
    config = TraceConfig(trace=tmp_path / "counts.csv", spread=True)
    facts = described(read_recorded(config.trace, **config.reading()), config)
    assert [window["window_s"] for window in facts["windows"]] == [60]
    assert (facts["resolution_s"], facts["spread_s"]) == (60, None)
    assert "In windows of 60 s it is more even than a Poisson process" in sentence(facts)


def test_what_the_command_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("calls.csv").write_text("id,when\n" + "".join(f"{k},2024-01-01 00:00:{k:02}\n" for k in range(7)))
    told = CliRunner().invoke(application(["traffic"]), ["traffic", "calls.csv", "--out", "o", "--max-gap-s", "5"])
    assert told.exit_code == 0, told.output
    assert "column when, in ISO 8601: 7 requests in 6.0 s" in " ".join(told.output.split())
    assert told.output.split()[-1] == "o/report.html"
    facts = json.loads(Path("o/traffic.json").read_text())
    assert (facts["requests"], facts["format"], sum(facts["series"]["counts"])) == (7, "csv", 7)
    assert {"report.html", "report.md", "rate.png"} <= {file.name for file in Path("o").iterdir()}
    assert "7 requests in 7 s" in Path("o/report.md").read_text()


def test_lengths_in_words() -> None:
    assert [span_text(s) for s in (0.5, 60, 300, 8 * 3600, 7 * 86400)] == ["0.5 s", "60 s", "5 min", "8 h", "7 days"]

from __future__ import annotations

import dataclasses
import pkgutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import loadgen.patterns
from loadgen.patterns import (
    Bursty,
    Fluctuating,
    Pattern,
    PatternError,
    Periodic,
    Ramp,
    Trace,
    families,
    find_pattern,
    known_patterns,
    make_pattern,
)
from loadgen.patterns.pattern import REGISTRY
from testbed.config import HeldOutPlan, TrafficConfig
from testbed.config_file import build
from testbed.errors import ConfigError
from testbed.kiscaler.train_config import Ranges
from testbed.pipeline.traffic import make_schedule

DOCUMENTATION = Path(__file__).parents[2] / "docs" / "how-to" / "replay-traffic.md"

rates = st.floats(0.1, 1e4)
spans = st.floats(0.1, 1e3)
patterns = st.one_of(
    st.builds(lambda low, more, rise: Ramp(low=low, peak=low + more, rise_s=rise), rates, rates, spans),
    st.builds(lambda a, more, p: Periodic(mean=a + more, amplitude=a, period_s=p), rates, rates, spans),
    st.builds(
        lambda low, more, i, s: Fluctuating(low=low, high=low + more, interval_s=i, rate_seed=s),
        rates,
        rates,
        spans,
        st.integers(0, 99),
    ),
    st.builds(
        lambda base, spike, length, gap, mode: Bursty(
            base=base, spike=spike, spike_s=length, every_s=length + gap, mode=mode
        ),
        rates,
        rates,
        spans,
        spans,
        st.sampled_from(["spikes", "on_off"]),
    ),
    st.builds(lambda r, i: Trace(rates=tuple(r), interval_s=i), st.lists(rates, min_size=1, max_size=9), spans),
)


@given(patterns, st.lists(st.floats(0, 500), min_size=1, max_size=50))
def test_every_rate_lies_between_zero_and_the_peak_and_is_the_same_when_asked_again(pattern, times):
    t_s = np.array(times)
    rate = pattern.rate_rps(t_s)
    assert rate.shape == t_s.shape
    assert (rate >= 0).all()
    assert (rate <= pattern.peak_rps * (1 + 1e-12)).all()
    one_by_one = np.array([pattern.rate_rps(np.array([t]))[0] for t in times])
    np.testing.assert_array_equal(rate, one_by_one)  # no dependence on which other times were asked for


@given(patterns)
def test_a_pattern_is_remade_from_its_name_and_parameters(pattern):
    assert make_pattern(pattern.name, **pattern.parameters()) == pattern


def test_ramp_rises_in_a_straight_line_and_holds():
    rate = Ramp(low=10, peak=100, rise_s=30).rate_rps(np.array([0.0, 10.0, 30.0, 99.0]))
    np.testing.assert_allclose(rate, [10, 40, 100, 100])


def test_periodic_swings_about_its_mean():
    rate = Periodic(mean=50, amplitude=40, period_s=20).rate_rps(np.array([0.0, 5.0, 10.0, 15.0, 25.0]))
    np.testing.assert_allclose(rate, [50, 90, 50, 10, 90])


def test_spikes_come_at_the_end_of_each_period_and_go_10_100_10():
    rate = Bursty(base=10, spike=100, spike_s=5, every_s=20).rate_rps(np.array([0, 14.9, 15.0, 19.9, 20.0, 35.0]))
    np.testing.assert_array_equal(rate, [10, 10, 100, 100, 10, 100])


def test_on_off_bursts_take_their_share_of_the_time_in_the_long_run():
    pattern = Bursty(base=0, spike=100, spike_s=5, every_s=20, mode="on_off", burst_seed=3)
    on = pattern.rate_rps(np.arange(0, 40_000, 0.5)) == 100
    assert on.mean() == pytest.approx(0.25, abs=0.02)
    starts = np.flatnonzero(np.diff(on.astype(int)) == 1)
    gaps_s = np.diff(starts) * 0.5
    assert gaps_s.std() > 0.5 * gaps_s.mean()  # random, not periodic


def test_fluctuating_draws_a_new_rate_each_interval():
    pattern = Fluctuating(low=10, high=100, interval_s=5, rate_seed=1)
    first = pattern.rate_rps(np.array([0.0, 4.9]))
    assert first[0] == first[1]
    rate = pattern.rate_rps(np.arange(2.5, 5_000, 5))
    assert len(np.unique(rate)) == len(rate)
    assert rate.mean() == pytest.approx(55, abs=3)
    assert pattern.rate_rps(np.array([2.5]))[0] == first[0]
    assert Fluctuating(rate_seed=2).rate_rps(np.array([0.0])) != Fluctuating(rate_seed=1).rate_rps(np.array([0.0]))


def test_a_trace_pattern_holds_its_last_rate():
    rate = Trace(rates=(1, 2, 3), interval_s=10).rate_rps(np.array([0.0, 10.0, 29.0, 1e6]))
    np.testing.assert_array_equal(rate, [1, 2, 3, 3])


@pytest.mark.parametrize(
    ("name", "parameters", "hint"),
    [
        ("burtsy", {}, "did you mean 'bursty'?"),
        ("ramp", {"peek": 3}, "did you mean 'peak'?"),
        ("ramp", {"low": 9, "peak": 3}, "low <= peak"),
        ("periodic", {"mean": 1, "amplitude": 2}, "amplitude <= mean"),
        ("bursty", {"mode": "off_on"}, "'spikes' or 'on_off'"),
        ("constant", {"rate": "fast"}, "rate is 'fast': give a number"),
    ],
)
def test_a_wrong_pattern_is_refused_in_one_line_that_says_what_to_do(name, parameters, hint):
    with pytest.raises(PatternError) as refusal:
        make_pattern(name, **parameters)
    assert hint in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_the_registry_lists_the_pattern_of_every_file_under_its_own_name():
    files = [file.name for file in pkgutil.iter_modules(loadgen.patterns.__path__) if file.name != "pattern"]
    assert sorted(known_patterns()) == sorted(files)
    in_order = ["constant", "ramp", "periodic", "fluctuating", "bursty", "trace"]
    assert [name for name in known_patterns() if name in in_order] == in_order
    for name, kind in known_patterns().items():
        assert kind.name == name
        assert kind().peak_rps > 0  # the defaults are valid


YOURS = """
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from loadgen.patterns import Pattern, parameter


@dataclass(frozen=True)
class Yours(Pattern):
    name: ClassVar[str] = "yours"
    families: ClassVar[tuple[str, ...]] = ("yours",)
    peak: float = parameter(100.0, "rate at the end of a tooth, requests/s")
    tooth_s: float = parameter(10.0, "length of a tooth, s")

    def rate_rps(self, t_s):
        return self.peak * np.mod(t_s, self.tooth_s) / self.tooth_s

    @property
    def peak_rps(self):
        return self.peak

    @classmethod
    def fitted(cls, peak_rps, duration_s, seed):
        return cls(peak=peak_rps, tooth_s=duration_s / 4)

    @classmethod
    def drawn(cls, family, low, peak, period_s, rng):
        return cls(peak=peak, tooth_s=period_s)
"""


@pytest.fixture
def yours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A pattern of a user's, in one file on the path."""
    (tmp_path / "teeth.py").write_text(YOURS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(REGISTRY, "_by_name", dict(REGISTRY._by_name))
    yield "teeth:Yours"
    sys.modules.pop("teeth", None)


def test_a_pattern_of_ones_own_is_one_file_and_is_found_wherever_patterns_are_named(yours: str) -> None:
    assert make_pattern(yours, peak=50).peak_rps == 50
    assert "yours" in known_patterns()  # by its name too, once it was imported
    assert families()["yours"].name == "yours"
    traffic = TrafficConfig(pattern=yours, parameters={"tooth_s": 5}, duration_s=20)
    assert len(make_schedule(traffic, "m")) == pytest.approx(1000, rel=0.15)
    plan = HeldOutPlan(patterns=(yours,))
    assert find_pattern(plan.patterns[0]).fitted(80, 40, 0).parameters() == {"peak": 80, "tooth_s": 10}
    assert Ranges(families=("yours",)).families == ("yours",)


def test_a_pattern_that_cannot_be_found_is_said_in_one_line(yours: str) -> None:
    for name, said in (
        ("burst", "did you mean 'bursty'"),
        ("no_such_module:Pattern", "No module named 'no_such_module'"),
        ("teeth:Nothing", "is none: derive it"),
        ("teeth:np", "is none: derive it"),
    ):
        with pytest.raises(PatternError, match=said):
            find_pattern(name)
    with pytest.raises(ConfigError, match="did you mean 'bursty'"):
        build(TrafficConfig, {"pattern": "burst"}, "here")
    with pytest.raises(ConfigError, match="give a recorded trace"):
        build(TrafficConfig, {"pattern": "trace"}, "here")
    with pytest.raises(PatternError, match="cannot be held out"):
        Trace.fitted(1, 1, 1)
    with pytest.raises(PatternError, match="pattern 'ramp' is there twice"):
        type("Other", (Pattern,), {"name": "ramp", "__module__": "elsewhere"})


def test_a_pattern_in_the_documentation_stands_there_with_its_parameters() -> None:
    table = DOCUMENTATION.read_text().partition("| pattern |")[2].partition("\n\n")[0]
    rows = {row.split("|")[1].strip(): row for row in table.splitlines()[2:]}
    assert {"ramp", "periodic", "fluctuating", "bursty"} <= set(rows)
    for name, row in rows.items():
        told = {field.name for field in dataclasses.fields(find_pattern(name))} - {"burst_seed"}
        assert {one for one in told if f"`{one}" not in row} == set(), name

"""What figures show: their lines, marks, axes and words, and the two ways in which one is written."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib import rc_context
from matplotlib.colors import same_color, to_rgb
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from synthetic_runs import ACCELERATOR, profile_of, write_demo

from testbed.measurement.metric_log import MetricLog
from testbed.reporting.compare import compare_folder
from testbed.reporting.drawing import (
    INVALID,
    LOOK,
    POINTS,
    REAL,
    SIMULATED,
    TITLE_LETTERS,
    log_axis,
    name_marks,
    save_png,
    steps_before,
    svg_address,
    thinned,
    title,
)
from testbed.reporting.figures import calibration, cluster, evaluation, experiment, plan
from testbed.reporting.plan import Setting
from testbed.reporting.series import Curve, PairSeries, Timeline
from tests.pages import texts_of
from workloads.catalog import ServiceConfig

SECOND_NS = 10**9


def svg_of(figure: Figure) -> str:
    return base64.b64decode(svg_address(figure).partition(",")[2]).decode()


def lines_like(lines: Any, **looks: Any) -> list[Line2D]:
    return [line for line in lines if all(getattr(line, f"get_{name}")() == value for name, value in looks.items())]


def test_the_same_figure_is_the_same_bytes_and_its_words_are_kept() -> None:
    @rc_context(LOOK)
    def drawn() -> Figure:
        figure = Figure(layout="constrained")
        axes = figure.subplots()
        axes.plot(np.linspace(0, 1, 50), np.random.default_rng(1).random(50), label="a price of $3.14159$ & <more>")
        axes.legend()
        return figure

    text = svg_of(drawn())
    assert text == svg_of(drawn())
    assert "a price of $3.14159$ &amp; &lt;more&gt;" in texts_of(text)
    paths = re.findall(r' d="([^"]*)"', text)
    assert paths
    assert not [path for path in paths if re.search(r"\.\d{3}", path)]


@rc_context(LOOK)
def test_a_png_has_the_size_of_its_figure_and_its_colours(tmp_path: Path) -> None:
    figure = Figure(figsize=(3, 2))
    figure.subplots().bar([1, 2, 3], [1, 2, 3], color=[REAL, SIMULATED, INVALID])
    save_png(figure, tmp_path / "x.png")
    assert [file.name for file in tmp_path.iterdir()] == ["x.png"]
    drawn = imread(tmp_path / "x.png")[:, :, :3]
    assert drawn.shape[:2] == (200, 300)
    for colour in (REAL, SIMULATED, INVALID, "white"):
        assert (np.abs(drawn - to_rgb(colour)).max(axis=-1) < 0.01).sum() > 500
    assert len(np.unique(drawn.reshape(-1, 3), axis=0)) <= 128


@pytest.mark.parametrize(
    ("low", "high", "marks"),
    [
        (0.8, 2_000, ["1", "10", "100", "1000"]),
        (9.5, 120, ["10", "20", "50", "100"]),
        (9.5, 35, ["10", "15", "20", "30"]),
        (12.1, 13.9, ["12", "12.5", "13", "13.5", "14"]),
    ],
)
def test_a_logarithmic_axis_has_plain_numbers_however_little_it_spans(low: float, high: float, marks: list) -> None:
    axes = Figure().subplots()
    axes.plot([1, 2], [low, high])
    log_axis(axes, "y")
    axes.set_ylim(low, high)
    assert [label.get_text() for label in axes.get_yticklabels()] == marks


def test_a_long_line_keeps_its_ends_and_its_extremes() -> None:
    x = np.arange(100_000.0)
    y = np.sin(x / 3000)
    y[[12_345, 54_321, 70_000]] = 9, -9, np.nan
    few_x, few_y = thinned(x, y)
    assert len(few_x) <= POINTS
    assert (few_x[0], few_x[-1]) == (0, 99_999)
    assert (np.nanmax(few_y), np.nanmin(few_y)) == (9, -9)
    assert np.all(np.diff(few_x) > 0)
    short = x[:POINTS]
    assert thinned(short, short)[0] is short


def test_steps_keep_every_change_and_nothing_else() -> None:
    x = np.arange(10.0)
    y = np.array([2.0, 2, 2, 3, 3, 3, 3, 1, 1, 1])
    few_x, few_y = steps_before(x, y)
    assert (few_x.tolist(), few_y.tolist()) == ([0, 2, 6, 9], [2, 2, 3, 1])
    at = np.arange(0.5, 9)
    assert few_y[np.searchsorted(few_x, at)].tolist() == y[np.searchsorted(x, at)].tolist()


def test_runs_that_are_not_valid_are_red_and_repeats_a_band(tmp_path: Path) -> None:
    rows = [row for row in compare_folder(write_demo(tmp_path / "demo")).runs if row.model == "resnet50"]
    (bad,) = (k for k, row in enumerate(rows) if not row.valid)
    figure = calibration.by_run(rows, "resnet50, CPU")
    errors, ks, throughput, busy = figure.axes
    labels = errors.get_yticklabels()
    assert [label.get_text().endswith(" NOT VALID") for label in labels] == [not row.valid for row in rows]
    assert same_color(labels[bad].get_color(), INVALID)
    (p95,) = lines_like(errors.lines, label="P95")
    assert p95.get_xydata().tolist() == [[row.p95_error_pct, k] for k, row in enumerate(rows)]
    bands = [patch for patch in errors.patches if isinstance(patch, Rectangle)]
    assert len(bands) == sum(len(row.p95_repeats_ms) > 1 for row in rows) > 0
    assert ks.lines[0].get_xdata().tolist() == [row.ks for row in rows]
    assert [line.get_label() for line in throughput.lines] == [line.get_label() for line in busy.lines]
    (axes,) = calibration.overview(rows).axes
    assert (axes.get_xscale(), axes.get_yscale(), axes.get_xlim()) == ("log", "log", axes.get_ylim())
    (red,) = lines_like(axes.lines, label="resnet50, NOT VALID")
    assert red.get_xydata().tolist() == [[rows[bad].p95_real_ms, rows[bad].p95_sim_ms]]
    assert same_color(red.get_color(), INVALID)


def series(batches_sim: dict[int, int] | None) -> PairSeries:
    share = np.linspace(0, 1, 101)
    curves = tuple(
        Curve(role, slower * (5 + 10 * share), share)
        for role, slower in (("repeat", 1.05), ("real", 1.0), ("simulated", 1.1))
    )
    time_s = np.arange(5.0, 100, 10)
    timeline = Timeline(time_s, time_s * 2, *(np.full(10, value) for value in (8.0, 14.0, 9.0, 15.0)))
    return PairSeries(curves, timeline, {1: 30, 2: 10}, batches_sim)


def test_a_pair_is_drawn_with_its_tail_its_batches_and_its_time() -> None:
    figure = calibration.pair(series({1: 10, 2: 30}), "resnet50: ramp")
    body, tail, sizes, latency, rate = figure.axes
    real, simulated = (line for line in body.lines if line.get_linewidth() > 1)
    assert (real.get_color(), simulated.get_color(), simulated.get_linestyle()) == (REAL, SIMULATED, "--")
    assert max(real.get_ydata()) <= 0.995
    assert tail.get_yscale() == "log"
    assert min(min(line.get_ydata()) for line in tail.lines) == pytest.approx(0.01)  # to the last but one
    assert [bar.get_height() for bar in sizes.patches] == [75, 25, 25, 75]
    assert {float(line.get_ydata()[0]) for line in latency.lines} == {8, 9, 14, 15}
    assert latency.get_xlim() == rate.get_xlim() == (0, 100)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["real", "real, repeated", "simulated"]
    assert "resnet50: ramp" in texts_of(svg_of(figure))


def test_batches_that_were_not_measured_are_not_drawn() -> None:
    sizes = calibration.pair(series(None), "").axes[2]
    assert sizes.get_title(loc="left") == "batches by size, % (simulated not measured)"
    assert len(sizes.patches) == 2


def test_a_profile_has_its_band_its_fit_and_its_overhead() -> None:
    profile = profile_of(ACCELERATOR, (100, 400), ())
    left, right = calibration.profile(profile, "").axes
    assert [line.get_label() for line in right.lines] == ["P99", "P95", "P50", "P5"]
    named = left.get_legend_handles_labels()[1]
    assert sorted(named) == ["90 % of batches", "mean, fitted (90 %)", "mean, measured"]
    assert left.get_ylim()[0] == 0


def metrics() -> MetricLog:
    rows: list[tuple] = []
    of_model = {"model": "m"}
    for second in range(10, 101, 10):
        values = {"spec_replicas": 3, "ready_replicas": 2, "pending_replicas": 1, "arrived": 50, "latency_p95": 0.02}
        rows += [
            (second * SECOND_NS, "deployment", name, of_model, float(value), "count") for name, value in values.items()
        ]
        for device, value in (("0", 0.25), ("1", 0.75)):
            where = {"node": "n", "device": device, "gpu_kind": "gpu"}
            rows.append((second * SECOND_NS, "device", "utilisation", where, value, "ratio"))
    for second, pod, state in ((0, "a", "pending"), (5, "a", "serving"), (40, "b", "pending"), (60, "a", "gone")):
        rows.append(
            (second * SECOND_NS, "replica", "state", {"model": "m", "replica": pod, "state": state}, 1.0, "state")
        )
    return MetricLog.from_rows(rows)


def test_a_cluster_run_is_drawn_over_time_with_its_target() -> None:
    figure = cluster.over_time(metrics(), "m", 30.0, "m under hpa (simulated)")
    replicas, rate, latency = figure.axes
    by_name = {line.get_label(): float(line.get_ydata()[-1]) for line in replicas.lines}
    assert by_name == {"asked for": 3, "ready": 2, "pending": 1}
    assert float(rate.lines[0].get_ydata()[-1]) == 5  # requests a second
    p95, target = latency.lines
    assert p95.get_ydata() == pytest.approx(20)
    assert (list(target.get_ydata()), target.get_linestyle()) == ([30, 30], "--")
    assert latency.get_yscale() == "log"


def test_pods_are_bars_by_state_and_devices_a_line_each() -> None:
    (axes,) = cluster.pods(metrics(), "m", 100.0).axes
    bars = {line.get_label(): np.nan_to_num(line.get_xydata(), nan=-1).tolist() for line in axes.lines}
    gap = [-1, -1]
    assert bars["pending"] == [[0, 0], [5, 0], gap, [40, 1], [100, 1], gap]
    assert bars["serving"] == [[5, 0], [60, 0], gap]
    assert bars["backoff"] == []
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b"]
    image = cluster.devices(metrics()).axes[0].images[0]
    assert image.get_array().tolist() == [[0.25] * 10, [0.75] * 10]


FOUND: dict[str, Any] = {
    "challenger": "learned",
    "baseline": "hpa",
    "pareto_front": ["learned", "all"],
    "policies": {
        "hpa": {"gpu_seconds": 120, "slo_violation_rate": 0.05},
        "learned": {"gpu_seconds": 100, "slo_violation_rate": 0.04},
        "all": {"gpu_seconds": 200, "slo_violation_rate": 0.0},
    },
}
FOUND["per_traffic"] = {"ramp": FOUND["policies"], "bursty": FOUND["policies"]}


def test_the_front_is_a_staircase_and_a_policy_beyond_it_is_hollow() -> None:
    figure = evaluation.pareto(FOUND)
    means, kinds = figure.axes
    front, *policies = means.lines
    assert front.get_xydata().tolist() == [[100, 4], [200, 0]]
    assert front.get_drawstyle() == "steps-post"
    assert {line.get_label(): line.get_fillstyle() for line in policies} == {
        "hpa (baseline)": "none",
        "learned (challenger)": "full",
        "all": "full",
    }
    assert len({(line.get_marker(), line.get_color()) for line in policies}) == 3
    assert means.get_xlim()[0] == kinds.get_xlim()[0] == 0
    named = [text for text in means.texts if text.get_text()]
    heights = [text.xy[1] for text in named]
    assert [text.get_text() for text in named] == ["all", "learned (challenger)", "hpa (baseline)"]  # from below
    assert min(np.diff(heights)) >= 0.04
    assert sum(len(line.get_xdata()) == 2 and line.get_alpha() is not None for line in kinds.lines) == 3  # pale ones


def test_one_kind_of_traffic_is_drawn_once() -> None:
    (kind, policies) = next(iter(FOUND["per_traffic"].items()))
    (panel,) = evaluation.pareto(FOUND | {"per_traffic": {kind: policies}}).axes
    assert panel.get_title("left") == f"means of {kind}"
    assert len({line.get_marker() for line in lines_like(panel.lines, markersize=8)}) == len(FOUND["policies"])


def test_a_long_title_has_lines_that_a_phone_shows_whole() -> None:
    figure = Figure()
    title(figure, "emulated, " * 12 + "bursty r1-n1-b8-d0ms")
    lines = figure.get_suptitle().split("\n")
    assert len(lines) > 1
    assert max(map(len, lines)) <= TITLE_LETTERS
    assert lines[-1].endswith(" r1-n1-b8-d0ms")


def test_names_of_marks_lie_apart_and_inside() -> None:
    figure = Figure(figsize=(6, 4))
    axes = figure.subplots()
    marks = {f"policy {k}": axes.plot(1, height)[0] for k, height in enumerate((0, 0, 0.01, 5, 9.99, 10, 10))}
    axes.set_ylim(0, 10)
    name_marks(figure, axes, marks)
    heights = [text.xy[1] for text in axes.texts if text.get_text()]
    assert min(np.diff(heights)) >= 0.05
    assert heights[3] == pytest.approx(0.5)  # where nothing is near, a name is as high as its mark
    assert heights[0] >= 0
    assert heights[-1] <= 1


def test_every_policy_has_a_panel() -> None:
    time_s = np.arange(0.0, 50, 10)
    lines = [
        evaluation.ScalingTimeline(name, time_s, time_s, np.full(5, 3.0), np.full(5, 2.0), np.array([0, 0, lost, 0, 0]))
        for name, lost in (("learned", 0.0), ("hpa", 4.0), ("keda", 1.0), ("fixed", 0.0))
    ]
    panels = evaluation.policies(lines).axes
    shown = [panel for panel in panels if panel.get_title(loc="left")]
    assert [panel.get_title(loc="left") for panel in shown] == ["learned", "hpa", "keda", "fixed"]
    missed = [panel for panel in panels if panel.get_ylim() == (0, 4)]  # one scale for all
    assert len(missed) == 4
    assert max(missed[1].collections[0].get_paths()[0].vertices[:, 1]) == 4


def test_policies_follow_the_traffic_in_three_panels_for_each_kind() -> None:
    time_s = np.arange(0.0, 50, 10)
    lines = [
        evaluation.ScalingTimeline(name, time_s, time_s, np.full(5, asked), np.full(5, asked - 1), np.zeros(5))
        for name, asked in (("learned", 3.0), ("hpa", 4.0))
    ]
    figure = evaluation.timelines({"ramp": lines, "bursty": lines, "periodic": lines})
    assert len(figure.axes) == 3 * 3
    replicas = figure.axes[1]
    assert [float(line.get_ydata()[0]) for line in lines_like(replicas.lines, linestyle="-")] == [3, 4]
    assert [float(line.get_ydata()[0]) for line in lines_like(replicas.lines, linestyle=":")] == [2, 3]
    assert {"ramp", "bursty", "periodic", "learned", "hpa"} <= set(texts_of(svg_of(figure)))


def test_costs_of_an_experiment_are_a_panel_each_with_the_line_of_equality() -> None:
    rows = [
        {
            "policy": policy,
            "p95_ms_real": real,
            "p95_ms_sim": sim,
            "slo_violation_rate_real": 0.1,
            "slo_violation_rate_sim": None,
        }
        for policy, real, sim in (("hpa", 10.0, 11.0), ("hpa", 12.0, 12.5), ("kpa", 20.0, 18.0))
    ]
    p95, missed = experiment.costs(rows, {"p95_ms": "P95, ms", "slo_violation_rate": "share"}).axes
    equal, hpa, kpa = p95.lines
    assert list(equal.get_xdata()) == list(equal.get_ydata()) == [10, 20]
    assert hpa.get_xydata().tolist() == [[10, 11], [12, 12.5]]
    assert (kpa.get_label(), p95.get_title(loc="left")) == ("kpa", "P95, ms")
    assert [len(line.get_xdata()) for line in missed.lines] == [2, 0, 0]  # nothing was simulated


def test_a_plan_is_a_line_a_setting_with_the_target() -> None:
    figures = {1: (9.0, 10.0, 12.0), 2: (4.0, 5.0, 7.0)}
    options = tuple(
        {
            "service": ServiceConfig(replicas=replicas, max_batch_size=8).model_dump(),
            "latency_ms": dict(zip(("low", "middle", "high"), latency_ms, strict=True)),
            "slo_violation_rate": {"low": 0.0, "middle": 0.1, "high": 0.2},
        }
        for replicas, latency_ms in figures.items()
    )
    figure = plan.plan([Setting((8,), options, recommended=2)], 8.0, 95)
    latency, _ = figure.axes
    middle = next(line for line in latency.lines if len(line.get_xdata()) == 2 and line.get_linestyle() == "-")
    assert middle.get_xydata().tolist() == [[1, 10], [2, 5]]
    assert [line.get_xydata().tolist() for line in latency.lines if line.get_fillstyle() == "none"] == [[[2, 5]]]
    assert "P95, ms (dashed: the target of 8 ms)" in texts_of(svg_of(figure))


@pytest.mark.parametrize("numbers", [(2,), (1, 2), (7,)])
def test_a_plan_of_few_numbers_of_replicas_has_whole_ones_on_its_axis(numbers: tuple[int, ...]) -> None:
    options = tuple(
        {
            "service": ServiceConfig(replicas=replicas, max_batch_size=8).model_dump(),
            "latency_ms": {"low": 4.0, "middle": 5.0, "high": 7.0},
            "slo_violation_rate": {"low": 0.0, "middle": 0.1, "high": 0.2},
        }
        for replicas in numbers
    )
    figure = plan.plan([Setting((8,), options, recommended=numbers[0])], 8.0, 95)
    figure.draw_without_rendering()
    for axes in figure.axes:
        low, high = axes.get_xlim()
        assert low <= numbers[0] - 0.5
        assert high >= numbers[-1] + 0.5
        assert [tick for tick in axes.get_xticks() if low <= tick <= high] == list(numbers)

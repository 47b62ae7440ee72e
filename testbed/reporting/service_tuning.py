"""What tuned-service.json says: settings in words, the picks' predicted and real figures, the answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from testbed.reporting.labels import counted, number, significant
from testbed.reporting.plan import setting_text
from workloads.catalog import ServiceConfig

Tuned = Mapping[str, Any]  # tuned-service.json
Row = Mapping[str, Any]  # of its settings
Pick = Mapping[str, Any]


def setting_name(row: Row) -> str:
    """`bert: 2 instances, batches of at most 8, 1 ms queue delay, preferred 4`; without replicas."""
    service = ServiceConfig.model_validate(row["service"])
    text = setting_text(service, str(service.max_batch_size)).replace(" each", "")
    rules = service.dynamic_batching
    if rules is not None and rules.preferred_batch_sizes:
        text += f", preferred {' and '.join(map(str, rules.preferred_batch_sizes))}"
    return f"{row['model']}: {text}"


def goal_text(tuned: Tuned) -> str:
    """`P95 <= 100 ms`."""
    return f"P{tuned['config']['percentile']:g} <= {tuned['config']['target_ms']:g} ms"


def cost_text(tuned: Tuned, row: Row) -> str:
    """`2.5 EUR/h`; empty: no price was given."""
    if row["cost_per_hour"] is None:
        return ""
    return f"{significant(row['cost_per_hour'])} {tuned['config']['currency']}/h"


def range_text(interval: Mapping[str, float]) -> str:
    """`10.4 (9.6 to 11.1)`."""
    return "{middle:.1f} ({low:.1f} to {high:.1f})".format(**interval)


def real_text(pick: Pick, run: str) -> str:
    """`10.9 ms`, with a word where the run is INVALID; of `traffic` or `most`."""
    told = pick["runs"].get(run)
    if told is None:
        return "not run"
    return f"{told['latency_ms']:.1f} ms{'' if told['valid'] else ' (INVALID)'}"


def error_pct(pick: Pick, run: str) -> float | None:
    """How far the predicted percentile is from the real one, in % of that; None: there is no run."""
    told = pick["runs"].get(run)
    return None if told is None else 100 * (told["predicted_ms"]["middle"] / told["latency_ms"] - 1)


def sentence(tuned: Tuned) -> str:
    """What to use, or that nothing holds."""
    config, settings = tuned["config"], tuned["settings"]
    holding = [row for row in settings if row["holds"]]
    if not holding:
        least = min(settings, key=lambda row: row["latency_ms"]["middle"])
        return (
            f"Nothing up to {counted(config['max_replicas'], 'replica')} holds {goal_text(tuned)}: the least is "
            f"{range_text(least['latency_ms'])} ms, with {setting_name(least)}. Allow another target, or more."
        )
    if not tuned["picks"]:
        return (
            f"{counted(len(holding), 'setting')} of {len(settings)} hold {goal_text(tuned)} (simulated); none was run."
        )
    pick = tuned["picks"][0]
    row = settings[pick["setting"]]
    cost = cost_text(tuned, row)
    replicas = counted(row["service"]["replicas"], "replica")
    use = f"Use {replicas} of {setting_name(row)}{f' ({cost})' if cost else ''}"
    predicted = f"P{config['percentile']:g} {range_text(row['latency_ms'])} ms simulated"
    serves = f"One replica serves {number(row['throughput_rps'], 0)}/s within the target (simulated)"
    if "traffic" not in pick["runs"]:
        return f"{use}: {predicted}, not run yet. {serves}."
    at_most = f"; at that rate the server had {real_text(pick, 'most')}" if "most" in pick["runs"] else ""
    return f"{use}: {predicted}, {real_text(pick, 'traffic')} on the server. {serves}{at_most}."


def effort_text(tuned: Tuned) -> str:
    """What was measured, beside what a search of the whole grid would have been."""
    effort = tuned["effort"]
    runs = effort["measured_runs"] + effort["confirmed_runs"]
    text = (
        f"{counted(runs, 'real run')} with {effort['traffic_s'] / 60:.1f} min of traffic: {effort['measured_runs']} "
        f"that profiles are fitted on, {effort['confirmed_runs']} of the picks."
    )
    if effort["grid_traffic_s"] is None:
        return text
    share = 100 * effort["traffic_s"] / effort["grid_traffic_s"]
    return (
        f"{text} To run each of the {len(tuned['settings'])} settings as the picks were run takes "
        f"{effort['grid_runs']} runs with {effort['grid_traffic_s'] / 60:.0f} min of traffic: {share:.0f} % of that "
        "was measured."
    )

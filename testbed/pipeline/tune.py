"""`kis tune`: the settings of policies for some traffic, found in the simulator.

Each candidate is searched with Optuna for fewer misses and fewer GPU-seconds at once. Of its front, some settings near
the allowed share are played on further runs, and the cheapest that holds there is the candidate's. Last, all of them,
the policy of today and the fewest fixed replicas are checked on runs that nothing was chosen on; of a recorded trace,
on a part of it that no search has seen. The traffic of every run varies (varied.py).

Files in results/<name>/: tune.json (the configuration), tuned.json (what came out), <candidate>/trials.csv and
<candidate>/front.json, <candidate>.yaml (what to apply; of those that hold), logs/<traffic>/<policy>.parquet
(ScalingLog: one run of each that was checked). With families, each has a folder with these.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from loadgen.artifact import read_json
from testbed.autoscaling.build import knows_the_future
from testbed.errors import ConfigError
from testbed.pipeline.manifests import manifest_of
from testbed.pipeline.setting_search import Finalist, cheapest, search
from testbed.pipeline.tune_config import WHOLE, TuneConfig
from testbed.pipeline.tuning_runs import MeanOutcome, Tuning
from testbed.study import remember
from workloads.files import write_json, write_text_atomically

LOUDER = 1.2  # times the rate: what a policy that is to be trusted still holds


def tune_families(config: TuneConfig, folder: Path, on_progress: Callable[[float], None]) -> dict[str, dict[str, Any]]:
    """`tune` for each family, in folders of their names; results by family."""
    remember(config, folder / "tune.json", may_grow=("families", "candidates"))
    results = {}
    for done, name in enumerate(config.families):
        results[name] = tune(
            config.of_family(name),
            folder / name,
            lambda share, done=done: on_progress((done + share) / len(config.families)),  # type: ignore[misc]
        )
    return results


def tune(config: TuneConfig, folder: Path, on_progress: Callable[[float], None]) -> dict[str, Any]:
    """Search, choose, check on other traffic, write the folder; returns tuned.json's content.

    What a folder has of the same search is kept: its result, or the trials before an interrupt.
    """
    for name, settings in config.candidates.items():
        if knows_the_future(settings):
            raise ConfigError(f"candidates: {name}: kind {settings['kind']} knows the arrivals to come: take it out")
    remember(config, folder / "tune.json", may_grow=("candidates",))
    names = list(config.candidates)
    if (folder / "tuned.json").exists():
        before = dict(read_json(folder / "tuned.json", "remove it to search again"))
        if set(names) <= before["policies"].keys():
            on_progress(1.0)
            return before
    tuning, allowed = Tuning.of(config), config.allowed_slo_violation_rate
    chosen_of: dict[str, Finalist] = {}
    if config.model in config.policies:
        given = tuning.settings(config.policies[config.model])
        chosen_of["given"] = Finalist(given, tuning.played(given, tuning.selected))
    fixed = _fewest_fixed(tuning)
    if fixed is not None:
        chosen_of["fixed"] = fixed
    for done, name in enumerate(names):
        front = search(
            tuning,
            name,
            folder,
            lambda share, done=done: on_progress(0.95 * (done + share) / len(names)),  # type: ignore[misc]
        )
        chosen_of[name] = front[cheapest([finalist.outcome for finalist in front], allowed, config.objective)]
    order = list(chosen_of)
    chosen = order[cheapest([chosen_of[name].outcome for name in order], allowed, config.objective)]
    checked = {name: tuning.played(chosen_of[name].settings, tuning.checked) for name in order}
    louder = tuning.played(chosen_of[chosen].settings, tuning.checked, LOUDER)
    policies = {name: finalist.settings for name, finalist in chosen_of.items()}
    result = {
        "simulated": True,
        "allowed_slo_violation_rate": allowed,
        "trials": config.trials,
        "check_seeds": [*tuning.checked.seeds],
        "checked_part": [*tuning.checked.part],
        "policies": policies,
        "selected": {name: finalist.outcome.as_dict() for name, finalist in chosen_of.items()},
        "outcomes": {name: outcome.as_dict() for name, outcome in checked.items()},
        "chosen": chosen,
        "holds": checked[chosen].holds(allowed),
        "fixed": None if fixed is None else {**fixed.settings, **checked["fixed"].as_dict()},
        "louder": {"factor": LOUDER, **louder.as_dict()},
        **({"objective": "cost"} if config.objective == "cost" else {}),
        **({"currency": config.cluster.currency} if config.cluster.currency is not None else {}),
        "notes": _notes(config, chosen_of[chosen].outcome, checked, chosen, policies, louder),
    }
    _write_manifests(tuning, checked, policies, result, folder)
    tuning.log_runs(policies, folder)
    write_json(folder / "tuned.json", result)
    on_progress(1.0)
    return dict(read_json(folder / "tuned.json", "search again"))


def _fewest_fixed(tuning: Tuning) -> Finalist | None:
    """The fewest replicas that surely hold the allowed share all the time, by halving; None: all of them do not."""

    def fixed(replicas: int) -> Finalist:
        settings = {"kind": "fixed", "replicas": replicas}
        return Finalist(settings, tuning.played(settings, tuning.selected))

    allowed = tuning.config.allowed_slo_violation_rate
    low, high = 1, tuning.service.max_replicas
    best = fixed(high)
    if not best.outcome.surely_holds(allowed):
        return None
    while low < high:
        middle = (low + high) // 2
        tried = fixed(middle)
        if tried.outcome.surely_holds(allowed):
            high, best = middle, tried
        else:
            low = middle + 1
    return best


def _notes(
    config: TuneConfig,
    selected: MeanOutcome,
    checked: Mapping[str, MeanOutcome],
    chosen: str,
    policies: Mapping[str, Mapping[str, Any]],
    louder: MeanOutcome,
) -> list[str]:
    """What a user must know before using what was found. selected: of the chosen, in the runs that chose."""
    best, allowed = checked[chosen], f"{config.allowed_slo_violation_rate:.2%}"
    target, most = f"{1e3 * config.cluster.models[0].latency_target_s:g} ms", config.cluster.models[0].max_replicas
    holds = best.holds(config.allowed_slo_violation_rate)
    notes = []
    if holds and not selected.holds(config.allowed_slo_violation_rate):
        notes.append(
            f"Nothing that was tried holds {allowed} on the traffic that was searched: {chosen} misses least there, "
            f"{selected.slo_violation_rate:.2%}, and was taken for that, whatever it costs. Where {most} replicas are "
            "too few for the peaks, raise max_replicas or the target, and tune again"
        )
    if not holds:
        notes.append(
            f"{chosen} does not hold the target on traffic that it has not seen: {best.slo_violation_rate:.2%} of the "
            f"requests miss {target}, {allowed} are allowed. It is not written"
        )
        notes.append(
            f"{policies['fixed']['replicas']} replicas all the time hold that share"
            if "fixed" in checked and checked["fixed"].holds(config.allowed_slo_violation_rate)
            else f"Not even {most} replicas all the time hold that share: raise max_replicas or the target"
        )
    if chosen == "given":
        notes.append("No candidate is better than the policy of today")
    if chosen == "fixed":
        spent = "money" if config.objective == "cost" else "GPU-seconds"
        notes.append(f"No candidate saves a hundredth of the {spent} of a fixed number of replicas on this traffic")
    elif best.changes == 0:
        notes.append(f"{chosen} never changes the number of replicas on this traffic")
    if holds and not louder.holds(config.allowed_slo_violation_rate):
        notes.append(
            f"At {LOUDER:g} times the rate {louder.slo_violation_rate:.2%} miss {target}, {allowed} are allowed"
        )
    return notes


def _write_manifests(
    tuning: Tuning,
    checked: Mapping[str, MeanOutcome],
    policies: Mapping[str, Mapping[str, Any]],
    result: Mapping[str, Any],
    folder: Path,
) -> None:
    """<name>.yaml for each policy that holds; what an earlier search has left of others goes."""
    config = tuning.config
    for name in policies:
        file = folder / f"{name}.yaml"
        file.unlink(missing_ok=True)
        if name == "fixed" or not checked[name].holds(config.allowed_slo_violation_rate):
            continue
        how, body = manifest_of(policies[name], tuning.service, config)
        lines = [f"# {how}", *_header(tuning, name, checked[name])]
        if name == result["chosen"]:
            lines += [f"# NOTE: {note}." for note in result["notes"]]
        write_text_atomically(file, "\n".join(lines) + "\n" + yaml.safe_dump(body, sort_keys=False))


def _header(tuning: Tuning, name: str, outcome: MeanOutcome) -> list[str]:
    config = tuning.config
    low, high = outcome.slo_violation_rate_interval or (np.nan, np.nan)
    gpu_low, gpu_high = outcome.gpu_seconds_interval or (np.nan, np.nan)
    p95 = "-" if outcome.p95_ms is None else f"{outcome.p95_ms:.1f} ms"
    part = "" if tuning.checked.part == WHOLE else f"the last {config.held_out:.0%} of a trace, "
    return [
        f"# Found by `kis tune` in the simulator ({config.trials} trials). Predicted for a target of "
        f"{1e3 * config.cluster.models[0].latency_target_s:g} ms, on",
        f"# {len(tuning.checked.seeds)} runs that the search has not seen ({part}other arrivals, rates up to "
        f"{config.variation.rate:.0%} off), with 90 % intervals:",
        f"#   P95 {p95}; {outcome.slo_violation_rate:.2%} over the target ({low:.2%} to {high:.2%}); "
        f"{outcome.gpu_seconds:,.0f} GPU-seconds ({gpu_low:,.0f} to {gpu_high:,.0f})",
        *([] if outcome.cost is None else [f"#   {outcome.cost:,.2f} {config.cluster.currency} a run for all nodes"]),
    ]

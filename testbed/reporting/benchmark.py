"""A benchmark in numbers, from its rows alone: what each policy holds at the same share of misses.

A policy has several settings for each service. On the held-out worlds, each of them has a share of misses (mean over
the worlds, each the mean of its runs) and a cost (GPU-seconds, of what max_replicas would hold). Two settings that take
turns have any share between theirs, at a cost on the straight line: the cost at the allowed share is that of the best
such two, or of one that misses less. Fixed numbers take no turns. All replicas all the time are a setting of every
policy, too: its minimum can be the maximum (a fixed number under `compared` that is that of every service). What always
misses more does not hold, and its cost is not known. The cost after several searches is the mean of what each of them
found: that of one search, without its luck.

Intervals: the held-out worlds of each service are drawn again, with all their runs, the same for both policies. Where
there are several searches, those of each policy for each service are drawn again as well.

pods/ in the folder may be an experiment with policies of the same names on real pods (`kis experiment --out`): its
differences.json says in how many kinds of traffic the real runs decide whether the winner or another policy is cheaper,
and in how many of those the simulated ones have the same sign.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from loadgen.artifact import read_json
from testbed.errors import ReportError
from testbed.reporting.labels import counted, number
from testbed.statistics import RESAMPLES, expanded_tail

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
MEANS = ("slo_violation_rate", "cost")  # of a setting on a world, over its runs
HPAS, NO_RULES = ("hpa", "keda"), ("fixed", "learned", "corrected")  # kinds of policies
ROWS, PODS = "rows.parquet", "pods/differences.json"


class Front(NamedTuple):
    """The settings that one search found for a service: float64[settings, worlds] each, of the same worlds in the same
    order. between: may two of them take turns?"""

    missed: FloatArray
    cost: FloatArray
    between: bool = True

    def with_settings_of(self, other: Front) -> Front:
        """And those of another one."""
        return Front(np.vstack([self.missed, other.missed]), np.vstack([self.cost, other.cost]), self.between)


Fronts = Mapping[str, Mapping[str, Sequence[Front]]]  # by policy and service, of each search


def read_rows(folder: Path) -> pd.DataFrame:
    """One row a run. ReportError: a policy, or what a search found for it, has not been played on a service."""
    config = read_json(folder / "benchmark.json", "give a folder of `kis benchmark`")
    again = f"run `kis benchmark` again with --out {folder}"
    if not (folder / ROWS).exists():
        raise ReportError(f"{folder / ROWS} is missing, as the benchmark was not finished: {again}")
    rows = pd.read_parquet(folder / ROWS)
    played = set(zip(rows["policy"], rows["service"], rows["search"], strict=True))
    of_each = {name: config.get("searches", 1) for name in config["candidates"]} | dict.fromkeys(config["compared"], 1)
    for policy, searches in of_each.items():
        for service, search in product(config["services"], range(1, searches + 1)):
            if (policy, service, search) not in played:
                raise ReportError(f"{folder / ROWS} has no run of {policy} on {service}, search {search}: {again}")
    rows["slo_violation_rate"] = rows["missed"] / rows["decided"].clip(lower=1)
    if config.get("objective") == "cost":
        rows["cost"] = rows["money"] / rows["most_money"]
    else:
        rows["cost"] = rows["gpu_seconds"] / (rows["max_replicas"] * rows["duration_s"])
    return rows


def fronts_of(rows: pd.DataFrame, config: Mapping[str, Any]) -> Fronts:
    """Of each search, by policy and service. config: of the benchmark."""
    by_world = rows.groupby(["policy", "service", "search", "point", "world"], sort=True)[[*MEANS]].mean()
    fronts: dict[str, dict[str, list[Front]]] = {}
    for policy in dict.fromkeys(rows["policy"]):
        fronts[policy], between = {}, not (rows.loc[rows["policy"] == policy, "kind"] == "fixed").all()
        for service in dict.fromkeys(rows["service"]):
            of_both = by_world.loc[policy, service]
            fronts[policy][service] = [
                Front(_by_setting(found["slo_violation_rate"]), _by_setting(found["cost"]), between)
                for _, found in of_both.groupby(level="search")
            ]
    everything = _all_replicas(rows, config["compared"])
    if everything is None:
        return fronts
    for policy, by_service in fronts.items():
        for service, searches in by_service.items():
            if policy != everything:
                (all_of_them,) = fronts[everything][service]
                by_service[service] = [front.with_settings_of(all_of_them) for front in searches]
    return fronts


def _by_setting(found: pd.Series) -> FloatArray:
    """float64[settings, worlds] of one search."""
    return found.droplevel("search").unstack("world").to_numpy(dtype=float)


def _all_replicas(rows: pd.DataFrame, compared: Mapping[str, Any]) -> str | None:
    """The policy under `compared` that holds them all the time."""
    for policy, settings in compared.items():
        if settings["kind"] == "fixed" and settings["replicas"] >= rows["max_replicas"].max():
            return policy
    return None


def cost_at(missed: FloatArray, cost: FloatArray, allowed: float, *, between: bool = True) -> FloatArray:
    """float64[..., settings] twice -> float64[...]: the cost at the allowed share; NaN: every setting misses more.

    The lower convex hull of the settings at that share. between False: of the cheapest that holds.
    """
    holds = missed <= allowed
    best = np.where(holds, cost, np.inf).min(axis=-1)
    if between:
        first, second = (missed[..., :, None], cost[..., :, None]), (missed[..., None, :], cost[..., None, :])
        turns = holds[..., :, None] & ~holds[..., None, :]
        share = np.where(turns, (allowed - first[0]) / np.where(turns, second[0] - first[0], 1.0), 0.0)
        both = np.where(turns, first[1] + share * (second[1] - first[1]), np.inf)
        best = np.minimum(best, both.min(axis=(-2, -1)))
    return np.asarray(np.where(np.isfinite(best), best, np.nan))


def _by_search(searches: Sequence[Front], drawn: IntArray, allowed: float) -> FloatArray:
    """float64[draws, searches]: the cost at the allowed share. drawn: int64[draws, worlds]."""
    costs = []
    for front in searches:
        missed = front.missed[:, drawn].mean(axis=-1).T
        cost = front.cost[:, drawn].mean(axis=-1).T
        costs.append(cost_at(missed, cost, allowed, between=front.between))
    return np.stack(costs, axis=-1)


def _drawn_costs(
    fronts: Mapping[str, Sequence[Front]], draws: Mapping[str, IntArray], allowed: float, rng: np.random.Generator
) -> FloatArray:
    """float64[draws]: the mean over the services of the cost at the allowed share, of the worlds drawn for each, and of
    searches that are drawn here. Of n searches n - 1 are drawn: n would show too little of what they differ by (the
    rescaled bootstrap of J. N. K. Rao and C. F. J. Wu, JASA 83 (1988), 231-241)."""
    costs = []
    for service, searches in fronts.items():
        of_each = _by_search(searches, draws[service], allowed)
        if len(searches) > 1:
            picked = rng.integers(len(searches), size=(len(of_each), len(searches) - 1))
            of_each = np.take_along_axis(of_each, picked, axis=-1)
        costs.append(of_each.mean(axis=-1))
    return np.asarray(np.mean(costs, axis=0))


def wins_of(folder: Path) -> dict[str, Any]:
    """wins.json's content."""
    config, rows = read_json(folder / "benchmark.json", "give a folder of `kis benchmark`"), read_rows(folder)
    allowed, fronts = config["allowed_slo_violation_rate"], fronts_of(rows, config)
    searches = config.get("searches", 1)
    oracles = [
        policy for policy, kind in rows.groupby("policy", sort=False)["kind"].first().items() if kind == "oracle"
    ]
    rng = np.random.default_rng(0)
    count = {service: searches[0].missed.shape[1] for service, searches in next(iter(fronts.values())).items()}
    draws = {service: rng.integers(n, size=(RESAMPLES, n)) for service, n in count.items()}
    found = {
        policy: {
            service: _by_search(searches, np.arange(count[service])[None, :], allowed)[0]
            for service, searches in of.items()
        }
        for policy, of in fronts.items()
    }
    costs = {policy: float(np.mean([by_search.mean() for by_search in of.values()])) for policy, of in found.items()}
    drawn = {policy: _drawn_costs(of, draws, allowed, rng) for policy, of in fronts.items()}
    holding = {policy: cost for policy, cost in costs.items() if np.isfinite(cost) and policy not in oracles}
    winner = min(holding, key=lambda policy: holding[policy], default=None)
    chosen = rows[rows["chosen"]]
    policies: dict[str, dict[str, Any]] = {
        policy: {
            "cost_pct": _or_none(100 * costs[policy]),
            "search_error_pct": _search_error_pct(found[policy]),
            "by_service": {service: _or_none(100 * float(costs.mean())) for service, costs in found[policy].items()},
            "chosen": _chosen(chosen[chosen["policy"] == policy]),
            "winner_saves": None if winner in (None, policy) else _saving(winner, policy, costs, drawn, count),
        }
        for policy in fronts
    }
    kinds = config["candidates"] | config["compared"]
    others = {name: kinds[name]["kind"] for name in holding if name != winner}
    best_hpa = _cheapest(holding, [name for name, kind in others.items() if kind in HPAS])
    best_rule = _cheapest(holding, [name for name, kind in others.items() if kind not in (*HPAS, *NO_RULES)])
    return {
        "simulated": True,
        "allowed_slo_violation_rate": allowed,
        **({"objective": "cost"} if config.get("objective") == "cost" else {}),
        "winner": winner,
        "oracles": oracles,
        "worlds": sum(count.values()),
        "seeds": config["seeds"],
        **_headline("hpa", best_hpa, policies),
        **_headline("rule", best_rule, policies),
        "slo_violation_rate": {policy: told["chosen"]["slo_violation_rate"] for policy, told in policies.items()},
        "policies": policies,
        "searches": searches,
        "interval_over": "held-out worlds of each service" + (", and searches" if searches > 1 else ""),
        **_on_pods(folder, winner),
        "rows": len(rows),
    }


def _search_error_pct(found: Mapping[str, FloatArray]) -> float | None:
    """Standard error of the mean cost over the services that comes of their searches, in % of all replicas; None: there
    is one of each, or one did not hold. found: float64[searches] of each."""
    if min(len(costs) for costs in found.values()) < 2:
        return None
    variances = [float(np.var(costs, ddof=1)) / len(costs) for costs in found.values()]
    return _or_none(100 * float(np.sqrt(sum(variances))) / len(variances))


def _on_pods(folder: Path, winner: str | None) -> dict[str, Any]:
    """The winner less each other policy of the experiment, by cost. None: there are no real runs of the winner."""
    file = folder / PODS
    found = read_json(file, f"kis report {file.parent}")["rows"] if file.exists() else []
    own = [one for one in found if one["first"] == winner]
    if not own:
        return {"real_kinds": None, "real_signs_decided": None, "real_signs_agree": None, "real": None}
    return {
        "real_kinds": len({kind["traffic"] for one in own for kind in one["kinds"]}),
        "real_signs_decided": sum(one["decided"] for one in own),
        "real_signs_agree": sum(one["agree"] for one in own),
        "real": own,
    }


def _cheapest(costs: Mapping[str, float], names: Sequence[str]) -> str | None:
    return min(names, key=lambda name: costs[name], default=None)


def _headline(what: str, name: str | None, policies: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    saving = None if name is None else policies[name]["winner_saves"]
    return {
        f"best_{what}": name,
        f"saving_vs_best_{what}_pct": None if saving is None else saving["pct"],
        f"saving_vs_best_{what}_low_pct": None if saving is None else saving["low_pct"],
        f"saving_vs_best_{what}_high_pct": None if saving is None else saving["high_pct"],
    }


def _saving(
    winner: str, other: str, costs: Mapping[str, float], drawn: Mapping[str, FloatArray], count: Mapping[str, int]
) -> dict[str, float | None]:
    """Of GPU-seconds at the allowed share, in per cent of the other's; None: the other does not hold. An end of the
    interval is None where it lies among draws in which one of both does not hold."""
    if not np.isfinite(costs[other]):
        return {"pct": None, "low_pct": None, "high_pct": None}
    ratios = 1 - drawn[winner] / drawn[other]
    # Of worlds in which the winner does not hold it saves nothing that could be told, of those in which only the other
    # does not it saves more than could be told: neither may be left out.
    ratios = np.where(np.isnan(drawn[winner]), -np.inf, np.where(np.isnan(drawn[other]), np.inf, ratios))
    tail = expanded_tail(sum(count.values()))
    low, high = np.quantile(ratios, (tail, 1 - tail), method="nearest")
    return {
        "pct": 100 * (1 - costs[winner] / costs[other]),
        "low_pct": _or_none(100 * float(low)),
        "high_pct": _or_none(100 * float(high)),
    }


def _chosen(rows: pd.DataFrame) -> dict[str, Any]:
    """The settings that the searches chose, on the held-out worlds: means over the worlds."""
    worlds = rows.groupby(["service", "world"])[
        ["slo_violation_rate", "cost", "p95_ms", "changes", "duration_s"]
    ].mean()
    return {
        "slo_violation_rate": float(worlds["slo_violation_rate"].mean()),
        "cost_pct": 100 * float(worlds["cost"].mean()),
        "changes_per_hour": float((3600 * worlds["changes"] / worlds["duration_s"]).mean()),
        "by_traffic": {
            traffic: {
                "slo_violation_rate": float(of["slo_violation_rate"].mean()),
                "cost_pct": 100 * float(of["cost"].mean()),
            }
            for traffic, of in rows.groupby("traffic", sort=False)
        },
        "p95_ms": {service: float(of["p95_ms"].mean()) for service, of in rows.groupby("service", sort=False)},
    }


def _or_none(value: float) -> float | None:
    return value if np.isfinite(value) else None


def sentence(wins: Mapping[str, Any]) -> str:
    """What needs the fewest GPU-seconds, by how much, and whether the worlds tell it apart."""
    allowed = number(100 * wins["allowed_slo_violation_rate"], 1, "%")
    if wins["winner"] is None:
        return f"No policy holds {allowed} of missed requests in every service."
    over = f"{counted(wins['worlds'], 'held-out world')} of {counted(len(_services(wins)), 'service')}"
    parts, less = [], "less" if wins.get("objective") == "cost" else "fewer"
    for what, told in (("hpa", "the best tuned HPA"), ("rule", "the best tuned rule")):
        name, pct = wins[f"best_{what}"], wins[f"saving_vs_best_{what}_pct"]
        if name is None or pct is None:
            continue
        low, high = wins[f"saving_vs_best_{what}_low_pct"], wins[f"saving_vs_best_{what}_high_pct"]
        interval = ""
        if low is not None and high is not None:
            apart = "" if low > 0 else ", so they are not told apart"
            drawn = "worlds and searches" if wins["searches"] > 1 else "worlds"
            interval = f" (90 % interval over {drawn}: {number(low, 1)} to {number(high, 1)} %{apart})"
        parts.append(f"{number(pct, 1, '%')} {less} than {told}, {name}{interval}")
    beside = f": {'; '.join(parts)}" if parts else ""
    spent = "least money" if less == "less" else "fewest GPU-seconds"
    fewest = f"{wins['winner']} needs the {spent} at {allowed} of missed requests"
    return f"In simulation, over {over}, {fewest}{beside}."


def pods_sentence(wins: Mapping[str, Any]) -> str:
    """How much the winner holds on real pods beside the others; empty: it has not been there."""
    of: dict[str, dict[str, Mapping[str, Any]]] = {}
    for one in wins["real"] or ():
        of.setdefault(one["second"], {})[one["unit"]] = one
    told = []
    for second, by_unit in of.items():
        pods = _difference(by_unit["%"], 1, "%")
        missed = f", and its misses by {_difference(by_unit['points'], 1)} points" if "points" in by_unit else ""
        told.append(f"by {pods} from those of {second}{missed}")
    if not told:
        return ""
    kinds, decided = counted(wins["real_kinds"], "kind"), counted(wins["real_signs_decided"], "difference")
    agree = f"the simulated ones have the same sign in {wins['real_signs_agree']} of them"
    return (
        f"On real pods, over {kinds} of traffic, the replica-seconds of {wins['winner']} differ {'; '.join(told)}. "
        f"Real runs decide {decided}; {agree}."
    )


def _difference(one: Mapping[str, Any], digits: int, unit: str = "") -> str:
    low, high = one["real_low"], one["real_high"]
    ends = "" if low is None else f" ({number(low, digits, signed=True)} to {number(high, digits, signed=True)})"
    return f"{number(one['real'], digits, unit, signed=True)}{ends}"


def _services(wins: Mapping[str, Any]) -> list[str]:
    return list(next(iter(wins["policies"].values()))["by_service"])

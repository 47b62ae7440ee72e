"""What packing.json says: the answer, why pairs may not share, what the models are taken to do to each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from testbed.reporting.labels import counted, number, significant
from testbed.reporting.plan import latency_text

Told = Mapping[str, Any]  # packing.json
Model = Mapping[str, Any]  # of its models
Pair = Mapping[str, Any]


def goal_text(model: Model) -> str:
    """`P95 <= 100 ms`."""
    return f"P{model['percentile']:g} <= {model['target_ms']:g} ms"


def listed(names: Sequence[str]) -> str:
    """`a, b and c`."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def gpus_of(told: Told, model: Model) -> list[str]:
    """Names of the GPUs that have a replica of it."""
    return [gpu["name"] for gpu in told["gpus"] if model["name"] in gpu["models"]]


def sentence(told: Told) -> str:
    """How many GPUs, and what is on each; or what does not hold, and by how much."""
    models, gpus = told["models"], told["gpus"]
    if not gpus:
        failing = [model for model in models if not model["searched"]["holds"]]
        each = [
            f"{model['name']} does not hold {goal_text(model)} on {counted(model['replicas'], 'GPU')} of its own: "
            f"{latency_text(model['searched'])} ms, {_excess(model['searched'], model)} too much"
            for model in failing
        ]
        wide = all(model["searched"]["latency_ms"]["middle"] <= model["target_ms"] for model in failing)
        advice = (
            "The middle holds: a longer calibration narrows the interval."
            if wide
            else "Give another target, or more replicas."
        )
        return f"Nothing was packed. {'. '.join(each)}. {advice}"
    late = [model for model in models if not model["packed"]["holds"]]
    if late:
        each = [
            f"{model['name']} has {latency_text(model['packed'])} ms, {_excess(model['packed'], model)} too much for "
            f"{goal_text(model)}, also on GPUs of its own"
            for model in late
        ]
        return (
            f"Do not rely on {counted(len(gpus), 'GPU')}: they hold in the search, not in runs that it has not seen. "
            f"{'. '.join(each)}. Give more replicas, or another target."
        )
    checked = "Every target holds, checked on runs that the search has not seen (simulated)."
    if len(gpus) == told["separate_gpus"]:
        return f"{counted(len(gpus), 'GPU')}, a model on each: no sharing takes fewer. {checked}"
    there = "; ".join(f"{gpu['name']} has {listed(gpu['models'])}" for gpu in gpus)
    return f"{counted(len(gpus), 'GPU')} in place of {told['separate_gpus']} with a model on each: {there}. {checked}"


def _excess(held: Mapping[str, Any], model: Model) -> str:
    """By how much the upper end is over the target."""
    return f"up to {significant(held['latency_ms']['high'] - model['target_ms'], 3)} ms"


def may_share(pair: Pair) -> bool:
    """Whether the two models hold on one GPU, in the search and afterwards."""
    return pair["reason"] is None and bool(pair["confirmed"])


def why_not(told: Told, pair: Pair) -> str:
    """Why two models may not share a GPU; empty: they may."""
    if may_share(pair):
        return ""
    if pair["reason"] == "memory":
        room = told["config"]["gpu"]["memory_gib"]
        return f"memory: {number(pair['memory_gib'], 1)} GiB together, a GPU has {significant(room)}"
    if not pair["held"]:
        return f"contention: work for {pair['work']:.2f} GPUs together, one does {pair['most_work']:.2f}"
    known = {model["name"]: model for model in told["models"]}
    late = [
        f"{name} has P{known[name]['percentile']:g} {latency_text(held)} ms, its target is {known[name]['target_ms']:g}"
        for name, held in pair["held"].items()
        if not held["holds"]
    ]
    return f"contention: {'; '.join(late)}{'' if pair['confirmed'] else ', in runs that the search has not seen'}"


def law_text(told: Told) -> str:
    """What models on a GPU are taken to do to each other, and who says so."""
    law, sharing = told["law"], told["config"]["gpu"]["sharing"]
    if len(law["factors"]) == 1:
        return f"Models on a GPU ({sharing}) are taken not to slow each other."
    factors = ", ".join(f"{factor:.3g}" for factor in law["factors"])
    busy = ", ".join(map(str, range(1, len(law["factors"]) + 1)))
    whose = {
        "given": "The factors are those of the file.",
        "measured": "The factors were measured, of each model beside itself; of different models they were not.",
        "assumed": f"That was not measured: it is the rule of {sharing}.",
    }[law["source"]]
    text = f"While {busy} models of a GPU are busy, a batch takes {factors} times as long. {whose}"
    if law["most"] < told["config"]["gpu"]["shares"]:
        text += f" No more than {law['most']} share a GPU, as nothing is known of more."
    return text


def memory_text(told: Told) -> str:
    """What is not known of memory; empty: all of it is."""
    if told["config"]["gpu"]["memory_gib"] is None:
        return "Memory was not looked at: give gpu.memory_gib."
    unknown = [model["name"] for model in told["models"] if model["memory_gib"] is None]
    if not unknown:
        return ""
    return f"Not known is the GPU memory of {listed(unknown)}: it was not counted. Measure it, or give gpu_memory_gib."


def gpu_text(told: Told, gpu: Mapping[str, Any]) -> str:
    """`gpu-1: search and intent, 47 % busy, 4.7 of 141 GiB`."""
    room = told["config"]["gpu"]["memory_gib"]
    of_room = "" if room is None else f" of {significant(room)}"
    memory = "memory not known" if gpu["memory_gib"] is None else f"{number(gpu['memory_gib'], 1)}{of_room} GiB"
    return f"{gpu['name']}: {listed(gpu['models'])}, {number(100 * gpu['utilisation'], 0)} % busy, {memory}"

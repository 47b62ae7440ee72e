"""`kis pack`: which models fit on one GPU together, searched in the simulator.

A group of models may share a GPU if its memory suffices, if what they do adds up to no more than the GPU does, and if
each holds its target in simulated runs of that GPU, to the upper end of the interval. The fewest GPUs follow
(packing_search), and the whole packing is simulated again with arrivals that the search has not seen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from testbed.errors import ConfigError
from testbed.pipeline.made_runs import Reporter
from testbed.pipeline.packing_config import PackConfig
from testbed.pipeline.packing_search import Group, fewest_gpus, first_fit_decreasing, sharing_groups, throughput
from testbed.pipeline.packing_world import CONFIRMED, DRAWS, Held, Law, Look, Subject, World, law_of
from testbed.simulation.intervals import PredictionInterval

FILE = "packing.json"
ALL_GROUPS_UP_TO = 6  # models: with more of them, first-fit decreasing


def pack(config: PackConfig, reporter: Reporter) -> dict[str, Any]:
    """What packing.json says. ConfigError: a profile is not of such a GPU, or a model does not fit on one."""
    subjects = tuple(Subject.of(model, config.duration_s) for model in config.models)
    _check(config, subjects)
    law = law_of(config.gpu, [subject.profile for subject in subjects])
    reporter.phase(f"simulate {len(subjects)} models on GPUs of their own")
    needed, alone = list[int](), list[Look]()
    for m in range(len(subjects)):
        replicas, look = _needed(config, subjects, law, m)
        needed.append(replicas)
        alone.append(look)
        reporter.progress((m + 1) / len(subjects))
    search = Search(World(config, subjects, law, tuple(needed)), alone, reporter)
    if all(look.reason is None for look in alone):
        search.run()
    return search.told()


def _check(config: PackConfig, subjects: Sequence[Subject]) -> None:
    devices = {subject.profile.device.name: subject.config.name for subject in subjects}
    if len(devices) > 1:
        each = ", ".join(f"{name}'s is of {device}" for device, name in devices.items())
        raise ConfigError(f"the profiles are of different devices ({each}): calibrate all models on one kind of GPU")
    gpu = config.gpu
    if gpu.memory_gib is None:
        return
    room_gib = gpu.memory_gib / gpu.shares if gpu.kind.mode.own_memory else gpu.memory_gib
    for subject in subjects:
        if subject.memory_gib is not None and subject.memory_gib > room_gib:
            raise ConfigError(
                f"model '{subject.config.name}' takes {subject.memory_gib:.1f} GiB, and may have {room_gib:.1f}: "
                "give larger GPUs"
            )


def _needed(config: PackConfig, subjects: tuple[Subject, ...], law: Law, m: int) -> tuple[int, Look]:
    """The replicas that the model has, or the fewest of which each, on a GPU of its own, holds the target (the most if
    none does); and what one of them does."""
    subject = subjects[m]

    def look(replicas: int) -> Look:
        return World(config, subjects, law, (replicas,) * len(subjects)).look([frozenset({m})])

    if subject.config.replicas is not None:
        return subject.config.replicas, look(subject.config.replicas)
    least = max(1, math.ceil(subject.work))
    if least > config.max_replicas:
        raise ConfigError(
            f"model '{subject.config.name}': {subject.arrivals.rate_rps:.0f} requests/s need {least} replicas or more: "
            "raise max_replicas"
        )
    most = look(config.max_replicas)
    if most.reason is not None:
        return config.max_replicas, most
    looks = ((replicas, look(replicas)) for replicas in range(least, config.max_replicas))
    return next((found for found in looks if found[1].reason is None), (config.max_replicas, most))


class Search:
    """The groups that were looked at, and the packing that came out."""

    def __init__(self, world: World, alone: Sequence[Look], reporter: Reporter) -> None:
        self.world, self._reporter = world, reporter
        self._looks: dict[Group, Look] = {frozenset({m}): look for m, look in enumerate(alone)}
        self._models = len(world.subjects)
        self._not_confirmed: dict[Group, Look] = {}  # with what the packing did that had them
        self.packing: tuple[Group, ...] = ()
        self.confirmed: Look | None = None
        self.separate: Look | None = None

    def run(self) -> None:
        """Find the packing, and simulate it again; a group that does not hold then is refused, and another sought."""
        world, reporter = self.world, self._reporter
        reporter.phase(f"simulate pairs that share a GPU: {self._models * (self._models - 1) // 2} at most")
        sharing_groups(self._models, 2, self._fits)
        reporter.phase("simulate larger groups, and the packing with arrivals that the search has not seen")
        apart = [frozenset({m}) for m, count in enumerate(world.replicas) for _ in range(count)]
        self.separate = world.look(apart, CONFIRMED)
        while True:
            self.packing = self._best()
            self.confirmed = world.look(self.packing, CONFIRMED)
            late = {m for m, one in self.confirmed.held.items() if self.separate.held[m].holds and not one.holds}
            shared = [group for group in self.packing if len(group) > 1 and group & late]
            if not shared:
                return
            self._not_confirmed[max(shared, key=self._worst)] = self.confirmed

    def _best(self) -> tuple[Group, ...]:
        replicas, most = self.world.replicas, self.world.law.most
        if self._models <= ALL_GROUPS_UP_TO:
            groups = sharing_groups(self._models, most, self._fits)
            return fewest_gpus(replicas, {group: self._worst(group) for group in groups})
        works = [subject.work / count for subject, count in zip(self.world.subjects, replicas, strict=True)]
        return first_fit_decreasing(replicas, works, lambda group: len(group) <= most and self._fits(group))

    def _worst(self, group: Group) -> float:
        return self.world.worst(self._looks[group])

    def _fits(self, group: Group) -> bool:
        if any(refused <= group for refused in self._not_confirmed):
            return False
        if group not in self._looks:
            refused = self.world.refused(group)
            self._looks[group] = Look({}, (), refused) if refused else self.world.look([group])
            self._reporter.progress(len(self._looks) / 2**self._models)
        return self._looks[group].reason is None

    def told(self) -> dict[str, Any]:
        """packing.json."""
        world, law = self.world, self.world.law
        config = world.config
        names = [model.name for model in config.models]
        return {
            "simulated": True,
            "config": config.model_dump(mode="json"),
            "device": world.subjects[0].profile.device.model_dump(),
            "law": law._asdict(),
            "draws": DRAWS,
            "search": "all groups" if self._models <= ALL_GROUPS_UP_TO else "first-fit decreasing",
            "models": [self._model(m) for m in range(self._models)],
            "groups": len(self._looks),
            "pairs": [
                {
                    "models": [names[m] for m in sorted(group)],
                    "reason": look.reason,
                    "confirmed": group not in self._not_confirmed,
                    "work": sum(world.subjects[m].work / world.replicas[m] for m in group),
                    "most_work": throughput(law.factors, 2),
                    "memory_gib": self._memory(group),
                    "held": {names[m]: _plain(one) for m, one in self._last(group).held.items() if m in group},
                }
                for group, look in sorted(self._looks.items(), key=lambda item: sorted(item[0]))
                if len(group) == 2
            ],
            "gpus": [
                {
                    "name": f"gpu-{k}",
                    "models": [names[m] for m in sorted(group)],
                    "memory_gib": self._memory(group),
                    "utilisation": self.confirmed.utilisation[k - 1] if self.confirmed else None,
                }
                for k, group in enumerate(self.packing, start=1)
            ],
            "separate_gpus": sum(world.replicas),
            "holds": self.confirmed is not None and self.confirmed.reason is None,
        }

    def _model(self, m: int) -> dict[str, Any]:
        world = self.world
        subject, alone = world.subjects[m], self._looks[frozenset({m})]
        return {
            "name": subject.config.name,
            "target_ms": subject.config.target_ms,
            "percentile": subject.config.percentile,
            "profile": str(subject.config.profile),
            "weights": subject.profile.weights,
            "profile_runs": list(subject.profile.runs),
            "rate_rps": subject.arrivals.rate_rps,
            "replicas": world.replicas[m],
            "service": subject.service.model_dump(),
            "memory_gib": subject.memory_gib,
            "work": subject.work / world.replicas[m],
            "utilisation": alone.utilisation[0],
            "searched": _plain(alone.held[m]),
            "separate": None if self.separate is None else _plain(self.separate.held[m]),
            "packed": None if self.confirmed is None else _plain(self.confirmed.held[m]),
        }

    def _last(self, group: Group) -> Look:
        """What refused the group; else what the search saw."""
        return self._not_confirmed.get(group, self._looks[group])

    def _memory(self, group: Group) -> float | None:
        """Of all together; None: some of it is not known."""
        each = [self.world.subjects[m].memory_gib for m in group]
        known = [memory for memory in each if memory is not None]
        return sum(known) if len(known) == len(each) else None


def _plain(held: Held) -> dict[str, Any]:
    def interval(value: PredictionInterval, scale: float) -> dict[str, float]:
        return {"low": scale * value.low, "middle": scale * value.middle, "high": scale * value.high}

    return {
        "latency_ms": interval(held.latency_s, 1e3),
        "slo_violation_rate": interval(held.slo_violation_rate, 1.0),
        "holds": held.holds,
    }

"""A policy that is adapted while it runs: it decides as its incumbent does, and watches what comes of it.

`kis controller` and a simulation run it like any other policy. The step itself (adapt.py) is pure and takes
microseconds; what takes seconds or minutes happens on a bench (judge.py): in a simulation at once, beside a controller
in a process of its own, whose answer is looked for at each decision. Nothing that goes wrong in an adaptation keeps
the incumbent from deciding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from testbed.adaptation.adapt import Setting, first_memory, keep_incumbent, step
from testbed.adaptation.candidate import deliberate, per_replica_of
from testbed.adaptation.journal import JOURNAL, Journal, JournalEntry
from testbed.adaptation.judge import Background, JudgeWorker
from testbed.adaptation.settings import AdaptConfig, AdaptSettings
from testbed.adaptation.states import ActivePolicy, Memory, Promoted, Recalibrating, Shadow
from testbed.autoscaling.observation import Observation, Window
from testbed.autoscaling.policy import Decision, Policy
from testbed.calibration.profile import ServiceProfile
from testbed.errors import ConfigError
from testbed.simulation.cluster.config import ClusterConfig

OVERLAP = 0.9  # of a window must be new: scrapes are not exactly periodic


@dataclass(frozen=True)
class Adaptive:
    """Asked every period_s of the incumbent."""

    incumbent: Policy
    profile: ServiceProfile
    setting: Setting
    bench: JudgeWorker
    journal: Journal

    @property
    def name(self) -> str:
        """See Policy."""
        return f"adaptive-{self.incumbent.name}"

    @property
    def period_s(self) -> float:
        """See Policy."""
        return self.incumbent.period_s

    def decide(self, observation: Observation, memory: Memory | None) -> Decision:
        """See Policy."""
        memory = memory or first_memory(self.profile, self.incumbent, self.setting.settings)
        decision = memory.incumbent.policy.decide(observation, memory.incumbent.memory)
        memory = replace(memory, incumbent=ActivePolicy(memory.incumbent.policy, decision.memory))
        memory = self._beside(observation, memory, decision.replicas)
        try:
            memory = self._stepped(observation, memory)
        except Exception as error:  # whatever it is, the incumbent's decision holds
            self._note_once(JournalEntry(observation.now_s, memory.state.name, f"{type(error).__name__}: {error}", {}))
        return Decision(decision.replicas, memory, decision.reason)

    def _stepped(self, observation: Observation, memory: Memory) -> Memory:
        answer = self.bench.answer() if isinstance(memory.state, Recalibrating) else None
        done = step(
            memory,
            observation.now_s,
            observation.spec_replicas,
            self._new_window(observation, memory),
            answer,
            self.setting,
        )
        for entry in done.entries:
            self.journal.note(entry)
        if done.write is not None and self.setting.folder is not None:
            file, profile = done.write
            try:
                _write_new(file, profile)
            except OSError as error:  # it is known all the same, and the factor is in the journal
                self._note_once(
                    JournalEntry(observation.now_s, done.memory.state.name, f"{file}: {error.strerror}", {})
                )
        if done.task is not None:
            self.bench.submit(partial(deliberate, done.task))
        return done.memory

    def _note_once(self, entry: JournalEntry) -> None:
        """What goes wrong at every decision is told once."""
        if not self.journal.entries or self.journal.entries[-1].why != entry.why:
            self.journal.note(entry)

    def _new_window(self, observation: Observation, memory: Memory) -> Window | None:
        """The last one, if it is another one than before."""
        window_s = self.setting.settings.drift.window_s
        window = observation.window(window_s, 0.0)
        if window is None or window.end_s < memory.seen_s + OVERLAP * window_s:
            return None
        return window

    def _beside(self, observation: Observation, memory: Memory, replicas: int) -> Memory:
        """Whoever decides beside the incumbent does so; a candidate that cannot is given up."""
        match memory.state:
            case Promoted() as state:
                return replace(memory, state=self._with_predecessor(observation, state))
            case Shadow() as state:
                return self._with_candidate(observation, memory, state, replicas)
            case _:
                return memory

    def _with_predecessor(self, observation: Observation, state: Promoted) -> Promoted:
        policy, remembered = state.predecessor
        try:
            return replace(state, predecessor=ActivePolicy(policy, policy.decide(observation, remembered).memory))
        except Exception as error:  # it then takes over with what it remembered last
            why = f"the predecessor fails ({type(error).__name__}: {error})"
            self._note_once(JournalEntry(observation.now_s, state.name, why, {}))
            return state

    def _with_candidate(self, observation: Observation, memory: Memory, state: Shadow, replicas: int) -> Memory:
        policy, remembered = state.candidate
        try:
            decision = policy.decide(observation, remembered)
        except Exception as error:
            done = keep_incumbent(
                memory, observation.now_s, f"the candidate fails ({type(error).__name__}: {error})", {}, self.setting
            )
            for entry in done.entries:
                self.journal.note(entry)
            return done.memory
        differences = (*state.differences, decision.replicas - replicas)
        return replace(
            memory, state=replace(state, candidate=ActivePolicy(policy, decision.memory), differences=differences)
        )


def _write_new(file: Path, profile: ServiceProfile) -> None:
    """OSError if the file exists: a profile is never written over."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("x") as out:
        out.write(profile.model_dump_json(indent=2) + "\n")


def make_adaptive(
    incumbent: Policy,
    cluster: ClusterConfig,
    settings: AdaptSettings,
    folder: Path | None,
    bench: JudgeWorker,
    source: str,
) -> Adaptive:
    """ConfigError if there is nothing that could be adapted. folder: of adaptation.jsonl and the new profiles;
    None: neither is written."""
    if len(cluster.models) != 1 or len(cluster.models[0].profiles) != 1:
        raise ConfigError("adaptation is of one model on one kind of device: give a cluster with one profile")
    if not per_replica_of(incumbent) > 0:
        raise ConfigError(f"policy {incumbent.name}: replica_capacity_rps must be above 0")
    (file,) = cluster.models[0].profiles.values()
    profile = ServiceProfile.read(file)
    journal = Journal(None if folder is None else folder / JOURNAL)
    setting = Setting(cluster, settings, folder, source)
    return Adaptive(incumbent, profile, setting, bench, journal)


@contextmanager
def adapted(config: AdaptConfig, source: str) -> Iterator[Callable[[Policy], Policy]]:
    """What makes a policy adaptive, for the length of the block; source: of the metrics, for provenance."""
    bench = Background()
    try:
        yield lambda policy: make_adaptive(policy, config.cluster, config.adaptation, config.folder, bench, source)
    finally:
        bench.close()

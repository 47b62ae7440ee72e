"""What a calibration's time limit leaves: how long a run may be, and whether there is time to make one again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from testbed.config import CalibrateConfig, StudyConfig
from testbed.pipeline.plan import fit_run_id, held_out_run_id

# About what each takes beside the traffic itself, on two cores. They only decide what is spare.
RUN_S = 3.0  # the load generator's start and end
START_S = 5.0  # of a service
FIRST_LOOK_S = 15.0  # lone requests and bursts, without what is theirs of the above
FIT_S = 5.0  # and the simulations


class TimeLimit:
    """limit_s: of the whole campaign, from now on; None: there is none. plan: step -> least seconds that it takes."""

    def __init__(
        self, limit_s: float | None, plan: dict[str, float], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.limit_s = limit_s
        self._to_come = dict(plan)
        self._clock = clock
        self._begin_s = clock()

    @property
    def to_come_s(self) -> float:
        """Least seconds of the steps that were not begun."""
        return sum(self._to_come.values())

    def spare_s(self) -> float | None:
        """Seconds that no step still to come needs; below 0 if there are too few. None: there is no limit."""
        if self.limit_s is None:
            return None
        return self.limit_s - (self._clock() - self._begin_s) - self.to_come_s

    def passed(self, step: str) -> None:
        """The step was begun: it is not to come any more."""
        self._to_come.pop(step, None)

    def length_s(self, wanted_s: float, least_s: float) -> float:
        """How long a run may be that is still to come: `wanted_s`, if there is time, and never below `least_s`."""
        spare_s = self.spare_s()
        return wanted_s if spare_s is None else min(wanted_s, least_s + max(0.0, spare_s))

    def allows(self, duration_s: float) -> bool:
        """Is there time for one more run of that length?"""
        spare_s = self.spare_s()
        return spare_s is None or spare_s >= duration_s + RUN_S


def plan_of(config: CalibrateConfig) -> dict[str, float]:
    """Every step of a campaign, and the least seconds that it takes."""
    return {step: seconds for study in config.studies for step, seconds in _steps(study)}


def _steps(study: StudyConfig) -> Iterator[tuple[str, float]]:
    shorter = max(0, len(study.configurations[0].length_buckets) - 1)
    look_s = FIRST_LOOK_S * (1 + shorter) + RUN_S * (2 + shorter)
    yield first_look(study), START_S + look_s + study.fit.capacity_s
    for number, service in enumerate(study.configurations):
        yield start_of(study, service.label), START_S
        for load in study.fit.loads if number in study.fit.configurations else ():
            yield fit_run_id(study.model, service, load), study.fit.duration_s + RUN_S
        for repeat in range(study.held_out.repeats):
            for pattern in study.held_out.patterns:
                yield held_out_run_id(study.model, service, pattern, repeat), study.held_out.duration_s + RUN_S
    yield fit_of(study), FIT_S


def first_look(study: StudyConfig) -> str:
    """The step that starts a service and looks at its batch sizes."""
    return f"{study.model}: first look"


def start_of(study: StudyConfig, label: str) -> str:
    """The step that starts the service of a configuration."""
    return f"{study.model}: start {label}"


def fit_of(study: StudyConfig) -> str:
    """The step that fits the profile and simulates."""
    return f"{study.model}: fit"

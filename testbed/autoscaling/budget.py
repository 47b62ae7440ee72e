"""Several models on one budget of GPUs: how much of what its policy wants each may have.

Every model first has its min_replicas. If all that is wanted fits, each has it. Else an objective divides the rest, one
replica at a time, as Faro's do (Jeon, Wang, Arroyo, Youssef and Gupta, "A House United Within Itself: SLO-Awareness for
On-Premises Containerized ML Inference Clusters via Faro", EuroSys 2025; its utilities and its solver are not these):

    sum     the replica that adds the most weighted requests/s within the target for its GPUs
    fair    a replica of the model that has least of what it wants: replicas / (weight * wanted)

Of replicas of equal size, `sum` is the largest sum there is, and `fair` raises the lowest model as far as can be, also
of unequal ones. Of equals, the first one is served first.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import floor, isfinite
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BeforeValidator, Field

from testbed.autoscaling.observation import Observation
from testbed.config import Strict
from testbed.errors import ConfigError

Objective = Literal["fair", "sum"]
Gpus = Annotated[Fraction, BeforeValidator(lambda given: str(given) if isinstance(given, float) else given)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
RATE_S = 15.0  # over which the arrivals of a model are counted


class Budget(Strict):
    """GPUs that several models share, and who has them when they do not suffice."""

    gpus: Gpus = Field(gt=0, description="number of GPUs for all models together")
    objective: Objective = Field(
        "fair",
        description="fair: the model that has least of what it wants is served first; sum: the most weighted "
        "requests/s within the target",
    )


@dataclass(frozen=True)
class Claim:
    """What a model asks of the budget. capacity_rps: what a replica serves within the target; only `sum` needs it.

    held: replicas whose GPUs nobody else can have: those that are asked for, and those that are going away. gpus: of
    one replica. rate_rps: None: not known, it is then what the wanted replicas serve. keeps: has what it holds, no more
    and no less, as nobody knows what it needs.
    """

    model: str
    wanted: int
    held: int
    gpus: Fraction = Fraction(1)
    min_replicas: int = 1
    weight: Fraction = Fraction(1)
    capacity_rps: float | None = None
    rate_rps: float | None = None
    keeps: bool = False

    @property
    def least(self) -> int:
        """Replicas that it has whatever the others want."""
        return min(self.min_replicas, self.wanted) if self.gpus and not self.keeps else self.most

    @property
    def most(self) -> int:
        """Replicas that it has if they fit."""
        return self.held if self.keeps else self.wanted

    def satisfaction(self, replicas: int) -> Fraction:
        """Part of what it wants, by its weight."""
        return Fraction(replicas, self.wanted) / self.weight

    def served(self, replicas: int) -> Fraction:
        """Weighted requests/s within the target."""
        assert self.capacity_rps is not None
        capacity = Fraction(self.capacity_rps)
        rate = self.wanted * capacity if self.rate_rps is None else Fraction(self.rate_rps)
        return self.weight * min(rate, replicas * capacity)


def divide(claims: Sequence[Claim], gpus: Fraction, objective: Objective) -> dict[str, int]:
    """Replicas by model: see above. More GPUs than there are only if those that every model has first take them."""
    most = {claim.model: claim.most for claim in claims}
    if sum(claim.gpus * claim.most for claim in claims) <= gpus:
        return most
    shares = {claim.model: claim.least for claim in claims}
    left = gpus - sum(claim.gpus * claim.least for claim in claims)

    def rank(claim: Claim) -> tuple[Fraction, Fraction]:
        replicas = shares[claim.model]
        more = claim.served(replicas + 1) - claim.served(replicas) if objective == "sum" else Fraction(0)
        return -more / claim.gpus, claim.satisfaction(replicas)

    while fitting := [claim for claim in claims if shares[claim.model] < claim.most and claim.gpus <= left]:
        next_one = min(fitting, key=rank)
        shares[next_one.model] += 1
        left -= next_one.gpus
    return shares


class Grant(NamedTuple):
    """What a model may have now. why: not all that it wants; empty: it is all."""

    replicas: int
    why: str


class GpuBudget:
    """A budget as time goes on: the last that is known of each model. Threads may share it.

    ConfigError if the min_replicas alone exceed it.
    """

    def __init__(self, budget: Budget, claims: Iterable[Claim]) -> None:
        self.gpus, self.objective = budget.gpus, budget.objective
        self._claims = {claim.model: claim for claim in claims}
        self._lock = threading.Lock()
        least = sum(claim.gpus * claim.min_replicas for claim in self._claims.values())
        if least > self.gpus:
            each = ", ".join(f"{claim.model} {claim.min_replicas}" for claim in self._claims.values())
            raise ConfigError(
                f"budget: the min_replicas ({each}) take {_gpus(least)}, gpus is {float(self.gpus):g}: raise gpus, or "
                "lower min_replicas"
            )

    @property
    def models(self) -> tuple[str, ...]:
        """That share it."""
        return tuple(self._claims)

    @property
    def free(self) -> Fraction:
        """GPUs that nobody holds; below 0: more are held than there are."""
        return self.gpus - sum(claim.gpus * claim.held for claim in self._claims.values())

    def note(self, model: str, **known: Any) -> None:
        """What is known of a model now: fields of its Claim."""
        with self._lock:
            self._claims[model] = replace(self._claims[model], **known)

    def grant(self, model: str, replicas: int) -> Grant:
        """What a model that has so many may have now. What it gets more is held from then on.

        What others are to give back is not there before their pods are gone.
        """
        with self._lock:
            shares = divide([*self._claims.values()], self.gpus, self.objective)
            mine = self._claims[model]
            now = shares[model]
            if now > replicas and mine.gpus:
                now = min(now, replicas + max(0, floor(self.free / mine.gpus)))
            self._claims[model] = replace(mine, held=mine.held + max(0, now - replicas))
            return Grant(now, self._why(mine, now, shares))

    def _why(self, mine: Claim, now: int, shares: Mapping[str, int]) -> str:
        if now >= mine.wanted:
            return ""
        waits = (shares[mine.model] - now) * mine.gpus
        until = f" until {_gpus(waits)} {'is' if waits == 1 else 'are'} free" if waits > 0 else ""
        each = [
            f"{claim.model} ({f'keeps {claim.held}' if claim.keeps else f'{shares[claim.model]} of {claim.wanted}'})"
            for claim in self._claims.values()
        ]
        among = " and ".join(filter(None, (", ".join(each[:-1]), each[-1])))
        return f"wants {mine.wanted}, has {now}{until}: {_gpus(self.gpus)} for {among}"


def _gpus(count: Fraction | int) -> str:
    """`1 GPU`, `2.5 GPUs`."""
    return f"{float(count):g} GPU{'' if count == 1 else 's'}"


def arrival_rate(observation: Observation) -> float | None:
    """Requests/s that arrived in the last RATE_S; None: not known."""
    window = observation.window(RATE_S, 0.0)
    if window is None:
        return None
    if window.sent_rps is not None:
        return window.sent_rps
    known = isfinite(window.rate_rps) and isfinite(float(window.waiting.sum())) and isfinite(window.waiting_before)
    return window.arrivals_rps(window.waiting_before) if known else None

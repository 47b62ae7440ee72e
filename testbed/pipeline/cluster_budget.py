"""The budget of GPUs of a simulated cluster: what its models take of it, from their nodes, policies and profiles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction

from testbed.autoscaling.budget import Claim, GpuBudget
from testbed.autoscaling.policy import Policy
from testbed.errors import ConfigError
from testbed.pipeline.cluster_config import ClusterBudget, ClusterRunConfig
from testbed.pipeline.served_rates import NAME, served_rps
from testbed.simulation.cluster.config import ClusterConfig, ServedModel
from testbed.simulation.cluster.kisim import KISim
from testbed.simulation.cluster.services import SimulatedService


def with_capacities(config: ClusterRunConfig, services: Sequence[SimulatedService]) -> ClusterBudget | None:
    """The budget with what a replica of each scaled model serves, where its objective rests on it."""
    budget = config.budget
    if budget is None or budget.objective != "sum":
        return budget
    known = dict(budget.replica_capacity_rps)
    for m, model in enumerate(config.cluster.models):
        if model.name in config.policies and model.name not in known:
            mine = [service for service in services if service.model == m]
            own = config.policies[model.name].get(NAME)
            known[model.name] = _capacity_rps(model, mine) if own is None else float(own)
    return budget.model_copy(update={NAME: known})


def _capacity_rps(model: ServedModel, services: Sequence[SimulatedService]) -> float:
    key = f"budget.{NAME}.{model.name}"
    if len(services) > 1:
        kinds = ", ".join(service.kind for service in services)
        raise ConfigError(f"budget: give {key}, as the model runs on several kinds of device ({kinds})")
    return served_rps(model, services[0], "budget", key)


def budget_of(config: ClusterRunConfig, sim: KISim, policies: Mapping[str, Policy]) -> GpuBudget | None:
    """Before the first nanosecond. A model that no policy scales keeps its replicas. ConfigError: it does not fit."""
    budget = config.budget
    if budget is None:
        return None
    claims = []
    for model in config.cluster.models:
        start, policy = len(sim.wanted(model.name)), policies.get(model.name)
        claims.append(
            Claim(
                model.name,
                wanted=start,
                held=start,
                gpus=gpus_per_replica(config.cluster, model),
                min_replicas=start if policy is None else int(getattr(policy, "min_replicas", 1)),
                weight=Fraction(str(budget.weights.get(model.name, 1))),
                capacity_rps=budget.replica_capacity_rps.get(model.name),
                keeps=policy is None,
            )
        )
    made = GpuBudget(budget, claims)
    if made.free < 0:
        each = ", ".join(f"{claim.model} {claim.held}" for claim in claims)
        raise ConfigError(
            f"budget: the run begins with more replicas ({each}) than {float(budget.gpus):g} GPUs hold: lower replicas "
            "of the models, or raise gpus"
        )
    return made


def gpus_per_replica(cluster: ClusterConfig, model: ServedModel) -> Fraction:
    """Its share of a GPU on the nodes that it may run on, 0 without one; ConfigError: they differ."""
    offered = {pool.gpu_kind for pool in cluster.pools if pool.gpu_kind}
    parts = {kind: Fraction(1, cluster.gpu_kinds[kind].shares) for kind in model.profiles if kind in offered}
    if "cpu" in model.profiles and any(pool.cpu_replicas for pool in cluster.pools):
        parts["cpu"] = Fraction(0)
    if len(set(parts.values())) > 1:
        each = ", ".join(f"{kind} {part}" for kind, part in parts.items())
        raise ConfigError(
            f"budget: a replica of '{model.name}' takes different parts of a GPU ({each}): give it profiles "
            "for one of them"
        )
    return next(iter(parts.values()))

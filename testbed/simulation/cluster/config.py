"""What a simulated cluster is made of. Times are seconds; defaults are Kubernetes' own where it has some."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from loadgen.lengths import Lengths
from testbed.config import Strict
from testbed.simulation.cluster.sharing import MODES, SharingMode
from workloads.catalog import DynamicBatching

Sharing = Annotated[str, AfterValidator(MODES.checked)]


class GpuKind(Strict):
    """GPUs of one kind, and how replicas share one. A replica asks for one share: a whole GPU if exclusive."""

    sharing: Sharing = Field("exclusive", description=f"{', '.join(MODES.known())}, or my_module:MyMode")
    shares: int = Field(1, ge=1, description="replicas that one GPU takes")
    interference: tuple[float, ...] = Field(
        (),
        description="factor on a batch's time while 1, 2, ... replicas of the GPU are busy; none: what the way to "
        "share says, of what the profile measured",
    )
    memory_gib: float | None = Field(
        None, gt=0, description="of one GPU; a MIG slice has its share. None: replicas always fit"
    )
    power_w: tuple[float, float] | None = Field(
        None, description="of an idle and of a busy GPU; none: fitted to the profile's loads, where they have power"
    )

    @property
    def mode(self) -> type[SharingMode]:
        """How its replicas share it."""
        return MODES.find(self.sharing)

    @model_validator(mode="after")
    def _shares_fit(self) -> Self:
        if not self.mode.divides and self.shares != 1:
            others = ", ".join(name for name, mode in MODES.known().items() if mode.divides)
            raise ValueError(f"an {self.sharing} GPU has one share: name how it is shared ({others})")
        if self.interference and (min(self.interference) <= 0 or self.interference[0] != 1.0):
            raise ValueError("interference starts with 1 (a replica alone) and is positive")
        return self

    def factors(self, measured: tuple[float, ...]) -> tuple[float, ...]:
        """Factor on a batch's time by the number of busy replicas, from 1 on; the last holds beyond.

        measured: on replicas that share such a GPU, empty if nobody did.
        """
        return self.interference or self.mode.factors(self.shares, measured)


class NodePool(Strict):
    """Equal nodes."""

    name: str = "node"
    nodes: int = Field(1, ge=1)
    gpus: int = Field(0, ge=0, description="of each node; 0: a node without GPUs")
    gpu_kind: str | None = None
    cpu_replicas: int = Field(0, ge=0, description="replicas that a node takes that ask for no GPU")

    @model_validator(mode="after")
    def _gpus_have_a_kind(self) -> Self:
        if (self.gpus > 0) != (self.gpu_kind is not None):
            raise ValueError(f"pool '{self.name}': give gpus and gpu_kind together")
        return self


class PodTimes(Strict):
    """How long the steps of a pod's life take."""

    schedule_s: float = Field(0.05, ge=0, description="from requested to bound to a node")
    image_pull_s: float = Field(0.0, ge=0, description="on a node that has not had the image yet")
    container_start_s: float = Field(1.0, ge=0)
    load_s: float | None = Field(None, ge=0, description="server start and model load; none: drawn from the profile")
    load_spread_s: float = Field(0.0, ge=0, description="load_s is drawn from so much below to so much above it")
    start_together_s: float = Field(
        0.0,
        ge=0,
        description="by which each other container that starts at the same moment delays a start: nodes with "
        "few processors, or, as the local cluster's, with the same ones",
    )
    start_slows: float = Field(
        0.0, ge=0, description="share by which all batches take longer while this container starts"
    )
    probe_period_s: float = Field(1.0, gt=0, description="readiness; the first probe comes one period after the start")
    endpoint_lag_s: float = Field(0.1, ge=0, description="from ready (or deleted) to (no more) requests")
    pre_stop_s: float = Field(0.0, ge=0, description="a deleted pod goes on at least so long")
    grace_period_s: float = Field(30.0, ge=0, description="after it a deleted pod is killed")
    restart_backoff_s: float = Field(10.0, ge=0, description="of a crashed container")
    node_lost_s: float = Field(40.0, ge=0, description="until the endpoints of a lost node are removed")
    eviction_s: float = Field(300.0, ge=0, description="after that, until its pods are replaced")


class ClientBehaviour(Strict):
    """What a client does that gets no answer, or an error."""

    timeout_s: float = Field(0.0, ge=0, description="0: it waits for ever")
    retries: int = Field(0, ge=0)
    backoff_s: float = Field(0.1, ge=0)
    max_in_flight: int = Field(0, ge=0, description="further open-loop requests are dropped; 0: none is")


class ServedModel(Strict):
    """One deployment."""

    name: str
    profiles: dict[str, Path] = Field(description="profile.json by GPU kind; `cpu` for replicas that ask for no GPU")
    replicas: int = Field(1, ge=0, description="at the start; they are ready at time 0")
    replicas_of_kind: dict[str, int] = Field(
        {}, description="beside them: of a Deployment for each GPU kind named here, with a node selector"
    )
    max_replicas: int = Field(64, ge=1, description="of all its Deployments together")
    batch_factor: float = Field(
        1.0, gt=0, description="batches take so many times their profile's time: as measured on this cluster's own pods"
    )
    instances: int = Field(1, ge=1)
    max_batch_size: int = Field(8, ge=1)
    dynamic_batching: DynamicBatching | None = DynamicBatching()
    length_buckets: tuple[int, ...] = Field((), description="tokens, as the service's; none: all requests are as long")
    lengths: Lengths | None = Field(None, description="of requests whose traffic does not say how long each is")
    cpu_request_m: int = Field(
        1000, ge=1, description="CPU that a pod requests, milli-cores: what an HPA on cpu divides by"
    )
    gpu_memory_gib: float | None = Field(
        None, gt=0, description="that one replica takes; none: from its profile, where it was measured"
    )
    balancer: Literal["random", "round_robin", "least_requests"] = "random"
    latency_target_s: float = Field(gt=0)
    client: ClientBehaviour = ClientBehaviour()
    pod: PodTimes = PodTimes()

    @model_validator(mode="after")
    def _lengths_fit(self) -> Self:
        if self.lengths is not None and self.lengths.longest > max(self.length_buckets, default=0):
            raise ValueError(
                f"model '{self.name}': requests have up to {self.lengths.longest} tokens, length_buckets "
                f"{list(self.length_buckets)} hold fewer"
            )
        return self

    @model_validator(mode="after")
    def _replicas_fit(self) -> Self:
        if not self.profiles:
            raise ValueError(f"model '{self.name}' needs a profile: `profiles: {{<gpu kind>: profile.json}}`")
        for kind, replicas in self.replicas_of_kind.items():
            if kind not in self.profiles:
                raise ValueError(
                    f"model '{self.name}' has replicas_of_kind '{kind}', profiles has {', '.join(self.profiles)}"
                )
            if replicas < 0:
                raise ValueError(f"model '{self.name}': replicas_of_kind '{kind}' is {replicas}: give 0 or more")
        start = self.replicas + sum(self.replicas_of_kind.values())
        if start > self.max_replicas:
            raise ValueError(f"model '{self.name}' starts with {start} replicas, max_replicas is {self.max_replicas}")
        return self


class ClusterConfig(Strict):
    """Nodes, what they serve, and how it is observed."""

    gpu_kinds: dict[str, GpuKind] = Field({}, description="by name; pools and profiles refer to them")
    pools: tuple[NodePool, ...] = Field(description="of equal nodes")
    models: tuple[ServedModel, ...] = Field(min_length=1, description="a deployment each")
    scheduler: Literal["spread", "bin_pack"] = Field("spread", description="which node a pod gets")
    scrape_period_s: float = Field(1.0, gt=0, description="of every replica's metrics")
    scrape_jitter_s: float = Field(
        0.0,
        ge=0,
        description="a scrape comes up to so long before its time: a window of whole periods then takes one "
        "period more about every second time, as of a real scraper; at most half a period",
    )

    @model_validator(mode="after")
    def _names_fit(self) -> Self:
        for pool in self.pools:
            if pool.gpu_kind is not None and pool.gpu_kind not in self.gpu_kinds:
                known = ", ".join(self.gpu_kinds) or "none"
                raise ValueError(f"pool '{pool.name}' has GPUs of kind '{pool.gpu_kind}', gpu_kinds has {known}")
        if self.scrape_jitter_s > self.scrape_period_s / 2:
            raise ValueError(
                f"scrape_jitter_s is {self.scrape_jitter_s:g}: give at most half of scrape_period_s "
                f"({self.scrape_period_s:g})"
            )
        offered = {pool.gpu_kind for pool in self.pools if pool.gpu_kind}
        offered |= {"cpu" for pool in self.pools if pool.cpu_replicas}
        for model in self.models:
            if not offered & set(model.profiles):
                wanted, there = ", ".join(model.profiles), ", ".join(sorted(offered)) or "nothing"
                raise ValueError(f"model '{model.name}' has profiles for {wanted}; the nodes offer {there}")
        names = [model.name for model in self.models]
        if len(set(names)) < len(names):
            raise ValueError(f"two models have the same name ({', '.join(names)})")
        return self

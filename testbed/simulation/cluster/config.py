"""What a simulated cluster is made of. Times are seconds; defaults are Kubernetes' own where it has some."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from loadgen.lengths import Lengths
from testbed.config import Strict
from testbed.simulation.cluster.provisioners import Provisioner
from testbed.simulation.cluster.sharing import MODES, SharingMode
from workloads.catalog import DynamicBatching

MOST_NODES = 100_000  # of a pool
Sharing = Annotated[str, AfterValidator(MODES.checked)]


class GpuKind(Strict):
    """GPUs of one kind, and how replicas share one. A replica asks for one share: a whole GPU if exclusive."""

    sharing: Sharing = Field("exclusive", description=f"{', '.join(MODES.known())}, or my_module:MyMode")
    shares: int = Field(1, ge=1, description="number of replicas that fit on one GPU")
    interference: tuple[float, ...] = Field(
        (),
        description="factors on a batch's time while 1, 2, ... replicas of the GPU are busy; none: those of "
        "the sharing mode, or of the profile",
    )
    memory_gib: float | None = Field(
        None, gt=0, description="memory of one GPU; a MIG slice has its share. None: replicas always fit"
    )
    power_w: tuple[float, float] | None = Field(
        None,
        description="power of an idle and of a busy GPU; none: fitted to the profile's loads, if power was measured",
    )
    price_per_gpu_hour: float | None = Field(
        None, ge=0, description="price of a GPU's hour, in `currency` of the cluster; a pool may have another"
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


def _alone(value: Any) -> Any:
    """A single number is a list of one."""
    return (value,) if isinstance(value, (int, float)) else value


Seconds = Annotated[float, Field(ge=0)]
Measured = Annotated[tuple[Seconds, ...], BeforeValidator(_alone)]


class NodePool(Strict):
    """Equal nodes: a fixed number of them, or a node group between `min_nodes` and `max_nodes`."""

    name: str = Field("node", description="name of the pool; its nodes are NAME-0, NAME-1, ...")
    nodes: int = Field(
        1, ge=0, le=MOST_NODES, description="number of nodes; of a node group at the start, or as the replicas need"
    )
    min_nodes: int = Field(0, ge=0, le=MOST_NODES, description="smallest size of the node group")
    max_nodes: int | None = Field(
        None,
        ge=1,
        le=MOST_NODES,
        description="largest size of the node group that the provisioner changes; none: always `nodes`",
    )
    node_ready_s: Measured = Field(
        (), description="time from asked for to ready: measured times, of which each new node has one by chance"
    )
    placeholders: int = Field(
        0, ge=0, description="low-priority pods that keep room for so many replicas, and are evicted for them"
    )
    gpus: int = Field(0, ge=0, description="GPUs of each node; 0: a node without GPUs")
    gpu_kind: str | None = Field(None, description="kind of its GPUs")
    cpu_replicas: int = Field(0, ge=0, description="replicas without a GPU that fit on a node")
    price_per_gpu_hour: float | None = Field(
        None, ge=0, description="price of an hour of each GPU of a node, while the node exists; none: that of its kind"
    )
    price_per_node_hour: float | None = Field(
        None, ge=0, description="price of a node's hour, in place of price_per_gpu_hour"
    )

    @property
    def most(self) -> int:
        """Nodes that there can be at a time."""
        return self.nodes if self.max_nodes is None else self.max_nodes

    @model_validator(mode="after")
    def _gpus_have_a_kind(self) -> Self:
        if (self.gpus > 0) != (self.gpu_kind is not None):
            raise ValueError(f"pool '{self.name}': give gpus and gpu_kind together")
        return self

    @model_validator(mode="after")
    def _sizes_fit(self) -> Self:
        if self.max_nodes is None:
            given = [key for key in ("min_nodes", "node_ready_s", "placeholders") if getattr(self, key)]
            if given:
                raise ValueError(f"pool '{self.name}': {given[0]} is of a node group: give max_nodes too")
            if self.nodes < 1:
                raise ValueError(f"pool '{self.name}': nodes is 0: give 1 or more, or max_nodes for a node group")
        elif not self.min_nodes <= self.nodes <= self.max_nodes:
            raise ValueError(
                f"pool '{self.name}': nodes is {self.nodes}: give a number from min_nodes ({self.min_nodes}) to "
                f"max_nodes ({self.max_nodes})"
            )
        elif not self.node_ready_s:
            raise ValueError(f"pool '{self.name}': say how long a new node takes: node_ready_s, e.g. [95, 110, 140]")
        return self

    @model_validator(mode="after")
    def _one_price(self) -> Self:
        if self.price_per_gpu_hour is not None and self.price_per_node_hour is not None:
            raise ValueError(f"pool '{self.name}': give price_per_gpu_hour or price_per_node_hour, not both")
        if self.price_per_gpu_hour is not None and not self.gpus:
            raise ValueError(f"pool '{self.name}' has no GPUs: give price_per_node_hour")
        return self


class PodTimes(Strict):
    """Durations of the steps of a pod's lifecycle."""

    schedule_s: float = Field(0.05, ge=0, description="time from requested to bound to a node")
    image_pull_s: float = Field(0.0, ge=0, description="time to pull the image on a node that has not run the model")
    container_start_s: float = Field(1.0, ge=0, description="time to start the container")
    load_s: float | None = Field(
        None, ge=0, description="time to start the server and load the model; none: sampled from the profile"
    )
    load_spread_s: float = Field(0.0, ge=0, description="load_s varies by this much in either direction")
    warm_load_s: Measured = Field(
        (),
        description="the same on a node that has loaded the model before: measured times, of which each start has one "
        "by chance; none: as on any node",
    )
    start_together_s: float = Field(
        0.0,
        ge=0,
        description="additional start time for each other container that starts at the same moment, on nodes "
        "that share few processors",
    )
    start_slows: float = Field(
        0.0, ge=0, description="relative increase of all batch times while this container starts"
    )
    probe_period_s: float = Field(
        1.0, gt=0, description="period of the readiness probe; the first one is one period after the start"
    )
    endpoint_lag_s: float = Field(
        0.1, ge=0, description="time from ready (or deleted) until clients use (or no longer use) the pod"
    )
    pre_stop_s: float = Field(0.0, ge=0, description="minimum time for which a deleted pod continues")
    grace_period_s: float = Field(30.0, ge=0, description="time after which a deleted pod is killed")
    restart_backoff_s: float = Field(10.0, ge=0, description="delay before a crashed container restarts")
    node_lost_s: float = Field(40.0, ge=0, description="time until the endpoints of a lost node are removed")
    eviction_s: float = Field(300.0, ge=0, description="time after that until its pods are replaced")

    def provisioning_delay_s(self, load_s: float) -> float:
        """From asked for to serving, of a pod that starts alone and loads in load_s."""
        return self.schedule_s + self.container_start_s + load_s + self.probe_period_s + self.endpoint_lag_s


class ClientBehaviour(Strict):
    """Timeout, retries and in-flight limit of a client."""

    timeout_s: float = Field(0.0, ge=0, description="timeout of a request; 0: none")
    retries: int = Field(0, ge=0, description="further attempts after an error")
    backoff_s: float = Field(0.1, ge=0, description="delay before another attempt")
    max_in_flight: int = Field(
        0, ge=0, description="limit on outstanding open-loop requests; further ones are dropped; 0: no limit"
    )


class ServedModel(Strict):
    """One deployment."""

    name: str = Field(description="name of the model")
    profiles: dict[str, Path] = Field(description="profile.json by GPU kind; `cpu` for replicas without a GPU")
    replicas: int = Field(1, ge=0, description="initial replicas, ready at time 0")
    replicas_of_kind: dict[str, int] = Field(
        {}, description="further initial replicas by GPU kind, as Deployments with node selectors"
    )
    max_replicas: int = Field(64, ge=1, description="largest number of replicas of all its Deployments")
    batch_factor: float = Field(
        1.0, gt=0, description="ratio of the batch times on this cluster's pods to those of the profile"
    )
    instances: int = Field(1, ge=1, description="model instances in each replica")
    max_batch_size: int = Field(8, ge=1, description="largest batch")
    dynamic_batching: DynamicBatching | None = DynamicBatching()
    length_buckets: tuple[int, ...] = Field((), description="buckets of tokens, as in the service; none: equal lengths")
    lengths: Lengths | None = Field(
        None, description="distribution of lengths, for traffic that does not give the length of each request"
    )
    cpu_request_m: int = Field(1000, ge=1, description="CPU request of a pod, milli-cores; an HPA on cpu divides by it")
    gpu_memory_gib: float | None = Field(
        None, gt=0, description="GPU memory of one replica; none: the profile's, if it was measured"
    )
    balancer: Literal["random", "round_robin", "least_requests"] = Field("random", description="how a pod is chosen")
    latency_target_s: float = Field(gt=0, description="latency target")
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
    """Nodes, served models, and the scraping of their metrics."""

    gpu_kinds: dict[str, GpuKind] = Field({}, description="kinds of GPU by name, for pools and profiles")
    pools: tuple[NodePool, ...] = Field(description="pools of equal nodes")
    provisioner: Provisioner | None = Field(
        None,
        description="what makes and removes nodes of pools with `max_nodes`: `{kind: cluster_autoscaler}` or `{kind: "
        "karpenter}`, with its settings",
    )
    currency: str | None = Field(None, min_length=1, description="currency of all prices, e.g. EUR")
    models: tuple[ServedModel, ...] = Field(min_length=1, description="served models, one Deployment each")
    scheduler: Literal["spread", "bin_pack"] = Field("spread", description="how a node is chosen for a pod")
    scrape_period_s: float = Field(1.0, gt=0, description="time between two scrapes of a replica's metrics")
    scrape_jitter_s: float = Field(
        0.0,
        ge=0,
        description="largest time by which a scrape comes early, at most half a period; about every second "
        "window then contains one more period, as with a real scraper",
    )

    @model_validator(mode="after")
    def _names_fit(self) -> Self:
        for pool in self.pools:
            if pool.gpu_kind is not None and pool.gpu_kind not in self.gpu_kinds:
                known = ", ".join(self.gpu_kinds) or "none"
                raise ValueError(f"pool '{pool.name}' has GPUs of kind '{pool.gpu_kind}', gpu_kinds has {known}")
        elastic = [pool.name for pool in self.pools if pool.max_nodes is not None]
        if elastic and self.provisioner is None:
            raise ValueError(
                f"pool '{elastic[0]}' has max_nodes: name what makes its nodes, `provisioner: {{kind: "
                "cluster_autoscaler}` or karpenter"
            )
        if self.provisioner is not None and not elastic:
            raise ValueError("provisioner: no pool has max_nodes, so that there are no nodes to make")
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

    @model_validator(mode="after")
    def _prices_fit(self) -> Self:
        prices = {pool.name: self._node_hour(pool) for pool in self.pools}
        known = [name for name, price in prices.items() if price is not None]
        if bool(known) != (self.currency is not None):
            missing = "currency, e.g. `currency: EUR`" if known else "a price_per_gpu_hour, or leave currency out"
            raise ValueError(f"prices: give {missing}")
        unknown = [name for name, price in prices.items() if price is None]
        if known and unknown:
            raise ValueError(f"prices: pool '{unknown[0]}' has none, '{known[0]}' has one: give all of them, or none")
        return self

    @property
    def node_hour_prices(self) -> tuple[float, ...] | None:
        """Of a node of each pool, in `currency`; None: no prices were given."""
        prices = [self._node_hour(pool) for pool in self.pools]
        known = tuple(price for price in prices if price is not None)
        return known if known and len(known) == len(prices) else None

    def _node_hour(self, pool: NodePool) -> float | None:
        if pool.price_per_node_hour is not None:
            return pool.price_per_node_hour
        of_kind = None if pool.gpu_kind is None else self.gpu_kinds[pool.gpu_kind].price_per_gpu_hour
        per_gpu = of_kind if pool.price_per_gpu_hour is None else pool.price_per_gpu_hour
        return None if per_gpu is None else per_gpu * pool.gpus

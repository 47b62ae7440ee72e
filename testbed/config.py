"""What configurations hold: a model a command, frozen, unknown keys refused. testbed/configs/ has those that ship.

config_file.py reads them; a command's flags override single keys.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from loadgen.access import PLAIN, Access
from loadgen.client_limits import ClientLimits, TransportName
from loadgen.endpoints import without_password
from loadgen.lengths import Lengths
from loadgen.patterns import find_pattern
from loadgen.patterns.pattern import REGISTRY
from loadgen.request_rows import RequestRows
from loadgen.traces import TraceReading
from testbed.config_file import build
from workloads.catalog import ServiceConfig, find_model
from workloads.emulated_profile import EmulatedProfile
from workloads.repository import Execution, Precision


def _known_pattern(name: str) -> str:
    """The name itself; ValueError if no configuration can name such a pattern."""
    if not find_pattern(REGISTRY.checked(name)).configurable:
        raise ValueError(f"pattern '{name}' cannot be named here: give a recorded trace, or another pattern")
    return name


AddressText = Annotated[str, AfterValidator(without_password)]
PatternName = Annotated[str, AfterValidator(_known_pattern)]  # or a place of yours: my_module:MyPattern


# Keys of before December 2026, in configurations and in what lies beside results: read as the names of today.
EARLIER_NAMES = {
    "per_replica_rps": "replica_capacity_rps",
    "ahead_s": "provisioning_delay_s",
    "age_s": "metrics_delay_s",
    "cpu_age_s": "cpu_metrics_delay_s",
    "price": "slo_penalty",
    "prices": "slo_penalties",
    "reach": "max_step",
    "worlds": "scenarios",
    "allowed_missed": "allowed_slo_violation_rate",
    "marks": "baselines",
    "evaluation_worlds": "evaluation_scenarios",
}


def current_names(value: Any, *, names: Mapping[str, str] = EARLIER_NAMES) -> Any:
    """The same with the names of today as keys, in whatever it holds too."""
    if isinstance(value, dict):
        return {names.get(key, key): current_names(inner, names=names) for key, inner in value.items()}
    return [current_names(inner, names=names) for inner in value] if isinstance(value, list) else value


WHOLE_HPA = (
    "{kind: hpa, spec: {max_replicas: 8, metrics: [{type: Pods, name: queue_time_ms, target_average_value_m: 5000}]}}"
)


class Strict(BaseModel):
    """Frozen, and refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _current_names(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        names = {key: key if key in cls.model_fields else EARLIER_NAMES.get(key, key) for key in data}
        return {names[key] if names[key] in cls.model_fields else key: value for key, value in data.items()}


class NetworkConfig(Strict):
    """The served network, and how it is computed."""

    model: str = Field(description="name of a model in the catalog (workloads/catalog.py)")
    emulated: EmulatedProfile | None = Field(None, description="batch times of the emulated accelerator")
    weights: Path | None = Field(None, description="state dict file; none: random weights from a seed, timing only")
    precision: Precision = Field("fp32", description="precision of the network; tf32 is fp32 on a CPU")
    execution: Execution = Field(
        "graph", description="on a GPU: graph (a captured CUDA graph for each batch size) or eager"
    )
    threads: int | None = Field(
        None,
        ge=1,
        description="CPU threads of an instance; none: all instances share the cores evenly. On a GPU: one",
    )

    def network(self) -> dict[str, Any]:
        """These keys alone."""
        return {name: getattr(self, name) for name in NetworkConfig.model_fields}


class ServeConfig(NetworkConfig):
    """`kis serve`: what to serve on this machine, and how."""

    model: str = Field("resnet50", description="name of a model in the catalog (workloads/catalog.py)")
    device: Literal["auto", "cpu", "gpu"] = Field("auto", description="device; auto: a GPU if there is one")
    weights_seed: int = Field(0, description="seed of random weights")
    gpus: tuple[int, ...] = Field(
        (0,), min_length=1, description="GPUs over which a replica's instances are spread evenly"
    )
    service: ServiceConfig = ServiceConfig()

    @model_validator(mode="after")
    def _emulated_needs_a_profile(self) -> ServeConfig:
        if find_model(self.model).emulated:
            if self.emulated is None:
                raise ValueError(
                    "model 'emulated' needs an `emulated` block: the batch times it pretends to have, as in "
                    "testbed/configs/serve-emulated.yaml"
                )
            if len(self.emulated.mean_s) < self.service.max_batch_size:
                raise ValueError(
                    f"emulated.mean_s has {len(self.emulated.mean_s)} batch times, max_batch_size is "
                    f"{self.service.max_batch_size}: give one for each size"
                )
        return self


class TrafficConfig(Strict, TraceReading):
    """When requests arrive: a pattern with its parameters, or a recorded trace."""

    pattern: PatternName | None = Field(
        None, description="name of a pattern, or my_module:MyPattern; none: bursty, or the trace"
    )
    parameters: dict[str, int | float | str] = Field({}, description="parameters of the pattern, e.g. spike=200")
    trace: Path | None = Field(None, description="file with recorded arrivals, instead of a pattern")
    speed_up: float = Field(1.0, gt=0, description="factor by which the trace is replayed faster")
    from_s: float = Field(
        0.0, ge=0, description="seconds at the trace's beginning (after speed_up) that are not replayed"
    )
    keep: float = Field(1.0, gt=0, le=1, description="share of the trace's requests that is kept")
    rate_interval_s: float | None = Field(
        None,
        gt=0,
        description="interval in which the trace's rate is counted (after speed_up); arrivals are then "
        "sampled from the rate",
    )
    rate_factor: float | None = Field(None, gt=0, description="factor on that rate")
    duration_s: float | None = Field(
        None, gt=0, description="length of the traffic; none: 60 s of a pattern, all of a trace"
    )
    lengths: Lengths | None = Field(None, description="distribution of the requests' tokens; none: equal lengths")
    seed: int = Field(0, description="seed of the arrivals")

    @model_validator(mode="before")
    @classmethod
    def _bursty_if_nothing_is_said(cls, data: Any) -> Any:
        if isinstance(data, dict) and not data.keys() & {"pattern", "trace"}:
            return {**data, "pattern": "bursty"}
        return data

    @model_validator(mode="after")
    def _one_source(self) -> TrafficConfig:
        if (self.pattern is None) == (self.trace is None):
            raise ValueError("give either a pattern or a trace")
        if (self.rate_interval_s is None) != (self.rate_factor is None):
            raise ValueError("give rate_interval_s and rate_factor together: a trace's rate, and its scale")
        if self.rate_factor is not None and self.trace is None:
            raise ValueError("rate_interval_s and rate_factor are of a trace: a pattern has its rates in parameters")
        if self.trace is None and self.told():
            raise ValueError(f"{', '.join(self.told())}: of a trace, and the traffic is a pattern: give a trace")
        if self.from_s and self.trace is None:
            raise ValueError("from_s is of a trace: a pattern has its phase in parameters")
        if self.rate_factor is not None and self.keep != 1:
            raise ValueError("keep is of a trace's own arrivals: make rate_factor smaller instead")
        return self


class RequestTraffic(TrafficConfig):
    """When requests arrive, and how many rows each of them has."""

    batch: RequestRows | None = Field(
        None,
        description="rows of each request, e.g. 4; or rows and weights of several kinds, {1: 0.7, 8: 0.3}; none: 1",
    )


class TraceConfig(Strict, TraceReading):
    """`kis traffic`: what is in a recorded trace."""

    trace: Path = Field(description="file with recorded arrivals, or counts")
    seed: int = Field(0, description="seed of spread")


class ClientConfig(ClientLimits):
    """Settings of the load generator."""

    transport: TransportName = Field("http", description="transport of requests; http_shm: tensors in shared memory")
    workers: int = Field(1, ge=1, description="number of client processes")
    keep_awake: bool = Field(
        False,
        description="on a virtual machine: a process of the lowest priority spins on each processor while "
        "requests are sent, so that the hypervisor does not take the processor away. Not for "
        "hyperthreads of one core",
    )


class ReplayConfig(Strict):
    """`kis replay`: send traffic to a running Triton."""

    server: AddressText = Field(
        "http://127.0.0.1:8000", description="HTTP address of a running Triton: host:port, or http(s)://host:port/path"
    )
    grpc: AddressText | None = Field(
        None,
        description="gRPC address, for transport grpc: host:port or grpcs://host:port; none: port 8001 there",
    )
    access: Access = PLAIN
    shapes: dict[str, tuple[int, ...]] = Field({}, description="shapes of inputs with free dimensions, by input name")
    inputs: dict[str, str] = Field(
        {}, description="values of inputs, by name: VALUE, LOW..HIGH, or @FILE (.npy, .json, or the bytes themselves)"
    )
    requests: Path | None = Field(
        None, description="file with whole requests, sent in turn: JSON, as perf_analyzer's --input-data"
    )
    metrics: AddressText | None = Field(
        None, description="address of the metrics page; none: port 8002 of the same host, if it has no TLS and no path"
    )
    model: str | None = Field(None, description="name of the model; none: the only model of the server")
    traffic: RequestTraffic = RequestTraffic()
    client: ClientConfig = ClientConfig()
    sample_period_s: float = Field(1.0, gt=0, description="time between two samples of the metrics")

    @model_validator(mode="after")
    def _one_source_of_data(self) -> ReplayConfig:
        traffic = self.traffic
        if self.requests is not None and (self.inputs or traffic.batch is not None or traffic.lengths is not None):
            raise ValueError("requests has whole requests: leave out inputs, traffic.batch and traffic.lengths")
        return self


class MeasureConfig(Strict):
    """`kis measure`: serve, replay and sample, into one run folder."""

    serve: ServeConfig = ServeConfig()
    traffic: RequestTraffic = RequestTraffic()
    client: ClientConfig = ClientConfig()
    sample_period_s: float = Field(1.0, gt=0, description="time between two samples of the metrics")

    @model_validator(mode="after")
    def _lengths_fit(self) -> MeasureConfig:
        if bool(self.serve.service.length_buckets) != (self.traffic.lengths is not None):
            raise ValueError("give serve.service.length_buckets and traffic.lengths together")
        return self


class SimulateConfig(Strict):
    """`kis simulate`: a profile, a service, traffic -> a simulated run folder."""

    profile: Path = Field(description="profile-<model>.json of a calibration")
    run: Path | None = Field(None, description="folder of a real run whose schedule and service are simulated")
    service: ServiceConfig | None = Field(
        None, description="configuration of the service; none: one replica, up to the largest measured batch"
    )
    traffic: RequestTraffic = RequestTraffic()
    client: ClientLimits = ClientLimits()
    seed: int = Field(0, description="seed of the service times")


class FitPlan(Strict):
    """The runs that a profile is fitted on. Loads are shares of the service's capacity, found by the burst run."""

    burst_repeats: int = Field(12, ge=5, description="batches of every size in the burst run")
    precision: float = Field(
        0.003, gt=0, description="relative precision of the service time that decides the capacity"
    )
    capacity_s: float = Field(30.0, ge=0, description="time limit of the additional batches that reach this precision")
    loads: tuple[float, ...] = Field((0.1, 0.4, 0.75), description="rates to fit on, as shares of the capacity")
    duration_s: float = Field(15.0, gt=0, description="minimum length of a run; longer if `requests` needs it")
    requests: int = Field(0, ge=0, description="minimum number of requests in a run")
    configurations: tuple[int, ...] = Field((0,), description="numbers of the configurations to fit on")


class HeldOutPlan(Strict):
    """The runs that a profile is judged on: other patterns, rates and seeds than fitted."""

    patterns: tuple[PatternName, ...] = Field(
        ("ramp", "periodic", "fluctuating", "bursty"), description="patterns of the held-out runs"
    )
    peak_load: float = Field(0.6, gt=0, description="peak of the patterns, as a share of the service's capacity")
    duration_s: float = Field(15.0, gt=0, description="minimum length of a run; longer if `requests` needs it")
    requests: int = Field(0, ge=0, description="minimum number of requests in a run")
    repeats: int = Field(
        1, ge=1, description="real runs of the same schedule; their spread is reported beside every error"
    )


class StudyConfig(NetworkConfig):
    """One model on one device: fitted once, judged on held-out traffic in every configuration."""

    gpus: tuple[int, ...] = Field(
        (0,), min_length=1, description="CUDA numbers of the GPUs; a replica's instances are on all of them"
    )
    configurations: tuple[ServiceConfig, ...] = Field(
        (ServiceConfig(),), min_length=1, description="configurations of the service"
    )
    lengths: Lengths | None = Field(None, description="tokens of held-out requests, for services with length_buckets")
    batch: RequestRows | None = Field(None, description="rows of each held-out request, as in traffic; none: 1")
    fit: FitPlan = FitPlan()
    held_out: HeldOutPlan = HeldOutPlan()

    @model_validator(mode="after")
    def _lengths_fit(self) -> StudyConfig:
        buckets = self.configurations[0].length_buckets
        if any(service.length_buckets != buckets for service in self.configurations):
            raise ValueError("configurations of one study have the same length_buckets: one profile is of them")
        if bool(buckets) != (self.lengths is not None):
            raise ValueError("give length_buckets of the service and lengths of the requests together")
        if self.lengths is not None and self.lengths.longest > buckets[-1]:
            raise ValueError(f"requests have up to {self.lengths.longest} tokens, the longest bucket is {buckets[-1]}")
        return self

    @model_validator(mode="after")
    def _rows_fit(self) -> StudyConfig:
        smallest = min(service.max_batch_size for service in self.configurations)
        if self.batch is not None and max(self.batch) > smallest:
            raise ValueError(f"batch has requests of {max(self.batch)} rows, max_batch_size is {smallest}")
        return self

    @model_validator(mode="after")
    def _configurations_exist(self) -> StudyConfig:
        for number in self.fit.configurations:
            if not 0 <= number < len(self.configurations):
                raise ValueError(f"fit.configurations names {number}, there are 0..{len(self.configurations) - 1}")
        labels = [service.label for service in self.configurations]
        if len(set(labels)) < len(labels):
            raise ValueError(f"two configurations are the same ({', '.join(labels)}): leave one out")
        return self

    def serve(self, service: ServiceConfig, device: Literal["auto", "cpu", "gpu"]) -> ServeConfig:
        """What to serve for one of the configurations; ConfigError if the catalog's model cannot be served so."""
        # The same in every configuration: another number of threads is another service time, and another profile.
        # A core is left to server and client: a batch whose threads share theirs takes now this long, now that.
        largest = max(configuration.replicas * configuration.instances for configuration in self.configurations)
        cores = len(os.sched_getaffinity(0)) - 1
        threads = self.threads or max(1, cores // largest)
        data = {**self.network(), "device": device, "gpus": self.gpus, "threads": threads, "service": service}
        return build(ServeConfig, data, f"study of {self.model}, {service.label}")


class CalibrateConfig(Strict):
    """`kis calibrate`: the whole loop, from serving to the report."""

    seed: int = Field(1, description="seed of the arrivals and of simulated runs")
    device: Literal["auto", "cpu", "gpu"] = Field("auto", description="device; auto: a GPU if there is one")
    client: ClientConfig = ClientConfig()
    sample_period_s: float = Field(1.0, gt=0, description="time between two samples of the metrics")
    time_limit_s: float | None = Field(
        None,
        gt=0,
        description="time after which no run is repeated or lengthened; none: no limit",
    )
    studies: tuple[StudyConfig, ...] = Field(min_length=1, description="one entry per model")

    @model_validator(mode="after")
    def _one_study_a_model(self) -> CalibrateConfig:
        models = [study.model for study in self.studies]
        if len(set(models)) < len(models):
            raise ValueError(f"two studies of one model ({', '.join(models)}): calibrate them into different folders")
        return self

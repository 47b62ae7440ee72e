"""ServiceProfile: what calibration learnt of one model on one device. Written as profile.json, read by simulation."""

from __future__ import annotations

from collections.abc import Sequence
from math import log
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from loadgen.artifact import ArtifactError
from testbed.config import current_names
from testbed.run_dir import Device
from workloads.files import first_wrong, parse_model, read_text, write_json

VERSION: Literal[2] = 2
# Names of version 1, which is read all the same: what was measured then holds.
RENAMED = {
    "inflow_quantiles_s": "ingress_delay_quantiles_s",
    "outflow_quantiles_s": "egress_delay_quantiles_s",
    "turnaround_quantiles_s": "inter_batch_gap_quantiles_s",
    "turnaround_s": "inter_batch_gap_s",
    "inflow_s": "ingress_delay_s",
    "outflow_s": "egress_delay_s",
    "freedom": "degrees_of_freedom",
    "deviation": "std",
}
MISFIT_PCT = 20.0  # of P95, on a run that was fitted on; the profiles in results/ are up to 16 % off


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class MeanUncertainty(_Frozen):
    """How well the means of the batch sizes are known: mean_s + z @ components_s + own_std_s * e, all standard normal.

    components_s: rows of as many seconds as there are sizes, what the sizes have in common; own_std_s: each size's own.
    """

    components_s: tuple[tuple[float, ...], ...]
    own_std_s: tuple[float, ...]

    def std_s(self) -> tuple[float, ...]:
        """Standard deviation of each size's mean."""
        columns = zip(*self.components_s, self.own_std_s, strict=True)
        return tuple(sum(value**2 for value in column) ** 0.5 for column in columns)


class Capacity(_Frozen):
    """Requests per second that one instance serves when it never waits for work: the largest  b / S(b).

    low_rps, high_rps: 90 % interval over what is not known of S(b); None: the profile does not tell how well it is.
    """

    rps: float = Field(gt=0)
    batch_size: int = Field(ge=1)
    low_rps: float | None = None
    high_rps: float | None = None


class LengthTime(_Frozen):
    """A batch padded to fewer tokens than the longest takes  offset_s + factor * S(b),  for every size b."""

    tokens: int = Field(ge=1)
    offset_s: float = Field(ge=0)
    factor: float = Field(ge=0)
    batches: int  # on which it rests; 0: it is the longest, of which S(b) itself is


class ServiceTime(_Frozen):
    """Time that a batch occupies its instance (compute_input + infer + output), by batch size.

    A batch of size b started at t takes  mean_s[b] * noise * slow(t) + after_idle:  noise is drawn per batch from the
    quantile function `noise_quantiles` (evenly spaced probabilities 0..1, mean 1), slow(t) is the machine's slow phase,
    after_idle what a batch takes more on an instance that was idle before.
    """

    batch_size: tuple[int, ...]  # 1..max_batch_size
    mean_s: tuple[float, ...]
    spread_s: tuple[float | None, ...]  # standard deviation of single batches; None: no log of batches, or too few
    batches: tuple[int, ...]  # how many were measured at each size; 0: it follows from the other sizes
    noise_quantiles: tuple[float, ...]
    measured_s: tuple[float | None, ...] = ()  # mean of those batches, before sizes lend each other strength
    steps: tuple[int, ...] = ()  # sizes after which the mean jumps
    uncertainty: MeanUncertainty | None = None  # None: not known
    lengths: tuple[LengthTime, ...] = ()  # by length bucket, ascending; none: all requests are alike
    after_idle_s: tuple[float, ...] = ()  # more of a batch whose instance was idle for 0.25 ms * 2**k; none: no effect

    @model_validator(mode="after")
    def _one_mean_a_size(self) -> ServiceTime:
        if not len(self.batch_size) == len(self.mean_s) == len(self.batches) == len(self.spread_s):
            raise ValueError("batch_size, mean_s, spread_s and batches differ in length")
        if self.batch_size != tuple(range(1, len(self.batch_size) + 1)):
            raise ValueError("batch_size must run from 1 without gaps")
        known = self.uncertainty
        if known and {len(row) for row in (*known.components_s, known.own_std_s)} != {len(self.mean_s)}:
            raise ValueError("uncertainty must have one number for each batch size")
        return self

    def padded_mean_s(self, buckets: Sequence[int]) -> list[list[float]]:
        """Mean seconds of a batch by length bucket and size - 1; ArtifactError: a bucket was not measured."""
        known = {length.tokens: length for length in self.lengths}
        missing = [tokens for tokens in buckets if tokens not in known]
        if missing:
            there = ", ".join(map(str, known)) or "none"
            raise ArtifactError(
                f"length bucket {missing[0]} is not in the profile (it has {there}): calibrate with length_buckets "
                f"{list(buckets)}"
            )
        return [
            [known[tokens].offset_s + known[tokens].factor * mean_s for mean_s in self.mean_s] for tokens in buckets
        ]


class SlowPhase(_Frozen):
    """The machine's slow phases: a factor exp(x(t) - sigma^2/2), x an Ornstein-Uhlenbeck process of deviation sigma."""

    sigma: float = Field(ge=0)
    timescale_s: float = Field(gt=0)


class Steadiness(_Frozen):
    """How unsteady the machine was while it was measured, from the backend's log of batch times."""

    window_s: float
    between_windows_cv: float  # deviation of the windows' mean slowness
    p99_over_p50: float  # of single batches, size taken out


class OverheadLevel(_Frozen):
    """What one local rate of the whole service costs beside queue and batch, as quantile functions.

    Evenly spaced probabilities 0..1. The ingress delay passes before the queue, the egress delay after the batch (what
    position and batch size cost is taken out). The inter-batch gap lies between a batch's end and the next start on a
    busy instance; None: too few batches at this rate had one, the profile's inter_batch_gap_s holds. Without a log of
    batches, the ingress delay is 0 and all of the overhead stands as egress delay.
    """

    replicas: int  # of the services that it was measured on: what wakes and what contends differs between them
    instances: int
    rate_rps: float
    ingress_delay_quantiles_s: tuple[float, ...]
    egress_delay_quantiles_s: tuple[float, ...]
    inter_batch_gap_quantiles_s: tuple[float, ...] | None = None
    requests: int


class Overhead(_Frozen):
    """Per-request overhead: a distribution that depends on load, and the cost of being late in one's batch.

    A request at position p of a batch of b gains  per_position_s * p + per_batch_size_s * (b - 1)  after the batch.
    A service takes the levels that were measured on the nearest number of replicas and instances. Between two of
    them, quantiles are interpolated in the rate over the last `window_s`; beyond them the nearest holds.
    """

    window_s: float = Field(gt=0)
    levels: tuple[OverheadLevel, ...] = Field(min_length=1)  # ascending rates within a kind of service
    per_position_s: float = 0.0
    per_batch_size_s: float = 0.0

    def levels_for(self, replicas: int, instances: int) -> tuple[OverheadLevel, ...]:
        """The levels of the most similar service: fewest factors between the numbers of replicas, then of instances."""

        def unlike(kind: tuple[int, int]) -> tuple[float, float, int]:
            return abs(log(kind[0] / replicas)), abs(log(kind[1] / instances)), kind[0]

        nearest = min({(level.replicas, level.instances) for level in self.levels}, key=unlike)
        return tuple(level for level in self.levels if (level.replicas, level.instances) == nearest)


class Contention(_Frozen):
    """What the load of the whole machine adds to each batch: seconds per request/s above a base rate."""

    seconds_per_rps: float = 0.0
    base_rps: float = 0.0


class RunEffect(_Frozen):
    """How one parameter's mean differs between runs of the same service, and how many runs beyond the fit say so."""

    std: float = Field(ge=0)
    degrees_of_freedom: int = Field(ge=1)


class RunEffects(_Frozen):
    """What a run to come will have of its own; None: too few runs to tell.

    service: of the logarithm of the batches' times; the others: seconds added to each request's or batch's.
    inflation: factors on all deviations, equally likely, with which runs lie as far from a profile that was fitted
    without them as such runs would.
    """

    service: RunEffect | None = None
    ingress_delay_s: RunEffect | None = None
    egress_delay_s: RunEffect | None = None
    inter_batch_gap_s: RunEffect | None = None
    inflation: tuple[float, ...] = Field((1.0,), min_length=1)


class LoadPoint(_Frozen):
    """Utilisation and power at one offered load; None: not measured."""

    rate_rps: float
    utilisation: float | None = None  # share of time that the instances were busy
    device_utilisation: float | None = None
    power_w: float | None = None
    machine_cpu: float | None = None  # cores busy on the machine


class ServerCpu(_Frozen):
    """CPU that one replica's server uses, python backend included: a line in its rate."""

    idle_cores: float = Field(ge=0)
    seconds_per_request: float = Field(ge=0)


class DeviceMemory(_Frozen):
    """Memory of its GPU that one replica takes: its server, and each instance of the model."""

    server_bytes: float = Field(ge=0)
    instance_bytes: float = Field(ge=0)


class DeviceUse(_Frozen):
    """What batches take of a GPU; None: not measured.

    network_s: mean seconds of the network by size - 1, by CUDA events. The power is idle_w and the joules of the
    batches and requests of a second, by the GPU's energy counter. power_spread: by which share the power of runs
    differs from that.
    """

    network_s: tuple[float, ...] | None
    idle_w: float | None
    batch_j: float | None
    request_j: float | None
    power_spread: RunEffect | None = None  # None too: fewer than three runs more than parameters

    def power_w(self, batches_s: float, requests_s: float) -> float | None:
        """Watts with so many batches and requests per second; None: not known."""
        if self.idle_w is None or self.batch_j is None or self.request_j is None:
            return None
        return self.idle_w + self.batch_j * batches_s + self.request_j * requests_s


class Band(NamedTuple):
    """The median, and the 5 % and 95 % quantiles, over runs that might come."""

    low: float
    middle: float
    high: float


class CurvePoint(_Frozen):
    """What the simulator expects at one constant load; None: the profile does not tell."""

    rate_rps: float
    p50_s: Band
    p95_s: Band
    busy: Band  # share of the time of the instances
    network: Band | None  # share of the time in which a network runs
    power_w: Band | None


class LoadCurve(_Frozen):
    """A service under constant loads, over the range of rates that was measured (simulation.load_curve)."""

    configuration: str  # ServiceConfig.label
    points: tuple[CurvePoint, ...]


class FitResidual(_Frozen):
    """How well the profile repeats one run that it was fitted on. valid: that run's verdict; None: it has none."""

    run_id: str
    valid: bool | None
    p50_error_pct: float
    p95_error_pct: float
    ks: float


class ServiceProfile(_Frozen):
    """profile.json."""

    version: Literal[2] = VERSION
    model: str
    weights: str
    device: Device
    service_time: ServiceTime
    capacity: Capacity | None = None  # of one instance; None: written before there was such a figure
    slow_phase: SlowPhase
    inter_batch_gap_s: float = Field(ge=0, description="mean; its levels are in overhead")
    overhead: Overhead
    cold_start_s: tuple[float, ...] = ()
    timer_slack_s: float | None = None  # how late a queue delay ends; None: not measured, taken as 0
    contention: Contention = Contention()
    run_effects: RunEffects = RunEffects()
    interference: tuple[float, ...] = ()  # factor while 1, 2, ... replicas of one device are busy; empty: not measured
    steadiness: Steadiness | None = None  # None: no log of batches
    load: tuple[LoadPoint, ...] = ()
    device_memory: DeviceMemory | None = None  # None: no GPU
    device_use: DeviceUse | None = None  # None: no GPU, or not measured
    load_curve: LoadCurve | None = None  # None: no GPU, or nothing of it was measured
    server_cpu: ServerCpu | None = None  # None: not measured (a server of the user's), or at one rate only
    residuals: tuple[FitResidual, ...] = ()
    ranges: dict[str, tuple[float, float]] = {}  # e.g. rate_rps, batch_size: where the profile holds
    runs: tuple[str, ...] = ()
    invalid_runs: tuple[str, ...] = ()  # of those: INVALID, and fitted on because too few others were not
    left_out_runs: tuple[str, ...] = ()  # not fitted on, or for the service time alone: they are INVALID
    provenance: dict[str, Any] = {}

    @model_validator(mode="before")
    @classmethod
    def _of_version_1(cls, data: Any) -> Any:
        if not isinstance(data, dict) or data.get("version") != 1:
            return data
        return {**current_names(data, names=RENAMED), "version": VERSION}

    @property
    def largest_batch(self) -> int:
        """The largest batch size that was measured; larger ones follow from the others."""
        return max(
            (b for b, n in zip(self.service_time.batch_size, self.service_time.batches, strict=True) if n), default=1
        )

    @property
    def misfit(self) -> str | None:
        """What is wrong if the simulator does not repeat a valid run that was fitted on: the service then does what no
        profile can say (pauses, several modes, batches that depend on those before). None: it repeats them."""
        of_valid = [residual for residual in self.residuals if residual.valid is not False]
        worst = max(of_valid, key=lambda residual: abs(residual.p95_error_pct), default=None)
        if worst is None or abs(worst.p95_error_pct) <= MISFIT_PCT:
            return None
        return (
            f"The profile does not fit this service: even of run {worst.run_id}, which it was fitted on, the simulated "
            f"P95 is {worst.p95_error_pct:+.0f} % off. Do not rely on simulations with it."
        )

    def write(self, path: Path) -> None:
        """Write profile.json."""
        write_json(path, self)

    @classmethod
    def read(cls, path: Path) -> ServiceProfile:
        """Read profile.json; ArtifactError names the first field that is wrong."""
        try:
            return parse_model(cls, read_text(path))
        except OSError as error:
            raise ArtifactError(f"{path}: {error.strerror}: give a profile.json written by `kis calibrate`") from None
        except ValidationError as error:
            lacks = {problem["loc"] for problem in error.errors() if problem["type"] == "missing"}
            if error.errors()[0]["type"] == "model_type" or ("service_time",) in lacks:
                raise ArtifactError(f"{path} is no profile: give a profile-<model>.json of `kis calibrate`") from None
            raise ArtifactError(f"{path}: {first_wrong(error)}: calibrate again with this kis") from None
        except ValueError as error:
            what = f"{path} is no profile ({error})"
            raise ArtifactError(f"{what}: give a profile-<model>.json of `kis calibrate`") from None

"""`kis tune-service`: a few measured settings of a user's model, all others simulated, and the best ones run for real.

    results/<name>/  tune-service.json  models.json (what the server had)  tuned-service.json  report.html
                     measured/MODEL-n2/  a calibration for each model and number of instances
                     confirmed/runs/     real runs of the picks     picks/1/MODEL/config.pbtxt

Instances share a device, so how long a batch takes depends on their number: each number is measured. Batch sizes, queue
delays and preferred sizes are Triton's rules, which are simulated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from loadgen.artifact import read_json
from loadgen.discovery import service_config, the_model, unmodelled
from loadgen.patterns import Constant
from loadgen.request_log import RequestLog
from loadgen.schedule import Schedule, poisson_schedule
from testbed.calibration.profile import ServiceProfile
from testbed.config import CalibrateConfig, HeldOutPlan, StudyConfig
from testbed.errors import ServingError
from testbed.measurement.machine import look as look_at_machine
from testbed.pipeline.anew import compute_anew
from testbed.pipeline.calibrate import calibrate
from testbed.pipeline.capacity import fewest_replicas, predict
from testbed.pipeline.looked import Look
from testbed.pipeline.made_runs import MadeRuns, Reporter
from testbed.pipeline.plan import seed_of
from testbed.pipeline.service_settings import Setting, best, front, grid, nearest, normal, one_replicas_share
from testbed.pipeline.service_tuning_config import TuneServiceConfig
from testbed.pipeline.target import Target, remote
from testbed.pipeline.traffic import Identity, make_schedule
from testbed.run_dir import RunDir
from testbed.serving.model_control import Config, NotControlledError, as_it_was, as_pbtxt, configured_as, load
from testbed.simulation.load_curve import rate_within
from testbed.simulation.rules import queue_notes
from testbed.study import HERE, Workers, computed, remember
from workloads.catalog import ServiceConfig
from workloads.files import write_json, write_text_atomically

CONFIG, FILE = "tune-service.json", "tuned-service.json"
DRAWS = 20  # of simulated runs, for each option
MOST_S, MOST_REQUESTS = 15.0, 1500  # of the run at the largest rate within the target: at least so long, or so many
LONGEST_S = 60.0


@dataclass(frozen=True)
class Server:
    """The user's server, and what its models had at the beginning. controlled: it loads models on request."""

    config: TuneServiceConfig
    own: dict[str, Config]
    folder: Path
    reporter: Reporter

    def target(self, model: str) -> Target:
        """As the model is served now."""
        config = self.config
        return remote(config.server, model, config.metrics, shapes=config.shapes, access=config.access)

    def set(self, model: str, service: ServiceConfig) -> Target:
        """The model with that setting. NotControlledError: it has another one, and the server loads no models."""
        wanted = normal(service)
        if normal(self.target(model).service) != wanted:
            self.reporter.phase(f"{model}: load it with {wanted.label}")
            load(self.config.server, model, configured_as(self.own[model], service), self.config.access)
        target = self.target(model)
        if normal(target.service) != wanted:
            raise ServingError(f"the server has {model} with {target.service.label}, not with {wanted.label}")
        return target


def tune_service(
    config: TuneServiceConfig,
    folder: Path,
    reporter: Reporter,
    look: Look | None = look_at_machine,
    workers: Workers = HERE,
) -> dict[str, Any]:
    """Measure, simulate, confirm; what was written to tuned-service.json. What is there is kept.

    look: at the machine, before the first run; None: none.
    """
    remember(config, folder / CONFIG, may_change=("server", "metrics", "access"))
    with ExitStack() as at_the_end:
        server = _server(config, folder, reporter, at_the_end)
        for note in queue_notes(service_config(each).dynamic_batching for each in server.own.values()):
            reporter.phase(f"note: {note}")
        profiles = {model: _measured(server, model, look, workers) for model in server.own}
        settings = _simulated(server, profiles, workers)
        picks = best(settings, config)
        found = [_confirmed(server, number, pick, profiles) for number, pick in enumerate(picks, start=1)]
    told = _told(server, settings, picks, found)
    write_json(folder / FILE, told)
    return told


def _server(config: TuneServiceConfig, folder: Path, reporter: Reporter, at_the_end: ExitStack) -> Server:
    """What it has; it has that again at the end. A folder that goes on knows what it had at first."""
    models = config.models or (the_model(config.server, None, config.access),)
    file = folder / "models.json"
    own: dict[str, Config] = read_json(file, "choose another folder with --out") if file.exists() else {}
    for model in models:
        now = at_the_end.enter_context(as_it_was(config.server, model, config.access))
        own.setdefault(model, now)
        if left := unmodelled(own[model]):
            raise ServingError(f"model '{model}' has {' and '.join(left)}, which the simulator does not model")
    write_json(file, own)
    return Server(config, {model: own[model] for model in models}, folder, reporter)


Profiles = dict[int, Path]  # by number of instances


def _measured(server: Server, model: str, look: Look | None, workers: Workers) -> Profiles:
    """A profile for each number of instances; of the model's own one alone where the server loads no models.

    Once there are picks, no other is measured: they would be other ones.
    """
    own = service_config(server.own[model])
    if (server.folder / FILE).exists():
        numbers = {own.instances, *server.config.instances}
        return {n: file for n in numbers if (file := _profile_file(server, model, n)).exists()}
    settings = grid(server.config, own, batched=_batched(server.own[model]))
    found: Profiles = {}
    for instances in server.config.instances:
        of_number = [one for one in settings if one.instances == instances]
        base = max(of_number, key=lambda one: one.max_batch_size)
        if base.dynamic_batching is not None:
            plain = base.dynamic_batching.model_copy(update={"max_queue_delay_s": 0.0, "preferred_batch_sizes": ()})
            base = base.model_copy(update={"dynamic_batching": plain})
        try:
            found[instances] = _profile(server, model, base, look, workers)
        except NotControlledError as reason:
            if found:
                server.reporter.phase(f"note: {reason}: {instances} instances are predicted from {min(found)}")
                continue
            server.reporter.phase(f"note: {reason}: it is measured as it is, and the rest is predicted from that")
            return {own.instances: _profile(server, model, own, look, workers)}
    return found


def _batched(config: Config) -> bool:
    return int(config.get("max_batch_size", 0)) > 0


def _profile_file(server: Server, model: str, instances: int) -> Path:
    return server.folder / "measured" / f"{model}-n{instances}" / f"profile-{model}.json"


def _profile(server: Server, model: str, service: ServiceConfig, look: Look | None, workers: Workers) -> Path:
    """The profile of the model with that setting; measured, unless it is there."""
    profile = _profile_file(server, model, service.instances)
    if profile.exists():
        server.reporter.phase(f"{model} {service.label}: {profile.parent} is kept")
        return profile
    target = server.set(model, service)
    study = StudyConfig(
        model=model,
        configurations=(target.service,),
        fit=server.config.fit,
        held_out=HeldOutPlan(patterns=()),
    )
    settings = CalibrateConfig(
        seed=server.config.seed,
        client=server.config.client,
        sample_period_s=server.config.sample_period_s,
        studies=(study,),
    )
    calibrate(settings, profile.parent, server.reporter, target, look=look, measure_only=True, workers=workers)
    compute_anew(profile.parent, server.reporter, workers)
    return profile


@dataclass(frozen=True)
class _Question:
    """What is simulated of a setting, in any process."""

    config: TuneServiceConfig
    profile: Path
    model: str
    service: ServiceConfig
    measured: bool


def _simulated(server: Server, profiles: dict[str, Profiles], workers: Workers) -> list[Setting]:
    questions = []
    for model, by_instances in profiles.items():
        own = server.own[model]
        for service in grid(server.config, service_config(own), batched=_batched(own)):
            profile = by_instances[nearest(by_instances, service.instances)]
            questions.append(_Question(server.config, profile, model, service, service.instances in by_instances))
    server.reporter.phase(f"simulate {len(questions)} settings")
    return list(computed(_simulate, questions, workers, server.reporter.progress))


def _simulate(question: _Question) -> Setting:
    """The fewest replicas, and what one serves within the target."""
    config, profile = question.config, ServiceProfile.read(question.profile)
    looks = list(
        fewest_replicas(
            profile,
            arrivals_of(config, question.model),
            question.service,
            config.target_ms / 1e3,
            config.max_replicas,
            percentile=config.percentile,
            draws=DRAWS,
            seed=config.seed,
        )
    )
    holding = [look for look in looks if look.holds]
    chosen = min(holding, key=lambda look: look.service.replicas) if holding else looks[0]
    throughput_rps = rate_within(profile, question.service, config.target_ms / 1e3, config.percentile)
    return Setting(question.model, chosen, throughput_rps, question.measured)


def arrivals_of(config: TuneServiceConfig, model: str) -> Callable[[int], Schedule]:
    """By seed: others of the same pattern, or always those of the trace."""

    def arrivals(seed: int) -> Schedule:
        traffic = config.traffic
        return make_schedule(traffic if traffic.trace else traffic.model_copy(update={"seed": seed}), model)

    return arrivals


def _confirmed(server: Server, number: int, pick: Setting, profiles: dict[str, Profiles]) -> dict[str, Any]:
    """The pick run for real, on the traffic and at the largest rate that is predicted to hold; and its config.pbtxt."""
    config, service = server.config, pick.option.service
    text = as_pbtxt(configured_as(server.own[pick.model], service))
    file = server.folder / "picks" / str(number) / pick.model / "config.pbtxt"
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text_atomically(file, text)
    told: dict[str, Any] = {"file": str(file.relative_to(server.folder)), "runs": {}}
    runs = MadeRuns(server.folder / "confirmed", config.client, config.sample_period_s, server.reporter)
    one = service.model_copy(update={"replicas": 1})
    profile = _profile_of(profiles[pick.model], service)
    for name, (identity, schedule) in _confirming(config, pick).items():
        run = runs.kept(identity.run_id, schedule)
        if run is None:
            try:
                target = server.set(pick.model, one)
            except NotControlledError as reason:
                told["open"] = str(reason)
                return told
            run = runs.make(target, schedule, identity)
        told["runs"][name] = _beside(run, schedule, one, profile, config)
    return told


def _profile_of(by_instances: Profiles, service: ServiceConfig) -> ServiceProfile:
    return ServiceProfile.read(by_instances[nearest(by_instances, service.instances)])


def _confirming(config: TuneServiceConfig, pick: Setting) -> dict[str, tuple[Identity, Schedule]]:
    """The real runs of a pick: `traffic`, one replica's share of it, and `most`, at the rate that it should hold."""
    service = pick.option.service
    name = f"{pick.model}-{normal(service).label}"
    share = one_replicas_share(make_schedule(config.traffic, pick.model), service.replicas)
    identity = Identity(f"{name}-traffic", share.provenance.get("pattern", "trace"), {}, config.traffic.seed)
    found = {"traffic": (identity, share)}
    rate = pick.throughput_rps
    if rate > 0:
        run_id = f"{name}-most"
        length_s = min(max(MOST_S, MOST_REQUESTS / rate), LONGEST_S)
        seed = seed_of(config.seed, run_id)
        most = poisson_schedule(Constant(rate=rate), length_s, seed, pick.model)
        found["most"] = (Identity(run_id, "constant", {"rate": rate}, seed), most)
    return found


def _beside(
    run: RunDir, schedule: Schedule, service: ServiceConfig, profile: ServiceProfile, config: TuneServiceConfig
) -> dict[str, Any]:
    """A real run beside what is simulated of the same arrivals."""
    log, verdict = RequestLog.read(run.requests), run.manifest.verdict
    latency_s = np.where(log.ok, log.latency_s, np.inf)
    target_s = config.target_ms / 1e3
    predicted = predict(
        profile,
        lambda _: schedule,
        service,
        target_s,
        percentile=config.percentile,
        draws=DRAWS,
        seed=config.seed + 1,  # not the one with which it was chosen
    )
    within = 1 - predicted.slo_violation_rate.middle
    return {
        "run": run.path.name,
        "valid": verdict is not None and verdict.valid,
        "reasons": [] if verdict is None else list(verdict.reasons),
        "offered_rps": schedule.rate_rps,
        "duration_s": schedule.duration_s,
        "latency_ms": 1e3 * float(np.quantile(latency_s, config.percentile / 100, method="higher")),
        "predicted_ms": {end: 1e3 * getattr(predicted.latency_s, end) for end in ("low", "middle", "high")},
        "within_target_rps": schedule.rate_rps * float(1 - log.missed(target_s).mean()),
        "predicted_within_target_rps": schedule.rate_rps * within,
    }


def _told(server: Server, settings: Sequence[Setting], picks: Sequence[Setting], found: list[Any]) -> dict[str, Any]:
    config = server.config
    price = config.price_per_gpu_hour
    on_front = front([setting for setting in settings if setting.option.holds])
    rows = []
    for setting in settings:
        option = setting.option
        rows.append(
            {
                "model": setting.model,
                "service": option.service.model_dump(),
                "holds": option.holds,
                "latency_ms": {end: 1e3 * getattr(option.latency_s, end) for end in ("low", "middle", "high")},
                "slo_violation_rate": {
                    end: getattr(option.slo_violation_rate, end) for end in ("low", "middle", "high")
                },
                "utilisation": option.utilisation,
                "throughput_rps": setting.throughput_rps,
                "measured": setting.measured,
                "cost_per_hour": None if price is None else price * option.service.replicas,
                "front": setting in on_front,
            }
        )
    measured = list(_real(server.folder / "measured"))
    confirmed = list(_real(server.folder / "confirmed"))
    each_s = sum(run["duration_s"] for one in found[:1] for run in one["runs"].values())
    return {
        "config": config.model_dump(mode="json"),
        "settings": rows,
        "picks": [{"setting": settings.index(pick), **one} for pick, one in zip(picks, found, strict=True)],
        "effort": {
            "measured_runs": len(measured),
            "confirmed_runs": len(confirmed),
            "traffic_s": sum(measured) + sum(confirmed),
            "grid_runs": 2 * len(rows),  # what the picks had, of every setting
            "grid_traffic_s": each_s * len(rows) if each_s else None,
        },
    }


def _real(folder: Path) -> Iterator[float]:
    """Seconds of traffic of each real run beneath."""
    for file in sorted(folder.glob("**/runs/*/run.json")):
        manifest = RunDir(file.parent).manifest
        if manifest.kind == "real":
            yield manifest.duration_s

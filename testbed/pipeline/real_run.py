"""One real run: replay a schedule against a target while everything is sampled, and leave a run folder."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from loadgen.client_limits import ClientLimits
from loadgen.job import ReplayError, ReplayJob, client_figures, read_clients, run_replay
from loadgen.request_log import RequestLog
from loadgen.request_rows import refuse_too_many
from loadgen.run_manifest import versions
from loadgen.schedule import Schedule
from loadgen.validity import ValidityLimits, judge
from testbed.config import ClientConfig
from testbed.errors import ServingError
from testbed.machine import Machine
from testbed.measurement.batch_files import read_batch_files, without_foreign
from testbed.measurement.device_times import read_device_files
from testbed.measurement.gpu_metrics import GpuSource, served_gpus
from testbed.measurement.metric_log import MetricLog
from testbed.measurement.process_metrics import ProcessSource
from testbed.measurement.replica_metrics import replica_rows
from testbed.measurement.sampler import Sampler, Source
from testbed.measurement.triton_metrics import TritonSource, read_gauges
from testbed.pipeline.awake import NOTE as AWAKE
from testbed.pipeline.awake import processors_awake
from testbed.pipeline.target import Target
from testbed.pipeline.traffic import Identity
from testbed.run_dir import RunDir, RunManifest

OnProgress = Callable[[float], None]  # share of the schedule's span that has passed, 0..1
EMPTY_S = 120.0  # longest wait for the server to answer what is in its queues
EVERY_INPUT = "every input"  # of a file of requests
UNCOUNTED = "the server answered and counts no executed batch: its backend reports none, and no profile can be made"
OTHERS = "something else used"  # in the reasons of a verdict
FOREIGN_REQUESTS, FOREIGN_SHARE = 2, 0.005  # of others: fewer change no figure
LOST_TELEMETRY_SHARE = 0.2  # a run that misses more of a source's readings is INVALID


def run_real(
    target: Target,
    schedule: Schedule,
    folder: Path,
    identity: Identity,
    client: ClientConfig,
    sample_period_s: float,
    on_progress: OnProgress | None = None,
    limits: ValidityLimits | None = None,
    machine: Machine | None = None,
) -> RunDir:
    """Replay `schedule` and write the run's folder. An interrupt (SIGINT) ends the run early and keeps what it has.

    limits: what a VALID run must keep to; None: the usual ones. machine: what a look at it found before; None: nobody
    looked. Raises ReplayError if the load generator cannot start; the folder then says `interrupted`.
    """
    refuse_too_many(schedule, target.model, target.service.max_batch_size if target.batched else 1)
    _wait_for_empty_queues(target)
    run = RunDir(folder).create()
    run.raw.mkdir(exist_ok=True)
    manifest = _manifest(target, schedule, identity, client, machine)
    run.write_manifest(manifest)
    schedule.write(run.schedule)
    job = ReplayJob(
        schedule=run.schedule,
        run_dir=run.path,
        endpoints=target.endpoints,
        access=target.access,
        requests={target.model: target.requests},
        balancer=target.service.balancer,
        transport=client.transport,
        timeout_s=client.timeout_s,
        max_in_flight=client.max_in_flight,
        workers=client.workers,
    )
    sources: list[Source] = [
        TritonSource(target.model, target.addresses),
        ProcessSource(lambda: {**target.pids(), **_clients(job.raw)}),
        *target.sources,
    ]
    gpus = GpuSource() if target.local_gpu else None
    if gpus is not None:
        sources.append(gpus)
    try:
        with (
            processors_awake(client.keep_awake),
            Sampler(sources, run.raw / "metrics.jsonl", sample_period_s) as sampler,
        ):
            log = run_replay(job, None if on_progress is None else lambda done, span: on_progress(done / span))
    except BaseException:
        run.write_manifest(manifest.model_copy(update={"state": "interrupted"}))
        raise
    limits = identity.limits or limits
    try:
        return _close(run, manifest, target, schedule, sampler, gpus, log, identity.percentile, limits)
    except OSError as error:
        raise ReplayError(f"{run.path}: {error.strerror}: what was answered is safe in {run.raw}: free space") from None


def _wait_for_empty_queues(target: Target) -> None:
    """What an overloaded run's clients gave up is answered first, or it would be this run's load. A queue that stays
    is somebody else's: the run is made, and says so."""
    deadline = time.monotonic() + EMPTY_S
    while time.monotonic() < deadline:
        pages = [(each.metrics_url, each.access) for each in target.addresses() if each.metrics_url is not None]
        try:
            if not any(read_gauges(page, target.model, access=access).waiting for page, access in pages):
                return
        except ServingError:
            return  # an old server does not tell
        time.sleep(0.2)


def _clients(raw: Path) -> dict[str, int]:
    """Process ids of the client processes, as soon as they have said so."""
    return {f"client:{client.worker}": client.pid for client in read_clients(raw)}


def _close(
    run: RunDir,
    manifest: RunManifest,
    target: Target,
    schedule: Schedule,
    sampler: Sampler,
    gpus: GpuSource | None,
    log: RequestLog,
    percentile: float | None,
    limits: ValidityLimits | None,
) -> RunDir:
    """Write the artefacts and the verdict. What is missing stays missing, and is said in the notes."""
    log.write(run.requests)
    start_ns = log.provenance["start_monotonic_ns"]
    notes, foreign, beyond, uncounted = list(manifest.notes), 0, 0, False
    if start_ns is not None:
        metrics = sampler.finish(start_ns, replica_rows(target.events(), start_ns))
        metrics.write(run.metrics)
        beyond = _beyond_sent(metrics, log, schedule, target.model)
        readings = sampler.readings[TritonSource.name].taken if TritonSource.name in sampler.readings else 0
        answered = int(log.ok.sum()) > FOREIGN_REQUESTS and readings > 1 and not target.unmodelled
        uncounted = answered and not metrics.executed(target.model)
        manifest = _with_gpus(manifest, target, metrics, gpus)
        notes += [
            f"{name}: {reading.missed} readings missed, first because {reading.first_reason}"
            for name, reading in sampler.readings.items()
            if reading.missed
        ]
        notes += [f"NVML may not open GPU {gpu} ({why}): no readings of it" for gpu, why in _lost(gpus).items()]
        if target.batch_logs is not None:
            batches, foreign = without_foreign(read_batch_files(target.batch_logs, start_ns, measured_only=True), log)
            batches.write(run.batches)
            on_device = read_device_files(target.batch_logs, start_ns, time.monotonic_ns())
            if on_device is not None:
                on_device.write(run.path)
    verdict = judge(schedule, log, client_figures(log), percentile, limits)
    lost = [
        f"telemetry lost: {reading.missed} of {reading.missed + reading.taken} readings of {name} missed "
        f"({reading.first_reason})"
        for name, reading in sampler.readings.items()
        if reading.lost_share > LOST_TELEMETRY_SHARE
    ]
    if uncounted:
        lost.append(UNCOUNTED)
    if foreign:
        lost.append(f"{foreign} requests in the server's batches are not this client's: {OTHERS} the server")
    elif beyond:
        lost.append(f"the server executed {beyond} requests more than were sent: {OTHERS} the model")
    if lost:
        verdict = verdict.model_copy(update={"valid": False, "reasons": (*verdict.reasons, *lost)})
    interrupted = bool(log.provenance["interrupted"])
    run.write_manifest(
        manifest.model_copy(
            update={
                "state": "interrupted" if interrupted else "complete",
                "start_unix_ns": log.provenance["start_unix_ns"],
                "start_monotonic_ns": start_ns,
                "verdict": verdict,
                "notes": tuple(notes),
            }
        )
    )
    if interrupted:
        raise KeyboardInterrupt
    return run


def _with_gpus(manifest: RunManifest, target: Target, metrics: MetricLog, gpus: GpuSource | None) -> RunManifest:
    """With the GPUs that served, and their name instead of the first GPU's."""
    uuids = served_gpus(target.batch_logs, metrics, gpus, target.pids().values())
    names = sorted({gpus.names[uuid] for uuid in uuids if uuid in gpus.names}) if gpus is not None else []
    device = manifest.device.model_copy(update={"name": ", ".join(names)}) if names else manifest.device
    return manifest.model_copy(update={"gpu_uuids": uuids, "device": device})


def _lost(gpus: GpuSource | None) -> dict[str, str]:
    return {} if gpus is None else gpus.lost


def _beyond_sent(metrics: MetricLog, log: RequestLog, schedule: Schedule, model: str) -> int:
    """Rows that the server executed and this client did not send; 0 where they may be a reading's edge."""
    was_sent = ~np.isnan(log.seconds("sent_ns"))
    executed = metrics.executed(model)
    sent = int(was_sent.sum() if schedule.rows is None else schedule.rows[log.frame["request_id"][was_sent]].sum())
    if executed is None:
        return 0
    beyond = executed - sent
    return beyond if beyond > max(FOREIGN_REQUESTS, FOREIGN_SHARE * sent) else 0


def _manifest(
    target: Target, schedule: Schedule, identity: Identity, client: ClientConfig, machine: Machine | None
) -> RunManifest:
    return RunManifest(
        run_id=identity.run_id,
        kind="real",
        state="running",
        model=target.model,
        weights=target.weights,
        device=target.device,
        threads=target.threads,
        precision=target.precision,
        execution=target.execution,
        service=target.service,
        shapes=shapes_of(target),
        inputs=inputs_of(target),
        client=ClientLimits(timeout_s=client.timeout_s, max_in_flight=client.max_in_flight),
        pattern=identity.pattern,
        pattern_parameters=identity.parameters,
        seed=identity.seed,
        repeat=identity.repeat,
        held_out=identity.held_out,
        duration_s=schedule.duration_s,
        machine=machine,
        versions=versions(),
        notes=(*identity.notes, *target.notes, *((AWAKE,) if client.keep_awake else ())),
    )


def shapes_of(target: Target) -> dict[str, tuple[int, ...]]:
    """Of each input, as requests have it."""
    return {tensor.name: tuple(tensor.shape) for tensor in target.inputs}


def inputs_of(target: Target) -> dict[str, str]:
    """What the user had put into the inputs; of a file, what identifies its content."""
    given = dict(target.sent.values)
    if target.sent.file is not None:
        given[EVERY_INPUT] = f"@{target.sent.file}"
    return {name: _identified(text) for name, text in given.items()}


def _identified(text: str) -> str:
    if not text.startswith("@"):
        return text
    path = Path(text[1:])
    return f"@{path.name} (sha256 {hashlib.sha256(path.read_bytes()).hexdigest()[:12]})"

"""The report of one run, real or simulated: `kis replay`, `kis measure`, `kis simulate --profile`, a Locust run."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from loadgen.saturation import strain_of
from loadgen.validity import refused
from testbed.reporting.compare import quantile_ms
from testbed.reporting.figures import run as figures
from testbed.reporting.labels import device_text, milliseconds, number, parameters_text
from testbed.reporting.loading import LoadedRun, batch_counts, load_run, mean_batch, utilisation
from testbed.reporting.machine import machine_table
from testbed.reporting.report import Content, Report

PERCENTILES = (50, 90, 95, 99, 100)


def gather(folder: Path) -> Content:
    """Of its run.json and its logs."""
    run = load_run(folder)
    manifest, log = run.manifest, run.requests
    sizes = batch_counts(run)
    latency_s = log.latency_s
    captions = {
        "over-time": "Requests offered, answered and not answered, in each second; beneath, P50 and P95 latency of the "
        "requests that were scheduled in each interval",
        "latency": "Latency of the answered requests, from their scheduled time",
    }
    drawn: dict[str, Callable[[], Figure]] = {
        "over-time": partial(figures.over_time, run),
        "latency": partial(figures.distribution, run),
    }
    if sizes:
        captions["batches"] = "Number of batches of each size"
        drawn["batches"] = partial(figures.batches, run, sizes)
    values = {
        "name": manifest.run_id,
        "m": manifest,
        "claim": claim(run),
        "reasons": _reasons(run),
        "saturated": strain_of(log, manifest.duration_s).reason,
        "counts": log.counts(),
        "latencies": {
            f"P{p}" if p < 100 else "largest": milliseconds(quantile_ms(latency_s, p / 100)) for p in PERCENTILES
        },
        "facts": _facts(run, sizes),
        "unmeasured": _unmeasured(run, sizes),
        "captions": captions,
        "machine": machine_table([manifest]),
    }
    return Content(values, drawn, {f"figures/{name}.png": draw for name, draw in drawn.items()})


def claim(run: LoadedRun) -> str:
    """What was offered and what came of it, in a sentence."""
    log, offered = run.requests, figures.by_second(run)["offered"]
    latency_s = log.latency_s
    mean, peak = number(run.schedule.rate_rps, 1), number(float(offered.max(initial=0.0)), 0)
    of_policy = int(refused(log).sum())
    text = (
        f"{number(len(log), 0)} requests in {run.manifest.duration_s:g} s ({mean} a second, at most {peak} in one "
        f"second): {number(int(log.ok.sum()), 0)} answered"
        f"{f', {number(of_policy, 0)} refused by the queue policy of the model' if of_policy else ''}"
    )
    if not log.ok.any():
        return text + "."
    p50, p95, p99 = (milliseconds(quantile_ms(latency_s, share)) for share in figures.QUANTILES)
    return f"{text}, latency P50 {p50} ms, P95 {p95} ms, P99 {p99} ms."


def _reasons(run: LoadedRun) -> list[str]:
    """Why the run is not to be relied on; none: it is VALID, or it was simulated."""
    interrupted = ["the run was interrupted"] if run.manifest.state == "interrupted" else []
    return [*interrupted, *(run.manifest.verdict.reasons if run.manifest.verdict is not None else ())]


def _facts(run: LoadedRun, sizes: dict[int, int] | None) -> dict[str, str]:
    """What ran, by what it is called; what is not known is not measured."""
    manifest = run.manifest
    service, client, busy = manifest.service, manifest.client, utilisation(run)[0]
    drawn_from = run.schedule.provenance
    parameters = drawn_from.get("parameters", {k: v for k, v in drawn_from.items() if k not in ("pattern", "seed")})
    given = parameters_text(manifest.pattern, parameters)
    rules = service.dynamic_batching
    batching = "none" if rules is None else f"dynamic, longest wait {1e3 * rules.max_queue_delay_s:g} ms"
    facts: dict[str, Any] = {
        "model": f"{manifest.model} on {device_text(manifest.device.name, manifest.device.kind == 'emulated')}",
        "weights": manifest.weights,
        "traffic": f"{manifest.pattern}{f': {given}' if given else ''}; seed {manifest.seed}",
        "service": f"{_counted(service.replicas, 'replica')} of {_counted(service.instances, 'instance')}, batches of "
        f"at most {service.max_batch_size}, batching {batching}",
        "client": None
        if client is None
        else f"timeout {client.timeout_s:g} s, at most {client.max_in_flight} in flight",
        "utilisation": None if busy is None else number(100 * busy, 1, "%"),
        "mean batch": None if not sizes else number(mean_batch(sizes), 2),
    }
    if manifest.profile is not None:
        facts["simulated with"] = manifest.profile
    if manifest.simulates is not None:
        facts["repeats"] = manifest.simulates
    if manifest.start_unix_ns is not None:
        facts["started"] = f"{datetime.fromtimestamp(manifest.start_unix_ns / 1e9, UTC):%Y-%m-%d %H:%M:%S} UTC"
    if manifest.verdict is not None and "lag_p99_ms" in manifest.verdict.figures:
        told = manifest.verdict.figures
        limit = f" (limit {milliseconds(told['lag_limit_ms'])} ms)" if "lag_limit_ms" in told else ""
        facts["client was late by"] = f"P99 {milliseconds(told['lag_p99_ms'])} ms{limit}"
    if manifest.versions:
        facts["versions"] = ", ".join(f"{name} {version}" for name, version in manifest.versions.items())
    return {name: number(None) if value is None else str(value) for name, value in facts.items()}


def _unmeasured(run: LoadedRun, sizes: dict[int, int] | None) -> str:
    """Which figures are missing, and why; empty if none is."""
    if run.batches is not None:
        return ""
    missing = ["how busy the instances were over time", *([] if sizes else ["the sizes of batches"])]
    return (
        f"Not measured, and so not drawn: {' and '.join(missing)}. They come from a log of batches, which only servers "
        "that this testbed starts leave."
    )


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def found(folder: Path) -> str:
    """How many requests were answered, how late, and whether that is to be relied on: by its logs."""
    run = load_run(folder)
    ok = run.requests.ok
    text = f"{number(len(ok), 0)} requests: {number(int(ok.sum()), 0)} answered"
    if ok.any():
        text += f", P95 {milliseconds(quantile_ms(run.requests.latency_s, 0.95))} ms"
    if run.manifest.kind == "simulated":
        return f"{text}."
    if reasons := _reasons(run):
        return f"{text}, INVALID: {'; '.join(reasons)}."
    return f"{text}, {'NOT JUDGED' if run.manifest.verdict is None else 'VALID'}."


REPORT = Report(
    "run",
    "run.json",
    "a run: kis replay, measure or simulate, locust -f loadgen/...",
    gather,
    question="What came of one run?",
    found=found,
)

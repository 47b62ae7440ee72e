"""What Triton tells of a model over plain HTTP: its /metrics page, and its statistics by batch size."""

from __future__ import annotations

import math
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable
from functools import lru_cache
from http.client import HTTPException
from pathlib import Path
from typing import Any, NamedTuple

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from loadgen.access import PLAIN, Access
from loadgen.refused import why_no_tls, why_status
from testbed.errors import ServingError
from testbed.measurement.metric_log import Sample
from testbed.measurement.sampler import MissedSample
from testbed.measurement.triton_statistics import ModelStatistics, parse_statistics, version_number
from workloads.errors import KisError

_MOST_BYTES = 1 << 24  # of a page
_TIMEOUT_S = 0.9  # below the sampler's usual period
_PATIENCE_S = 5.0  # with a server that is asked for the first time, and may be busy
_AGAIN_S = 0.2  # between two tries whether a page answers
_GPU_UNITS = {
    "nv_gpu_utilization": "ratio",
    "nv_gpu_power_usage": "watt",
    "nv_gpu_power_limit": "watt",
    "nv_energy_consumption": "joule",
}


class TritonAddress(NamedTuple):
    """One endpoint: its name in the logs, its HTTP address, and that of its metrics (None: none that we reach); grpc:
    host:port, None: not known; access: how all of them are reached.

    HTTP addresses are host:port or http://host:port; the metrics page is /metrics there unless a path is given.
    """

    endpoint: str
    http_url: str
    metrics_url: str | None
    grpc: str | None = None
    access: Access = PLAIN


class _NoRedirection(urllib.request.HTTPRedirectHandler):
    """Headers are for the address that the user named, and for no other."""

    def redirect_request(self, *_: Any) -> None:
        """See HTTPRedirectHandler: the answer is an HTTPError."""


@lru_cache(maxsize=8)
def _opener(ca: Path | None, cert: Path | None, key: Path | None, insecure: bool) -> urllib.request.OpenerDirector:
    # Requests stay on the wire that the run itself uses: a proxy from the environment has no place in a measurement.
    tls = urllib.request.HTTPSHandler(context=Access(ca=ca, cert=cert, key=key, insecure=insecure).context())
    return urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirection, tls)


def open_page(url: str, timeout_s: float, access: Access = PLAIN) -> Any:
    """The answer of an HTTP server; OSError, HTTPException or ValueError without one."""
    opener = _opener(access.ca, access.cert, access.key, access.insecure)
    return opener.open(urllib.request.Request(url, headers=access.header_values()), timeout=timeout_s)


def families_of(text: str) -> list[Metric]:
    """All of a page of metrics; ValueError if it is none, or has a number that no float can be."""
    try:
        families = list(text_string_to_metric_families(text))
        for family in families:
            family.samples = [sample._replace(value=float(sample.value)) for sample in family.samples]
    except OverflowError as error:
        raise ValueError(str(error)) from None
    return families


def parse_metrics(text: str, model: str, endpoint: str) -> list[Sample]:
    """The model's nv_inference_* counters and gauges, and nv_gpu_* where the server has GPUs, from a /metrics page.

    Of several versions of the model it is the newest that counts: it answers requests that name none. Summaries and
    histograms are left out: they round, and percentiles come from raw rows. ServingError if the text is no such page,
    or the model is not on it.
    """
    values: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
    newest: dict[str, int] = {}  # version by name: a model's counters need not come with its gauges
    try:
        # A counter's name is its family's: the parser appends _total to the sample's, Triton does not.
        families = [f for f in families_of(text) if f.type in ("counter", "gauge")]
    except ValueError as error:
        raise ServingError(
            f"metrics of endpoint '{endpoint}' cannot be read ({error}): is this Triton's /metrics address?"
        ) from None
    for family in families:
        of_model, of_gpu = family.name.startswith("nv_inference_"), family.name.startswith(("nv_gpu_", "nv_energy_"))
        for sample in family.samples:
            if (of_gpu or (of_model and sample.labels.get("model") == model)) and math.isfinite(sample.value):
                version = version_number(sample.labels.get("version", ""))
                if version < newest.setdefault(family.name, version):
                    continue
                if version > newest[family.name]:
                    newest[family.name] = version
                    values = {key: value for key, value in values.items() if key[0] != family.name}
                labels = {k: v for k, v in sample.labels.items() if k != "version"} | {"endpoint": endpoint}
                key = (family.name, tuple(sorted(labels.items())))
                values[key] = values.get(key, 0.0) + sample.value
    if not any(name.startswith("nv_inference_") for name, _ in values):
        raise ServingError(f"metrics of endpoint '{endpoint}' have no model '{model}': is it loaded?")
    return [("triton", name, dict(labels), value, _unit(name)) for (name, labels), value in values.items()]


def _unit(name: str) -> str:
    if name.endswith("_bytes"):
        return "bytes"
    return "us" if name.endswith("_us") else _GPU_UNITS.get(name, "count")


def read_page(metrics_url: str, timeout_s: float = _TIMEOUT_S, access: Access = PLAIN) -> str:
    """The text of a metrics page; ServingError if it does not answer."""
    return _get(_page(metrics_url), timeout_s, access)


def read_statistics(
    http_url: str, model: str, timeout_s: float = _TIMEOUT_S, access: Access = PLAIN
) -> ModelStatistics:
    """Ask a server for a model's statistics; ServingError if it does not answer."""
    page = f"{http_url.rstrip('/')}/v2/models/{urllib.parse.quote(model)}/stats"
    return parse_statistics(_get(page, timeout_s, access), model)


class Gauges(NamedTuple):
    """What is so now. waiting: requests of the model; gpu_share: that the server's GPUs are busy, NaN without any."""

    waiting: float
    gpu_share: float


def read_gauges(metrics_url: str, model: str, timeout_s: float = _TIMEOUT_S, access: Access = PLAIN) -> Gauges:
    """From a server's metrics page; ServingError if it does not tell how many requests wait."""
    rows = parse_metrics(read_page(metrics_url, timeout_s, access), model, metrics_url)
    waiting, shares = (
        [row[3] for row in rows if row[1] == name]
        for name in ("nv_inference_pending_request_count", "nv_gpu_utilization")
    )
    if not waiting:
        raise ServingError(
            f"metrics of {metrics_url} have no nv_inference_pending_request_count: is this Triton 23.09 or newer?"
        )
    if min(waiting) < 0:
        raise ServingError(
            f"metrics of {metrics_url} say that {min(waiting):g} requests wait: is this Triton's address?"
        )
    return Gauges(sum(waiting), sum(shares) / len(shares) if shares else math.nan)


def _with_scheme(url: str) -> str:
    return url if "://" in url else f"http://{url}"


def _page(metrics_url: str) -> str:
    url = _with_scheme(metrics_url)
    return url if urllib.parse.urlsplit(url).path.strip("/") else f"{url.rstrip('/')}/metrics"


def _get(url: str, timeout_s: float, access: Access) -> str:
    url = _with_scheme(url)
    try:
        with open_page(url, timeout_s, access) as answer:
            return _read_all(answer, time.monotonic() + timeout_s).decode()
    except urllib.error.HTTPError as error:
        if error.code not in (400, 404) and (why := why_status(error.code, access)) is not None:
            raise ServingError(f"{url}: {why}") from None
        said = error.read(200).decode(errors="replace").strip()
        raise ServingError(f"{url} answers {error.code} ({said or error.reason}): is the model loaded there?") from None
    except (OSError, HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        if (why := why_no_tls(reason)) is not None:
            raise ServingError(f"{url}: {why}") from None
        raise ServingError(f"{url} does not answer ({reason}): is the server up, and the address right?") from None


def _read_all(answer: Any, until_s: float) -> bytes:
    """The whole body. The socket's timeout starts anew with every part: a page without an end would never return."""
    parts, size = [], 0
    while part := answer.read1(1 << 16):
        parts.append(part)
        size += len(part)
        if size > _MOST_BYTES:
            raise ValueError(f"more than {_MOST_BYTES} bytes")
        if time.monotonic() > until_s:
            raise TimeoutError("it does not come to an end in time")
    return b"".join(parts)


def why_no_page(metrics_url: str, within_s: float = 0.0, access: Access = PLAIN) -> str | None:
    """Of a metrics page that is not at that address, nor within_s later: a server's other ports may be up first. None:
    it is there.
    """
    deadline = time.monotonic() + within_s
    while True:
        try:
            read_page(metrics_url, _PATIENCE_S, access)
        except ServingError as error:
            if time.monotonic() >= deadline:
                return str(error)
            time.sleep(_AGAIN_S)
        else:
            return None


def belongs_to(metrics_url: str, http_url: str, model: str, access: Access = PLAIN) -> bool:
    """Whether the page counts what that server counts: another server's has no such model, or other numbers of it."""
    try:
        before = read_statistics(http_url, model, _PATIENCE_S, access).succeeded
        rows = parse_metrics(read_page(metrics_url, _PATIENCE_S, access), model, metrics_url)
        after = read_statistics(http_url, model, _PATIENCE_S, access).succeeded
    except ServingError:
        return False
    return before <= sum(row[3] for row in rows if row[1] == "nv_inference_request_success") <= after


class TritonSource:
    """Reads the statistics and the /metrics page of one model at every endpoint there is at that moment.

    endpoints: returns the current addresses; they may change while a run goes on.
    """

    name = "triton"

    def __init__(self, model: str, endpoints: Callable[[], Iterable[TritonAddress]]) -> None:
        self._model = model
        self._endpoints = endpoints

    def sample(self) -> list[Sample]:
        """One reading of all endpoints; MissedSample carries the rows of what answered."""
        rows: list[Sample] = []
        reasons = []
        for address in self._endpoints():
            try:
                rows += self._batches(address)
                if address.metrics_url is not None:
                    page = read_page(address.metrics_url, _TIMEOUT_S, address.access)
                    rows += parse_metrics(page, self._model, address.endpoint)
            except KisError as error:
                reasons.append(f"endpoint {address.endpoint}: {error}")
        if reasons:
            raise MissedSample("; ".join(reasons), rows)
        return rows

    def _batches(self, address: TritonAddress) -> list[Sample]:
        rows: list[Sample] = []
        for size, batch in read_statistics(address.http_url, self._model, access=address.access).batches.items():
            labels = {"model": self._model, "endpoint": address.endpoint, "batch_size": str(size)}
            rows.append((self.name, "batch_executions", labels, batch.executions, "count"))
            rows.append((self.name, "batch_compute_seconds", labels, batch.compute_ns / 1e9, "s"))
        return rows

"""What a server says about itself over HTTP: is it ready, and has it work left?"""

from __future__ import annotations

import http.client
from collections import defaultdict
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

_TIMEOUT_S = 2.0


@dataclass(frozen=True)
class ServerLoad:
    """What a server did since its start, and what waits in it now. Requests that run are in neither count."""

    waiting: int
    done: int
    compute_s: float  # mean time that a done request spent in its batch; 0 if none is done


def is_ready(address: str, model: str) -> bool:
    """True if the server at host:port answers that it and the model are ready."""
    return all(_get(address, path)[0] == 200 for path in ("/v2/health/ready", f"/v2/models/{model}/ready"))


def server_load(address: str) -> ServerLoad | None:
    """What the metrics port at host:port tells; None if it does not answer."""
    status, body = _get(address, "/metrics")
    if status != 200:
        return None
    totals: defaultdict[str, float] = defaultdict(float)
    for family in text_string_to_metric_families(body):
        for sample in family.samples:
            totals[sample.name.removesuffix("_total")] += sample.value
    succeeded = totals["nv_inference_request_success"]
    compute_us = sum(totals[f"nv_inference_compute_{part}_duration_us"] for part in ("input", "infer", "output"))
    return ServerLoad(
        waiting=int(totals["nv_inference_pending_request_count"]),
        done=int(succeeded + totals["nv_inference_request_failure"]),
        compute_s=compute_us / succeeded / 1e6 if succeeded else 0.0,
    )


def _get(address: str, path: str) -> tuple[int, str]:
    """(status, body); status 0 if nothing answers there."""
    connection = http.client.HTTPConnection(address, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    except (OSError, http.client.HTTPException):
        return 0, ""
    finally:
        connection.close()

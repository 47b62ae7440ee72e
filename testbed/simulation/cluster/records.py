"""A run with rows -> the logs that a real run leaves too."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from loadgen.request_log import RequestLog
from testbed.measurement.batch_log import BatchLog
from testbed.simulation.cluster.kisim import KISim
from testbed.simulation.cluster.stream import SECOND_NS
from testbed.simulation.state import CLIENT_TIMEOUT, DROPPED, NONE, OK, ROW

_DETAIL = {
    NONE: "it waits at the end",
    1: "timed out in the queue",
    2: "queue full",
    4: "its pod died",
    5: "no endpoint",
}


def request_log(sim: KISim, provenance: dict[str, Any]) -> RequestLog:
    """The rows of a run as a RequestLog, in the order of their numbers: requests that are decided (measurement.misses).

    Those that still wait, past their deadline, are timeouts without an end.
    """
    rows = sim.all_rows()
    waiting = np.concatenate([sim.overdue(model.name) for model in sim.config.models])
    rows = np.concatenate([rows, _unanswered(waiting)])
    rows = rows[np.argsort(rows["id"], kind="stable")]
    names = np.array([model.name for model in sim.config.models], dtype=object)
    pods = np.array(["", *(f"pod-{pod.number}" for pod in sim.pods)], dtype=object)
    never_sent = rows["status"] == DROPPED
    status = np.select(
        [rows["status"] == OK, never_sent, np.isin(rows["status"], (CLIENT_TIMEOUT, NONE))],
        ["ok", "dropped", "timeout"],
        "error",
    )
    frame = pd.DataFrame(
        {
            "request_id": rows["id"],
            "model": names[rows["model"]],
            "endpoint": np.where(never_sent, None, pods[rows["pod"] + 1]),
            "scheduled_ns": rows["scheduled_ns"],
            "sent_ns": pd.arrays.IntegerArray(rows["scheduled_ns"].copy(), never_sent),
            "completed_ns": pd.arrays.IntegerArray(rows["completed_ns"].copy(), never_sent | (rows["status"] == NONE)),
            "status": status,
            "detail": pd.array(_details(rows["status"]), dtype="str"),
        }
    )
    return RequestLog(frame, {**provenance, "seconds": sim.now_ns / SECOND_NS})


def batch_log(sim: KISim, provenance: dict[str, Any]) -> BatchLog:
    """The batches of the same rows, also those whose requests their client had given up, as a server's own log."""
    rows = sim.served_rows()
    names = ("start_ns", "end_ns", "instance", "batch_size", "position")
    frame = pd.DataFrame({"request_id": rows["id"], "replica": rows["pod"], **{name: rows[name] for name in names}})
    frame = frame.astype("int64")
    frame = frame.sort_values(["start_ns", "replica", "instance", "position"], kind="stable", ignore_index=True)
    return BatchLog(frame, provenance)


def _details(status: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """object[n]: what is to be said of a request beside its status."""
    codes, place = np.unique(status, return_inverse=True)
    return np.asarray(np.array([_DETAIL.get(int(code)) for code in codes], dtype=object)[place])


def _unanswered(requests: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """ROW[n] of requests that have not ended; status NONE."""
    rows = np.zeros(len(requests), dtype=ROW)
    for name in ("id", "scheduled_ns", "pod", "model", "attempt"):
        rows[name] = requests[name]
    rows["status"] = NONE
    return rows

"""ScalingLogs of an evaluation in one table: what each row of evaluation.json and each timeline is computed from.

Of each log the first run is whole. Of the others the last row is kept, which has the totals, and of its latency
histogram the bins in which some P95 lies that is told: the run's, its log's, its policy's over all traffic. All
requests between two of them are in one bin. Whole numbers are differences to the row before of the same run. `log` is
the log's name in the folder, `provenance` its own, as JSON.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from pathlib import PurePath

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from testbed.archive.coding import from_steps, steps
from testbed.archive.requests import Coded
from testbed.measurement.scaling_log import COST, SCHEMA, ScalingLog, histogram_of, schema_of
from workloads.files import parse_json

KEPT_QUANTILE = 0.95  # that the rows of evaluation.json have
_TOTALS = [f.name for f in SCHEMA if pa.types.is_integer(f.type) and f.name not in ("seed", "energy_mj")]


def encode_logs(logs: Mapping[str, ScalingLog]) -> Coded:
    """By the log's name."""
    of_logs = {name: _together([log]) for name, log in logs.items()}
    of_policies = {
        policy: _together([log for name, log in logs.items() if _policy(name) == policy])
        for policy in {_policy(name) for name in logs}
    }
    frame = pd.concat(
        [_kept(log, {of_logs[name], of_policies[_policy(name)]}).assign(log=name) for name, log in logs.items()],
        ignore_index=True,
    )
    run = [frame[name].to_numpy() for name in ("log", "seed")]
    headers = {name: json.dumps(log.provenance, sort_keys=True) for name, log in logs.items()}
    columns = {f.name: pa.array(frame[f.name], f.type, from_pandas=True) for f in SCHEMA}
    totals = _totals(frame)
    columns |= {name: pa.array(steps(frame[name].to_numpy(dtype=np.int64), run), pa.int64()) for name in totals}
    texts = {"log": frame["log"], "provenance": frame["log"].map(headers)}
    columns |= {name: pa.array(text, pa.string()).dictionary_encode() for name, text in texts.items()}
    return Coded(pa.table(columns), {})


def decode_logs(coded: Coded) -> dict[str, ScalingLog]:
    """By the log's name."""
    frame = coded.table.to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get)
    run = [frame["log"].astype(object).to_numpy(), frame["seed"].to_numpy(dtype=np.int64)]
    for name in _totals(frame):
        frame[name] = from_steps(frame[name].to_numpy(dtype=np.int64), run)
    logs = {}
    for name, rows in frame.groupby("log", sort=False, observed=True):
        schema = schema_of(rows)
        table = pa.Table.from_pandas(rows[schema.names], schema=schema, preserve_index=False)
        logs[str(name)] = ScalingLog.of_table(table, dict(parse_json(rows["provenance"].iloc[0])))
    return logs


def _totals(frame: pd.DataFrame) -> list[str]:
    """Columns of whole numbers that grow."""
    return [*_TOTALS, COST] if COST in frame else _TOTALS


def _policy(name: str) -> str:
    """Of a log of logs/<traffic>/<policy>.parquet."""
    return PurePath(name).name


def _together(logs: Sequence[ScalingLog]) -> int:
    """The bin of KEPT_QUANTILE of all runs of the logs."""
    return _place(np.sum([histogram_of(log.run(seed)) for log in logs for seed in log.seeds], axis=0))


def _place(histogram: npt.NDArray[np.int64]) -> int:
    return int(np.searchsorted(np.cumsum(histogram), KEPT_QUANTILE * histogram.sum(), side="left"))


def _kept(log: ScalingLog, places: set[int]) -> pd.DataFrame:
    """The first run, and the last row of each other one. places: bins that are kept."""
    seeds = log.frame["seed"]
    first = seeds == seeds.iloc[0]
    last = log.frame[~first & ~seeds.duplicated(keep="last")].copy()
    both = [_around(*cell, places) for cell in zip(last["latency_bin"], last["latency_count"], strict=True)]
    for k, name in enumerate(("latency_bin", "latency_count")):
        last[name] = pd.Series([pair[k] for pair in both], index=last.index, dtype=object)
    kept: pd.DataFrame = pd.concat([log.frame[first], last])
    return kept


def _around(bins: Sequence[int], counts: Sequence[int], places: set[int]) -> tuple[list[int], list[int]]:
    """A histogram with the same count in each of the places and in the bin of its own KEPT_QUANTILE, and as many
    requests between them, in one bin there."""
    count = np.asarray(counts, dtype=np.int64)
    if not len(count):
        return [], []
    kept = places | {int(bins[_place(count)])}
    edges = sorted(kept)
    parts: dict[tuple[int, bool], list[int]] = {}  # stretch between two edges, or an edge: its first bin, requests
    for place, many in zip(bins, count.tolist(), strict=True):
        part = parts.setdefault((bisect_left(edges, place), int(place) in kept), [int(place), 0])
        part[1] += many
    return [place for place, _ in parts.values()], [many for _, many in parts.values()]

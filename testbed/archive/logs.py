"""ScalingLogs of an evaluation in one table: what each row of evaluation.json and each timeline is computed from.

Of each log the first run is whole. Of the others the last row is kept, which has the totals, and of its latency
histogram the bin of P95, with all requests below it in one bin and all above it in another. Whole numbers are
differences to the row before of the same run. `log` is the log's name in the folder, `provenance` its own, as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
import pandas as pd
import pyarrow as pa

from testbed.archive.coding import from_steps, steps
from testbed.archive.requests import Coded
from testbed.measurement.scaling_log import SCHEMA, ScalingLog

KEPT_QUANTILE = 0.95  # that the rows of evaluation.json have
_TOTALS = [f.name for f in SCHEMA if pa.types.is_integer(f.type) and f.name not in ("seed", "energy_mj")]


def encode_logs(logs: Mapping[str, ScalingLog]) -> Coded:
    """By the log's name."""
    frame = pd.concat([_kept(log).assign(log=name) for name, log in logs.items()], ignore_index=True)
    run = [frame[name].to_numpy() for name in ("log", "seed")]
    told = {name: json.dumps(log.provenance, sort_keys=True) for name, log in logs.items()}
    columns = {f.name: pa.array(frame[f.name], f.type, from_pandas=True) for f in SCHEMA}
    columns |= {name: pa.array(steps(frame[name].to_numpy(dtype=np.int64), run), pa.int64()) for name in _TOTALS}
    texts = {"log": frame["log"], "provenance": frame["log"].map(told)}
    columns |= {name: pa.array(text, pa.string()).dictionary_encode() for name, text in texts.items()}
    return Coded(pa.table(columns), {})


def decode_logs(coded: Coded) -> dict[str, ScalingLog]:
    """By the log's name."""
    frame = coded.table.to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get)
    run = [frame["log"].astype(object).to_numpy(), frame["seed"].to_numpy(dtype=np.int64)]
    for name in _TOTALS:
        frame[name] = from_steps(frame[name].to_numpy(dtype=np.int64), run)
    logs = {}
    for name, mine in frame.groupby("log", sort=False, observed=True):
        table = pa.Table.from_pandas(mine[SCHEMA.names], schema=SCHEMA, preserve_index=False)
        logs[str(name)] = ScalingLog.of_table(table, json.loads(mine["provenance"].iloc[0]))
    return logs


def _kept(log: ScalingLog) -> pd.DataFrame:
    """The first run, and the last row of each other one."""
    seeds = log.frame["seed"]
    first = seeds == seeds.iloc[0]
    last = log.frame[~first & ~seeds.duplicated(keep="last")].copy()
    both = [_around(*one) for one in zip(last["latency_bin"], last["latency_count"], strict=True)]
    for k, name in enumerate(("latency_bin", "latency_count")):
        last[name] = pd.Series([one[k] for one in both], index=last.index, dtype=object)
    kept: pd.DataFrame = pd.concat([log.frame[first], last])
    return kept


def _around(bins: list[int], counts: list[int]) -> tuple[list[int], list[int]]:
    """A histogram with at most three bins that are not empty, and the same KEPT_QUANTILE."""
    count = np.asarray(counts, dtype=np.int64)
    if len(count) <= 3:
        return list(bins), count.tolist()
    place = int(np.searchsorted(np.cumsum(count), KEPT_QUANTILE * count.sum(), side="left"))
    parts = [(bins[0], count[:place].sum()), (bins[place], count[place]), (bins[-1], count[place + 1 :].sum())]
    kept = [(int(one), int(many)) for one, many in parts if many]
    return [one for one, _ in kept], [many for _, many in kept]

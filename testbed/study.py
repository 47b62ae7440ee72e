"""What every kind of study shares: a results folder that remembers its configuration, and cells that are computed.

A study is a configuration, cells (runs, real or simulated) and a report. The folder keeps the configuration, so that an
interrupted study goes on, and one of other settings is refused. Real runs are kept or made by pipeline.made_runs;
simulated cells come from `computed`, in processes or on Ray; reports from reporting.report.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel

from loadgen.artifact import read_json
from testbed.config_file import build
from testbed.errors import ConfigError
from testbed.ray_cluster import map_on_ray
from workloads.files import write_json

Item = TypeVar("Item")
Result = TypeVar("Result")


class Workers(NamedTuple):
    """Where cells are computed: in so many processes of this machine, or on the Ray cluster of that address."""

    processes: int = 1
    ray: str | None = None


HERE = Workers()  # in this process


def all_processors() -> Workers:
    """A process for each processor that this one may use."""
    return Workers(len(os.sched_getaffinity(0)))


def remember(config: BaseModel, file: Path, *, may_change: Sequence[str] = (), may_grow: Sequence[str] = ()) -> None:
    """Write the configuration beside the results. ConfigError names the first key that the results there were made
    with otherwise.

    may_change: keys (dotted, `*` for any) that may have another value when a study goes on. may_grow: numbers that may
    be raised, and mappings that may get further entries. A key that the file does not have yet has its default.
    """
    if file.exists():
        written = read_json(file, "choose another folder with --out")
        refuse_others(config, written, file, may_change=may_change, may_grow=may_grow)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, config)


def refuse_others(
    config: BaseModel, written: Any, file: Path, *, may_change: Sequence[str] = (), may_grow: Sequence[str] = ()
) -> None:
    """See `remember`. written: what was read from the file."""
    before = build(type(config), written, str(file)).model_dump(mode="json")
    now = config.model_dump(mode="json")
    key = _first_difference(before, now, (), Allowed.of(may_change, may_grow))
    if key is not None:
        raise ConfigError(
            f"{file} was made with other settings ({key} differs): give the same ones to go on, or choose another "
            "folder with --out"
        )


class Allowed(NamedTuple):
    """Keys as tuples of their parts."""

    change: tuple[tuple[str, ...], ...]
    grow: tuple[tuple[str, ...], ...]

    @classmethod
    def of(cls, change: Sequence[str], grow: Sequence[str]) -> Allowed:
        """From dotted keys."""
        return cls(tuple(tuple(key.split(".")) for key in change), tuple(tuple(key.split(".")) for key in grow))


def _first_difference(before: Any, now: Any, key: tuple[str, ...], allowed: Allowed) -> str | None:
    """The dotted key of the first value that is another one and may not be; None: there is none."""
    if before == now or _matches(key, allowed.change):
        return None
    grows = _matches(key, allowed.grow)
    if isinstance(before, dict) and isinstance(now, dict) and (grows or before.keys() == now.keys()):
        inner = (_first_difference(before[name], now.get(name), (*key, name), allowed) for name in before)
        return next((difference for difference in inner if difference is not None), None)
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        pairs = enumerate(zip(before, now, strict=True))
        inner = (_first_difference(inner_before, other, (*key, str(n)), allowed) for n, (inner_before, other) in pairs)
        return next((difference for difference in inner if difference is not None), None)
    if grows and isinstance(before, int) and isinstance(now, int) and before <= now:
        return None
    return ".".join(key)


def _matches(key: tuple[str, ...], patterns: Sequence[tuple[str, ...]]) -> bool:
    return any(
        len(key) == len(pattern) and all(part in ("*", name) for part, name in zip(pattern, key, strict=True))
        for pattern in patterns
    )


def computed(
    task: Callable[[Item], Result], items: Sequence[Item], workers: Workers, on_progress: Callable[[float], None]
) -> Iterator[Result]:
    """The task's result for each item, in their order, the same for any workers. Items and results are pickled where
    they go to other processes. on_progress: share of the items that is done."""
    for done, result in enumerate(_results(task, items, workers), start=1):
        yield result
        on_progress(done / len(items))


def all_done(results: Iterator[Any]) -> None:
    """Have everything computed, for what it leaves."""
    deque(results, maxlen=0)


def _results(task: Callable[[Item], Result], items: Sequence[Item], workers: Workers) -> Iterator[Result]:
    if workers.ray is not None:
        yield from map_on_ray(task, items, workers.ray)
    elif min(workers.processes, len(items)) <= 1:
        yield from map(task, items)
    else:
        with ProcessPoolExecutor(min(workers.processes, len(items)), mp_context=get_context("spawn")) as pool:
            yield from pool.map(task, items)

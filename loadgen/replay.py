"""`locust -f loadgen/replay.py --headless --job job.json`: replays a Schedule open-loop (loadgen.job.ReplayJob).

`-t` cuts the schedule short; `--processes N` shares it among N processes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import locust

from loadgen.coordination import Replay, ReplayUser
from loadgen.job import ReplayError, ReplayJob

__all__ = ["ReplayUser"]
events: Any = locust.events  # untyped


def _arguments(parser: Any) -> None:
    parser.add_argument("--job", default="", help="JSON file of the replay", include_in_web_ui=False)


def _job(environment: Any, run_time_s: float | None) -> ReplayJob:
    if not environment.parsed_options.job:
        raise ReplayError("no job was given: --job job.json, or use a pattern, such as `locust -f loadgen/bursty.py`")
    job = ReplayJob.read(Path(environment.parsed_options.job))
    return job if run_time_s is None else job.model_copy(update={"duration_s": float(run_time_s)})


events.init_command_line_parser.add_listener(_arguments)
Replay(_job)

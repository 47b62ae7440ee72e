"""Recorded arrivals from any log, CSV or list of times that loadgen.traces reads.

locust -f loadgen/replay_trace.py --headless --host http://127.0.0.1:8000 --trace access.log --speed-up 10
"""

from loadgen.coordination import ReplayUser
from loadgen.pattern_run import replay_pattern

__all__ = ["ReplayUser"]

replay_pattern("trace")

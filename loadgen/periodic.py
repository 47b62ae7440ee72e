"""A sine of requests, --mean up and down by --amplitude every --period-s.

locust -f loadgen/periodic.py --headless --host http://127.0.0.1:8000 --mean 50 --amplitude 40 -t 60s
"""

from loadgen.coordination import ReplayUser
from loadgen.pattern_run import replay_pattern

__all__ = ["ReplayUser"]

replay_pattern("periodic")

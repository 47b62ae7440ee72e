"""KIS-S's random pattern, a new rate between --low and --high every --interval-s.

locust -f loadgen/fluctuating.py --headless --host http://127.0.0.1:8000 --low 10 --high 100 -t 60s
"""

from loadgen.coordination import ReplayUser
from loadgen.pattern_run import replay_pattern

__all__ = ["ReplayUser"]

replay_pattern("fluctuating")

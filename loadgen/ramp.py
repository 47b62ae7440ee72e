"""Requests rise from --low to --peak during --rise-s, then hold.

locust -f loadgen/ramp.py --headless --host http://127.0.0.1:8000 --low 10 --peak 100 --rise-s 40 -t 60s
"""

from loadgen.coordination import ReplayUser
from loadgen.pattern_run import replay_pattern

__all__ = ["ReplayUser"]

replay_pattern("ramp")

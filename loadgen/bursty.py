"""A --base rate with sudden spikes, 10 -> 100 -> 10.

locust -f loadgen/bursty.py --headless --host http://127.0.0.1:8000 --spike 200 --spike-s 5 --every-s 20 -t 60s
"""

from loadgen.coordination import ReplayUser
from loadgen.pattern_run import replay_pattern

__all__ = ["ReplayUser"]

replay_pattern("bursty")

"""Any pattern, also one of yours: its parameters are arguments.

locust -f loadgen/locustfile.py --pattern periodic --headless --host http://127.0.0.1:8000 --mean 50 -t 60s
locust -f loadgen/locustfile.py --pattern my_module:MyPattern --headless --host http://127.0.0.1:8000 -t 60s
"""

from loadgen.coordination import ReplayUser
from loadgen.pattern_run import replay_chosen_pattern

__all__ = ["ReplayUser"]

replay_chosen_pattern()

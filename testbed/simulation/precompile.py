"""Compiles the simulator's loops into numba's cache, beside their sources: half a minute, once for each edit of them.

    python -m testbed.simulation.precompile

`make env` ends with it, so that no command and no test pays for it at a moment of its own choosing.
"""

from __future__ import annotations

from testbed.simulation import stream_loop
from testbed.simulation.kernel import simulate_batches
from testbed.simulation.rules import BatchingRules
from testbed.simulation.tables import empty_sim


def precompile() -> None:
    """Call each compiled entry once, on as good as nothing; what is in the cache already costs a second."""
    rules = BatchingRules()
    simulate_batches([0], [0.0] * (rules.max_batch_size + 1), 1.0, rules)
    sim = empty_sim([rules], replicas=1, instances=1, places=1)
    stream_loop.run_until(sim, 0, 1)
    stream_loop.lose_replica(sim, 0, 0)


if __name__ == "__main__":
    precompile()

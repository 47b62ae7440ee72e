"""The loop as plain Python does what the SimPy model does: nothing rests on how numba compiles it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PLAIN = """
import random
import numpy as np
from testbed.simulation import event_loop
from testbed.simulation.state import Sim
from tests.simulation.test_kernel_oracle import assert_agreement, random_world

compiled_or_not = event_loop.run


def as_records(array):
    return array.view(np.recarray) if getattr(array, "dtype", None) is not None and array.dtype.names else array


event_loop.run = lambda sim, target: compiled_or_not(Sim(*map(as_records, sim)), target)
assert not hasattr(compiled_or_not, "py_func"), "this is the compiled one"
for seed in range(120):
    assert_agreement(random_world(random.Random(seed)))
"""


@pytest.mark.timeout(600)
def test_the_loop_in_plain_python_agrees_with_the_simpy_model() -> None:
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    command = [sys.executable, "-c", PLAIN]
    done = subprocess.run(
        command, env=environment, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]

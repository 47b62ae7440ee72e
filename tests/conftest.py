"""What holds for all tests: no example of hypothesis has a deadline, and in which order the files are run.

They run side by side with `pytest -n 2 --dist loadfile --no-loadscope-reorder`.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

# A file goes to one process as a whole, so that what a module prepares is prepared once. Those that take longest go
# first: one that begins last would keep everyone waiting. (xdist would begin with those that have most tests.)
LONGEST = (
    "test_golden",
    "test_control",
    "test_report",
    "test_loop",
    "test_cluster_run",
    "test_serving_answers",
    "test_loadgen_replay",
    "test_real_faults",
    "test_real_drift",
    "test_workloads_onnx",
    "test_adapt",
    "test_kernel_oracle",
    "test_quiet_real_runs",
    "test_imitation",
    "test_train",
    "test_seeds",
    "test_experiment",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, the others as they were found."""
    place = {name: k for k, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(LONGEST)))

"""What holds for all tests: no example of hypothesis has a deadline, and in which order the files are run.

They run side by side with `pytest -n 4 --dist loadfile --no-loadscope-reorder`.
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
    "test_loop",
    "test_docs_tutorials",
    "test_control",
    "test_adapt",
    "test_real_faults",
    "test_real_drift",
    "test_report",
    "test_pages_browser",
    "test_train",
    "test_seeds",
    "test_loadgen_replay",
    "test_serving_answers",
    "test_workloads_onnx",
    "test_drift_experiment",
    "test_recovery",
    "test_another_run",
    "test_imitation",
    "test_evaluate",
    "test_devices",
    "test_cli",
    "test_experiment",
    "test_docs_pages",
    "test_docs_site",
    "test_adaptation_run",
    "test_kernel_oracle",
    "test_resume",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, the others as they were found."""
    place = {name: k for k, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(LONGEST)))

"""Which tests go to the same process when several run side by side (`pytest -n 2 --dist loadgroup`)."""

from __future__ import annotations

import pytest

IN_REAL_TIME = ("loadgen", "serving", "measurement", "cluster")  # folders whose tests wait for clocks and servers


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests in real time one after the other: two servers at once would slow each other. The others file by file, so
    that what a module prepares is prepared once."""
    for item in items:
        real = item.get_closest_marker("server") is not None or item.path.parent.name in IN_REAL_TIME
        item.add_marker(pytest.mark.xdist_group("real time" if real else item.path.stem))

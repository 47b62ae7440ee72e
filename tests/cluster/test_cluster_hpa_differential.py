"""The real HPA and the simulated one on the same metrics and pods: the same decision at every sync."""

from __future__ import annotations

import pytest
from local_cluster import LocalCluster

from tests.conformance.hpa_differential import Compared, read, record_to, table
from tests.conformance.hpa_stories import STORIES

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.long,
    pytest.mark.timeout(900),
]  # the first test plays all stories, at the same time


@pytest.fixture(scope="module")
def played(the_local_cluster: LocalCluster, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Compared]:
    if not the_local_cluster.is_up:
        the_local_cluster.up()
    file = tmp_path_factory.mktemp("differential") / "differential.json"
    record_to(file)
    return {one.name: one for one in read(file)}


@pytest.mark.parametrize("name", [story.name for story in STORIES])
def test_the_simulated_hpa_decides_as_the_real_one(played: dict[str, Compared], name: str) -> None:
    one = played[name]
    assert len(one.real) >= 12
    assert len(set(one.real)) > 1, "a story in which something happens"
    assert one.agrees, table([one])

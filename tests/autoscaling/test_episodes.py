"""Episodes side by side are what they would be alone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from loadgen.patterns import make_pattern
from testbed.autoscaling.episodes import Episodes
from testbed.simulation.cluster.kisim import KISim
from testbed.simulation.cluster.services import make_service
from testbed.simulation.cluster.traffic import PatternTraffic
from tests.oracles.cluster_worlds import GPU, cluster, flat_profile

CONFIG = cluster(gpus=4, replicas=1, pod={"container_start_s": 1.0})


def one(seed: int) -> KISim:
    traffic = PatternTraffic((make_pattern("constant", rate=80.0),), seed)
    return KISim(CONFIG, [make_service(0, CONFIG.models[0], GPU, flat_profile((0.01,)))], traffic, seed=seed)


@pytest.fixture
def episodes() -> Iterator[Episodes]:
    made = Episodes(one, "m", workers=3)
    yield made
    made.close()


def test_each_is_what_it_is_alone(episodes: Episodes) -> None:
    episodes.reset(range(5))
    episodes.advance(20.0)
    episodes.scale([1, 2, 3, 4, 1])
    episodes.advance(20.0)
    assert [seen.spec_replicas for seen in episodes.observe()] == [1, 2, 3, 4, 1]
    for seed, replicas in enumerate([1, 2, 3, 4, 1]):
        alone = one(seed)
        alone.advance(20.0)
        alone.scale("m", replicas)
        alone.advance(40.0)
        assert alone.totals("m") == episodes.sims[seed].totals("m")
    assert len({sim.totals("m") for sim in episodes.sims}) == 5


def test_one_that_is_over_starts_again_while_the_others_go_on(episodes: Episodes) -> None:
    episodes.reset(range(3))
    episodes.advance(10.0)
    assert episodes.restart(1, seed=9).now_s == 0.0
    episodes.advance(10.0)
    assert [sim.now_s for sim in episodes.sims] == [20.0, 10.0, 20.0]


def test_copies_go_their_own_way(episodes: Episodes) -> None:
    episodes.reset(range(2))
    episodes.advance(10.0)
    twin = episodes.copy()
    twin.scale([4, 4])
    for each in (twin, episodes):
        each.advance(30.0)
    assert [seen.spec_replicas for seen in episodes.observe()] == [1, 1]
    assert [sim.totals("m").latency_s for sim in twin.sims] < [sim.totals("m").latency_s for sim in episodes.sims]
    twin.close()


def test_a_wrong_number_of_decisions_is_refused(episodes: Episodes) -> None:
    episodes.reset(range(2))
    with pytest.raises(ValueError, match="argument 2"):
        episodes.scale([1])

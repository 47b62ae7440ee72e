"""Small worlds of pods and nodes, with the whole timeline asserted."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from testbed.simulation.cluster.config import ClusterConfig
from testbed.simulation.cluster.kisim import KISim
from testbed.simulation.cluster.pods import Pod
from testbed.simulation.cluster.sharing import MODES
from testbed.simulation.state import CLIENT_TIMEOUT, CRASHED, NO_ENDPOINT, OK
from tests.oracles.cluster_worlds import cluster, flat_profile, simulate
from workloads.errors import KisError


def seconds(value: int | None) -> float | None:
    return None if value is None else round(value / 1e9, 9)


def timeline(pod: Pod) -> dict[str, float | None]:
    names = ("requested", "scheduled", "started", "loaded", "ready", "serving", "deleted", "gone")
    return {name: seconds(getattr(pod, f"{name}_ns")) for name in names}


def statuses(sim: KISim) -> dict[int, int]:
    rows = sim.all_rows()
    return dict(zip(rows["id"].tolist(), rows["status"].tolist(), strict=True))


def completions(sim: KISim) -> dict[int, float]:
    rows = sim.all_rows()
    return {int(row["id"]): round(int(row["completed_ns"]) / 1e9, 9) for row in rows}


def test_a_new_pod_is_scheduled_started_loaded_probed_and_then_served_to():
    sim = simulate(cluster(pod={"schedule_s": 0.05, "container_start_s": 1.0, "probe_period_s": 1.0}))
    sim.advance(10)
    sim.scale("m", 2)
    sim.advance(20)
    assert timeline(sim.pods[1]) == {
        "requested": 10.0,
        "scheduled": 10.05,
        "started": 11.05,
        "loaded": 13.35,  # the profile's only cold start is 2.3 s
        "ready": 14.05,  # third probe
        "serving": 14.15,
        "deleted": None,
        "gone": None,
    }
    assert sim.pods[1].state == "serving"


def test_the_image_is_pulled_once_a_node():
    pod = {"image_pull_s": 30.0, "schedule_s": 0.0, "container_start_s": 1.0}
    sim = simulate(cluster(gpus=4, nodes=2, pod=pod))  # the first node has run the model before
    sim.scale("m", 2)
    sim.advance(100)
    sim.scale("m", 3)
    sim.advance(200)
    assert [seconds(pod.started_ns) for pod in sim.pods] == [0.0, 31.0, 101.0]
    assert [pod.node for pod in sim.pods] == [0, 1, 0]


def test_without_a_free_gpu_a_pod_is_pending_and_takes_the_first_one_that_is_given_back():
    sim = simulate(cluster(gpus=2, replicas=2, pod={"schedule_s": 0.0, "container_start_s": 1.0, "load_s": 1.0}))
    sim.advance(1)
    sim.scale("m", 3)
    sim.advance(5)
    waiting = sim.pods[2]
    assert waiting.state == "pending"
    assert waiting.reason == "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."
    sim.crash(0)  # a crashed container keeps its GPU
    sim.advance(6)
    assert waiting.state == "pending"
    sim.scale("m", 1)  # the pending one goes first, then the one that is not ready
    sim.advance(7)
    assert waiting.state == "gone"
    assert [pod.number for pod in sim.wanted("m")] == [1]


def test_a_freed_gpu_goes_to_the_pod_that_waits():
    config = cluster(gpus=1, pod={"schedule_s": 0.0, "container_start_s": 1.0, "load_s": 0.5})
    two = ClusterConfig.model_validate(
        {
            **config.model_dump(),
            "models": [
                config.models[0].model_dump(),
                {**config.models[0].model_dump(), "name": "other", "replicas": 0},
            ],
        }
    )
    sim = simulate(two)
    sim.scale("other", 1)
    sim.advance(5)
    assert sim.pods[1].state == "pending"
    sim.scale("m", 0)
    sim.advance(10)
    assert timeline(sim.pods[0])["gone"] == 5.1  # out of the endpoints, nothing in flight
    assert timeline(sim.pods[1])["scheduled"] == 5.1
    assert timeline(sim.pods[1])["ready"] == 7.1  # started at 6.1, loaded at 6.6


def test_a_pod_that_drains_is_none_of_those_that_are_wanted():
    sim = simulate(cluster(gpus=4, replicas=3, pod={"load_s": 1.0, "pre_stop_s": 5.0}))
    sim.advance(1)
    sim.scale("m", 1)
    sim.advance(2)
    assert sorted(pod.state for pod in sim.alive("m")) == ["draining", "draining", "serving"]
    (kept,) = sim.wanted("m")
    sim.scale("m", 2)  # none comes back: a new one is asked for
    assert [pod.number for pod in sim.wanted("m")] == [kept.number, 3]
    sim.advance(30)
    assert [pod.state for pod in sim.pods] == ["gone" if pod.deleted_ns else "serving" for pod in sim.pods]
    assert len(sim.alive("m")) == 2


def test_a_drained_pod_ends_with_its_last_request_and_gets_no_new_ones():
    profile = flat_profile([3.0])
    sim = simulate(cluster(replicas=2, max_batch_size=1), [1.0, 1.0, 2.0, 2.2, 2.4], profile)
    sim.advance(1.5)
    sim.scale("m", 1)
    sim.advance(30)
    first, second = sim.pods
    gone = first if first.gone_ns else second
    assert timeline(gone)["deleted"] == 1.5
    assert timeline(gone)["gone"] == 4.0  # its one request, 1.0 to 4.0
    assert statuses(sim) == dict.fromkeys(range(5), OK)
    rows = sim.all_rows()
    assert np.sum(rows["pod"] == gone.number) == 1


def test_at_the_end_of_its_grace_period_a_pod_is_killed_with_what_it_holds():
    profile = flat_profile([30.0])
    sim = simulate(cluster(pod={"grace_period_s": 10.0}), [1.0, 1.1], profile)
    sim.advance(2)
    sim.scale("m", 0)
    sim.advance(60)
    assert timeline(sim.pods[0])["gone"] == 12.0
    assert statuses(sim) == {0: CRASHED, 1: CRASHED}
    assert completions(sim) == {0: 12.0, 1: 12.0}


def test_a_crash_loses_what_is_in_flight_and_the_container_comes_back_later_each_time():
    config = cluster(pod={"restart_backoff_s": 10.0, "container_start_s": 1.0, "load_s": 0.5, "endpoint_lag_s": 0.1})
    sim = simulate(config, [4.995, 5.05, 6.0, 30.0], flat_profile([0.01]))
    sim.advance(5)
    sim.crash(0)
    sim.advance(25)
    assert timeline(sim.pods[0])["started"] == 16.0
    assert timeline(sim.pods[0])["ready"] == 17.0
    sim.advance(26)
    sim.crash(0)
    sim.advance(60)
    assert timeline(sim.pods[0])["started"] == 47.0  # the second back-off is twice as long
    assert statuses(sim) == {
        0: CRASHED,  # in flight
        1: CRASHED,  # sent while its endpoint was still known
        2: NO_ENDPOINT,
        3: NO_ENDPOINT,
    }


def test_requests_that_found_a_crashed_pod_do_not_hold_up_its_later_end():
    config = cluster(pod={"restart_backoff_s": 10.0, "container_start_s": 1.0, "load_s": 0.5, "endpoint_lag_s": 0.1})
    sim = simulate(config, [5.05], flat_profile([0.01]))  # sent while the endpoint was still known
    sim.advance(5)
    sim.crash(0)
    sim.advance(20)
    assert sim.samples[-1].outstanding.tolist() == [0]
    sim.scale("m", 0)
    sim.advance(60)
    assert timeline(sim.pods[0])["gone"] == 20.1


def test_pods_of_a_lost_node_are_replaced_elsewhere_after_the_eviction():
    config = cluster(
        nodes=2,
        gpus=1,
        pod={"schedule_s": 0.0, "container_start_s": 1.0, "load_s": 0.5, "node_lost_s": 40.0, "eviction_s": 300.0},
    )
    sim = simulate(config, [9.995, 20.0, 49.0, 51.0, 400.0], flat_profile([0.01]))
    sim.advance(10)
    sim.lose_node("node-0")
    sim.advance(500)
    lost, new = sim.pods
    assert lost.node == 0
    assert timeline(lost)["gone"] == 350.0
    assert new.node == 1
    assert timeline(new)["serving"] == 352.1
    assert statuses(sim) == {0: CRASHED, 1: CRASHED, 2: CRASHED, 3: NO_ENDPOINT, 4: OK}


@pytest.mark.parametrize(("scheduler", "expected"), [("spread", [0, 1, 0, 1, 0]), ("bin_pack", [0, 0, 0, 0, 1])])
def test_pods_are_spread_or_packed(scheduler: str, expected: list[int]):
    sim = simulate(cluster(nodes=2, gpus=4, replicas=5, scheduler=scheduler))
    assert [pod.node for pod in sim.pods] == expected


def test_eight_gpus_on_two_nodes_run_eight_pods_and_the_ninth_is_pending():
    sim = simulate(cluster(nodes=2, gpus=4, replicas=8))
    sim.scale("m", 9)
    sim.advance(60)
    assert [pod.state for pod in sim.pods] == ["serving"] * 8 + ["pending"]
    assert sim.pods[8].reason == "0/2 nodes are available: 2 Insufficient nvidia.com/gpu."


@pytest.mark.parametrize(
    ("kind", "ends_s"),
    [
        ({"sharing": "mig", "shares": 2}, [1.1, 1.1]),
        ({"sharing": "time_slicing", "shares": 2}, [1.1, 1.2]),  # the second starts while the first runs
        ({"sharing": "mps", "shares": 2, "interference": [1.0, 1.3]}, [1.1, 1.13]),
    ],
)
def test_replicas_that_share_a_gpu(kind: dict, ends_s: list[float]):
    sim = simulate(cluster(gpus=1, replicas=2, gpu_kind=kind), [1.0, 1.0], flat_profile([0.1]))
    sim.advance(5)
    assert sorted(completions(sim).values()) == ends_s
    assert sim.samples[-1].active_ns.tolist() == [round((max(ends_s) - 1.0) * 1e9)] * 2


def test_gpu_seconds_are_what_pods_hold_from_scheduled_to_gone():
    sim = simulate(cluster(gpus=4, replicas=1, pod={"schedule_s": 0.0}))
    sim.advance(10)
    sim.scale("m", 2)
    sim.advance(30)
    sim.scale("m", 1)
    sim.advance(40)
    assert sim.gpu_seconds("m") == pytest.approx(40 + 20.1)


def test_a_way_to_share_of_ones_own_is_one_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MODES, "_by_name", dict(MODES._by_name))
    (tmp_path / "halves.py").write_text(
        "from testbed.simulation.cluster.sharing import SharingMode\n"
        "class Halves(SharingMode):\n"
        "    name = 'halves'\n"
        "    @classmethod\n"
        "    def factors(cls, shares, measured):\n"
        "        return (1.0, 1.5)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    config = cluster(gpus=1, replicas=2, gpu_kind={"sharing": "halves:Halves", "shares": 2}, dynamic_batching=None)
    sim = simulate(config, [1.0, 1.0], flat_profile((0.1,)))
    sim.advance(3)
    rows = sim.all_rows()
    assert sorted(((rows["end_ns"] - rows["start_ns"]) / 1e9).tolist()) == pytest.approx([0.1, 0.15])
    with pytest.raises(ValueError, match="unknown way to share a GPU 'tim_slicing': did you mean 'time_slicing'"):
        cluster(gpu_kind={"sharing": "tim_slicing"})
    sys.modules.pop("halves", None)


def test_a_pod_on_a_device_that_was_used_before_begins_with_no_active_time() -> None:
    config = cluster(gpus=1, max_replicas=1, pod={"schedule_s": 0.0, "container_start_s": 1.0, "load_s": 1.0})
    sim = simulate(config, [0.0, 1.0, 2.0, 20.0], flat_profile((0.5,)))
    sim.advance(5.0)
    sim.scale("m", 0)
    sim.advance(10.0)
    sim.scale("m", 1)
    sim.advance(30.0)
    by_pod = {
        pod: ns
        for sample in sim.samples
        for pod, ns in zip(sample.pods.tolist(), sample.active_ns.tolist(), strict=True)
    }
    assert by_pod == {0: 1_500_000_000, 1: 500_000_000}


def test_batches_take_longer_on_pods_than_their_profile_says() -> None:
    config = cluster(gpus=1, batch_factor=1.1, pod={"start_slows": 0.5})
    sim = simulate(config, [0.0, 1.0], flat_profile((0.1,)))
    sim.advance(0.5)
    sim.slow_down("m", 2.0)
    sim.advance(2.0)
    rows = np.sort(sim.all_rows(), order="id")
    assert ((rows["end_ns"] - rows["start_ns"]) / 1e9).tolist() == pytest.approx([0.11, 0.22])


def test_mps_without_a_measured_interference_is_refused():
    config = cluster(gpus=1, gpu_kind={"sharing": "mps", "shares": 2})
    with pytest.raises(KisError, match="shared by mps need"):
        simulate(config)
    measured = flat_profile([0.1]).model_copy(update={"interference": (1.0, 1.3)})
    two = cluster(gpus=1, gpu_kind={"sharing": "mps", "shares": 2}, replicas=2)
    sim = simulate(two, [0.0, 0.01], measured)
    sim.advance(1.0)
    assert completions(sim) == {0: 0.1, 1: 0.14}


def test_a_model_that_does_not_fit_into_what_is_left_of_its_gpu_crashes_again_and_again():
    kind = {"sharing": "mps", "shares": 3, "interference": [1.0], "memory_gib": 40.0}
    pod = {"schedule_s": 0.0, "container_start_s": 1.0, "load_s": 1.0, "restart_backoff_s": 10.0}
    sim = simulate(cluster(gpus=1, gpu_kind=kind, replicas=1, gpu_memory_gib=15.0, pod=pod))
    sim.scale("m", 2)
    sim.advance(10)
    sim.scale("m", 3)
    sim.advance(12)
    third = sim.pods[2]
    assert (third.state, third.reason, third.restarts) == ("backoff", "CrashLoopBackOff: out of GPU memory", 1)
    assert sim.device_memory_bytes().tolist() == [30 * 2**30]
    sim.advance(23.5)  # ten seconds later the container starts again, and loads
    assert sim.device_memory_bytes().tolist() == [45 * 2**30]
    sim.advance(24)
    assert third.restarts == 2
    sim.scale("m", 2)  # gives up the one that is not ready
    sim.advance(60)
    assert third.state == "gone"
    assert [pod.state for pod in sim.pods[:2]] == ["serving", "serving"]


def test_an_error_after_the_clients_timeout_is_a_timeout():
    sim = simulate(cluster(client={"timeout_s": 0.5}), [1.0, 1.8], flat_profile([5.0]))
    sim.advance(2.0)
    sim.crash(0)
    sim.advance(3.0)
    assert statuses(sim) == {0: CLIENT_TIMEOUT, 1: CRASHED}
    assert completions(sim) == {0: 1.5, 1: 2.0}


def test_a_gpu_is_busy_while_any_of_its_slices_is():
    """Whatever the order in which the simulator looks at replicas that do nothing to each other."""
    config = cluster(gpus=1, gpu_kind={"sharing": "mig", "shares": 2}, replicas=2)
    sim = simulate(config, [0.0, 1.0, 4.0], flat_profile([2.0]))
    sim.advance(10.0)
    assert sim.device_active_s().tolist() == [3.0 + 2.0]


def test_a_container_that_starts_on_a_lost_node_slows_nobody():
    pod = {"schedule_s": 0.0, "container_start_s": 1.0, "load_s": 5.0, "start_slows": 0.5, "node_lost_s": 100.0}
    sim = simulate(cluster(gpus=2, nodes=2, pod=pod), [1.5, 3.0], flat_profile([0.1]))
    sim.advance(1.0)
    sim.scale("m", 2)
    sim.advance(2.0)
    sim.lose_node("node-1")
    sim.advance(10.0)
    assert completions(sim) == {0: 1.65, 1: 3.1}


def test_a_mig_slice_has_its_share_of_the_memory():
    kind = {"sharing": "mig", "shares": 4, "memory_gib": 40.0}
    assert simulate(cluster(gpus=1, gpu_kind=kind, gpu_memory_gib=10.0)).pods[0].state == "serving"
    with pytest.raises(KisError, match="does not fit"):
        simulate(cluster(gpus=1, gpu_kind=kind, gpu_memory_gib=10.1))


def test_memory_that_nobody_measured_is_not_known():
    assert np.isnan(simulate(cluster(gpus=1)).device_memory_bytes()).tolist() == [True]

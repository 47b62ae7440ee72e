"""Which pods clients are given, and why a pod is not ready: from objects as the Kubernetes API gives them."""

from __future__ import annotations

import datetime as dt

import pytest
from kubernetes import client

from testbed.serving.kubernetes_objects import listed_in, to_clients, why_not_ready


def endpoint_slice(**pods: str) -> client.V1EndpointSlice:
    """pods: name -> ready, unready or leaving."""
    ends = [
        client.V1Endpoint(
            addresses=[f"10.0.0.{k}"],
            conditions=client.V1EndpointConditions(ready=state == "ready", terminating=state == "leaving"),
            target_ref=client.V1ObjectReference(name=name),
        )
        for k, (name, state) in enumerate(pods.items())
    ]
    return client.V1EndpointSlice(address_type="IPv4", endpoints=ends)


@pytest.mark.parametrize(
    ("pods", "given", "names"),
    [
        ({"a": "ready", "b": "ready"}, set(), ["a", "b"]),
        ({"a": "ready", "b": "unready", "c": "leaving"}, {"a", "b", "c"}, ["a"]),
        ({"a": "unready", "b": "unready"}, {"a", "b"}, ["a", "b"]),  # lost sight of
        ({"a": "unready", "b": "unready"}, {"a"}, ["a"]),  # b has never been ready
        ({"a": "leaving", "b": "leaving"}, {"a", "b"}, []),  # scaled to nothing
        ({}, {"a"}, []),
    ],
)
def test_clients_are_given_the_ready_ones_or_else_those_they_had(pods, given, names):
    assert [to_client.name for to_client in to_clients(listed_in(endpoint_slice(**pods)), given)] == names


def condition(kind: str, status: str, message: str | None = None) -> client.V1PodCondition:
    return client.V1PodCondition(
        type=kind, status=status, message=message, last_transition_time=dt.datetime.now(dt.UTC)
    )


def container(reason: str, message: str | None = None) -> client.V1ContainerStatus:
    state = client.V1ContainerState(waiting=client.V1ContainerStateWaiting(reason=reason, message=message))
    return client.V1ContainerStatus(name="triton", image="i", image_id="i", ready=False, restart_count=0, state=state)


@pytest.mark.parametrize(
    ("status", "why"),
    [
        ({"conditions": [condition("PodScheduled", "False", "0/2 nodes are available")]}, "0/2 nodes are available"),
        ({"container_statuses": [container("CrashLoopBackOff", "back-off 10s")]}, "CrashLoopBackOff: back-off 10s"),
        ({"init_container_statuses": [container("ErrImageNeverPull")]}, "ErrImageNeverPull"),
        (
            {"conditions": [condition("PodScheduled", "True"), condition("Ready", "False", "unready: [triton]")]},
            "unready: [triton]",
        ),
        ({}, "not ready yet"),
    ],
    ids=["unschedulable", "crashing", "no image", "probe", "new"],
)
def test_why_a_pod_is_not_ready(status, why):
    assert why_not_ready(client.V1Pod(status=client.V1PodStatus(**status))) == why

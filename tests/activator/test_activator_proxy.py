"""The activator between real sockets: nothing is lost while pods come and go."""

from __future__ import annotations

import asyncio

import pytest
from activator_world import POST, Backend, answer, ask, run, until, world
from hypothesis import given
from hypothesis import strategies as st

from testbed.activator.front import choose


@given(st.dictionaries(st.text(max_size=3), st.integers(0, 5)), st.dictionaries(st.text(max_size=3), st.integers(0, 9)))
def test_the_chosen_pod_has_the_fewest_connections(pods, connections) -> None:
    chosen = choose(pods.keys(), connections)
    if not pods:
        assert chosen is None
        return
    assert chosen in pods
    assert connections.get(chosen, 0) == min(connections.get(pod, 0) for pod in pods)


def test_a_request_waits_until_there_is_a_pod_and_is_counted_once() -> None:
    async def story() -> None:
        async with world() as it:
            pod = Backend("127.0.0.2")
            reader, writer = await it.connect()
            writer.write(POST)
            await until(lambda: it.front.held == 1)
            assert it.front.requests == 1
            await pod.start(it.pod_port)
            it.front.set_pods({"a": pod.host})
            assert await answer(reader) == "200 abc127.0.0.2"
            assert (it.front.held, it.front.requests) == (0, 1)
            assert await ask(reader, writer) == "200 abc127.0.0.2"  # on the same connection
            assert it.front.requests == 2
            assert pod.served == 2

    run(story)


def test_a_connection_that_sends_nothing_wakes_nobody() -> None:
    async def story() -> None:
        async with world() as it:
            await it.connect()
            await until(lambda: len(it.front.clients) == 1)
            await asyncio.sleep(0.05)
            assert (it.front.held, it.front.requests) == (0, 0)

    run(story)


def test_a_pod_that_refuses_connections_is_passed_over() -> None:
    async def story() -> None:
        async with world() as it:
            pod = Backend("127.0.0.3")
            await pod.start(it.pod_port)
            it.front.set_pods({"a": "127.0.0.2", "b": pod.host})  # nobody listens at a
            for _ in range(3):
                reader, writer = await it.connect()
                assert await ask(reader, writer) == "200 abc127.0.0.3"
            assert it.front.connections["a"] == 0
            assert it.front.broken == 0

    run(story)


def test_the_only_pod_that_does_not_listen_yet_is_tried_again() -> None:
    async def story() -> None:
        async with world() as it:
            pod = Backend("127.0.0.2")
            it.front.set_pods({"a": pod.host})
            reader, writer = await it.connect()
            writer.write(POST)
            await asyncio.sleep(0.2)
            await pod.start(it.pod_port)
            assert await answer(reader) == "200 abc127.0.0.2"

    run(story)


def test_a_pod_that_dies_breaks_its_own_requests_only() -> None:
    async def story() -> None:
        async with world() as it:
            first, second = Backend("127.0.0.2"), Backend("127.0.0.3")
            for pod in (first, second):
                await pod.start(it.pod_port)
            first.gate.clear()
            it.front.set_pods({"a": first.host})
            stuck, writer = await it.connect()
            writer.write(POST)
            await until(lambda: it.front.connections["a"] == 1 and bool(first.writers))
            it.front.set_pods({"a": first.host, "b": second.host})
            reader, other = await it.connect()
            assert await ask(reader, other) == "200 abc127.0.0.3"
            await asyncio.sleep(0.05)
            first.die()
            with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                await answer(stuck)
            assert await ask(reader, other) == "200 abc127.0.0.3"
            assert it.front.broken == 1
            await until(lambda: it.front.connections["a"] == 0)

    run(story)


def test_a_pod_that_leaves_answers_what_it_has_and_the_connection_goes_on_elsewhere() -> None:
    async def story() -> None:
        async with world() as it:
            first, second = Backend("127.0.0.2"), Backend("127.0.0.3")
            for pod in (first, second):
                await pod.start(it.pod_port)
            it.front.set_pods({"a": first.host})
            busy, idle = await it.connect(), await it.connect()
            assert await ask(*idle) == "200 abc127.0.0.2"
            first.gate.clear()
            busy[1].write(POST)
            await until(lambda: it.front.requests == 2)
            await asyncio.sleep(0.05)
            it.front.set_pods({"b": second.host})
            assert await ask(*idle) == "200 abc127.0.0.3"  # it was at rest, and left at once
            first.gate.set()
            assert await answer(busy[0]) == "200 abc127.0.0.2"
            assert await ask(*busy) == "200 abc127.0.0.3"
            await until(lambda: it.front.connections["a"] == 0)
            first.die()
            assert it.front.broken == 0

    run(story)


def test_nothing_is_lost_of_a_thousand_connections_while_pods_change() -> None:
    async def story() -> None:
        async with world(max_waiting=1000) as it:
            pods = {f"pod-{k}": Backend(f"127.0.0.{2 + k}") for k in range(4)}
            for pod in pods.values():
                pod.delay_s = 0.01
                await pod.start(it.pod_port)

            async def client() -> list[str]:
                reader, writer = await it.connect()
                said = [await ask(reader, writer) for _ in range(5)]
                writer.close()
                return said

            clients = [asyncio.ensure_future(client()) for _ in range(1000)]
            await until(lambda: it.front.held == 1000)
            names = list(pods)
            for here in ([0], [0, 1, 2], [3], [], [1, 2, 3]):
                it.front.set_pods({names[k]: pods[names[k]].host for k in here})
                await asyncio.sleep(0.15)
            said = [line for lines in await asyncio.gather(*clients) for line in lines]
            assert {line.split()[0] for line in said} == {"200"}
            assert len(said) == it.front.requests == sum(pod.served for pod in pods.values()) == 5000
            assert it.front.broken == 0
            assert not it.front.refused
            await until(lambda: not any(it.front.connections.values()))
            assert not it.front.clients

    run(story)


def test_connections_are_spread_over_the_pods() -> None:
    async def story() -> None:
        async with world() as it:
            pods = {f"pod-{k}": Backend(f"127.0.0.{2 + k}") for k in range(3)}
            for pod in pods.values():
                await pod.start(it.pod_port)
            it.front.set_pods({name: pod.host for name, pod in pods.items()})
            for _ in range(9):
                await ask(*await it.connect())
            assert [pod.served for pod in pods.values()] == [3, 3, 3]

    run(story)

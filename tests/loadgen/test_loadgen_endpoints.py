from __future__ import annotations

import threading

import pytest

from loadgen.endpoints import EndpointError, Endpoints, address, host_and_port, read_endpoints, write_endpoints


def take(endpoints: Endpoints, n: int) -> list[str | None]:
    return [endpoints.acquire() for _ in range(n)]


def test_round_robin_goes_in_turn():
    assert take(Endpoints(["a:1", "b:1", "c:1"]), 5) == ["a:1", "b:1", "c:1", "a:1", "b:1"]


def test_two_processes_go_round_together_as_one_would():
    hosts = ["a:1", "b:1", "c:1"]
    one = take(Endpoints(hosts), 12)
    two = [take(Endpoints(hosts, first=k, step=2), 6) for k in (0, 1)]
    assert [endpoint for pair in zip(*two, strict=True) for endpoint in pair] == one


def test_least_requests_takes_the_idlest_and_goes_round_among_equals():
    endpoints = Endpoints(["a:1", "b:1"], "least_requests")
    assert take(endpoints, 2) == ["a:1", "b:1"]
    endpoints.release("b:1")
    assert take(endpoints, 1) == ["b:1"]
    endpoints.release("a:1")
    endpoints.release("b:1")
    assert take(endpoints, 2) in (["a:1", "b:1"], ["b:1", "a:1"])
    assert endpoints.in_flight("a:1") == endpoints.in_flight("b:1") == 1


def test_replicas_come_and_go_with_the_file(tmp_path):
    file = tmp_path / "endpoints.json"
    write_endpoints(file, ["a:1"])
    endpoints = Endpoints(file, "least_requests")
    assert take(endpoints, 3) == ["a:1"] * 3
    assert not endpoints.refresh()

    write_endpoints(file, ["a:1", "b:1"])
    assert endpoints.refresh()
    assert take(endpoints, 3) == ["b:1"] * 3  # a has three in flight already

    write_endpoints(file, ["b:1"])
    assert endpoints.refresh()
    assert take(endpoints, 1) == ["b:1"]
    assert endpoints.in_flight("a:1") == 3  # those finish where they are
    endpoints.release("a:1")
    assert endpoints.in_flight("a:1") == 2

    write_endpoints(file, [])
    endpoints.refresh()
    assert take(endpoints, 1) == [None]


def test_a_reader_never_sees_half_a_file(tmp_path):
    file = tmp_path / "endpoints.json"
    lists = [tuple(f"10.0.0.{i}:8000" for i in range(n)) for n in (1, 200)]
    write_endpoints(file, lists[0])
    done = threading.Event()

    def write() -> None:
        for turn in range(300):
            write_endpoints(file, lists[turn % 2])
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not done.is_set():
        assert read_endpoints(file) in lists
    writer.join()


@pytest.mark.parametrize(
    ("text", "meant"),
    [("http://127.0.0.1:8000/", "127.0.0.1:8000"), ("box:9", "box:9"), ("http://box", "box:8000")],
)
def test_addresses_and_urls_are_the_same(text, meant):
    assert address(text) == meant


@pytest.mark.parametrize("text", ["box:eight", ":8000", ""])
def test_what_is_no_address_is_refused(text):
    with pytest.raises(EndpointError, match="give host:port"):
        address(text)


@pytest.mark.parametrize("content", ["{", "[]", '{"endpoint": []}', '{"endpoints": [1]}', '{"endpoints": 3}'])
def test_what_lists_no_endpoints_is_refused(tmp_path, content):
    file = tmp_path / "endpoints.json"
    file.write_text(content)
    with pytest.raises(EndpointError, match=r"endpoints\.json lists no endpoints: it should hold"):
        read_endpoints(file)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(EndpointError, match="No such file"):
        Endpoints(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("typed", "meant", "host"),
    [
        ("http://[::1]:8010", "[::1]:8010", "::1"),
        ("[fd00::12]", "[fd00::12]:8000", "fd00::12"),
        ("fd00::12", "[fd00::12]:8000", "fd00::12"),
        ("host", "host:8000", "host"),
    ],
)
def test_an_address_of_ipv6_is_not_cut_at_its_last_colon(typed, meant, host):
    assert address(typed) == meant
    assert host_and_port(meant)[0] == host


@pytest.mark.parametrize(
    ("typed", "words"),
    [("https://t.example:443", "TLS is not supported"), ("http://t/triton", "a path is not supported")],
)
def test_what_cannot_be_reached_is_refused_by_what_it_is(typed, words):
    with pytest.raises(EndpointError, match=words):
        address(typed)

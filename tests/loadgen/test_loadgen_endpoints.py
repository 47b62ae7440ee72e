from __future__ import annotations

import threading

import pytest

from loadgen.endpoints import (
    Endpoint,
    EndpointError,
    Endpoints,
    address,
    at,
    endpoint_of,
    grpc_beside,
    read_endpoints,
    write_endpoints,
)


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
    [
        *(("http://127.0.0.1:8000/", "127.0.0.1:8000"), ("box:9", "box:9"), ("http://box", "box:8000")),
        *(("http://[::1]:9/", "[::1]:9"), ("fd00::12", "[fd00::12]:8000"), ("[fd00::12]", "[fd00::12]:8000")),
        *(
            ("https://box/", "https://box:443"),
            ("HTTPS://box:9/a/b/v2/", "https://box:9/a/b"),
            ("box:9/a", "http://box:9/a"),
        ),
        *(("grpc://box", "box:8001"), ("grpcs://[::1]", "grpcs://[::1]:443")),
    ],
)
def test_addresses_and_urls_are_the_same(text, meant):
    assert address(text) == address(meant) == meant


@pytest.mark.parametrize(
    "text",
    ["box:eight", ":8000", "", "box:1:2", "[box]:8000", "fd00::12:x", "ftp://box", "https://", "https://box/a b"],
)
def test_what_is_no_address_is_refused(text):
    with pytest.raises(EndpointError, match="give host:port or http://host:port"):
        address(text)


@pytest.mark.parametrize("text", ["https://me:s3cret@box", "https://box/a?token=s3cret", "box:1#s3cret"])
def test_an_address_with_a_password_is_refused_and_not_repeated(text):
    with pytest.raises(EndpointError, match="give a password or token as --header") as refused:
        address(text)
    assert "s3cret" not in str(refused.value)


def test_grpc_is_beside_http_and_has_tls_if_that_has_it():
    assert grpc_beside("https://box:9/a") == "grpcs://box:8001"
    assert grpc_beside("[::1]:8000") == "[::1]:8001"


def test_the_header_host_has_no_port_that_its_scheme_has_anyway():
    assert endpoint_of("https://box/a").authority == "box"
    assert endpoint_of("http://[::1]:80").authority == "[::1]"
    assert endpoint_of("https://box:80").authority == "box:80"


def test_a_socket_takes_ipv6_without_brackets():
    assert at("fd00::12", 8000) == "[fd00::12]:8000"
    assert at("10.0.0.1", 8000) == "10.0.0.1:8000"
    assert endpoint_of("[fd00::12]:8000") == Endpoint("http", "fd00::12", 8000)
    assert endpoint_of("box:9/a") == Endpoint("http", "box", 9, "/a")


@pytest.mark.parametrize("content", ["{", "[]", '{"endpoint": []}', '{"endpoints": [1]}', '{"endpoints": 3}'])
def test_what_lists_no_endpoints_is_refused(tmp_path, content):
    file = tmp_path / "endpoints.json"
    file.write_text(content)
    with pytest.raises(EndpointError, match=r"endpoints\.json lists no endpoints: it should hold"):
        read_endpoints(file)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(EndpointError, match="No such file"):
        Endpoints(tmp_path / "none.json")

"""Containers on networks, as one uses them: addresses, published ports, names, and what is left when they are gone."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.dockerd import Docker
from tests.engines import Engine

pytestmark = pytest.mark.usefixtures("busybox")

SERVER = ["sh", "-c", "hostname > /index.html; exec httpd -f -p 80 -h /"]
PATIENCE = 10.0


@contextmanager
def running(cutaway: Engine, *options: str, command: list[str] = SERVER) -> Iterator[str]:
    """A container that runs, by its ID, removed at the end."""
    container = cutaway("run", "-d", *options, "busybox", *command).stdout.strip()
    try:
        yield container
    finally:
        cutaway("rm", "-f", container)


@contextmanager
def network(cutaway: Engine, name: str, *options: str) -> Iterator[str]:
    cutaway("network", "create", *options, name)
    try:
        yield name
    finally:
        cutaway("network", "rm", name)


def address(cutaway: Engine, container: str, name: str = "bridge") -> str:
    template = f'{{{{(index .NetworkSettings.Networks "{name}").IPAddress}}}}'
    return cutaway("inspect", "-f", template, container).stdout.strip()


def fetch(url: str) -> str:
    """What answers at a URL, as soon as something does."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:
                return str(answer.read().decode().strip())
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def refused(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((host, port)) != 0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


def test_a_container_answers_on_its_address(cutaway: Engine) -> None:
    with running(cutaway, "--hostname", "web") as container:
        assert fetch(f"http://{address(cutaway, container)}/") == "web"


def test_a_container_reaches_another_by_its_address(cutaway: Engine) -> None:
    with running(cutaway, "--hostname", "web") as container:
        target = address(cutaway, container)
        fetch(f"http://{target}/")
        got = cutaway("run", "--rm", "busybox", "wget", "-qO-", f"http://{target}/")
        assert got.stdout.strip() == "web"


def test_a_published_port_answers_on_loopback_and_on_the_hosts_address(cutaway: Engine, own_address: str) -> None:
    port = free_port()
    with running(cutaway, "--hostname", "web", "-p", f"{port}:80") as container:
        assert fetch(f"http://127.0.0.1:{port}/") == "web"
        assert fetch(f"http://{own_address}:{port}/") == "web"
        from_inside = cutaway("run", "--rm", "busybox", "wget", "-qO-", f"http://{own_address}:{port}/")
        assert from_inside.stdout.strip() == "web"
        assert cutaway("port", container).stdout.strip() == f"80/tcp -> 0.0.0.0:{port}"
    assert refused("127.0.0.1", port)


def test_a_port_published_on_one_address_answers_only_there(cutaway: Engine, own_address: str) -> None:
    port = free_port()
    with running(cutaway, "-p", f"127.0.0.1:{port}:80"):
        assert fetch(f"http://127.0.0.1:{port}/")
        assert refused(own_address, port)


def test_ranges_and_exposed_ports_are_published(cutaway: Engine) -> None:
    with running(cutaway, "-P", "--expose", "80", "--expose", "81/udp") as container:
        published = json.loads(cutaway("inspect", "-f", "{{json .NetworkSettings.Ports}}", container).stdout)
        assert fetch(f"http://127.0.0.1:{published['80/tcp'][0]['HostPort']}/")
        assert published["81/udp"][0]["HostPort"]
    first = free_port()
    with running(cutaway, "-p", f"{first}-{first + 1}:80-81") as container:
        shown = cutaway("port", container).stdout.split()
        assert f"0.0.0.0:{first}" in shown and f"0.0.0.0:{first + 1}" in shown


ECHO = "import socket; s = socket.socket(type=2); s.bind(('', 53)); d, a = s.recvfrom(99); s.sendto(d, a)"


def test_udp_is_published_too(cutaway: Engine) -> None:
    port = free_port()
    with running(cutaway, "-p", f"{port}:53/udp", command=["sleep", "100"]) as container:
        pid = cutaway("inspect", "-f", "{{.State.Pid}}", container).stdout.strip()
        server = subprocess.Popen(["nsenter", "--target", pid, "--net", sys.executable, "-c", ECHO])
        try:
            assert _echoed(port, b"hello") == b"hello"
        finally:
            server.kill()
            server.wait()


def _echoed(port: int, message: bytes) -> bytes:
    deadline = time.monotonic() + PATIENCE
    with socket.socket(type=socket.SOCK_DGRAM) as client:
        client.settimeout(0.2)
        client.connect(("127.0.0.1", port))
        while time.monotonic() < deadline:
            try:
                client.send(message)
                return client.recv(100)
            except (TimeoutError, ConnectionRefusedError):  # nobody listens yet
                continue
    return b""


def test_a_port_in_use_is_refused_in_one_sentence(cutaway: Engine) -> None:
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        port = taken.getsockname()[1]
        failed = cutaway("run", "-d", "--name", "unlucky", "-p", f"{port}:80", "busybox", "true", check=False)
    assert failed.returncode == 125
    assert str(port) in failed.stderr and "Traceback" not in failed.stderr
    assert "unlucky" not in cutaway("ps", "-a").stdout


def test_ports_are_published_and_withdrawn_while_the_container_runs(cutaway: Engine) -> None:
    port, other = free_port(), free_port()
    with running(cutaway, "-p", f"{port}:80") as container:
        assert fetch(f"http://127.0.0.1:{port}/")
        cutaway("update", "--publish-add", f"{other}:80", "--publish-rm", f"{port}:80", container)
        assert fetch(f"http://127.0.0.1:{other}/")
        assert refused("127.0.0.1", port)
        assert cutaway("port", container).stdout.strip() == f"80/tcp -> 0.0.0.0:{other}"
        cutaway("restart", "-t", "0", container)
        assert fetch(f"http://127.0.0.1:{other}/")
    assert refused("127.0.0.1", other)


def test_neighbours_on_a_network_find_each_other_by_name_and_alias(cutaway: Engine) -> None:
    with (
        network(cutaway, "backend"),
        running(cutaway, "--name", "database", "--network", "backend", "--network-alias", "db") as container,
    ):
        fetch(f"http://{address(cutaway, container, 'backend')}/")
        for name in ("database", "db", container[:12]):
            got = cutaway("run", "--rm", "--network", "backend", "busybox", "wget", "-qO-", f"http://{name}/")
            assert got.stdout.strip() == container[:12]


def test_networks_are_apart_until_a_container_is_connected_to_both(cutaway: Engine) -> None:
    with (
        network(cutaway, "left"),
        network(cutaway, "right"),
        running(cutaway, "--name", "web", "--network", "left") as web,
        running(cutaway, "--name", "client", "--network", "right", command=["sleep", "100"]) as client,
    ):
        target = address(cutaway, web, "left")
        fetch(f"http://{target}/")
        asks = ["exec", client, "wget", "-qO-"]
        assert cutaway("exec", client, "nc", "-w", "1", target, "80", check=False).returncode != 0
        cutaway("network", "connect", "--alias", "www", "right", web)
        assert cutaway(*asks, "http://www/").stdout.strip() == web[:12]
        assert {"left", "right"} == set(_networks(cutaway, web))
        cutaway("network", "disconnect", "left", web)
        assert _networks(cutaway, web) == ["right"]
        assert cutaway(*asks, "http://web/").stdout.strip() == web[:12]
        cutaway("network", "disconnect", "right", web)


def _networks(cutaway: Engine, container: str) -> list[str]:
    return list(json.loads(cutaway("inspect", "-f", "{{json .NetworkSettings.Networks}}", container).stdout))


def test_a_network_has_the_subnet_and_gateway_that_were_asked_for(cutaway: Engine) -> None:
    with (
        network(cutaway, "chosen", "--subnet", "10.77.0.0/24", "--gateway", "10.77.0.254"),
        running(cutaway, "--network", "chosen", "--ip", "10.77.0.9", "--mac-address", "02:42:0a:4d:00:63") as container,
    ):
        shown = cutaway("exec", container, "ip", "addr", "show", "eth0").stdout
        assert "10.77.0.9/24" in shown and "02:42:0a:4d:00:63" in shown
        assert "default via 10.77.0.254" in cutaway("exec", container, "ip", "route").stdout
        clash = cutaway("network", "create", "--subnet", "10.77.0.0/16", "clash", check=False)
        assert clash.returncode == 1 and "10.77.0.0" in clash.stderr
        in_use = cutaway("network", "rm", "chosen", check=False)
        assert in_use.returncode == 1 and "active endpoints" in in_use.stderr


def test_the_ways_to_have_no_network_of_ones_own(cutaway: Engine) -> None:
    none = cutaway("run", "--rm", "--network", "none", "busybox", "ip", "-o", "link").stdout
    assert "lo" in none and "eth0" not in none
    hosts = cutaway("run", "--rm", "--network", "host", "busybox", "readlink", "/proc/self/ns/net").stdout
    assert hosts.strip() == os.readlink("/proc/self/ns/net")
    with running(cutaway, "--name", "first") as first:
        fetch(f"http://{address(cutaway, first)}/")
        got = cutaway("run", "--rm", "--network", "container:first", "busybox", "wget", "-qO-", "http://127.0.0.1/")
        assert got.stdout.strip() == first[:12]


def test_the_network_namespace_can_be_looked_into(cutaway: Engine) -> None:
    with running(cutaway) as container:
        name = f"cutaway-{container[:12]}"
        listed = subprocess.run(["ip", "netns"], capture_output=True, text=True, check=True).stdout
        assert name in listed
        shown = subprocess.run(["ip", "-n", name, "-o", "addr"], capture_output=True, text=True, check=True).stdout
        assert address(cutaway, container) in shown
        pid = cutaway("inspect", "-f", "{{.State.Pid}}", container).stdout.strip()
        entered = ["nsenter", "--target", pid, "--all", "hostname"]
        assert subprocess.run(entered, capture_output=True, text=True, check=True).stdout.strip() == container[:12]


def test_what_containers_read_in_etc(cutaway: Engine) -> None:
    got = cutaway(
        "run", "--rm", "--hostname", "web", "--add-host", "db:10.0.0.7", "--dns", "192.0.2.53", "--dns-search", "lan",
        "busybox", "cat", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf",
    ).stdout  # fmt: skip
    assert "10.0.0.7\tdb" in got and "\tweb\n" in got and "\nweb\n" in got
    assert "nameserver 192.0.2.53" in got and "search lan" in got


def test_beside_docker_both_work_and_the_tables_are_as_before(
    new_engine: Callable[[], Engine], busybox_tar: Path, docker: Docker
) -> None:
    before = _ruleset()
    engine = new_engine()
    engine("import", busybox_tar, "busybox")
    port = free_port()
    with running(engine, "--hostname", "ours", "-p", f"{port}:80") as container:
        target = address(engine, container)
        assert fetch(f"http://127.0.0.1:{port}/") == "ours"
        assert engine("run", "--rm", "busybox", "wget", "-qO-", f"http://{target}/").stdout.strip() == "ours"
        theirs = docker("run", "-d", "--name", "theirs", "-p", f"{port + 1}:80", "busybox", *SERVER)
        assert fetch(f"http://127.0.0.1:{port + 1}/") == theirs[:12]
        docker("rm", "-f", "theirs")
    engine("engine", "stop")
    assert _ruleset() == before


def _ruleset() -> str:
    """The tables of others, without counters."""
    listed = subprocess.run(["nft", "--stateless", "list", "ruleset"], capture_output=True, text=True, check=True)
    return listed.stdout


@pytest.fixture
def own_address() -> str:
    """An address of the host that is not loopback."""
    shown = subprocess.run(["ip", "-j", "-4", "addr", "show", "scope", "global"], capture_output=True, check=True)
    found = [
        str(each["local"])
        for link in json.loads(shown.stdout)
        for each in link["addr_info"]
        if "cutaway" not in link["ifname"] and not link["ifname"].startswith(("ct-", "docker"))
    ]
    if not found:
        pytest.skip("the host of the tests has no address of its own")
    return found[0]

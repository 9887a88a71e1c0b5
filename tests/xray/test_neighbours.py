"""Containers of every engine on one host at once: each found, named, its engine told, its figures the engine's own."""

from __future__ import annotations

import json
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.dockerd import Docker
from tests.engines import Engine
from tests.xray import neighbours
from tests.xray.neighbours import Neighbour, Unavailable

ENGINES = ("Docker", "podman", "containerd", "LXC", "systemd-nspawn", "bubblewrap", "unshare", "cutaway")
NEAR = 0.25
"""By how much the memory of a process may differ between two moments; a megabyte it may always."""


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """An engine that does not run."""
    return Engine(tmp_path_factory.mktemp("none"))


@pytest.fixture(scope="module")
def street(
    docker: Docker, engine: Engine, busybox: str, busybox_tar: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Neighbour | Unavailable]]:
    """One container of each engine, all at once; in the place of an engine that does not run here, why not."""
    directory = tmp_path_factory.mktemp("street")

    def rootfs(name: str) -> Path:
        with tarfile.open(busybox_tar) as archive:
            archive.extractall(directory / name)
        for empty in ("proc", "sys", "dev", "run", "tmp"):
            (directory / name / empty).mkdir(exist_ok=True)
        return directory / name

    start = {
        "Docker": lambda: neighbours.of_docker(docker),
        "containerd": lambda: neighbours.of_containerd(docker, rootfs("ctr")),
        "podman": lambda: neighbours.of_podman(busybox_tar),
        "LXC": lambda: neighbours.of_lxc(directory, rootfs("lxc")),
        "systemd-nspawn": lambda: neighbours.of_nspawn(rootfs("nspawn")),
        "bubblewrap": lambda: neighbours.of_bubblewrap(rootfs("bwrap")),
        "unshare": neighbours.of_unshare,
    }
    with ExitStack() as stack:
        found: dict[str, Neighbour | Unavailable] = {}
        for name, begin in start.items():
            try:
                found[name] = stack.enter_context(begin())
            except Unavailable as reason:
                found[name] = reason
        found["cutaway"] = stack.enter_context(neighbours.of_cutaway(engine, busybox))
        yield found


@pytest.fixture
def neighbour(request: pytest.FixtureRequest, street: dict[str, Neighbour | Unavailable]) -> Neighbour:
    found = street[request.param]
    if isinstance(found, Unavailable):
        pytest.skip(str(found))
    return found


def opened(ours: Engine, name: str) -> Any:
    return json.loads(ours("xray", name, "-o", "json").stdout)


each = pytest.mark.parametrize("neighbour", ENGINES, indirect=True)
each_that_measures = pytest.mark.parametrize("neighbour", ("Docker", "podman", "containerd", "LXC"), indirect=True)
each_with_a_network = pytest.mark.parametrize("neighbour", ("Docker", "podman", "cutaway"), indirect=True)


@each
def test_each_is_listed_under_its_name_and_engine(ours: Engine, neighbour: Neighbour) -> None:
    listed = {container["pid"]: container for container in json.loads(ours("xray", "-o", "json").stdout)["containers"]}
    container = listed[neighbour.pid]
    assert container["engine"] == neighbour.engine
    if neighbour.engine != "bubblewrap":  # has no names: the program's is given
        assert container["name"] == neighbour.name


@each
def test_its_processes_are_those_that_its_engine_counts(ours: Engine, neighbour: Neighbour) -> None:
    container = opened(ours, neighbour.name)
    assert container["pid"] == neighbour.pid
    assert sorted(process["pid"] for process in container["processes"]) == sorted(neighbour.pids)
    assert container["processes"][0]["inner_pid"] == 1
    assert container["processes"][0]["user"] == "root"


@each_that_measures
def test_its_limit_and_use_of_memory_are_what_its_engine_says(ours: Engine, neighbour: Neighbour) -> None:
    cgroup = opened(ours, neighbour.name)["cgroup"]
    if neighbour.memory_limit is not None:
        assert cgroup["memory"]["limit"] == neighbour.memory_limit
    assert neighbour.memory_used
    said = neighbour.memory_used()
    seen = [cgroup["memory"][kind] for kind in ("usage", "working")]
    assert any(abs(used - said) < max(NEAR * said, 1 << 20) for used in seen)
    assert cgroup["own"]


@each_with_a_network
def test_its_address_and_published_port_are_what_its_engine_says(ours: Engine, neighbour: Neighbour) -> None:
    network = opened(ours, neighbour.name)["network"]
    (interface,) = network["interfaces"]
    assert neighbour.address in [address.partition("/")[0] for address in interface["addresses"]]
    links = subprocess.run(
        ["ip", "-o", "link", "show", "master", interface["peer"]["bridge"]], capture_output=True, text=True
    )
    assert f" {interface['peer']['name']}@" in links.stdout
    assert network["translation"].startswith("nftables ip ")
    ports = [(port["host_port"], port["address"], port["port"]) for port in network["ports"]]
    assert ports == [(neighbour.port, neighbour.address, 80)]


@each
def test_its_namespaces_are_those_of_its_first_process(ours: Engine, neighbour: Neighbour) -> None:
    for namespace in opened(ours, neighbour.name)["namespaces"]:
        link = Path(f"/proc/{neighbour.pid}/ns/{namespace['kind']}").readlink()
        assert str(link) == f"{namespace['kind']}:[{namespace['inode']}]"
        is_hosts = link == Path(f"/proc/self/ns/{namespace['kind']}").readlink()
        assert namespace["own"] is not is_hosts
        assert ("the host" in namespace["shared_with"]) is is_hosts


@each
def test_a_program_of_the_host_runs_inside(ours: Engine, neighbour: Neighbour) -> None:
    script = "ps -o pid= -p 1; readlink /proc/self/ns/net; test -e /etc/debian_version && echo host"
    said = ours("enter", neighbour.name, "--", "sh", "-c", script).stdout.split()
    assert said == ["1", str(Path(f"/proc/{neighbour.pid}/ns/net").readlink()), "host"]


@each
def test_nothing_of_an_engine_was_started(ours: Engine, neighbour: Neighbour) -> None:
    ours("xray", neighbour.name)
    assert not ours.runtime_dir.exists() and not ours.root.exists()


@pytest.mark.usefixtures("street")
def test_layers_and_what_was_written_on_them(ours: Engine, docker: Docker) -> None:
    container = docker(
        "run", "-d", "busybox", "sh", "-c", "echo new > /new; echo x >> /etc/passwd; rm /bin/vi; sleep 1000"
    )
    try:
        theirs = {tuple(line.split(" ", 1)) for line in docker("diff", container).splitlines()}
        graph = json.loads(docker("inspect", "-f", "{{json .GraphDriver.Data}}", container))
        root = opened(ours, container[:12])["root"]
    finally:
        docker("rm", "-f", container)
    seen = {(change["kind"][0].upper(), change["path"]) for change in root["changes"]}
    assert {("A", "/new"), ("C", "/etc/passwd"), ("D", "/bin/vi")} <= seen <= theirs
    assert root["upper"] == graph["UpperDir"]
    assert [layer["path"] for layer in root["layers"]] == graph["LowerDir"].split(":")
    sizes = [layer["size"] for layer in root["layers"]]
    assert sizes[-1] > 1 << 20


@pytest.mark.usefixtures("street")
def test_a_list_fits_into_eighty_columns(ours: Engine) -> None:
    if not shutil.which("script"):
        pytest.skip("script(1) is not installed")
    command = f"stty cols 80; {ours.command} xray"
    listed = subprocess.run(["script", "-qec", command, "/dev/null"], capture_output=True, text=True, timeout=30).stdout
    lines = [line.replace("\x1b[1m", "").replace("\x1b[0m", "").rstrip("\r") for line in listed.splitlines()]
    assert lines[0].startswith("NAME")
    assert len(lines) > len(ENGINES) - 1
    assert max(map(len, lines)) <= 80

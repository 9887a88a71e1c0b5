"""Hosts made up for drawings: as crowded, and as badly named, as one likes."""

from __future__ import annotations

import itertools

from cutaway.xray.model import (
    Bridge,
    Cgroup,
    Change,
    Container,
    Cpu,
    Host,
    Interface,
    Keeper,
    Layer,
    Memory,
    Namespace,
    Network,
    Peer,
    Port,
    Process,
    Root,
    Security,
    Tasks,
)

HOSTILE = '<script>document.title="owned"</script>'
"""A name that is harmless only where it is escaped."""
_ENGINES = ("cutaway", "Docker", "podman", "Kubernetes", "containerd", "LXC", "systemd-nspawn", "bubblewrap", "unshare")
_NAMES = ("web", "db", "a-container-with-a-name-that-goes-on-and-on-until-nobody-reads-it", "缓存服务器", HOSTILE)
_KINDS = ("pid", "mnt", "net", "uts", "ipc", "user", "cgroup", "time")


def host(count: int) -> Host:
    """A host of so many containers on three bridges, on the host's own network, and on none."""
    uplink = Interface("eth0", "", "02:00:00:00:00:01", 1500, True, ["203.0.113.24/24"], 1 << 30, 1 << 28)
    bridges = [Bridge(f"br-{number:012x}", [f"10.{number}.0.1/16"]) for number in range(3)]
    made = [container(number, bridges) for number in range(count)]
    return Host(
        "a-host.example.org", "6.18.0-17-generic", "hybrid", 64, 512 << 30, 317 << 30, 1.7e9,
        uplinks=[uplink], bridges=bridges, containers=made,
    )  # fmt: skip


def container(number: int, bridges: list[Bridge]) -> Container:
    """All kinds in turn: connected or not, with many layers or none, harmless or not."""
    name, engine = _NAMES[number % len(_NAMES)], _ENGINES[number % len(_ENGINES)]
    return Container(
        name, f"{number:064x}", engine, 4_000_000 + number, f"{number:012x}", 1.75e9,
        "/usr/local/bin/a-program --with=many --options and arguments " + HOSTILE, 3 + number,
        within=_NAMES[0] if number % 7 == 6 else "",
        keeper=Keeper(1234, HOSTILE),
        processes=[_process(number, at) for at in range(min(3 + number, 14))],
        namespaces=[Namespace(kind, 4026531840 + at, at < 6, [] if at < 6 else ["the host"])
                    for at, kind in enumerate(_KINDS)],
        cgroup=Cgroup(
            "hybrid", f"/a/{number:064x}", number % 4 != 3,
            memory=Memory(usage=1023 << (number % 24), limit=(1 << 34) if number % 2 else None),
            cpu=Cpu(time=number * 12345.6, limit=1.25 if number % 3 else None),
            tasks=Tasks(number * 321, 4915 if number % 2 else None),
        ),
        root=_root(number),
        network=_network(number, bridges),
        security=_security(number),
    )  # fmt: skip


def _process(number: int, at: int) -> Process:
    user = "a-user-of-the-host" if number % 2 else "root"
    return Process(4_000_000 + at, at + 1, 1, min(at, 5), user, "root", "S", 1.75e9, 1 << (20 + at % 12), 1.0, 1,
                   f"worker: process {at} {HOSTILE}")  # fmt: skip


def _root(number: int) -> Root:
    if number % 5 == 4:
        return Root("directory", source="/srv/" + "a-long-path/" * 12)
    layers = [Layer(f"/var/lib/layers/{at}", 10 ** (at % 10), 7**at % 99999, at % 3) for at in range(1 + number % 12)]
    kinds = itertools.islice(itertools.cycle(("added", "changed", "deleted")), number)
    changes = [Change(kind, f"/etc/{HOSTILE}/{at}", 1 << at) for at, kind in enumerate(kinds)]
    return Root("overlay", layers=layers, upper="/var/lib/upper", size=1 << (number * 3), files=number, changes=changes)


def _network(number: int, bridges: list[Bridge]) -> Network:
    if number % 6 == 4:
        return Network(False)
    if number % 6 == 5:
        return Network(True)
    bridge = bridges[number % 3]
    address = f"10.{number % 3}.255.{number + 2}"
    peer = Peer(f"veth{number:07x}", bridge.name, bridge.addresses)
    ports = [Port("tcp", "203.0.113.24", 30000 + number * 100 + at, address, 8080 + at, ["nftables ip nat DOCKER"])
             for at in range(number % 4)]  # fmt: skip
    interface = Interface("eth0", "veth", "02:42:00:00:00:02", 1500, True, [f"{address}/16"], 1 << 20, 1 << 10, peer)
    return Network(True, [interface], bridge.addresses[0].partition("/")[0], "nftables ip nat POSTROUTING", ports)


def _security(number: int) -> Security:
    risks = [
        f"risk {at}: something that is riskier than what Docker does, in words {HOSTILE}" for at in range(number % 9)
    ]
    return Security(["CHOWN"], ["CHOWN"], ["SYS_ADMIN"] * (number % 2), [], "filter", 1, risks=risks,
                    user_mapping=["0 inside is 100000 outside, and 65535 on"])  # fmt: skip

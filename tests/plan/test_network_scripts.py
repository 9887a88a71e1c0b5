"""What operations say as a script does the same as what they do."""

from __future__ import annotations

import os
import re
import secrets
import subprocess
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest

from cutaway.kernel.netlink.namespace import network_namespace
from cutaway.plan.docker import AllowForwarding
from cutaway.plan.firewall import AddNetworkToTable, CreateTable, MapPorts, RedirectNames
from cutaway.plan.network import (
    AwaitCarrier,
    BringUpLoopback,
    ConfigureInterface,
    CreateBridge,
    CreateNetworkNamespace,
    CreateVeth,
    EnableForwarding,
)
from cutaway.plan.operation import Context, Operation

DOCKERS_CHAINS = """
table ip filter {
    chain DOCKER-USER { counter return; }
    chain DOCKER-ISOLATION-STAGE-2 { counter return; }
    chain FORWARD { type filter hook forward priority filter; policy drop; counter jump DOCKER-USER; }
}
"""


class Names(NamedTuple):
    netns: str
    bridge: str
    veth: str
    table: str


@pytest.fixture
def names() -> Names:
    name = secrets.token_hex(4)
    return Names(f"n{name}", f"ct{name}", f"vt{name}", f"cutaway-{name}")


@pytest.fixture
def operations(names: Names) -> list[Operation]:
    netns, bridge, veth, table = names
    return [
        CreateTable(table),
        CreateBridge(bridge, "10.213.1.1/24", "02:42:0a:d5:01:01", 1400),
        EnableForwarding(bridge),
        AddNetworkToTable(table, bridge, "10.213.1.0/24", True),
        AllowForwarding(bridge),
        CreateNetworkNamespace(netns),
        CreateVeth(veth, "eth0", netns, bridge, "02:42:0a:d5:01:02", 1400),
        BringUpLoopback(netns),
        ConfigureInterface("eth0", netns, "10.213.1.2/24", "10.213.1.1"),
        AwaitCarrier([bridge, veth]),
        RedirectNames(netns),
        MapPorts(table, [["tcp", "", 8080, "10.213.1.2", 80], ["udp", "127.0.0.1", 8081, "10.213.1.2", 81]]),
    ]


@pytest.fixture
def docker_chains() -> Iterator[None]:
    subprocess.run(["nft", DOCKERS_CHAINS], check=True)
    yield
    subprocess.run(["nft", "delete", "table", "ip", "filter"], check=True)


def run(script: str) -> None:
    subprocess.run(["bash", "-eu"], input=script, text=True, check=True)


def looked_at(*command: str) -> str:
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return re.sub(r"\b\d+: |@if\d+|link-netns\S* \S+|master \d+|veth [0-9a-f:]{17}|# handle \d+", "", listed)


def state(names: Names, inside: Callable[[], str]) -> list[str]:
    bridge, veth = names.bridge, names.veth
    outside = [
        looked_at("nft", "-s", "list", "table", "ip", names.table),
        looked_at("iptables", "-S"),
        looked_at("ip", "-d", "address", "show", "dev", bridge),
        re.sub("link/ether \\S+", "", looked_at("ip", "-d", "address", "show", "dev", veth)),
        looked_at("sysctl", "net.ipv4.ip_forward", f"net.ipv4.conf.{bridge}.route_localnet"),
    ]
    return [re.sub(r"\w+_timer +\S+", "", text) for text in [*outside, inside()]]


COMMANDS_INSIDE = (["nft", "-s", "list", "ruleset"], ["ip", "-d", "address"], ["ip", "route"])


@pytest.mark.usefixtures("docker_chains")
def test_the_script_makes_what_the_operations_make(names: Names, operations: list[Operation]) -> None:
    before = looked_at("nft", "-s", "list", "ruleset"), looked_at("ip", "-br", "link")
    context = Context()
    for operation in operations:
        operation.apply(context)

    def by_descriptor() -> str:
        with network_namespace(context.descriptors["netns"]):
            return "".join(looked_at(*command) for command in COMMANDS_INSIDE)

    made = state(names, by_descriptor)
    for operation in reversed(operations):
        operation.undo(context)
    for descriptor in context.descriptors.values():
        os.close(descriptor)
    assert (looked_at("nft", "-s", "list", "ruleset"), looked_at("ip", "-br", "link")) == before

    run("\n".join(operation.shell() for operation in operations))

    def by_name() -> str:
        return "".join(looked_at("ip", "netns", "exec", names.netns, *command) for command in COMMANDS_INSIDE)

    scripted = state(names, by_name)
    run("\n".join(operation.shell_undo() for operation in reversed(operations)))
    for ours, theirs in zip(made, scripted, strict=True):
        assert ours.splitlines() == theirs.splitlines()
    assert (looked_at("nft", "-s", "list", "ruleset"), looked_at("ip", "-br", "link")) == before


def test_every_operation_says_why_in_one_sentence(operations: list[Operation]) -> None:
    for operation in operations:
        assert re.fullmatch(r"[A-Z].*\.", operation.why())
        assert operation.manual.endswith(")")


def test_docker_may_come_later(names: Names, request: pytest.FixtureRequest) -> None:
    allow = AllowForwarding(names.bridge)
    allow.apply(Context())
    assert looked_at("nft", "-s", "list", "ruleset") == ""
    request.getfixturevalue("docker_chains")
    before = looked_at("nft", "-s", "list", "ruleset")
    for _ in range(2):
        allow.apply(Context())
        rules = [line for line in looked_at("iptables", "-S", "FORWARD").splitlines() if names.bridge in line]
        assert [rule.split()[-1] for rule in rules] == ["DOCKER-ISOLATION-STAGE-2", "ACCEPT", "ACCEPT"]
    run(f"iptables -D FORWARD -o {names.bridge} -m comment --comment 'cutaway {names.bridge}' -j ACCEPT")
    allow.apply(Context())
    assert len([line for line in looked_at("iptables", "-S", "FORWARD").splitlines() if names.bridge in line]) == 3
    for _ in range(2):
        allow.undo(Context())
        assert looked_at("nft", "-s", "list", "ruleset") == before

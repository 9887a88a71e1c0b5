"""Tables, chains, rules and sets in a network namespace, as `nft` lists them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest

from cutaway.kernel.netlink.namespace import network_namespace, new_network_namespace
from cutaway.kernel.nftables.expressions import (
    DNAT,
    ESTABLISHED,
    IFNAME,
    INET_PROTO,
    INET_SERVICE,
    IPV4_ADDR,
    LOCAL,
    RELATED,
    accept,
    among,
    counter,
    ct_state,
    ct_status,
    daddr,
    dnat,
    dnat_to,
    dport,
    drop,
    fib_daddr_type,
    iif,
    iifname,
    jump,
    l4proto,
    masquerade,
    oifname,
    saddr,
)
from cutaway.kernel.nftables.header import (
    NF_INET_FORWARD,
    NF_INET_LOCAL_IN,
    NF_INET_POST_ROUTING,
    NF_INET_PRE_ROUTING,
    NF_IP_PRI_NAT_DST,
    NF_IP_PRI_NAT_SRC,
    NFNLGRP_NFTABLES,
)
from cutaway.kernel.nftables.objects import Set, Table
from cutaway.kernel.nftables.ruleset import NftablesSocket

TABLE = Table("ip", "lesson")
DEVICES = Set("devices", (IFNAME,))
PLACES = Set("places", (IPV4_ADDR, IFNAME), interval=True)
PORTS = Set("ports", (INET_PROTO, INET_SERVICE), (IPV4_ADDR, INET_SERVICE))


@pytest.fixture
def netns() -> Iterator[int]:
    with new_network_namespace() as netns:
        pass
    yield netns
    os.close(netns)


@pytest.fixture
def nft(netns: int) -> Iterator[NftablesSocket]:
    with network_namespace(netns):
        socket = NftablesSocket()
    with socket:
        yield socket


def listed(netns: int) -> list[str]:
    with network_namespace(netns):
        text = subprocess.run(["nft", "-s", "list", "ruleset"], capture_output=True, text=True, check=True).stdout
    return [line.strip() for line in text.splitlines()]


def test_rules_say_what_their_words_say(netns: int, nft: NftablesSocket) -> None:
    rules = {
        ("in", 'iifname "eth0" accept'): iifname.equals("eth0") + accept,
        ("in", 'iif != "lo" ip daddr 127.0.0.0/8 drop'): iif.differs(1) + daddr.within("127.0.0.0/8") + drop,
        ("in", "ip saddr 192.0.2.0/25 counter"): saddr.within("192.0.2.0/25") + counter,
        ("in", "ct state established,related accept"): ct_state.has(ESTABLISHED | RELATED) + accept,
        ("in", "ct status dnat jump more"): ct_status.has(DNAT) + jump("more"),
        ("more", "iifname @devices oifname != @devices drop"): iifname.among(DEVICES)
        + oifname.not_among(DEVICES)
        + drop,
        ("more", "ip saddr . oifname @places accept"): among((saddr, oifname), PLACES) + accept,
        ("nat", "fib daddr type local dnat ip to meta l4proto . th dport map @ports"): fib_daddr_type.equals(LOCAL)
        + dnat_to((l4proto, dport), PORTS),
        ("nat", "udp dport 53 dnat to 192.0.2.1:5353"): l4proto.equals("udp")
        + dport.equals(53)
        + dnat("192.0.2.1", 5353),
        ("out", "masquerade"): masquerade,
    }
    nft.commit(
        TABLE.create(),
        *(TABLE.create_set(group) for group in (DEVICES, PLACES, PORTS)),
        TABLE.create_chain("more"),
        TABLE.create_base_chain("in", "filter", NF_INET_FORWARD),
        TABLE.create_base_chain("nat", "nat", NF_INET_PRE_ROUTING, NF_IP_PRI_NAT_DST),
        TABLE.create_base_chain("out", "nat", NF_INET_POST_ROUTING, NF_IP_PRI_NAT_SRC),
        *(TABLE.add_rule(chain, rule) for (chain, _), rule in rules.items()),
    )
    lines = listed(netns)
    for _, text in rules:
        assert text in lines
    assert "type nat hook prerouting priority dstnat; policy accept;" in lines


def test_sets_and_maps_hold_what_was_put_in(netns: int, nft: NftablesSocket) -> None:
    nft.commit(
        TABLE.create(),
        *(TABLE.create_set(group) for group in (DEVICES, PLACES, PORTS)),
        TABLE.add_elements(DEVICES, [("eth0",), ("cutaway0",)]),
        TABLE.add_elements(PLACES, [("192.0.2.0/25", "eth0")]),
        TABLE.add_elements(PORTS, {("tcp", 8080): ("192.0.2.2", 80), ("udp", 8080): ("192.0.2.3", 80)}),
    )
    assert nft.elements(TABLE, DEVICES) == {("eth0",): (), ("cutaway0",): ()}
    assert nft.elements(TABLE, PORTS) == {("tcp", 8080): ("192.0.2.2", 80), ("udp", 8080): ("192.0.2.3", 80)}
    assert nft.find_element(TABLE, PORTS, ("udp", 8080)) == ("192.0.2.3", 80)
    assert nft.find_element(TABLE, PORTS, ("udp", 8081)) is None
    assert nft.find_element(TABLE, DEVICES, ("eth0",)) == ()
    lines = listed(netns)
    assert 'elements = { 192.0.2.0/25 . "eth0" }' in lines
    assert "type inet_proto . inet_service : ipv4_addr . inet_service" in lines
    nft.commit(TABLE.delete_elements(PORTS, [("tcp", 8080)]), TABLE.delete_elements(PLACES, [("192.0.2.0/25", "eth0")]))
    assert nft.elements(TABLE, PORTS) == {("udp", 8080): ("192.0.2.3", 80)}
    assert nft.elements(TABLE, PLACES) == {}


def test_an_element_can_be_put_in_again_unless_it_says_something_else(nft: NftablesSocket) -> None:
    add = TABLE.add_elements(PORTS, {("tcp", 8080): ("192.0.2.2", 80)})
    nft.commit(TABLE.create(), TABLE.create_set(PORTS), add)
    nft.commit(add)
    with pytest.raises(FileExistsError):
        nft.commit(TABLE.add_elements(PORTS, {("tcp", 8080): ("192.0.2.9", 80)}))
    with pytest.raises(FileExistsError, match=r"NFT_MSG_NEWSETELEM\(ip lesson ports \{tcp \. 8080\}\): EEXIST"):
        nft.commit(TABLE.add_elements(PORTS, {("tcp", 8080): ("192.0.2.2", 80)}, exclusive=True))


def test_a_transaction_is_carried_out_as_a_whole_or_not_at_all(netns: int, nft: NftablesSocket) -> None:
    with pytest.raises(FileNotFoundError, match=r"NFT_MSG_DELSETELEM\(ip lesson ports \{tcp \. 1\}\): ENOENT"):
        nft.commit(TABLE.create(), TABLE.create_set(PORTS), TABLE.delete_elements(PORTS, [("tcp", 1)]))
    assert listed(netns) == []


def test_rules_are_listed_inserted_and_deleted(nft: NftablesSocket) -> None:
    nft.commit(
        TABLE.create(),
        TABLE.create_base_chain("in", "filter", NF_INET_LOCAL_IN, -5),
        TABLE.add_rule("in", accept, comment="second"),
        TABLE.insert_rule("in", counter, comment="first"),
        TABLE.add_rule("in", drop),
    )
    first, second, third = nft.rules(TABLE, "in")
    assert [rule.comment for rule in (first, second, third)] == ["first", "second", ""]
    nft.commit(TABLE.delete_rule("in", second.handle))
    assert [rule.handle for rule in nft.rules(TABLE, "in")] == [first.handle, third.handle]
    nft.commit(TABLE.flush_chain("in"))
    assert nft.rules(TABLE, "in") == []
    assert nft.rules(TABLE, "nowhere") == []


def test_tables_and_chains_are_listed_and_deleted(nft: NftablesSocket) -> None:
    other = Table("inet", "other")
    nft.commit(
        TABLE.create(), TABLE.create_base_chain("in", "filter", NF_INET_LOCAL_IN, -5), TABLE.create_chain("more")
    )
    nft.commit(other.create(), TABLE.create_set(DEVICES))
    assert (nft.tables("ip"), nft.tables("inet")) == (["lesson"], ["other"])
    chains = [(chain.table, chain.name, chain.hook, chain.priority) for chain in nft.chains("ip")]
    assert chains == [("lesson", "in", NF_INET_LOCAL_IN, -5), ("lesson", "more", None, 0)]
    nft.commit(TABLE.delete_chain("more"), TABLE.delete_set(DEVICES), other.delete())
    assert [chain.name for chain in nft.chains("ip")] == ["in"]
    assert nft.tables("inet") == []


def test_what_others_change_is_told(netns: int, nft: NftablesSocket) -> None:
    nft.join(NFNLGRP_NFTABLES)
    with network_namespace(netns):
        subprocess.run(["nft", "add table ip a; add chain ip a b; delete table ip a"], check=True)
    assert [(change.call, change.family, change.table) for change in nft.changes()] == [
        ("NFT_MSG_NEWTABLE", "ip", "a"),
        ("NFT_MSG_NEWCHAIN", "ip", "a"),
        ("NFT_MSG_DELCHAIN", "ip", "a"),
        ("NFT_MSG_DELTABLE", "ip", "a"),
    ]

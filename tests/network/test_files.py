"""What a container reads in /etc."""

from __future__ import annotations

from cutaway.network.files import Resolvers, hostname, hosts, parse_resolv_conf, resolv_conf, resolvers_for


def test_hosts_has_loopback_the_container_and_what_was_added() -> None:
    text = hosts([("172.30.0.2", "web.example web")], ["db:10.0.0.9", "six:fd00::1", "host:host-gateway"], "172.30.0.1")
    lines = text.splitlines()
    assert lines[0] == "127.0.0.1\tlocalhost"
    assert lines[-4:] == ["172.30.0.2\tweb.example web", "10.0.0.9\tdb", "fd00::1\tsix", "172.30.0.1\thost"]


def test_hostname_is_one_line() -> None:
    assert hostname("web") == "web\n"


def test_resolv_conf_leaves_out_what_the_container_cannot_reach() -> None:
    host = parse_resolv_conf(
        "# made by hand\nnameserver 127.0.0.53\nnameserver 192.0.2.53 \nnameserver fe80::1%eth0\n"
        "nameserver nonsense\nsearch old.example\nsearch a.example b.example\noptions timeout:1\noptions rotate\n"
    )
    assert host.nameservers == ("127.0.0.53", "192.0.2.53", "fe80::1%eth0")
    assert resolv_conf(host, embedded=False) == (
        "nameserver 192.0.2.53\nsearch a.example b.example\noptions timeout:1 rotate\n"
    )


def test_with_neighbours_to_name_the_engine_is_asked() -> None:
    assert resolv_conf(Resolvers(("192.0.2.53",), ("example",)), embedded=True) == (
        "nameserver 127.0.0.11\nsearch example\noptions ndots:0\n"
    )
    assert "options ndots:2\n" in resolv_conf(Resolvers(options=("ndots:2",)), embedded=True)


def test_options_stand_in_for_the_hosts() -> None:
    host = Resolvers(("192.0.2.53",), ("example",), ("rotate",))
    assert resolvers_for(host, ["198.51.100.1"], ["."], []) == Resolvers(("198.51.100.1",), (".",), ("rotate",))
    assert "search" not in resolv_conf(resolvers_for(host, [], ["."], []), embedded=False)

"""A network in the machine: bridges, veth pairs, namespaces, masquerading. `network_namespaces(7)`, `veth(4)`"""

from __future__ import annotations

from cutaway.lessons.lesson import Lesson, ask, check, do, say

LESSON = Lesson(
    "bridge",
    "Two small computers on a switch, without a cable",
    needs=("ip", "nft", "sysctl"),
    steps=(
        say("""
            A *network namespace* is a network of one's own: interfaces, addresses, routes, rules. A new one is empty,
            and as lonely as a computer without a cable. Two of them, then:
        """),
        do("ip netns add red", undo="ip netns delete red"),
        do("ip netns add blue", undo="ip netns delete blue"),
        do("ip -n red link"),
        check("A new namespace has no interface that leads anywhere.", "! ip -n red -o link | grep -q UP"),
        say("""
            A *bridge* is a switch made of software. The machine itself has a port on it, and there we give it an
            address.
        """),
        do("ip link add learn0 type bridge", undo="ip link delete learn0"),
        do("ip address add 192.168.55.1/24 dev learn0\nip link set learn0 up"),
        say("""
            The cable is a *veth pair*: two interfaces, and what goes into one comes out of the other. One end goes into
            the namespace, the other into the switch.
        """),
        do("ip link add to-red type veth peer name eth0 netns red", undo="ip link delete to-red"),
        do("ip link add to-blue type veth peer name eth0 netns blue", undo="ip link delete to-blue"),
        do("ip link set to-red master learn0 up\nip link set to-blue master learn0 up"),
        do("ip -n red address add 192.168.55.2/24 dev eth0\nip -n red link set eth0 up"),
        do("ip -n blue address add 192.168.55.3/24 dev eth0\nip -n blue link set eth0 up"),
        do(
            "iptables -I FORWARD -i learn0 -j ACCEPT",
            undo="iptables -D FORWARD -i learn0 -j ACCEPT",
            on="forwarding dropped",
        ),
        do(
            "iptables -I FORWARD -o learn0 -j ACCEPT",
            undo="iptables -D FORWARD -o learn0 -j ACCEPT",
            on="forwarding dropped",
        ),
        say("(Those two because this machine's firewall, set by Docker, drops strangers.)", on="forwarding dropped"),
        do("ip netns exec red ‹ping› -c 1 192.168.55.3"),
        check("Red reaches blue.", "ip netns exec red ‹ping› -c 1 -W 2 192.168.55.3"),
        check("Red reaches the machine.", "ip netns exec red ‹ping› -c 1 -W 2 192.168.55.1"),
        say("""
            And the rest of the world? We need one that answers also where there is no Internet, so here is a third
            namespace, `world`, at the other side of this machine. It knows nothing of 192.168.55.0/24.
        """),
        do("ip netns add world", undo="ip netns delete world"),
        do("ip link add to-world type veth peer name eth0 netns world", undo="ip link delete to-world"),
        do("ip address add 198.51.100.1/24 dev to-world\nip link set to-world up"),
        do("ip -n world address add 198.51.100.2/24 dev eth0\nip -n world link set eth0 up"),
        say("Red and blue are told to send what they cannot place to the machine, and the machine to pass it on:"),
        do("ip -n red route add default via 192.168.55.1\nip -n blue route add default via 192.168.55.1"),
        do(
            "FORWARD=$(sysctl -n net.ipv4.ip_forward)\nsysctl -w net.ipv4.ip_forward=1",
            undo="sysctl -w net.ipv4.ip_forward=$FORWARD",
        ),
        ask(
            "Red has a route, the machine forwards. Will a ping from red to the world be answered?",
            right="no: it arrives, but the world does not know where to send the answer",
            wrong=("yes", "no: it never leaves the bridge"),
            because="192.168.55.2 is a private address. Nobody out there has a way back to it.",
        ),
        do("timeout .3 ip netns exec red ‹ping› -c 1 198.51.100.2", fails=True),
        check("The machine itself has no such trouble.", "‹ping› -c 1 -W 2 198.51.100.2"),
        say("""
            *Masquerading* is the way out: what leaves the machine from that network gets the machine's own address,
            and answers are handed back. One rule, for all that does not go back to the bridge:
        """),
        do("nft add table ip learn", undo="nft delete table ip learn"),
        do("nft 'add chain ip learn out { type nat hook postrouting priority srcnat; }'"),
        do("nft add rule ip learn out \\\n  ip saddr 192.168.55.0/24 oifname != learn0 masquerade"),
        do("ip netns exec red ‹ping› -c 1 198.51.100.2"),
        check("Red reaches the world.", "ip netns exec red ‹ping› -c 1 -W 2 198.51.100.2"),
        check("Blue reaches the world.", "ip netns exec blue ‹ping› -c 1 -W 2 198.51.100.2"),
        say("""
            That is the network that Docker gives to containers: its bridge is called docker0, ours cutaway0, the cables
            veth-something, and eth0 inside.
        """),
    ),
)  # fmt: skip

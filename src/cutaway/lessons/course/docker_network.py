"""The network of a container that an engine has started, found with nothing but `ip`. `ip-netns(8)`"""

from __future__ import annotations

from cutaway.lessons.course.image import NEEDS_AN_IMAGE
from cutaway.lessons.lesson import Lesson, ask, check, do, say

_SERVER = "sh -c \\\n  'cd $(mktemp -d); echo Hello from inside > index.html; busybox httpd -f'"
_ADDRESS = "‹engine› inspect learn -f \\\n  '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}'"

LESSON = Lesson(
    "docker-network",
    "Where a container's network is",
    needs=("ip", "nft", "busybox"),
    of_an_engine=True,
    steps=(
        *NEEDS_AN_IMAGE,
        say("A network of your own, and a container in it: a web server, published on a port of this machine."),
        do("‹engine› network create learn-net", undo="‹engine› network rm learn-net"),
        do(
            f"‹engine› run -d --name learn --net learn-net -p 127.0.0.1:‹port›:80 \\\n  ‹image› {_SERVER}",
            undo="‹remove› learn",
        ),
        say("What is a network to the kernel? The engine says which address is its gateway:"),
        do(
            "GATEWAY=$(‹engine› network inspect learn-net | grep -i '\"gateway\": ' |\n"
            "  cut -d'\"' -f4)\necho $GATEWAY"
        ),
        ask(
            "Which interface of this machine has that address?",
            right="a bridge that the engine has made for this network",
            wrong=("this machine's network card", "the container's eth0", "none, it exists inside only"),
            because="A user-defined network is a bridge, and the machine's port on it is the gateway.",
        ),
        do("BRIDGE=$(ip -br -4 address | grep -w $GATEWAY | cut -d' ' -f1)\nip address show $BRIDGE"),
        check("The network is a bridge.", "ip -d link show $BRIDGE | grep -qw bridge"),
        say("The container is a process, and its network is that process's network namespace."),
        do("PID=$(‹engine› inspect -f '{{.State.Pid}}' learn); echo $PID"),
        do("readlink /proc/self/ns/net /proc/$PID/ns/net"),
        check("It is not this machine's.", "[ $(readlink /proc/self/ns/net) != $(readlink /proc/$PID/ns/net) ]"),
        say("""
            `ip netns` knows the namespaces that have a name in /run/netns. A link gives this one a name, and then `ip`
            works in there, though the container may have no such program.
        """),
        say("(cutaway names its containers' namespaces there itself: `ip netns` lists them.)", on="cutaway"),
        do("mkdir -p /run/netns && ln -sT /proc/$PID/ns/net /run/netns/learn", undo="rm /run/netns/learn"),
        do("ip -n learn -br address"),
        do(_ADDRESS),
        check("eth0 has the address that ‹engine› tells.", f"ip -n learn address show eth0 | grep -qw $({_ADDRESS})"),
        say("Its eth0 is one end of a veth pair, and knows the number of the other end, which is out here:"),
        do("ip -n learn -o link show eth0 | cut -c-75"),
        do("PEER=$(ip -n learn -o link show eth0 | grep -o '@if[0-9]*' | tr -dc 0-9)\necho $PEER"),
        do("ip -br link show master $BRIDGE"),
        check("The other end of eth0 is on the bridge.", "ip -o link show master $BRIDGE | grep -q ^$PEER:"),
        say("One thing is left: a port of the machine leads to a port of the container."),
        ask(
            "How does a connection to port ‹port› find its way to the container?",
            right="the kernel rewrites its destination, by a rule",
            wrong=("the container listens on the machine's port", "DNS"),
            because="Destination NAT: the rule names the port here, and the address and port there.",
        ),
        do("nft list ruleset 2> /dev/null | grep -w ‹port›", on="cutaway"),
        do("iptables -t nat -nL | grep -w ‹port›", on="another engine"),
        check(
            "The rule leads to the container's address.",
            f"nft list ruleset 2> /dev/null | grep -w ‹port› | grep -qwF $({_ADDRESS})",
            on="cutaway",
        ),
        check(
            "The rule leads to the container's address.",
            f"iptables -t nat -nL | grep -w ‹port› | grep -qwF $({_ADDRESS})",
            on="another engine",
        ),
        do("‹get› http://127.0.0.1:‹port›/"),
        check("The published port answers.", "‹get› http://127.0.0.1:‹port›/ | grep -q 'from inside'"),
    ),
)  # fmt: skip

"""The options of `create`, `run`, `exec`, each once: for the parser, help, completion, and Python's keywords."""

from __future__ import annotations

from cutaway.engine.options import mounts, values
from cutaway.engine.options.option import (
    BOOL,
    BYTES,
    BYTES_OR_UNLIMITED,
    DECIMAL,
    INT,
    LIST,
    PAIRS,
    STRING,
    UINT16,
    Kind,
    Option,
    list_of,
)

RESOURCES = [
    Option("blkio-weight", UINT16, "Share of disk time against other containers, 10 to 1000; 0 for the default"),
    Option("cpu-period", INT, "Length of a CPU period, in microseconds"),
    Option("cpu-quota", INT, "CPU time per period, in microseconds"),
    Option("cpu-shares", INT, "Share of CPU time against other containers when there is not enough", short="c"),
    Option("cpus", DECIMAL, "How many CPUs it may use: 1.5, .1"),
    Option("cpuset-cpus", STRING, "Which CPUs it may use: 0-2,4"),
    Option("cpuset-mems", STRING, "Which memory nodes it may use: 0-1"),
    Option("memory", BYTES, "Memory limit: 512m, 2g", short="m"),
    Option("memory-reservation", BYTES, "Memory to fall back to when the host runs short"),
    Option(
        "memory-swap",
        BYTES_OR_UNLIMITED,
        "Limit of memory and swap together; -1 for as much swap as there is",
    ),
    Option("pids-limit", INT, "How many processes and threads it may have; -1 for any number"),
    Option(
        "restart",
        STRING,
        "When to start it again: no, always, unless-stopped, on-failure[:TIMES]",
        completes="no|always|unless-stopped|on-failure",
    ),
]
"""What `update` can change too."""

_ENV = Option(
    "env",
    list_of(values.variable),
    "Environment variable: NAME=VALUE, or NAME with the caller's value",
    short="e",
    completes="variable",
)
_ENV_FILE = Option("env-file", LIST, "File of environment variables, one per line", completes="file")
_USER = Option("user", STRING, "User and group, by name or number: USER[:GROUP]", short="u")
_WORKDIR = Option("workdir", STRING, "Working directory", short="w")

CREATE = sorted(
    [
        *RESOURCES,
        Option("add-host", list_of(values.extra_host), "Add a line to /etc/hosts: NAME:ADDRESS"),
        Option("annotation", PAIRS, "Annotation of the runtime description: KEY=VALUE"),
        Option(
            "attach", LIST, "Which of stdin, stdout and stderr to attach", short="a", completes="stdin|stdout|stderr"
        ),
        Option("cap-add", list_of(values.capability), "Capability to add: NET_ADMIN, ALL", completes="capability"),
        Option("cap-drop", list_of(values.capability), "Capability to take away: CHOWN, ALL", completes="capability"),
        Option("cgroup-parent", STRING, "Cgroup below which the container's is made"),
        Option("cidfile", STRING, "File to write the container's ID to", completes="file"),
        Option("device", LIST, "Device of the host: /dev/a[:/dev/b][:rwm]", completes="file"),
        Option("dns", list_of(values.address), "Address of a name server"),
        Option("dns-option", LIST, "Option for the resolver (resolv.conf)"),
        Option("dns-search", LIST, "Domain in which short names are looked up"),
        Option("domainname", STRING, "NIS domain name"),
        Option("entrypoint", STRING, "Program to run in the place of the image's entry point"),
        _ENV,
        _ENV_FILE,
        Option("expose", LIST, "Port or range of ports that it listens on: 80, 3000-3010/udp"),
        Option("group-add", LIST, "Additional group of the user"),
        Option("hostname", STRING, "Host name", short="h"),
        Option("init", BOOL, "Run a small init as PID 1 that passes signals on and reaps processes"),
        Option("interactive", BOOL, "Keep standard input open", short="i"),
        Option("ip", Kind("string", values.ipv4_address), "IPv4 address on the network"),
        Option(
            "ipc",
            STRING,
            "IPC namespace: private, shareable, none, host, container:NAME",
            completes="none|private|shareable|host|container:",
        ),
        Option("label", list_of(values.label), "Label: KEY=VALUE", short="l"),
        Option("label-file", LIST, "File of labels, one per line", completes="file"),
        Option(
            "log-driver",
            STRING,
            "Where output is kept: local (the default), json-file, none",
            completes="local|json-file|none",
        ),
        Option(
            "log-opt",
            PAIRS._replace(metavar="list"),
            "Option of the log: max-size=10m, max-file=3",
            completes="max-size=|max-file=",
        ),
        Option("mac-address", Kind("string", values.mac_address), "MAC address on the network: 92:d0:c6:0a:29:33"),
        Option("memory-swappiness", INT, "How readily its memory is swapped out, 0 to 100"),
        Option("mount", list_of(mounts.mount, "mount"), "Mount: type=bind|volume|tmpfs,src=…,dst=…[,readonly]…"),
        Option("name", STRING, "Name of the container"),
        Option(
            "network",
            list_of(str, "network"),
            "Network to connect to: a name, none, host, container:NAME",
            completes="network",
            alias="net",
        ),
        Option("network-alias", LIST, "Another name that the container has on its network", alias="net-alias"),
        Option("oom-kill-disable", BOOL, "Let processes wait, not die, when the memory limit is reached"),
        Option("oom-score-adj", INT, "How soon the kernel kills it when memory runs out, -1000 to 1000"),
        Option("pid", STRING, "PID namespace: host, container:NAME", completes="host|container:"),
        Option("platform", STRING, "Platform its image is to be for: OS/ARCHITECTURE[/VARIANT]"),
        Option("privileged", BOOL, "All capabilities and devices, nothing masked"),
        Option("proc-view", BOOL, "Let its /proc tell of its own memory and CPUs, not the host's (needs lxcfs)"),
        Option("publish", LIST, "Publish a port: [[ADDRESS:]HOST_PORT:]PORT[/udp]", short="p"),
        Option("publish-all", BOOL, "Publish all exposed ports, on ports the engine chooses", short="P"),
        Option(
            "pull",
            Kind("string", values.pull_policy),
            "Whether its image is pulled first: always, missing (the default), never",
            completes="always|missing|never",
        ),
        Option("read-only", BOOL, "Mount the root file system read-only"),
        Option("rm", BOOL, "Remove the container and its anonymous volumes when it exits"),
        Option(
            "rootfs", STRING, "Directory to be the root file system, in the place of an image", completes="directory"
        ),
        Option(
            "security-opt",
            LIST,
            "no-new-privileges, seccomp=FILE, seccomp=unconfined, systempaths=unconfined",
            completes="no-new-privileges|seccomp=unconfined|seccomp=",
        ),
        Option("shm-size", BYTES, "Size of /dev/shm (default 64m)"),
        Option("stop-signal", STRING, "Signal that asks it to stop (default SIGTERM)", completes="signal"),
        Option("stop-timeout", INT, "Seconds to wait before it is killed (default 10)"),
        Option("sysctl", list_of(values.sysctl, "map"), "Kernel parameter of the container's namespaces: NAME=VALUE"),
        Option("tmpfs", LIST, "Mount a tmpfs: PATH[:OPTIONS]"),
        Option("tty", BOOL, "Give it a terminal", short="t"),
        Option("ulimit", list_of(values.ulimit, "ulimit"), "Resource limit of its processes: NAME=SOFT[:HARD]"),
        _USER,
        Option("uts", STRING, "UTS namespace: host", completes="host"),
        Option(
            "volume",
            LIST,
            "Mount: /HOST/PATH:PATH[:ro], VOLUME:PATH, or PATH for an anonymous volume",
            short="v",
            completes="volume",
        ),
        _WORKDIR,
    ],
    key=lambda option: option.name,
)

EXEC = [
    _ENV,
    _ENV_FILE,
    Option("privileged", BOOL, "With all capabilities"),
    _USER,
    _WORKDIR,
]
"""Of a further process in a container."""

RUN = sorted(
    [
        *CREATE,
        Option("detach", BOOL, "Run in the background and print the container's ID", short="d"),
        Option(
            "detach-keys",
            Kind("string", values.key_sequence),
            "Keys that detach from the container (default ctrl-p,ctrl-q)",
        ),
        Option("sig-proxy", BOOL, "Pass signals on to the container", default="true"),
    ],
    key=lambda option: option.name,
)

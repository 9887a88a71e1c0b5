"""The options of `create` and `run`, each once: for the parser, for help and completion, and for Python's keywords."""

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
    Option("blkio-weight", UINT16, "Block IO (relative weight), between 10 and 1000, or 0 to disable (default 0)"),
    Option("cpu-period", INT, "Limit CPU CFS (Completely Fair Scheduler) period"),
    Option("cpu-quota", INT, "Limit CPU CFS (Completely Fair Scheduler) quota"),
    Option("cpu-shares", INT, "CPU shares (relative weight)", short="c"),
    Option("cpus", DECIMAL, "Number of CPUs"),
    Option("cpuset-cpus", STRING, "CPUs in which to allow execution (0-3, 0,1)"),
    Option("cpuset-mems", STRING, "MEMs in which to allow execution (0-3, 0,1)"),
    Option("memory", BYTES, "Memory limit", short="m"),
    Option("memory-reservation", BYTES, "Memory soft limit"),
    Option(
        "memory-swap",
        BYTES_OR_UNLIMITED,
        "Swap limit equal to memory plus swap: '-1' to enable unlimited swap",
    ),
    Option("pids-limit", INT, "Tune container pids limit (set -1 for unlimited)"),
    Option(
        "restart",
        STRING,
        "Restart policy to apply when a container exits",
        default='"no"',
        completes="no|always|unless-stopped|on-failure",
    ),
]
"""What `update` can change too."""

CREATE = sorted(
    [
        *RESOURCES,
        Option("add-host", list_of(values.extra_host), "Add a custom host-to-IP mapping (host:ip)"),
        Option("annotation", PAIRS, "Add an annotation to the container (passed through to the OCI runtime)"),
        Option("attach", LIST, "Attach to STDIN, STDOUT or STDERR", short="a", completes="stdin|stdout|stderr"),
        Option("cap-add", list_of(values.capability), "Add Linux capabilities", completes="capability"),
        Option("cap-drop", list_of(values.capability), "Drop Linux capabilities", completes="capability"),
        Option("cgroup-parent", STRING, "Optional parent cgroup for the container"),
        Option("cidfile", STRING, "Write the container ID to the file", completes="file"),
        Option("device", LIST, "Add a host device to the container", completes="file"),
        Option("dns", list_of(values.address), "Set custom DNS servers"),
        Option("dns-option", LIST, "Set DNS options"),
        Option("dns-search", LIST, "Set custom DNS search domains"),
        Option("domainname", STRING, "Container NIS domain name"),
        Option("entrypoint", STRING, "Overwrite the default ENTRYPOINT of the image"),
        Option("env", list_of(values.variable), "Set environment variables", short="e", completes="variable"),
        Option("env-file", LIST, "Read in a file of environment variables", completes="file"),
        Option("expose", LIST, "Expose a port or a range of ports"),
        Option("group-add", LIST, "Add additional groups to join"),
        Option("hostname", STRING, "Container host name", short="h"),
        Option("init", BOOL, "Run an init inside the container that forwards signals and reaps processes"),
        Option("interactive", BOOL, "Keep STDIN open even if not attached", short="i"),
        Option("ip", Kind("string", values.ipv4_address), "IPv4 address (e.g., 172.30.100.104)"),
        Option("ipc", STRING, "IPC mode to use", completes="none|private|shareable|host|container:"),
        Option("label", list_of(values.label), "Set meta data on a container", short="l"),
        Option("label-file", LIST, "Read in a line delimited file of labels", completes="file"),
        Option("log-driver", STRING, "Logging driver for the container", completes="json-file|none"),
        Option("log-opt", PAIRS._replace(metavar="list"), "Log driver options", completes="max-size=|max-file="),
        Option("mac-address", Kind("string", values.mac_address), "Container MAC address (e.g., 92:d0:c6:0a:29:33)"),
        Option("memory-swappiness", INT, "Tune container memory swappiness (0 to 100)", default="-1"),
        Option("mount", list_of(mounts.mount, "mount"), "Attach a filesystem mount to the container"),
        Option("name", STRING, "Assign a name to the container"),
        Option("network", list_of(str, "network"), "Connect a container to a network", completes="network"),
        Option("network-alias", LIST, "Add network-scoped alias for the container"),
        Option("oom-kill-disable", BOOL, "Disable OOM Killer"),
        Option("oom-score-adj", INT, "Tune host's OOM preferences (-1000 to 1000)"),
        Option("pid", STRING, "PID namespace to use", completes="host|container:"),
        Option("privileged", BOOL, "Give extended privileges to this container"),
        Option("publish", LIST, "Publish a container's port(s) to the host", short="p"),
        Option("publish-all", BOOL, "Publish all exposed ports to random ports", short="P"),
        Option("read-only", BOOL, "Mount the container's root filesystem as read only"),
        Option("rm", BOOL, "Automatically remove the container and its anonymous volumes when it exits"),
        Option(
            "rootfs", STRING, "Use this directory as the root filesystem, in place of an image", completes="directory"
        ),
        Option("security-opt", LIST, "Security Options", completes="no-new-privileges|seccomp=unconfined|seccomp="),
        Option("shm-size", BYTES, "Size of /dev/shm"),
        Option("stop-signal", STRING, "Signal to stop the container", completes="signal"),
        Option("stop-timeout", INT, "Timeout (in seconds) to stop a container"),
        Option("sysctl", list_of(values.sysctl, "map"), "Sysctl options", default="map[]"),
        Option("tmpfs", LIST, "Mount a tmpfs directory"),
        Option("tty", BOOL, "Allocate a pseudo-TTY", short="t"),
        Option("ulimit", list_of(values.ulimit, "ulimit"), "Ulimit options", default="[]"),
        Option("user", STRING, "Username or UID (format: <name|uid>[:<group|gid>])", short="u"),
        Option("uts", STRING, "UTS namespace to use", completes="host"),
        Option("volume", LIST, "Bind mount a volume", short="v", completes="volume"),
        Option("workdir", STRING, "Working directory inside the container", short="w"),
    ],
    key=lambda option: option.name,
)

RUN = sorted(
    [
        *CREATE,
        Option("detach", BOOL, "Run container in background and print container ID", short="d"),
        Option(
            "detach-keys", Kind("string", values.key_sequence), "Override the key sequence for detaching a container"
        ),
        Option("sig-proxy", BOOL, "Proxy received signals to the process", default="true"),
    ],
    key=lambda option: option.name,
)

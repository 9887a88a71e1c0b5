"""What an x-ray shows, as it is printed with `-o json`: docs/xray.md describes it, and its names stay.

Bytes are bytes, times are seconds, moments are seconds since 1970. What is `None` could not be seen, or was not looked
at; `unseen` says in sentences what and why.
"""

from __future__ import annotations

from msgspec import Struct, field

FORMAT = 1
"""Raised when a field changes its meaning or goes; new fields do not raise it."""


class Process(Struct):
    """`inner_pid`: its PID in the innermost namespace, `pid` on the host. `depth`: in the tree, init being 0.

    `user` and `inner_user`: its effective user as the host and as the container calls it, by name where there is one.
    """

    pid: int
    inner_pid: int
    parent: int
    depth: int
    user: str
    inner_user: str
    state: str
    started: float
    memory: int
    cpu_time: float
    threads: int
    command: str


class Namespace(Struct):
    """`kind` as under /proc/PID/ns. `shared_with`: "the host", or the names of containers; empty where it is its
    own."""

    kind: str
    inode: int | None
    own: bool | None
    shared_with: list[str] = []


class Memory(Struct):
    """`usage` is what the kernel counts, page cache included; `working` is without cache it can drop at once, which is
    what `docker stats` shows. `limit` is the tightest of its own and its parents', `limited_by` the parent's path."""

    usage: int = 0
    working: int = 0
    peak: int = 0
    limit: int | None = None
    limited_by: str = ""
    swap: int = 0
    swap_limit: int | None = None
    limit_hits: int = 0
    oom_kills: int = 0


class Cpu(Struct):
    """`limit`: how many CPUs' time it may use. `weight`: shares (v1, 1024 by default) or weight (v2, 100)."""

    time: float = 0.0
    user_time: float = 0.0
    system_time: float = 0.0
    limit: float | None = None
    weight: int | None = None
    default_weight: int = 1024
    cpus: str = ""
    periods: int = 0
    throttled_periods: int = 0
    throttled_time: float = 0.0


class Tasks(Struct):
    """Threads count, as in `pids.max`."""

    current: int = 0
    limit: int | None = None


class Disk(Struct):
    """What went to and from one block device."""

    device: str
    read_bytes: int
    written_bytes: int
    read_operations: int
    write_operations: int


class Pressure(Struct):
    """Percent of the last 10 and 60 seconds in which some, or all, of its tasks waited for `resource`."""

    resource: str
    some10: float
    some60: float
    full10: float
    full60: float


class Cgroup(Struct):
    """`version`: "v1", "v2" or "hybrid" (its controllers are v1's, pressure is counted by v2). `own`: whether there is
    one for this container. `pressure` is empty where the kernel does not count it."""

    version: str
    path: str
    own: bool
    memory: Memory = field(default_factory=Memory)
    cpu: Cpu = field(default_factory=Cpu)
    tasks: Tasks = field(default_factory=Tasks)
    disks: list[Disk] = []
    pressure: list[Pressure] = []
    frozen: bool = False


class Layer(Struct):
    """A read-only directory of the root file system. `shared_with`: how many other containers stand on it."""

    path: str
    size: int | None = None
    files: int | None = None
    shared_with: int = 0


class Change(Struct):
    """`kind`: "added", "changed" or "deleted"; `size` of a file that was written."""

    kind: str
    path: str
    size: int = 0


class Root(Struct):
    """`kind`: "overlay", "fuse-overlayfs", "directory" (a bind mount, nothing between it and its files), "tmpfs",
    "host" (the host's own), or the file system's name. `layers`: topmost first. `size`: of what was written on top of
    them."""

    kind: str
    source: str = ""
    read_only: bool = False
    layers: list[Layer] = []
    upper: str = ""
    size: int | None = None
    files: int | None = None
    changes: list[Change] = []


class Mount(Struct):
    """A directory or file of the host, or a file system of its own, inside."""

    target: str
    source: str
    filesystem: str
    read_only: bool


class Peer(Struct):
    """The other end of a veth, on the host, and the bridge that it is plugged into."""

    name: str
    bridge: str = ""
    bridge_addresses: list[str] = []


class Interface(Struct):
    """A network device, and what has gone through it. `peer`: of a veth whose other end is on the host."""

    name: str
    kind: str
    mac: str
    mtu: int
    up: bool
    addresses: list[str]
    received_bytes: int
    sent_bytes: int
    peer: Peer | None = None


class Port(Struct):
    """A published port. `by`: who passes it on: a rule ("nftables ip nat DOCKER") or a process ("docker-proxy
    4711")."""

    protocol: str
    host_address: str
    host_port: int
    address: str
    port: int
    by: list[str] = []


class Network(Struct):
    """`own`: whether its namespace is its own. `translation`: what gives its packets the host's address on the way
    out."""

    own: bool | None
    interfaces: list[Interface] = []
    gateway: str = ""
    translation: str = ""
    ports: list[Port] = []


class Security(Struct):
    """`beyond_default`, `below_default`: of the bounding set, against Docker's 14. `risks`: sentences, worst first."""

    effective: list[str] = []
    bounding: list[str] = []
    beyond_default: list[str] = []
    below_default: list[str] = []
    seccomp: str = ""
    seccomp_filters: int | None = None
    no_new_privileges: bool = False
    confinement: str = ""
    user_mapping: list[str] = []
    masked: list[str] = []
    read_only: list[str] = []
    devices: list[str] = []
    device_rules: list[str] | None = None
    risks: list[str] = []


class Keeper(Struct):
    """The process that started it and waits for its end: a shim, a monitor."""

    pid: int
    command: str


class Container(Struct):
    """`name` as its engine calls it where the kernel knows that, else the short ID or the program. `engine`: "cutaway",
    "Docker", "podman", "containerd", "Kubernetes", "CRI-O", "LXC", "systemd-nspawn", "bubblewrap", "unshare",
    "unknown".
    `pid`: of its first process. `within`: the name of the container it runs in. `addresses`: those that others reach it
    by; None where it has the host's, or they cannot be read.
    """

    name: str
    id: str
    engine: str
    pid: int
    hostname: str | None
    started: float
    command: str
    process_count: int
    addresses: list[str] | None = None
    within: str = ""
    keeper: Keeper | None = None
    processes: list[Process] = []
    namespaces: list[Namespace] = []
    cgroup: Cgroup | None = None
    root: Root | None = None
    mounts: list[Mount] | None = None
    network: Network | None = None
    security: Security | None = None
    unseen: list[str] = []


class Bridge(Struct):
    """A bridge of the host, and its addresses there."""

    name: str
    addresses: list[str]


class KeptNamespace(Struct):
    """A namespace without a process, that a mount keeps."""

    kind: str
    inode: int
    path: str


class Host(Struct):
    """`uplinks`: the interfaces that default routes leave by. `unseen`: what could not be seen, and why."""

    name: str
    kernel: str
    cgroups: str
    cpus: int
    memory: int
    memory_available: int
    started: float
    uplinks: list[Interface] = []
    bridges: list[Bridge] = []
    containers: list[Container] = []
    kept_namespaces: list[KeptNamespace] = []
    unseen: list[str] = []
    format: int = FORMAT

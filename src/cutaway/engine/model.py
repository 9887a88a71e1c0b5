"""What a container, an image, a network and a volume are to the outside: the Docker Engine API's objects.

Fields bear the API's names and mean what its reference says, so `inspect` is the encoding of these and whoever knows
one knows the other. Sizes are bytes, moments RFC 3339 strings, durations nanoseconds, unless a field says otherwise.
What Docker reports as `null` when empty is None here.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from msgspec import Struct, field

NEVER = "0001-01-01T00:00:00Z"
"""The moment of what has not happened yet."""

MiB = 1 << 20


# Containers: what is asked for


class Healthcheck(Struct, kw_only=True):
    Test: list[str] | None = None
    Interval: int = 0
    Timeout: int = 0
    StartPeriod: int = 0
    Retries: int = 0


class Config(Struct, kw_only=True):
    """What runs: the part that does not depend on the host, and that an image can hold defaults for.

    `Env` holds `NAME=value`; a bare `NAME` takes away what the image sets.
    """

    Hostname: str = ""
    Domainname: str = ""
    User: str = ""
    AttachStdin: bool = False
    AttachStdout: bool = False
    AttachStderr: bool = False
    ExposedPorts: dict[str, dict[str, str]] | None = None
    Tty: bool = False
    OpenStdin: bool = False
    StdinOnce: bool = False
    Env: list[str] | None = None
    Cmd: list[str] | None = None
    Healthcheck: Healthcheck | None = None
    Image: str = ""
    Volumes: dict[str, dict[str, str]] | None = None
    WorkingDir: str = ""
    Entrypoint: list[str] | None = None
    NetworkDisabled: bool = False
    OnBuild: list[str] | None = None
    Labels: dict[str, str] = field(default_factory=dict)
    StopSignal: str = ""
    StopTimeout: int | None = None
    Shell: list[str] | None = None


class LogConfig(Struct, kw_only=True):
    Type: str = "local"
    Config: dict[str, str] = field(default_factory=dict)


class PortBinding(Struct, kw_only=True):
    """Where a port is published. `HostPort` is empty for one that the engine is to choose, or a range `"8000-8010"`."""

    HostIp: str = ""
    HostPort: str = ""


PortMap = dict[str, list[PortBinding]]
"""From `"80/tcp"` to where it is published."""


class RestartPolicy(Struct, kw_only=True):
    Name: Literal["", "no", "always", "unless-stopped", "on-failure"] = "no"
    MaximumRetryCount: int = 0


class DriverConfig(Struct, kw_only=True):
    Name: str = ""
    Options: dict[str, str] = field(default_factory=dict)


class BindOptions(Struct, kw_only=True):
    Propagation: str = ""
    NonRecursive: bool = False
    CreateMountpoint: bool = False
    ReadOnlyNonRecursive: bool = False
    ReadOnlyForceRecursive: bool = False


class VolumeOptions(Struct, kw_only=True):
    NoCopy: bool = False
    Labels: dict[str, str] = field(default_factory=dict)
    DriverConfig: DriverConfig | None = None
    Subpath: str = ""


class TmpfsOptions(Struct, kw_only=True):
    SizeBytes: int = 0
    Mode: int = 0


class Mount(Struct, kw_only=True):
    """One `--mount`."""

    Type: Literal["bind", "volume", "tmpfs"] = "volume"
    Source: str = ""
    Target: str = ""
    ReadOnly: bool = False
    BindOptions: BindOptions | None = None
    VolumeOptions: VolumeOptions | None = None
    TmpfsOptions: TmpfsOptions | None = None


class Device(Struct, kw_only=True):
    PathOnHost: str = ""
    PathInContainer: str = ""
    CgroupPermissions: str = "rwm"


class WeightDevice(Struct, kw_only=True):
    Path: str
    Weight: int


class ThrottleDevice(Struct, kw_only=True):
    Path: str
    Rate: int


class Ulimit(Struct, kw_only=True):
    """A resource limit (`getrlimit(2)`) by the lower-case name without `RLIMIT_`; -1 is unlimited."""

    Name: str
    Soft: int
    Hard: int


class Resources(Struct, kw_only=True):
    """What a container may use; 0, empty and None are no limit of its own."""

    CpuShares: int = 0
    Memory: int = 0
    NanoCpus: int = 0
    CgroupParent: str = ""
    BlkioWeight: int = 0
    BlkioWeightDevice: list[WeightDevice] = field(default_factory=list)
    BlkioDeviceReadBps: list[ThrottleDevice] = field(default_factory=list)
    BlkioDeviceWriteBps: list[ThrottleDevice] = field(default_factory=list)
    BlkioDeviceReadIOps: list[ThrottleDevice] = field(default_factory=list)
    BlkioDeviceWriteIOps: list[ThrottleDevice] = field(default_factory=list)
    CpuPeriod: int = 0
    CpuQuota: int = 0
    CpuRealtimePeriod: int = 0
    CpuRealtimeRuntime: int = 0
    CpusetCpus: str = ""
    CpusetMems: str = ""
    Devices: list[Device] = field(default_factory=list)
    DeviceCgroupRules: list[str] | None = None
    MemoryReservation: int = 0
    MemorySwap: int = 0
    MemorySwappiness: int | None = None
    OomKillDisable: bool = False
    PidsLimit: int | None = None
    Ulimits: list[Ulimit] = field(default_factory=list)


class HostConfig(Resources, kw_only=True):
    """How the host lets it run. Ours: `Rootfs`, a directory to be the root in the place of an image; `ProcView`, that
    its /proc tells of its own limits."""

    Binds: list[str] | None = None
    ContainerIDFile: str = ""
    LogConfig: LogConfig = field(default_factory=LogConfig)
    NetworkMode: str = "default"
    PortBindings: PortMap = field(default_factory=dict)
    RestartPolicy: RestartPolicy = field(default_factory=RestartPolicy)
    AutoRemove: bool = False
    VolumeDriver: str = ""
    VolumesFrom: list[str] | None = None
    Mounts: list[Mount] | None = None
    ConsoleSize: tuple[int, int] = (0, 0)
    Annotations: dict[str, str] = field(default_factory=dict)
    CapAdd: list[str] | None = None
    CapDrop: list[str] | None = None
    CgroupnsMode: str = "private"
    Dns: list[str] = field(default_factory=list)
    DnsOptions: list[str] = field(default_factory=list)
    DnsSearch: list[str] = field(default_factory=list)
    ExtraHosts: list[str] | None = None
    GroupAdd: list[str] | None = None
    IpcMode: str = "private"
    OomScoreAdj: int = 0
    PidMode: str = ""
    Privileged: bool = False
    PublishAllPorts: bool = False
    ReadonlyRootfs: bool = False
    SecurityOpt: list[str] | None = None
    Tmpfs: dict[str, str] = field(default_factory=dict)
    UTSMode: str = ""
    UsernsMode: str = ""
    ShmSize: int = 64 * MiB
    Sysctls: dict[str, str] = field(default_factory=dict)
    Runtime: str = "cutaway"
    Init: bool = False
    Rootfs: str = ""
    ProcView: bool = False


class EndpointIPAMConfig(Struct, kw_only=True):
    IPv4Address: str = ""
    IPv6Address: str = ""


class EndpointSettings(Struct, kw_only=True):
    """A container's place on one network: what was asked for, and what it got."""

    IPAMConfig: EndpointIPAMConfig | None = None
    Links: list[str] | None = None
    Aliases: list[str] | None = None
    MacAddress: str = ""
    DriverOpts: dict[str, str] | None = None
    NetworkID: str = ""
    EndpointID: str = ""
    Gateway: str = ""
    IPAddress: str = ""
    IPPrefixLen: int = 0
    IPv6Gateway: str = ""
    GlobalIPv6Address: str = ""
    GlobalIPv6PrefixLen: int = 0
    DNSNames: list[str] | None = None


class NetworkingConfig(Struct, kw_only=True):
    EndpointsConfig: dict[str, EndpointSettings] = field(default_factory=dict)


class CreateRequest(NamedTuple):
    """All that `create` needs. An empty name asks for one to be made up."""

    config: Config
    host_config: HostConfig
    networking: NetworkingConfig
    name: str = ""


class Created(Struct, kw_only=True):
    Id: str
    Warnings: list[str] = field(default_factory=list)


class UpdateRequest(Struct, kw_only=True):
    """What is to change on a container; None leaves a thing as it is.

    `PublishAdd` publishes more ports on it while it runs. `PublishRemove` withdraws those of `"80/tcp"` that a binding
    names: an empty `HostIp` or `HostPort` stands for any.
    """

    CpuShares: int | None = None
    Memory: int | None = None
    NanoCpus: int | None = None
    BlkioWeight: int | None = None
    CpuPeriod: int | None = None
    CpuQuota: int | None = None
    CpuRealtimePeriod: int | None = None
    CpuRealtimeRuntime: int | None = None
    CpusetCpus: str | None = None
    CpusetMems: str | None = None
    MemoryReservation: int | None = None
    MemorySwap: int | None = None
    PidsLimit: int | None = None
    RestartPolicy: RestartPolicy | None = None
    PublishAdd: PortMap = field(default_factory=dict)
    PublishRemove: PortMap = field(default_factory=dict)


# Containers: what there is


class State(Struct, kw_only=True):
    Status: Literal["created", "running", "paused", "restarting", "removing", "exited", "dead"] = "created"
    Running: bool = False
    Paused: bool = False
    Restarting: bool = False
    OOMKilled: bool = False
    Dead: bool = False
    Pid: int = 0
    ExitCode: int = 0
    Error: str = ""
    StartedAt: str = NEVER
    FinishedAt: str = NEVER


class MountPoint(Struct, kw_only=True):
    """A mount as the container has it."""

    Type: str
    Name: str = ""
    Source: str
    Destination: str
    Driver: str = ""
    Mode: str = ""
    RW: bool = True
    Propagation: str = ""


class NetworkSettings(Struct, kw_only=True):
    """The container's networks. The fields from `Gateway` on repeat those of the default bridge, as Docker does."""

    Bridge: str = ""
    SandboxID: str = ""
    SandboxKey: str = ""
    Ports: dict[str, list[PortBinding] | None] = field(default_factory=dict)
    EndpointID: str = ""
    Gateway: str = ""
    GlobalIPv6Address: str = ""
    GlobalIPv6PrefixLen: int = 0
    IPAddress: str = ""
    IPPrefixLen: int = 0
    IPv6Gateway: str = ""
    MacAddress: str = ""
    Networks: dict[str, EndpointSettings] = field(default_factory=dict)


class GraphDriver(Struct, kw_only=True):
    """Where the root file system is: `LowerDir` (colons between its paths, topmost first), `UpperDir`, `WorkDir`,
    `MergedDir`."""

    Name: str = "overlay2"
    Data: dict[str, str] = field(default_factory=dict)


class Container(Struct, kw_only=True):
    """All there is to know of a container. `Name` begins with a slash; the sizes are there if asked for."""

    Id: str
    Created: str
    Path: str = ""
    Args: list[str] = field(default_factory=list)
    State: State = field(default_factory=State)
    Image: str = ""
    ResolvConfPath: str = ""
    HostnamePath: str = ""
    HostsPath: str = ""
    LogPath: str = ""
    Name: str
    RestartCount: int = 0
    Driver: str = "overlay2"
    Platform: str = "linux"
    MountLabel: str = ""
    ProcessLabel: str = ""
    AppArmorProfile: str = ""
    ExecIDs: list[str] | None = None
    HostConfig: HostConfig = field(default_factory=HostConfig)
    GraphDriver: GraphDriver = field(default_factory=GraphDriver)
    SizeRw: int | None = None
    SizeRootFs: int | None = None
    Mounts: list[MountPoint] = field(default_factory=list)
    Config: Config = field(default_factory=Config)
    NetworkSettings: NetworkSettings = field(default_factory=NetworkSettings)


class ExecConfig(Struct, kw_only=True):
    """A process to be started in a running container."""

    User: str = ""
    Privileged: bool = False
    Tty: bool = False
    ConsoleSize: tuple[int, int] = (0, 0)
    AttachStdin: bool = False
    AttachStdout: bool = False
    AttachStderr: bool = False
    Env: list[str] | None = None
    WorkingDir: str = ""
    Cmd: list[str] = field(default_factory=list)


class ProcessConfig(Struct, kw_only=True):
    tty: bool = False
    entrypoint: str = ""
    arguments: list[str] = field(default_factory=list)
    privileged: bool = False
    user: str = ""


class Exec(Struct, kw_only=True):
    ID: str
    ContainerID: str
    Running: bool = False
    ExitCode: int | None = None
    Pid: int = 0
    ProcessConfig: ProcessConfig = field(default_factory=ProcessConfig)
    OpenStdin: bool = False
    OpenStdout: bool = False
    OpenStderr: bool = False


class Change(Struct, kw_only=True):
    """A difference from the image: `Kind` is 0 for changed, 1 for added, 2 for deleted."""

    Path: str
    Kind: Literal[0, 1, 2]


class PathStat(Struct, kw_only=True):
    """What `cp` needs to know of a path in a container: `mode` as in `stat(2)`, `mtime` a moment."""

    name: str
    size: int
    mode: int
    mtime: str
    linkTarget: str = ""


# Images


class RootFS(Struct, kw_only=True):
    Type: str = "layers"
    Layers: list[str] = field(default_factory=list)


class Image(Struct, kw_only=True):
    Id: str
    RepoTags: list[str] = field(default_factory=list)
    RepoDigests: list[str] = field(default_factory=list)
    Parent: str = ""
    Comment: str = ""
    Created: str = NEVER
    Author: str = ""
    Config: Config = field(default_factory=Config)
    Architecture: str = ""
    Variant: str = ""
    Os: str = "linux"
    Size: int = 0
    GraphDriver: GraphDriver = field(default_factory=GraphDriver)
    RootFS: RootFS = field(default_factory=RootFS)
    Metadata: dict[str, str] = field(default_factory=dict)


class ImageSummary(Struct, kw_only=True):
    """An image in a list. `Created` in seconds since 1970, 0 for never; -1 stands for what was not counted."""

    Id: str
    ParentId: str = ""
    RepoTags: list[str] = field(default_factory=list)
    RepoDigests: list[str] = field(default_factory=list)
    Created: int
    Size: int
    SharedSize: int = -1
    Labels: dict[str, str] = field(default_factory=dict)
    Containers: int = -1


class HistoryStep(Struct, kw_only=True):
    """A step of how an image was made. `Id` is that of the image it made, `<missing>` where that is not here; `Created`
    in seconds since 1970."""

    Id: str = "<missing>"
    Created: int
    CreatedBy: str
    Tags: list[str] | None = None
    Size: int = 0
    Comment: str = ""


class ImageDelete(Struct, kw_only=True):
    """One step of removing an image: a name taken away, or content deleted."""

    Untagged: str = ""
    Deleted: str = ""


# Networks


class IPAMPool(Struct, kw_only=True):
    Subnet: str = ""
    IPRange: str = ""
    Gateway: str = ""
    AuxiliaryAddresses: dict[str, str] | None = None


class IPAM(Struct, kw_only=True):
    Driver: str = "default"
    Options: dict[str, str] | None = None
    Config: list[IPAMPool] = field(default_factory=list)


class EndpointResource(Struct, kw_only=True):
    """A container on a network, as the network sees it; the addresses with their prefix lengths."""

    Name: str
    EndpointID: str = ""
    MacAddress: str = ""
    IPv4Address: str = ""
    IPv6Address: str = ""


class NetworkCreate(Struct, kw_only=True):
    Name: str
    Driver: str = "bridge"
    Internal: bool = False
    Attachable: bool = False
    EnableIPv6: bool = False
    IPAM: IPAM = field(default_factory=IPAM)
    Options: dict[str, str] = field(default_factory=dict)
    Labels: dict[str, str] = field(default_factory=dict)


class Network(NetworkCreate, kw_only=True):
    Id: str
    Created: str = NEVER
    Scope: str = "local"
    Ingress: bool = False
    Containers: dict[str, EndpointResource] = field(default_factory=dict)


# Volumes


class VolumeCreate(Struct, kw_only=True):
    Name: str = ""
    Driver: str = "local"
    DriverOpts: dict[str, str] = field(default_factory=dict)
    Labels: dict[str, str] = field(default_factory=dict)


class VolumeUsage(Struct, kw_only=True):
    """`Size` in bytes and `RefCount`, the containers that use the volume; -1 where not asked for."""

    Size: int = -1
    RefCount: int = -1


class Volume(Struct, kw_only=True):
    CreatedAt: str = NEVER
    Driver: str = "local"
    Labels: dict[str, str] = field(default_factory=dict)
    Mountpoint: str
    Name: str
    Options: dict[str, str] | None = None
    Scope: str = "local"
    UsageData: VolumeUsage | None = None


class Pruned(Struct, kw_only=True):
    """What a `prune` removed, and how many bytes of the disk that gave back."""

    Removed: list[str] = field(default_factory=list)
    SpaceReclaimed: int = 0


class ImagesPruned(Struct, kw_only=True):
    """The same of images."""

    Removed: list[ImageDelete] = field(default_factory=list)
    SpaceReclaimed: int = 0


class DiskUsage(Struct, kw_only=True):
    """What takes how much of the disk. `LayersReclaimable`, ours: what images take that no container stands on, and
    downloads that were not finished."""

    LayersSize: int
    LayersReclaimable: int
    Images: list[ImageSummary]
    Containers: list[Container]
    Volumes: list[Volume]


# The engine


class Component(Struct, kw_only=True):
    Name: str
    Version: str
    Details: dict[str, str] = field(default_factory=dict)


class Version(Struct, kw_only=True):
    Version: str
    ApiVersion: str
    MinAPIVersion: str
    PythonVersion: str
    Os: str
    Arch: str
    KernelVersion: str
    Components: list[Component] = field(default_factory=list)


class SystemInfo(Struct, kw_only=True):
    """What `info` shows of the host and the engine."""

    ID: str
    Containers: int
    ContainersRunning: int
    ContainersPaused: int
    ContainersStopped: int
    Images: int
    Driver: str
    DriverStatus: list[tuple[str, str]]
    LoggingDriver: str
    CgroupDriver: str
    CgroupVersion: str
    KernelVersion: str
    OperatingSystem: str
    OSType: str
    Architecture: str
    NCPU: int
    MemTotal: int
    DockerRootDir: str
    Name: str
    ServerVersion: str
    SecurityOptions: list[str] = field(default_factory=list)
    Plugins: dict[str, list[str]] = field(default_factory=dict)
    LiveRestoreEnabled: bool = True
    Warnings: list[str] = field(default_factory=list)


class EngineStatus(Struct, kw_only=True):
    """What `engine status` shows. Ours, not Docker's: hence the names."""

    engine_pid: int
    spawner_pid: int
    root: str
    runtime_dir: str
    socket: str
    version: str
    python_version: str
    kernel_version: str
    containers: int
    containers_running: int
    started_at: str

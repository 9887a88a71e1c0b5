"""What a `config.json` may look like, field by field, as the OCI runtime specification 1.3 says it: `check` walks a
document along the table and names the first field that is wrong, and what was expected there.

This is form. Whether the fields make sense together, and on this host, is for `runtime.meaning`. Unknown fields are
allowed everywhere, as the specification wants it ("Extensibility" in config.md).
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Kind = Callable[[Any, str], None]
    """Checks a value that is at a place in the document; raises `InvalidConfig`."""


class InvalidConfig(ValueError):
    """A `config.json` that is none. `field`: where (`linux.namespaces[2].type`); its text says what was expected."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"config.json: {field or 'the document'}: {problem}")
        self.field = field


def check(document: Any) -> None:
    """Raises `InvalidConfig` for the first field that is not as the specification has it."""
    _CONFIG(document, "")


def check_process(document: Any) -> None:
    """The same for a process by itself, as `exec --process` takes it."""
    _PROCESS(document, "process")


def _expected(what: str, value: Any, where: str) -> InvalidConfig:
    shown = repr(value)
    return InvalidConfig(where, f"expected {what}, not {shown if len(shown) < 60 else shown[:57] + '...'}")


def _of_type(python: type, what: str) -> Kind:
    def checked(value: Any, where: str) -> None:
        if type(value) is not python:
            raise _expected(what, value, where)

    return checked


def _integer(least: int | None = None, most: int | None = None) -> Kind:
    bounds = f" from {least}" * (least is not None) + f" to {most}" * (most is not None)

    def checked(value: Any, where: str) -> None:
        fits = type(value) is int and (least is None or value >= least) and (most is None or value <= most)
        if not fits:
            raise _expected(f"an integer{bounds}", value, where)

    return checked


def _word(what: str, fits: Callable[[str], object]) -> Kind:
    def checked(value: Any, where: str) -> None:
        if type(value) is not str or not fits(value):
            raise _expected(what, value, where)

    return checked


def _one_of(prefix: str, names: str) -> Kind:
    allowed = [prefix + name for name in names.split()]
    return _word(f"one of {', '.join(allowed)}", allowed.__contains__)


def _list(of: Kind, least: int = 0) -> Kind:
    def checked(value: Any, where: str) -> None:
        if type(value) is not list or len(value) < least:
            raise _expected(f"a list of {least} or more" if least else "a list", value, where)
        for number, each in enumerate(value):
            of(each, f"{where}[{number}]")

    return checked


def _map(of: Kind) -> Kind:
    def checked(value: Any, where: str) -> None:
        if type(value) is not dict:
            raise _expected("an object", value, where)
        for key, each in value.items():
            of(each, f"{where}.{key}")

    return checked


def _object(required: str = "", /, **fields: Kind) -> Kind:
    """An object with `fields`, of which those named in `required` must be there."""

    def checked(value: Any, where: str) -> None:
        if type(value) is not dict:
            raise _expected("an object", value, where)
        prefix = f"{where}." if where else ""
        for name in required.split():
            if name not in value:
                raise InvalidConfig(prefix + name, "is required, and missing")
        for name in value:
            if name in fields:
                fields[name](value[name], prefix + name)

    return checked


def _only(text: str, characters: str) -> bool:
    return not text.strip(characters)


def _is_page_size(text: str) -> bool:
    number = text[:-2]
    return text[-2:] in ("KB", "MB", "GB") and number.isascii() and number.isdigit() and number[0] != "0"


def _is_rlimit(text: str) -> bool:
    name = text.removeprefix("RLIMIT_")
    return name != text and name.isascii() and name.isalpha() and name.isupper()


_STRING, _BOOLEAN = _of_type(str, "a string"), _of_type(bool, "true or false")
_I32, _I64 = _integer(-(1 << 31), (1 << 31) - 1), _integer(-(1 << 63), (1 << 63) - 1)
_U16, _U32, _U64 = (_integer(0, (1 << bits) - 1) for bits in (16, 32, 64))
_STRINGS, _TEXTS = _list(_STRING), _map(_STRING)
_CPUS = _word("CPUs as in 0-3,7", lambda text: _only(text, "0123456789, -"))

_HOOKS = _list(_object("path", path=_STRING, args=_STRINGS, env=_STRINGS, timeout=_integer(1)))
_MAPPINGS = _list(_object("containerID hostID size", containerID=_U32, hostID=_U32, size=_U32))

_PROCESS = _object(
    "cwd",
    args=_STRINGS,
    commandLine=_STRING,
    consoleSize=_object("height width", height=_U64, width=_U64),
    cwd=_STRING,
    env=_STRINGS,
    terminal=_BOOLEAN,
    user=_object(uid=_U32, gid=_U32, umask=_U32, additionalGids=_list(_U32), username=_STRING),
    capabilities=_object(
        bounding=_STRINGS, permitted=_STRINGS, effective=_STRINGS, inheritable=_STRINGS, ambient=_STRINGS
    ),
    apparmorProfile=_STRING,
    oomScoreAdj=_integer(),
    selinuxLabel=_STRING,
    ioPriority=_object("class", **{"class": _one_of("IOPRIO_CLASS_", "RT BE IDLE"), "priority": _I32}),
    noNewPrivileges=_BOOLEAN,
    scheduler=_object(
        "policy",
        policy=_one_of("SCHED_", "OTHER FIFO RR BATCH ISO IDLE DEADLINE"),
        nice=_I32,
        priority=_I32,
        flags=_list(
            _one_of(
                "SCHED_FLAG_",
                "RESET_ON_FORK RECLAIM DL_OVERRUN KEEP_POLICY KEEP_PARAMS UTIL_CLAMP_MIN UTIL_CLAMP_MAX",
            )
        ),
        runtime=_U64,
        deadline=_U64,
        period=_U64,
    ),
    rlimits=_list(
        _object(
            "type soft hard",
            type=_word("the name of a limit, as RLIMIT_NOFILE", _is_rlimit),
            soft=_U64,
            hard=_U64,
        )
    ),
    execCPUAffinity=_object(initial=_CPUS, final=_CPUS),
)

_MOUNT = _object(
    "destination",
    source=_STRING,
    destination=_STRING,
    options=_STRINGS,
    type=_STRING,
    uidMappings=_MAPPINGS,
    gidMappings=_MAPPINGS,
)

_DEVICE_WEIGHTS = _list(_object("major minor", major=_I64, minor=_I64, weight=_U16, leafWeight=_U16))
_DEVICE_RATES = _list(_object("major minor", major=_I64, minor=_I64, rate=_U64))

_RESOURCES = _object(
    unified=_TEXTS,
    devices=_list(_object("allow", allow=_BOOLEAN, type=_STRING, major=_I64, minor=_I64, access=_STRING)),
    pids=_object("limit", limit=_I64),
    blockIO=_object(
        weight=_U16,
        leafWeight=_U16,
        weightDevice=_DEVICE_WEIGHTS,
        throttleReadBpsDevice=_DEVICE_RATES,
        throttleWriteBpsDevice=_DEVICE_RATES,
        throttleReadIOPSDevice=_DEVICE_RATES,
        throttleWriteIOPSDevice=_DEVICE_RATES,
    ),
    cpu=_object(
        cpus=_STRING,
        mems=_STRING,
        period=_U64,
        quota=_I64,
        burst=_U64,
        realtimePeriod=_U64,
        realtimeRuntime=_I64,
        shares=_U64,
        idle=_I64,
    ),
    hugepageLimits=_list(
        _object("pageSize limit", pageSize=_word("a size of pages, as 2MB", _is_page_size), limit=_U64)
    ),
    memory=_object(
        kernel=_I64,
        kernelTCP=_I64,
        limit=_I64,
        reservation=_I64,
        swap=_I64,
        swappiness=_U64,
        disableOOMKiller=_BOOLEAN,
        useHierarchy=_BOOLEAN,
        checkBeforeUpdate=_BOOLEAN,
    ),
    network=_object(classID=_U32, priorities=_list(_object("name priority", name=_STRING, priority=_U32))),
    rdma=_map(_object(hcaHandles=_U32, hcaObjects=_U32)),
)


def check_resources(document: Any) -> None:
    """The same for `linux.resources` by itself, as `update --resources` takes it."""
    _RESOURCES(document, "linux.resources")


_ACTION = _one_of("SCMP_ACT_", "KILL KILL_PROCESS KILL_THREAD TRAP ERRNO TRACE ALLOW LOG NOTIFY")

_SECCOMP = _object(
    "defaultAction",
    defaultAction=_ACTION,
    defaultErrnoRet=_U32,
    flags=_list(_one_of("SECCOMP_FILTER_FLAG_", "TSYNC LOG SPEC_ALLOW WAIT_KILLABLE_RECV")),
    listenerPath=_STRING,
    listenerMetadata=_STRING,
    architectures=_list(
        _one_of(
            "SCMP_ARCH_",
            "X86 X86_64 X32 ARM AARCH64 LOONGARCH64 M68K MIPS MIPS64 MIPS64N32 MIPSEL MIPSEL64 MIPSEL64N32 PPC PPC64 "
            "PPC64LE S390 S390X SH SHEB PARISC PARISC64 RISCV64",
        )
    ),
    syscalls=_list(
        _object(
            "names action",
            names=_list(_STRING, 1),
            action=_ACTION,
            errnoRet=_U32,
            args=_list(
                _object(
                    "index value op",
                    index=_U32,
                    value=_U64,
                    valueTwo=_U64,
                    op=_one_of("SCMP_CMP_", "NE LT LE EQ GE GT MASKED_EQ"),
                )
            ),
        )
    ),
)

_OFFSET = _object(secs=_I64, nanosecs=_U32)

_LINUX = _object(
    devices=_list(
        _object(
            "type path",
            type=_one_of("", "c b u p"),
            path=_STRING,
            fileMode=_U32,
            major=_I64,
            minor=_I64,
            uid=_U32,
            gid=_U32,
        )
    ),
    netDevices=_map(_object(name=_STRING)),
    uidMappings=_MAPPINGS,
    gidMappings=_MAPPINGS,
    namespaces=_list(_object("type", type=_one_of("", "mount pid network uts ipc user cgroup time"), path=_STRING)),
    resources=_RESOURCES,
    cgroupsPath=_STRING,
    # Docker and podman ask for the recursive forms, which are what the specification's words do, too.
    rootfsPropagation=_one_of("", "private shared slave unbindable rprivate rshared rslave runbindable"),
    seccomp=_SECCOMP,
    sysctl=_TEXTS,
    maskedPaths=_STRINGS,
    readonlyPaths=_STRINGS,
    mountLabel=_STRING,
    intelRdt=_object(
        closID=_STRING,
        schemata=_STRINGS,
        l3CacheSchema=_STRING,
        memBwSchema=_word("MB:...", lambda text: text.startswith("MB:") and "\n" not in text[:-1]),
        enableMonitoring=_BOOLEAN,
    ),
    memoryPolicy=_object(
        mode=_one_of("MPOL_", "DEFAULT BIND INTERLEAVE WEIGHTED_INTERLEAVE PREFERRED PREFERRED_MANY LOCAL"),
        nodes=_STRING,
        flags=_list(_one_of("MPOL_F_", "NUMA_BALANCING RELATIVE_NODES STATIC_NODES")),
    ),
    personality=_object(domain=_one_of("", "LINUX LINUX32"), flags=_STRINGS),
    timeOffsets=_object(boottime=_OFFSET, monotonic=_OFFSET),
)

_VM = _object(
    "kernel",
    hypervisor=_object("path", path=_STRING, parameters=_STRINGS),
    kernel=_object("path", path=_STRING, parameters=_STRINGS, initrd=_STRING),
    image=_object("path format", path=_STRING, format=_one_of("", "raw qcow2 vdi vmdk vhd")),
    hwConfig=_object(
        deviceTree=_STRING,
        vcpus=_U32,
        memory=_U64,
        dtdevs=_STRINGS,
        iomems=_list(_object("firstMFN nrMFNs", firstGFN=_U64, firstMFN=_U64, nrMFNs=_U64)),
        irqs=_list(_U32),
    ),
)

_ANYTHING = _object()

_CONFIG = _object(
    "ociVersion",
    ociVersion=_STRING,
    hooks=_object(
        prestart=_HOOKS,
        createRuntime=_HOOKS,
        createContainer=_HOOKS,
        startContainer=_HOOKS,
        poststart=_HOOKS,
        poststop=_HOOKS,
    ),
    annotations=_TEXTS,
    hostname=_STRING,
    domainname=_STRING,
    mounts=_list(_MOUNT),
    root=_object("path", path=_STRING, readonly=_BOOLEAN),
    process=_PROCESS,
    linux=_LINUX,
    solaris=_ANYTHING,
    windows=_ANYTHING,
    vm=_VM,
    zos=_ANYTHING,
    freebsd=_ANYTHING,
)

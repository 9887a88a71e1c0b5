"""A `config.json` in which every field of the specification for Linux is set, to vary from."""

from __future__ import annotations

from typing import Any

_MAPPING = [{"containerID": 0, "hostID": 1000, "size": 10}]
_HOOK = [{"path": "/bin/true", "args": ["true"], "env": ["A=b"], "timeout": 5}]
_MOMENTS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
_RATE = [{"major": 8, "minor": 0, "rate": 600}]

EVERYTHING: dict[str, Any] = {
    "ociVersion": "1.3.0",
    "hooks": dict.fromkeys(_MOMENTS, _HOOK),
    "annotations": {"org.example": "yes"},
    "hostname": "box",
    "domainname": "example",
    "mounts": [
        {
            "destination": "/data",
            "type": "none",
            "source": "/srv",
            "options": ["rbind", "ridmap"],
            "uidMappings": _MAPPING,
            "gidMappings": _MAPPING,
        }
    ],
    "root": {"path": "rootfs", "readonly": True},
    "process": {
        "args": ["sh"],
        "commandLine": "sh",
        "consoleSize": {"height": 25, "width": 80},
        "cwd": "/",
        "env": ["A=b"],
        "terminal": True,
        "user": {"uid": 1, "gid": 2, "umask": 18, "additionalGids": [3], "username": "me"},
        "capabilities": {
            name: ["CAP_KILL"] for name in ("bounding", "permitted", "effective", "inheritable", "ambient")
        },
        "apparmorProfile": "unconfined",
        "oomScoreAdj": 100,
        "selinuxLabel": "label",
        "ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 4},
        "noNewPrivileges": True,
        "scheduler": {
            "policy": "SCHED_OTHER",
            "nice": 5,
            "priority": 0,
            "flags": ["SCHED_FLAG_RESET_ON_FORK"],
            "runtime": 1,
            "deadline": 1,
            "period": 1,
        },
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 10, "hard": 20}],
        "execCPUAffinity": {"initial": "0-1", "final": "0"},
    },
    "linux": {
        "devices": [{"type": "c", "path": "/dev/fuse", "fileMode": 438, "major": 10, "minor": 229, "uid": 0, "gid": 0}],
        "netDevices": {"eth9": {"name": "eth0"}},
        "uidMappings": _MAPPING,
        "gidMappings": _MAPPING,
        "namespaces": [{"type": "mount"}, {"type": "ipc", "path": "/proc/1/ns/ipc"}],
        "resources": {
            "unified": {"memory.high": "1000000"},
            "devices": [{"allow": False, "type": "c", "major": 1, "minor": 3, "access": "rwm"}],
            "pids": {"limit": 20},
            "blockIO": {
                "weight": 10,
                "leafWeight": 10,
                "weightDevice": [{"major": 8, "minor": 0, "weight": 500, "leafWeight": 300}],
                "throttleReadBpsDevice": _RATE,
                "throttleWriteBpsDevice": _RATE,
                "throttleReadIOPSDevice": _RATE,
                "throttleWriteIOPSDevice": _RATE,
            },
            "cpu": {
                "cpus": "0-1",
                "mems": "0",
                "period": 100000,
                "quota": 50000,
                "burst": 1000,
                "realtimePeriod": 1000000,
                "realtimeRuntime": 950000,
                "shares": 1024,
                "idle": 0,
            },
            "hugepageLimits": [{"pageSize": "2MB", "limit": 9223372036854771712}],
            "memory": {
                "kernel": -1,
                "kernelTCP": -1,
                "limit": 1 << 29,
                "reservation": 1 << 28,
                "swap": 1 << 29,
                "swappiness": 0,
                "disableOOMKiller": False,
                "useHierarchy": True,
                "checkBeforeUpdate": True,
            },
            "network": {"classID": 1048577, "priorities": [{"name": "eth0", "priority": 500}]},
            "rdma": {"mlx5_1": {"hcaHandles": 3, "hcaObjects": 10000}},
        },
        "cgroupsPath": "/box",
        "rootfsPropagation": "slave",
        "seccomp": {
            "defaultAction": "SCMP_ACT_ALLOW",
            "defaultErrnoRet": 38,
            "flags": ["SECCOMP_FILTER_FLAG_LOG"],
            "listenerPath": "/run/agent",
            "listenerMetadata": "box",
            "architectures": ["SCMP_ARCH_X86"],
            "syscalls": [
                {
                    "names": ["getcwd"],
                    "action": "SCMP_ACT_ERRNO",
                    "errnoRet": 1,
                    "args": [{"index": 0, "value": 1, "valueTwo": 2, "op": "SCMP_CMP_MASKED_EQ"}],
                }
            ],
        },
        "sysctl": {"net.ipv4.ip_forward": "1"},
        "maskedPaths": ["/proc/kcore"],
        "readonlyPaths": ["/proc/sys"],
        "mountLabel": "label",
        "intelRdt": {
            "closID": "a",
            "schemata": ["L3:0=f"],
            "l3CacheSchema": "L3:0=f",
            "memBwSchema": "MB:0=20",
            "enableMonitoring": True,
        },
        "memoryPolicy": {"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]},
        "personality": {"domain": "LINUX32", "flags": []},
        "timeOffsets": {"boottime": {"secs": 1, "nanosecs": 2}, "monotonic": {"secs": 1, "nanosecs": 2}},
    },
    "vm": {
        "hypervisor": {"path": "/bin/vmm", "parameters": ["a"]},
        "kernel": {"path": "/vmlinuz", "parameters": ["quiet"], "initrd": "/initrd"},
        "image": {"path": "/image", "format": "raw"},
        "hwConfig": {
            "deviceTree": "/tree",
            "vcpus": 1,
            "memory": 4096,
            "dtdevs": ["a"],
            "iomems": [{"firstGFN": 1, "firstMFN": 2, "nrMFNs": 3}],
            "irqs": [1],
        },
    },
}

"""Operations on namespaces: making new ones, joining those of others. `namespaces(7)`"""

from __future__ import annotations

import os

from cutaway.kernel.errors import KernelError
from cutaway.kernel.namespaces import CLONE_NEWTIME, FLAGS, map_ids, set_time_offsets, setns, unshare
from cutaway.plan.operation import Context, Operation, import_no_more

_SIOCSIFFLAGS = 0x8914
_IFF_UP = 0x1
OPTIONS = {"mnt": "--mount", "uts": "--uts", "ipc": "--ipc", "pid": "--pid --fork", "net": "--net",
            "cgroup": "--cgroup", "user": "--user", "time": "--time"}  # fmt: skip


class NewNamespaces(Operation):
    """New namespaces of the given kinds (keys of `kernel.namespaces.FLAGS`). The first one of an inside phase is made
    while the process is cloned; later ones by unsharing."""

    kinds_made: list[str]
    manual = "namespaces(7)"

    @property
    def flags(self) -> int:
        """The kinds as CLONE_NEW* bits."""
        return sum(FLAGS[kind] for kind in self.kinds_made)

    def apply(self, context: Context) -> None:  # noqa: ARG002
        unshare(self.flags)

    def shell(self) -> str:
        return "unshare " + " ".join(OPTIONS[kind] for kind in self.kinds_made)

    def why(self) -> str:
        return f"The process sees its own {', '.join(self.kinds_made)} instead of the host's."


class JoinNamespace(Operation):
    """Joins an existing namespace: of `path` (`/proc/PID/ns/net`), or the one that the engine holds as `descriptor`."""

    kind: str
    path: str = ""
    descriptor: str = ""
    manual = "setns(2)"

    @property
    def held_as(self) -> str:
        """The name of the namespace's descriptor in the context."""
        return self.descriptor or f"namespace:{self.kind}"

    def prepare(self, context: Context) -> None:
        if self.path:
            context.descriptors[self.held_as] = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)

    def apply(self, context: Context) -> None:
        setns(context.descriptors[self.held_as], FLAGS[self.kind])

    def shell(self) -> str:
        return f"nsenter {OPTIONS[self.kind].split()[0]}={self.path or '$' + self.held_as.upper()}"

    def why(self) -> str:
        return f"The process shares the {self.kind} namespace of {self.path or 'the network made for it'}."


class JoinProcess(Operation):
    """Joins namespaces of a running process, held as a pidfd: entering a container."""

    descriptor: str
    kinds_joined: list[str]
    manual = "nsenter(1)"

    def apply(self, context: Context) -> None:
        import_no_more()
        setns(context.descriptors[self.descriptor], sum(FLAGS[kind] for kind in self.kinds_joined))

    def subject(self) -> str:
        return " ".join(self.kinds_joined)

    def shell(self) -> str:
        return "nsenter --target $PID " + " ".join(OPTIONS[kind].split()[0] for kind in self.kinds_joined)

    def why(self) -> str:
        return "The process enters the running container: its namespaces are all that makes it inside."


class MapIds(Operation):
    """Who the users and groups of a new user namespace are on the host; mappings as in the OCI runtime-spec."""

    uid_mappings: list[dict[str, int]]
    gid_mappings: list[dict[str, int]]
    manual = "user_namespaces(7)"
    needs_process = True

    def apply(self, context: Context) -> None:
        map_ids(context.pid, self.uid_mappings, self.gid_mappings)

    def shell(self) -> str:
        return f"newgidmap $PID {_flat(self.gid_mappings)}; newuidmap $PID {_flat(self.uid_mappings)}"

    def why(self) -> str:
        first = self.uid_mappings[0]
        return (
            f"User {first['containerID']} inside is user {first['hostID']} of the host, with no more rights than that."
        )


def _flat(mappings: list[dict[str, int]]) -> str:
    return " ".join(f"{each['containerID']} {each['hostID']} {each['size']}" for each in mappings)


class BecomeRoot(Operation):
    """User and group 0 of the user namespace that the process is in, so that what it makes is that root's."""

    manual = "user_namespaces(7)"

    def apply(self, context: Context) -> None:  # noqa: ARG002
        try:
            os.setresgid(0, 0, 0)
            os.setresuid(0, 0, 0)
        except OSError as error:
            reason = "0, which uidMappings and gidMappings must have for the container to be made"
            raise KernelError(error.errno or 0, "setresuid", reason) from None

    def shell(self) -> str:
        return "# unshare --map-root-user"

    def why(self) -> str:
        return "A new user namespace knows nobody: the process becomes its root, to make the container as such."


class NewTimeNamespace(Operation):
    """The clocks of the process's children: `{"boottime": [seconds, nanoseconds], "monotonic": …}` from the host's."""

    offsets: dict[str, list[int]]
    manual = "time_namespaces(7)"

    def apply(self, context: Context) -> None:  # noqa: ARG002
        unshare(CLONE_NEWTIME)
        if self.offsets:
            set_time_offsets(self.offsets)

    def shell(self) -> str:
        given = " ".join(f"--{clock} {seconds}" for clock, (seconds, _) in self.offsets.items())
        return f"unshare --time {given}".rstrip()

    def why(self) -> str:
        return "Time since the start of the machine is told to the container with an offset of its own."


class BringUpOwnLoopback(Operation):
    """Brings up the loopback device of the network namespace that the process is in."""

    manual = "netdevice(7)"

    def apply(self, context: Context) -> None:  # noqa: ARG002
        import _socket
        import fcntl
        import struct

        request = struct.pack("16sH14x", b"lo", _IFF_UP)
        endpoint = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM | os.O_CLOEXEC)
        try:
            fcntl.ioctl(endpoint.fileno(), _SIOCSIFFLAGS, request)
        except OSError as error:
            raise KernelError(error.errno or 0, "SIOCSIFFLAGS", "lo") from None
        finally:
            endpoint.close()

    def shell(self) -> str:
        return "ip link set lo up"

    def why(self) -> str:
        return "A new network namespace's loopback device is down: without this, not even 127.0.0.1 answers."

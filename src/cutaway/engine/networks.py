"""Networks as the engine keeps them, and each container's place on them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from cutaway.plan.network import BringUpLoopback, CreateNetworkNamespace, NameNetworkNamespace

if TYPE_CHECKING:
    from cutaway.engine.containers import Container, Containers
    from cutaway.engine.places import Places
    from cutaway.plan.operation import Operation


class NetworkOutfit(NamedTuple):
    """A container's network: operations on the host before and after its first process is there; `held`: kind of
    namespace → name of its descriptor; `shared`: OCI namespace type → path, empty for the host's; `mounts`: of
    /etc/hosts, /etc/hostname and /etc/resolv.conf."""

    before: list[Operation]
    after: list[Operation]
    held: dict[str, str]
    shared: dict[str, str]
    mounts: list[dict[str, Any]]


class Networks:
    def __init__(self, places: Places, containers: Containers) -> None:
        self._places, self._containers = places, containers

    def outfit(self, container: Container) -> NetworkOutfit:
        """What the container needs on the host to be on its networks."""
        mode = container.seen.HostConfig.NetworkMode
        if mode == "host":
            return NetworkOutfit([], [], {}, {"network": ""}, [])
        if mode.startswith("container:"):
            pid = self._containers.find(mode.partition(":")[2]).state.Pid
            return NetworkOutfit([], [], {}, {"network": f"/proc/{pid}/ns/net"}, [])
        netns = f"cutaway-{container.id[:12]}"
        before = [CreateNetworkNamespace(netns), BringUpLoopback(netns)]
        return NetworkOutfit(before, [NameNetworkNamespace(netns)], {"net": "netns"}, {}, [])

    def started(self, container: Container) -> None:
        """The program runs: names are answered from now on."""

    def ended(self, container: Container) -> None:
        """Its addresses are free again."""

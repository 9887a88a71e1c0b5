"""Operations on network devices that are there already, and go into a container. `ip-link(8)`"""

from __future__ import annotations

import errno
import os

from cutaway.kernel.errors import KernelError
from cutaway.kernel.netlink.namespace import network_namespace
from cutaway.kernel.netlink.route import RouteSocket, copy_address, set_link
from cutaway.plan.operation import Context, Operation


class MoveInterface(Operation):
    """Moves the host's network device `name` into the network namespace at `path`, or else that of the container's
    first process, where it is `inside`, up, with the addresses that it had for good.

    It ends with the namespace, or comes back to the host's if it is hardware: the kernel sees to that.
    """

    name: str
    inside: str
    path: str = ""
    manual = "network_namespaces(7)"
    needs_process = True

    def apply(self, context: Context) -> None:
        netns = os.open(self.path or f"/proc/{context.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._check_name(netns)
            with RouteSocket() as host:
                index = host.link(self.name).index
                addresses = [each for each in host.addresses() if each.index == index and each.lasting]
                host.transact(set_link(index, name=self.inside, netns=netns))
            with network_namespace(netns), RouteSocket() as route:
                route.transact(set_link(self.inside, up=True))
                moved = route.link(self.inside).index
                route.transact(*(copy_address(moved, each) for each in addresses))
        finally:
            os.close(netns)

    def _check_name(self, netns: int) -> None:
        """The kernel moves a device first and finds then that the name it is to have is taken."""
        with network_namespace(netns), RouteSocket() as route:
            if route.find_link(self.inside):
                raise KernelError(errno.EEXIST, "RTM_NEWLINK", f"{self.name} as {self.inside}")

    def shell(self) -> str:
        netns, name = self.path or "/proc/$PID/ns/net", self.inside
        return f"ip link set {self.name} netns {netns} name {name}\nnsenter --net={netns} ip link set {name} up"

    def why(self) -> str:
        return f"The container gets the host's network device {self.name} for itself, as {self.inside}."

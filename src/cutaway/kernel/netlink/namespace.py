"""A network namespace: devices, addresses, routes, packet filter and sockets of its own. `network_namespaces(7)`.

It lives as long as a process is in it or a descriptor of it is open. A thread can step in for a moment; the sockets
it opens there belong there for good:

    with new_network_namespace() as netns:
        route = RouteSocket()
    with network_namespace(netns):
        listener = socket.create_server(("127.0.0.1", 80))
"""

from __future__ import annotations

import os

from cutaway.kernel.namespaces import CLONE_NEWNET, setns, unshare

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

_OWN = "/proc/thread-self/ns/net"


def network_namespace(netns: int) -> Visit:
    """For `with`: the calling thread is in the namespace of descriptor `netns`."""
    return Visit(netns)


def new_network_namespace() -> Visit:
    """For `with`: the calling thread is in a new namespace; `as` gives its descriptor, the caller's to close."""
    return Visit(None)


class Visit:
    """A thread's stay in a network namespace. It must not let other code of the thread run meanwhile (no `await`)."""

    __slots__ = ("_home", "_netns")

    def __init__(self, netns: int | None) -> None:
        self._netns = netns

    def __enter__(self) -> int:
        self._home = _open_own()
        try:
            if self._netns is not None:
                setns(self._netns, CLONE_NEWNET)
                return self._netns
            unshare(CLONE_NEWNET)
            return _open_own()
        except OSError:
            self._return()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._return()

    def _return(self) -> None:
        setns(self._home, CLONE_NEWNET)
        os.close(self._home)


def _open_own() -> int:
    return os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)

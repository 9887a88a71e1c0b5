"""Published ports: host ports that lead to containers, from their start to their end or as one asks meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cutaway.engine.errors import Conflict, InvalidArgument
from cutaway.engine.model import PortBinding
from cutaway.network import bridge, ports
from cutaway.network.errors import NetworkError
from cutaway.network.ports import Published, Wanted
from cutaway.plan.firewall import MapPorts
from cutaway.plan.operation import Context, dump, load
from cutaway.plan.plan import apply, undo

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cutaway.engine.containers import Container, Containers
    from cutaway.engine.database import Table
    from cutaway.engine.model import PortMap
    from cutaway.engine.places import Places
    from cutaway.plan.operation import Operation


class Publishing:
    """Which host ports lead where. `unfinished` is where it is written down, to be undone."""

    def __init__(self, places: Places, containers: Containers, unfinished: Table[list[Any]]) -> None:
        self._places, self._containers, self._unfinished = places, containers, unfinished
        self._taken: dict[tuple[str, int], set[str]] = {}

    def start(self, container: Container) -> list[Operation]:
        """What publishes the ports that a container is to have, which are its own until `end`. Raises `Conflict`."""
        host = container.seen.HostConfig
        bindings, exposed = dict(host.PortBindings), container.seen.Config.ExposedPorts or {}
        if host.PublishAllPorts:
            bindings = {port: [PortBinding()] for port in exposed} | bindings
        for port in exposed:
            container.seen.NetworkSettings.Ports.setdefault(port, None)
        return self._add(container, bindings)

    def take_over(self, container: Container) -> None:
        """The container has had its ports since an engine before this one."""
        self._take(published(container.seen.NetworkSettings.Ports))

    def end(self, container: Container) -> None:
        """Its ports are free again."""
        self._give_back(published(container.seen.NetworkSettings.Ports))

    def change(self, container: Container, add: PortMap, remove: PortMap) -> None:
        """Publishes and withdraws ports of a running container. Raises `Conflict`, `InvalidArgument`; then all is as it
        was."""
        if not container.seen.NetworkSettings.Networks:
            raise Conflict(f"container {container.name} is on no network of its own to publish ports of")
        leaving = _matching(container.seen.NetworkSettings.Ports, remove)
        added = self._add(container, add)
        self._write_down(container)
        try:
            apply(added, Context())
        except OSError as error:
            undo(added, Context())
            self._forget(container, [port for each in added for port in _ports_of(each)])
            self._write_down(container)
            raise Conflict(f"ports of {container.name} cannot be published: {error}") from None
        undo(self._operations(container, leaving), Context())
        self._forget(container, leaving)
        shown = container.seen.NetworkSettings.Ports
        container.seen.HostConfig.PortBindings = {port: list(bindings) for port, bindings in shown.items() if bindings}
        self._write_down(container)
        self._containers.save(container)

    def operations(self) -> list[Operation]:
        """What publishes the ports of all running containers: to be applied again where others took it away."""
        running = [container for container in self._containers if container.process]
        return [operation for container in running for operation in self._operations_of(container)]

    def _add(self, container: Container, bindings: PortMap) -> list[Operation]:
        wanted = [
            Wanted(protocol, int(port), binding.HostIp, binding.HostPort)
            for name, each in bindings.items()
            for port, _, protocol in [name.partition("/")]
            for binding in each
        ]
        try:
            found = ports.allocate(wanted, self._taken)
        except NetworkError as error:
            raise Conflict(str(error)) from None
        self._take(found)
        shown = container.seen.NetworkSettings.Ports
        for port in found:
            binding = PortBinding(HostIp=port.host_address or ports.ALL, HostPort=str(port.host_port))
            shown[_name(port)] = [*(shown.get(_name(port)) or ()), binding]
        return self._operations(container, found)

    def _operations(self, container: Container, found: list[Published]) -> list[Operation]:
        settings = next(iter(container.seen.NetworkSettings.Networks.values()), None)
        return bridge.publish(found, settings.IPAddress, self._places.table) if settings else []

    def _operations_of(self, container: Container) -> list[Operation]:
        return self._operations(container, published(container.seen.NetworkSettings.Ports))

    def _take(self, found: Iterable[Published]) -> None:
        for port in found:
            self._taken.setdefault((port.protocol, port.host_port), set()).add(port.host_address)

    def _give_back(self, found: Iterable[Published]) -> None:
        for port in found:
            addresses = self._taken.get((port.protocol, port.host_port), set())
            addresses.discard(port.host_address)
            if not addresses:
                self._taken.pop((port.protocol, port.host_port), None)

    def _forget(self, container: Container, found: list[Published]) -> None:
        self._give_back(found)
        shown = container.seen.NetworkSettings.Ports
        for port in found:
            left = [each for each in shown.get(_name(port)) or () if each.HostPort != str(port.host_port)]
            if left:
                shown[_name(port)] = left
            else:
                shown.pop(_name(port), None)

    def _write_down(self, container: Container) -> None:
        """What is to be undone is what is published now."""
        others = [each for each in load(self._unfinished.get(container.id) or []) if not isinstance(each, MapPorts)]
        self._unfinished.save(container.id, dump([*others, *self._operations_of(container)]))


def published(shown: dict[str, list[PortBinding] | None]) -> list[Published]:
    """The ports that `NetworkSettings.Ports` shows as published."""
    return [
        Published(protocol, _address(binding), int(binding.HostPort), int(port))
        for name, bindings in shown.items()
        for port, _, protocol in [name.partition("/")]
        for binding in bindings or ()
    ]


def _address(binding: PortBinding) -> str:
    return "" if binding.HostIp == ports.ALL else binding.HostIp


def _name(port: Published) -> str:
    return f"{port.container_port}/{port.protocol}"


def _ports_of(operation: Operation) -> list[Published]:
    assert isinstance(operation, MapPorts)
    return [Published(str(each[0]), str(each[1]), int(each[2]), int(each[4])) for each in operation.ports]


def _matching(shown: dict[str, list[PortBinding] | None], remove: PortMap) -> list[Published]:
    """The published ports that `remove` names; a binding without a host port, or none, means all of that port."""
    found = []
    for name, bindings in remove.items():
        candidates = published({name: shown.get(name)})
        matching = [port for port in candidates if not bindings or any(_means(each, port) for each in bindings)]
        if not matching:
            raise InvalidArgument(f"port {name} is not published so: `cutaway port` shows what is")
        found += matching
    return found


def _means(binding: PortBinding, port: Published) -> bool:
    same_port = not binding.HostPort or int(binding.HostPort) == port.host_port
    return same_port and (not binding.HostIp or _address(binding) == port.host_address)

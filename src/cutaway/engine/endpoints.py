"""Containers on networks: the addresses, ports and names that each has while it runs."""

from __future__ import annotations

import asyncio
import os
import secrets
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from cutaway.engine.errors import Conflict
from cutaway.engine.model import EndpointResource, EndpointSettings, NetworkSettings
from cutaway.engine.networks import DEFAULT
from cutaway.network import addresses, bridge, files
from cutaway.network.resolver import Resolver
from cutaway.plan.files import WriteFile
from cutaway.plan.firewall import RedirectNames
from cutaway.plan.network import ConfigureInterface, CreateVeth, NameNetworkNamespace
from cutaway.plan.operation import Context, dump, load
from cutaway.plan.plan import apply, undo

if TYPE_CHECKING:
    from cutaway.engine.containers import Container, Containers
    from cutaway.engine.database import Table
    from cutaway.engine.networks import Attached, Networks
    from cutaway.engine.places import Places
    from cutaway.engine.publishing import Publishing
    from cutaway.plan.operation import Operation

_FILES = {"/etc/resolv.conf": "resolv.conf", "/etc/hostname": "hostname", "/etc/hosts": "hosts"}


class NetworkOutfit(NamedTuple):
    """A container's network: operations on the host before and after its first process is there; `held`: kind of
    namespace → name of its descriptor; `shared`: OCI namespace type → path, empty for the host's; `files`, `mounts`:
    what writes /etc/hosts, /etc/hostname and /etc/resolv.conf, and mounts them inside."""

    files: list[Operation]
    before: list[Operation]
    after: list[Operation]
    held: dict[str, str]
    shared: dict[str, str]
    mounts: list[dict[str, Any]]


class Endpoints:
    """Who is where, which host ports are published, and each container's name server."""

    def __init__(
        self,
        places: Places,
        containers: Containers,
        networks: Networks,
        publishing: Publishing,
        unfinished: Table[list[Any]],
    ) -> None:
        self._places, self._containers, self._networks = places, containers, networks
        self._publishing, self._unfinished = publishing, unfinished
        self._resolvers: dict[str, Resolver] = {}

    # When a container starts and ends

    def hold(self, container: Container) -> None:
        """Has the networks set up that the container is to be on. Raises `Conflict`."""
        for name in container.record.endpoints:
            self._networks.ensure_up(self._networks.find(name))

    def missing(self, container: Container) -> list[Operation]:
        """What `hold` would have to do."""
        networks = [self._networks.find(name) for name in container.record.endpoints]
        return self._networks.missing(networks)

    def outfit(self, container: Container) -> NetworkOutfit:
        """What the container needs on the host to be on its networks; addresses and ports are its own from here on,
        until `ended`. Changes nothing on the host. Raises `Conflict`, `InvalidArgument`."""
        mode = container.seen.HostConfig.NetworkMode
        if mode.startswith("container:"):
            return self._of_other(container, mode.partition(":")[2])
        if mode == "host":
            return NetworkOutfit(self._files(container, []), [], [], {}, {"network": ""}, self._mounts(container))
        netns = netns_name(container)
        container.seen.NetworkSettings = NetworkSettings(
            SandboxID=container.id, SandboxKey=f"/run/netns/{netns}", Ports=container.seen.NetworkSettings.Ports
        )
        after = [] if mode == "none" else self._join_all(container, netns)
        files = self._files(container, self._names_of_own(container))
        after.append(NameNetworkNamespace(netns))
        return NetworkOutfit(files, bridge.isolate(netns), after, {"net": "netns"}, {}, self._mounts(container))

    def _of_other(self, container: Container, name: str) -> NetworkOutfit:
        other = self._containers.find(name)
        if other is container or not other.state.Running:
            raise Conflict(f"cannot join network of a non running container: {other.id}")
        own, others = container.seen.Config, other.seen.Config
        own.Hostname, own.Domainname = others.Hostname, others.Domainname
        path = {"network": f"/proc/{other.state.Pid}/ns/net"}
        return NetworkOutfit([], [], [], {}, path, self._mounts(container, other) if other.record.endpoints else [])

    def _join_all(self, container: Container, netns: str) -> list[Operation]:
        operations: list[Operation] = []
        for number, (name, wanted) in enumerate(container.record.endpoints.items()):
            network = self._networks.find(name)
            operations += bridge.connect(self._join(container, network, wanted, number), netns)
        if self._resolves_names(container):
            operations.append(RedirectNames(netns))
        return operations + self._publishing.start(container)

    def _join(self, container: Container, network: Attached, wanted: EndpointSettings, number: int) -> bridge.Endpoint:
        """Takes a place on a network and says so."""
        asked = wanted.IPAMConfig.IPv4Address if wanted.IPAMConfig else ""
        address = network.allocate(container.id, asked)
        mac = wanted.MacAddress or addresses.mac_address(address)
        device = network.device()
        settings = EndpointSettings(
            IPAMConfig=wanted.IPAMConfig,
            Aliases=wanted.Aliases,
            MacAddress=mac,
            NetworkID=network.seen.Id,
            EndpointID=secrets.token_hex(32),
            Gateway="" if device.internal else device.gateway,
            IPAddress=address,
            IPPrefixLen=device.prefix,
            DNSNames=_names(container, wanted) if network.resolves_names else None,
        )
        self._note(container, network, settings)
        endpoint_link = bridge.link_name(container.id, number)
        return bridge.Endpoint(device, endpoint_link, f"eth{number}", address, mac, is_default=number == 0)

    def _note(self, container: Container, network: Attached, settings: EndpointSettings) -> None:
        seen = container.seen.NetworkSettings
        seen.Networks[network.seen.Name] = settings
        if network.seen.Name == DEFAULT:
            for name in ("EndpointID", "Gateway", "IPAddress", "IPPrefixLen", "MacAddress"):
                setattr(seen, name, getattr(settings, name))
        resource = EndpointResource(
            Name=container.name,
            EndpointID=settings.EndpointID,
            MacAddress=settings.MacAddress,
            IPv4Address=f"{settings.IPAddress}/{settings.IPPrefixLen}",
        )
        network.taken[settings.IPAddress] = container.id
        self._networks.note_endpoint(network, container.id, resource)
        if settings.DNSNames:
            network.zone.add(settings.IPAddress, settings.DNSNames)

    async def started(self, container: Container, netns: int) -> None:
        """The program is about to run: from now on it is answered when it asks for names. `netns` is a descriptor of
        the network namespace that the process may still be on its way into."""
        if self._resolves_names(container):
            await self._start_resolver(container, netns)

    async def _start_resolver(self, container: Container, netns: int) -> None:
        networks = [self._networks.find(name) for name in container.seen.NetworkSettings.Networks]
        isolated = all(network.seen.Internal for network in networks)
        upstreams = () if isolated else self._resolvers_for(container).nameservers
        zones = [network.zone for network in networks if network.resolves_names]
        resolver = self._resolvers[container.id] = Resolver(zones, upstreams)
        await resolver.start(netns)

    async def taken_over(self, container: Container) -> None:
        """It has been running since an engine before this one, and keeps what it has."""
        for name, settings in container.seen.NetworkSettings.Networks.items():
            self._note(container, self._networks.find(name), settings)
        self._publishing.take_over(container)
        if container.seen.NetworkSettings.Networks:
            with suppress(FileNotFoundError, ProcessLookupError), _Inside(container) as context:  # it may end meanwhile
                await self.started(container, context.descriptors["netns"])

    def ended(self, container: Container) -> None:
        """Its addresses, ports and names are free again."""
        resolver = self._resolvers.pop(container.id, None)
        if resolver:
            resolver.stop()
        seen = container.seen.NetworkSettings
        for name in list(seen.Networks):
            self._leave(container, name)
        self._publishing.end(container)
        container.seen.NetworkSettings = NetworkSettings(Networks=dict(container.record.endpoints))

    def _leave(self, container: Container, name: str) -> None:
        settings = container.seen.NetworkSettings.Networks.pop(name)
        network = self._networks.find(name)
        network.zone.remove(settings.IPAddress)
        self._networks.forget_endpoint(network, container.id, settings.IPAddress)

    # Connecting and disconnecting

    async def connect(self, container: Container, network: Attached, wanted: EndpointSettings) -> None:
        """Puts a container on another network, at once if it runs."""
        _check_connectable(container, network)
        if network.seen.Name in container.record.endpoints:
            raise Conflict(f"container {container.name} is already attached to network {network.seen.Name}")
        if container.process:
            await self._connect_running(container, network, wanted)
        container.record.endpoints[network.seen.Name] = wanted
        if not container.process:
            container.seen.NetworkSettings.Networks[network.seen.Name] = wanted
        self._containers.save(container)

    async def _connect_running(self, container: Container, network: Attached, wanted: EndpointSettings) -> None:
        self._networks.ensure_up(network)
        resolved = self._resolves_names(container)
        endpoint = self._join(container, network, wanted, self._free_number(container))
        endpoint = endpoint._replace(is_default=len(container.seen.NetworkSettings.Networks) == 1)
        netns = netns_name(container)
        operations = bridge.connect(endpoint, netns)
        if not resolved and network.resolves_names:
            operations.append(RedirectNames(netns))
        self._amend(container, operations, [])
        with _Inside(container) as context:
            try:
                apply(operations, context)
            except OSError as error:
                undo(operations, context)
                self._leave(container, network.seen.Name)
                raise Conflict(f"cannot connect {container.name} to {network.seen.Name}: {error}") from None
            await self._answer_again(container, context.descriptors["netns"])
        apply(self._files(container, self._names_of_own(container)), Context())

    async def disconnect(self, container: Container, network: Attached) -> None:
        """Takes a container off a network, at once if it runs."""
        name = network.seen.Name
        if name not in container.record.endpoints:
            raise Conflict(f"container {container.id} is not connected to network {name}")
        if container.process:
            veth = next(each for each in self._links(container) if each.bridge == network.kept.bridge)
            leaving = [each for each in load(self._unfinished.get(container.id) or []) if _is_of(veth, each)]
            undo(leaving, Context())
            self._amend(container, [], leaving)
            self._leave(container, name)
            with _Inside(container) as context:
                self._keep_a_way_out(container, context)
                await self._answer_again(container, context.descriptors["netns"])
            apply(self._files(container, self._names_of_own(container)), Context())
        del container.record.endpoints[name]
        container.seen.NetworkSettings.Networks.pop(name, None)
        self._containers.save(container)

    def _keep_a_way_out(self, container: Container, context: Context) -> None:
        """Sends what is for elsewhere by a network that is left, if it went by the one that is gone."""
        for each in load(self._unfinished.get(container.id) or []):
            if isinstance(each, ConfigureInterface):
                settings = self._settings_at(container, each.address)
                replaced = ConfigureInterface(each.name, each.netns, each.address, settings.Gateway)
                replaced.apply(context)
                self._amend(container, [replaced], [each])
                return

    def _settings_at(self, container: Container, address: str) -> EndpointSettings:
        networks = container.seen.NetworkSettings.Networks.values()
        return next(each for each in networks if address.startswith(f"{each.IPAddress}/"))

    async def _answer_again(self, container: Container, netns: int) -> None:
        """With the zones of the networks that it is on now."""
        resolver = self._resolvers.pop(container.id, None)
        if resolver:
            resolver.stop()
            await asyncio.sleep(0)  # the sockets close in the loop's next round
        if self._resolves_names(container):
            await self._start_resolver(container, netns)

    def _free_number(self, container: Container) -> int:
        used = {each.name for each in self._links(container)}
        return next(number for number in range(1000) if bridge.link_name(container.id, number) not in used)

    def _links(self, container: Container) -> list[CreateVeth]:
        written = load(self._unfinished.get(container.id) or [])
        return [each for each in written if isinstance(each, CreateVeth)]

    def _amend(self, container: Container, added: list[Operation], removed: list[Operation]) -> None:
        """What is written down to be undone, with what comes and without what goes."""
        written = [each for each in load(self._unfinished.get(container.id) or []) if each not in removed]
        self._unfinished.save(container.id, dump([*written, *added]))

    # Names and files

    def _resolves_names(self, container: Container) -> bool:
        """Whether the engine answers it: to know its neighbours, or because it could not reach the host's resolvers."""
        networks = [self._networks.find(name) for name in container.seen.NetworkSettings.Networks]
        by_name = any(network.resolves_names for network in networks)
        return by_name or (bool(networks) and not self._resolvers_for(container).reachable)

    def _resolvers_for(self, container: Container) -> files.Resolvers:
        host = container.seen.HostConfig
        return files.resolvers_for(files.resolvers_of_host(), host.Dns, host.DnsSearch, host.DnsOptions)

    def _names_of_own(self, container: Container) -> list[tuple[str, str]]:
        config = container.seen.Config
        full = f"{config.Hostname}.{config.Domainname} {config.Hostname}" if config.Domainname else config.Hostname
        return [(settings.IPAddress, full) for settings in container.seen.NetworkSettings.Networks.values()]

    def _files(self, container: Container, own: list[tuple[str, str]]) -> list[Operation]:
        host = container.seen.HostConfig
        gateways = [settings.Gateway for settings in container.seen.NetworkSettings.Networks.values()]
        gateway = next(filter(None, gateways), "127.0.0.1")
        embedded = self._resolves_names(container)
        contents = {
            container.seen.HostsPath: files.hosts(own, host.ExtraHosts or (), gateway),
            container.seen.HostnamePath: files.hostname(container.seen.Config.Hostname),
            container.seen.ResolvConfPath: files.resolv_conf(self._resolvers_for(container), embedded=embedded),
        }
        return [WriteFile(path, content) for path, content in contents.items()]

    def _mounts(self, container: Container, owner: Container | None = None) -> list[dict[str, Any]]:
        """The files in /etc, of `owner` where the container shares its network."""
        directory = self._places.container((owner or container).id)
        options = ["rbind", "rprivate", "ro" if container.seen.HostConfig.ReadonlyRootfs else "rw"]
        return [
            {"destination": target, "type": "bind", "source": f"{directory}/{name}", "options": options}
            for target, name in _FILES.items()
        ]


def netns_name(container: Container) -> str:
    """What `ip netns` calls the container's network namespace."""
    return f"cutaway-{container.id[:12]}"


class _Inside:
    """A context whose `netns` is the network namespace of a running container."""

    def __init__(self, container: Container) -> None:
        assert container.process
        self._path = f"/proc/{container.process.pid}/ns/net"

    def __enter__(self) -> Context:
        self._context = Context({"netns": os.open(self._path, os.O_RDONLY)})
        return self._context

    def __exit__(self, *_: object) -> None:
        for descriptor in self._context.descriptors.values():
            os.close(descriptor)


def _is_of(veth: CreateVeth, operation: Operation) -> bool:
    """Whether an operation is about this cable or the interface at its end."""
    fields = operation.values()
    return operation == veth or fields.get("name") == veth.peer or veth.name in fields.get("links", ())


def _names(container: Container, wanted: EndpointSettings) -> list[str]:
    names = [container.name, container.id[:12], *(wanted.Aliases or ()), container.seen.Config.Hostname]
    return list(dict.fromkeys(names))


def _check_connectable(container: Container, network: Attached) -> None:
    mode = container.seen.HostConfig.NetworkMode
    if mode == "host" or mode.startswith("container:"):
        raise Conflict(f"container {container.name} shares the network of {mode} and can be connected to no other")
    if not network.kept.bridge:
        raise Conflict(f"a container cannot be connected to the network {network.seen.Name}")

"""Networks as the engine keeps them: which there are, and whether they are set up on the host.

Docker's three are always there: `bridge`, the default, set up when the first container needs it; `host` and `none`.
"""

from __future__ import annotations

import re
import secrets
from ipaddress import IPv4Network
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from cutaway.engine.containers import now
from cutaway.engine.errors import Conflict, EngineError, InvalidArgument, NotFound
from cutaway.engine.model import IPAM, EndpointResource, IPAMPool, Network, NetworkCreate, Pruned
from cutaway.network import addresses, bridge
from cutaway.network.bridge import LARGEST_MTU
from cutaway.network.errors import NetworkError
from cutaway.network.names import Zone
from cutaway.plan.firewall import CreateTable
from cutaway.plan.operation import Context, dump, load
from cutaway.plan.plan import apply, undo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cutaway.engine.database import Table
    from cutaway.engine.places import Places
    from cutaway.plan.operation import Operation

DEFAULT = "bridge"
_PREDEFINED = (DEFAULT, "host", "none")
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")
_MTU_OPTION = "com.docker.network.driver.mtu"
_BRIDGE_OPTION = "com.docker.network.bridge.name"
_DEVICE = re.compile(r"[a-zA-Z0-9_.-]{1,15}")


class Kept(Struct, kw_only=True):
    """What is kept of a network; `bridge` is empty for `host` and `none`."""

    seen: Network
    bridge: str = ""
    mtu: int = LARGEST_MTU


class Attached:
    """A network in memory: who is on it, by address, and what its containers call each other."""

    def __init__(self, kept: Kept) -> None:
        self.kept = kept
        self.is_up = False
        self.taken: dict[str, str] = {}
        self.last_address = ""
        self.zone = Zone(kept.seen.Name)
        if kept.bridge:
            self.taken[self.gateway] = ""

    @property
    def seen(self) -> Network:
        return self.kept.seen

    @property
    def pool(self) -> IPAMPool:
        return self.kept.seen.IPAM.Config[0]

    @property
    def gateway(self) -> str:
        return self.pool.Gateway

    @property
    def subnet(self) -> IPv4Network:
        return IPv4Network(self.pool.Subnet)

    @property
    def resolves_names(self) -> bool:
        """Containers on the default bridge do not find each other by name, as with Docker."""
        return self.seen.Name != DEFAULT

    def device(self) -> bridge.Network:
        """Its bridge, as the network room knows it."""
        return bridge.Network(self.kept.bridge, self.pool.Subnet, self.gateway, self.seen.Internal, self.kept.mtu)

    def allocate(self, container_id: str, wanted: str) -> str:
        """An address for a container. Raises `Conflict` where it, or all, are taken, `InvalidArgument`."""
        within = IPv4Network(self.pool.IPRange, strict=False) if self.pool.IPRange else None
        try:
            address = addresses.allocate(self.subnet, self.taken, wanted, self.last_address, within)
        except NetworkError as error:
            raise Conflict(f"network {self.seen.Name}: {error}") from None
        self.taken[address] = container_id
        if not wanted:
            self.last_address = address
        return address


class Networks:
    """All networks, by name and ID. `unfinished` is where plans are written down before they are applied."""

    def __init__(self, places: Places, table: Table[Kept], unfinished: Table[list[Any]]) -> None:
        self._places, self._table, self._unfinished = places, table, unfinished
        self._by_id = {kept.seen.Id: Attached(kept) for kept in table.all()}
        self._by_name = {network.seen.Name: network for network in self._by_id.values()}
        for name in _PREDEFINED:
            if name not in self._by_name:
                self._remember(self._predefined(name))

    def __iter__(self) -> Iterator[Attached]:
        return iter(self._by_id.values())

    def find(self, name: str) -> Attached:
        """By name, ID, or the beginning of an ID that only one has. Raises `NotFound`."""
        found = self._by_name.get(DEFAULT if name == "default" else name) or self._by_id.get(name)
        if found:
            return found
        matching = [network for key, network in self._by_id.items() if name and key.startswith(name)]
        if len(matching) == 1:
            return matching[0]
        if matching:
            raise NotFound(f"network {name} is ambiguous ({len(matching)} matches found on ID prefix)", "network", name)
        raise NotFound(f"network {name} not found", "network", name)

    # Making and removing

    def create(self, request: NetworkCreate) -> str:
        """Makes a network and its bridge; returns its ID. Raises `Conflict` or `InvalidArgument`, with nothing left."""
        _check(request)
        if request.Name in self._by_name:
            raise Conflict(f"network with name {request.Name} already exists")
        network = Attached(self._define(request))
        self._set_up(network)
        try:
            self._remember(network)
        except EngineError:
            self._take_down(network)
            raise
        return network.seen.Id

    def _define(self, request: NetworkCreate) -> Kept:
        network_id = secrets.token_hex(32)
        pool = request.IPAM.Config[0] if request.IPAM.Config else IPAMPool()
        try:
            subnet = self._subnet(pool.Subnet)
            gateway = addresses.choose_gateway(subnet, pool.Gateway)
            if pool.IPRange and not IPv4Network(pool.IPRange, strict=False).subnet_of(subnet):
                raise InvalidArgument(f"the range {pool.IPRange} is not in the subnet {subnet}")
        except NetworkError as error:
            raise InvalidArgument(str(error)) from None
        filled = IPAMPool(Subnet=str(subnet), Gateway=gateway, IPRange=pool.IPRange)
        seen = Network(
            Id=network_id,
            Created=now(),
            Name=request.Name,
            Driver="bridge",
            Internal=request.Internal,
            Attachable=request.Attachable,
            IPAM=IPAM(Config=[filled]),
            Options=request.Options,
            Labels=request.Labels,
        )
        mtu = int(request.Options.get(_MTU_OPTION, 0)) or bridge.usual_mtu()
        device = request.Options.get(_BRIDGE_OPTION) or bridge.bridge_name(network_id)
        return Kept(seen=seen, bridge=device, mtu=mtu)

    def _subnet(self, wanted: str) -> IPv4Network:
        ours = [network.subnet for network in self if network.kept.bridge]
        used = [*ours, *addresses.subnets_of_host()]
        if not wanted:
            return addresses.choose_subnet(used)
        subnet = addresses.parse_subnet(wanted)
        addresses.check_subnet(subnet, used)
        return subnet

    def _predefined(self, name: str) -> Attached:
        if name == DEFAULT:
            kept = self._define(NetworkCreate(Name=DEFAULT))
            kept.bridge = self._places.bridge
        else:
            kept = Kept(seen=Network(Id=secrets.token_hex(32), Created=now(), Name=name, Driver=_driver(name)))
        return Attached(kept)

    def remove(self, name: str) -> None:
        """Raises `Conflict` for Docker's own and for one that containers are on."""
        network = self.find(name)
        if network.seen.Name in _PREDEFINED:
            raise Conflict(f"{network.seen.Name} is a pre-defined network and cannot be removed")
        if network.seen.Containers:
            users = ", ".join(resource.Name for resource in network.seen.Containers.values())
            raise Conflict(f"network {network.seen.Name} has active endpoints ({users}): disconnect them first")
        self._take_down(network)
        del self._by_id[network.seen.Id], self._by_name[network.seen.Name]
        self._table.delete(network.seen.Id)

    def prune(self, in_use: set[str], wanted: Callable[[Network], bool]) -> Pruned:
        """Removes those `wanted` that no container is on, running or not; `in_use`: names and IDs of those that are."""
        removed = []
        for network in list(self):
            names = {network.seen.Name, network.seen.Id}
            if network.seen.Name in _PREDEFINED or names & in_use or network.seen.Containers:
                continue
            if wanted(network.seen):
                self.remove(network.seen.Id)
                removed.append(network.seen.Name)
        return Pruned(Removed=removed)

    def inspect(self, name: str) -> Network:
        """Everything there is to know of a network."""
        return self.find(name).seen

    # On the host

    def ensure_up(self, network: Attached) -> None:
        """Sets a network up on the host unless it is already."""
        if network.kept.bridge and not network.is_up:
            self._set_up(network)

    def missing(self, networks: list[Attached]) -> list[Operation]:
        """What sets these up on the host, as far as they are not."""
        down = [network for network in networks if network.kept.bridge and not network.is_up]
        table = [self._table_operation()] if down and not self._unfinished.get(_TABLE_KEY) else []
        return [*table, *(operation for network in down for operation in self._operations(network))]

    def apply_again(self) -> None:
        """Adds what others have taken away: a flushed packet filter, a Docker that started later."""
        apply([self._table_operation()], Context())
        for network in self:
            if network.is_up:
                apply(self._operations(network), Context())

    def recover(self) -> None:
        """Sets up again what is kept, or was up: after the host, or an engine before this one, went down."""
        for network in self:
            if network.resolves_names or self._unfinished.get(_key(network)):
                self.ensure_up(network)

    def take_down_all(self) -> None:
        """Leaves nothing on the host: for an engine that ends with no container running."""
        for network in self:
            if network.is_up:
                self._take_down(network)
        undo(load(self._unfinished.get(_TABLE_KEY) or []), Context())
        self._unfinished.delete(_TABLE_KEY)

    def _set_up(self, network: Attached) -> None:
        if not self._unfinished.get(_TABLE_KEY):
            operations: list[Operation] = [self._table_operation()]
            self._unfinished.save(_TABLE_KEY, dump(operations))
            apply(operations, Context())
        operations = self._operations(network)
        self._unfinished.save(_key(network), dump(operations))
        try:
            apply(operations, Context())
        except OSError as error:
            undo(operations, Context())
            self._unfinished.delete(_key(network))
            raise Conflict(f"network {network.seen.Name} cannot be set up: {error}") from None
        network.is_up = True

    def _take_down(self, network: Attached) -> None:
        for error in undo(self._operations(network), Context()):
            print(f"network {network.seen.Name}: {error}", flush=True)
        self._unfinished.delete(_key(network))
        network.is_up = False

    def _operations(self, network: Attached) -> list[Operation]:
        return bridge.create(network.device(), self._places.table)

    def _table_operation(self) -> CreateTable:
        return CreateTable(self._places.table)

    def _remember(self, network: Attached) -> None:
        self.save(network)
        self._by_id[network.seen.Id] = self._by_name[network.seen.Name] = network

    def save(self, network: Attached) -> None:
        """Keeps it as it is now."""
        self._table.save(network.seen.Id, network.kept)

    def note_endpoint(self, network: Attached, container_id: str, resource: EndpointResource) -> None:
        """A container is on the network now."""
        network.seen.Containers[container_id] = resource

    def forget_endpoint(self, network: Attached, container_id: str, address: str) -> None:
        """A container is on the network no more; its address is free."""
        network.seen.Containers.pop(container_id, None)
        if network.taken.get(address) == container_id:
            del network.taken[address]


_TABLE_KEY = "table"


def _key(network: Attached) -> str:
    return f"network:{network.seen.Id}"


def is_of_networks(key: str) -> bool:
    """Whether a plan written down under this key is one of the networks', not a container's."""
    return key == _TABLE_KEY or key.startswith("network:")


def _driver(name: str) -> str:
    return "null" if name == "none" else name


def _check(request: NetworkCreate) -> None:
    if not _NAME.fullmatch(request.Name):
        raise InvalidArgument(f"invalid network name {request.Name!r}: letters, digits, and after the first _ . -")
    if request.Driver not in ("", "bridge"):
        raise InvalidArgument(f'plugin "{request.Driver}" not found: networks here are of the driver bridge')
    device = request.Options.get(_BRIDGE_OPTION, "")
    if device and not _DEVICE.fullmatch(device):
        raise InvalidArgument(f"invalid bridge name {device!r}: at most 15 letters, digits and _ . -")
    mtu = request.Options.get(_MTU_OPTION, "1500")
    if not mtu.isdigit() or not 68 <= int(mtu) <= 65535:
        raise InvalidArgument(f"invalid MTU {mtu!r}: it is between 68 and 65535 bytes")
    if unknown := request.Options.keys() - {_BRIDGE_OPTION, _MTU_OPTION}:
        raise InvalidArgument(f"unknown network option {', '.join(sorted(unknown))}")
    if request.EnableIPv6:
        raise InvalidArgument("IPv6 networks are not supported: containers have IPv4 addresses only")
    if len(request.IPAM.Config) > 1:
        raise InvalidArgument("a network has one subnet here, of IPv4")

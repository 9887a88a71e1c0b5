"""`network create|ls|inspect|rm|connect|disconnect|prune`."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from cutaway.cli.listing import Column, Listing
from cutaway.cli.steps import EXPLAIN, explained
from cutaway.cli.verb import UNLIMITED, verb
from cutaway.cli.verbs.common import FILTER, FORMAT, NO_TRUNC, QUIET_IDS
from cutaway.cli.verbs.ps import SHORT_ID, labels
from cutaway.engine import filters
from cutaway.engine.errors import NotFound
from cutaway.engine.model import IPAM, EndpointIPAMConfig, EndpointSettings, IPAMPool, Network, NetworkCreate
from cutaway.engine.options import values
from cutaway.engine.options.option import BOOL, LIST, PAIRS, STRING, Kind, Option, list_of

if TYPE_CHECKING:
    from cutaway.cli.parser import Parsed
    from cutaway.cli.session import Session

LABEL = Option("label", list_of(values.label), "Label: KEY=VALUE")


class Row(NamedTuple):
    network: Network
    cut: bool


LISTING: Listing[Row] = Listing(
    "network",
    ("ID", "Name", "Driver", "Scope"),
    {
        "ID": Column("NETWORK ID", lambda row: row.network.Id[: SHORT_ID if row.cut else None]),
        "Name": Column("NAME", lambda row: row.network.Name),
        "Driver": Column("DRIVER", lambda row: row.network.Driver),
        "Scope": Column("SCOPE", lambda row: row.network.Scope),
        "IPv6": Column("IPV6", lambda row: str(row.network.EnableIPv6).lower()),
        "Internal": Column("INTERNAL", lambda row: str(row.network.Internal).lower()),
        "Labels": Column("LABELS", lambda row: labels(row.network.Labels)),
        "Label": Column("", lambda row: lambda name: row.network.Labels.get(name, "")),
        "CreatedAt": Column("CREATED AT", lambda row: row.network.Created),
    },
)


@verb(
    "network ls",
    "network list",
    usage="[OPTIONS]",
    summary="List networks",
    options=[FILTER, FORMAT, NO_TRUNC, QUIET_IDS],
    arguments=(0, 0),
)
async def ls(session: Session, parsed: Parsed) -> None:
    options, cut = parsed.options, not parsed.options.get("no-trunc", False)
    found = filters.networks(await session.engine.networks(), filters.read(options.get("filter", [])))
    found.sort(key=lambda network: network.Name)
    if options.get("quiet"):
        return await session.out("".join(f"{each.Id[: SHORT_ID if cut else None]}\n" for each in found))
    return await session.out(LISTING.render([Row(each, cut) for each in found], options.get("format", "")))


@verb(
    "network create",
    usage="[OPTIONS] NETWORK",
    summary="Create a network",
    options=[
        Option("driver", STRING, "Kind of network", short="d", default='"bridge"', completes="bridge"),
        EXPLAIN,
        Option("gateway", LIST, "Address of the host on it"),
        Option("internal", BOOL, "Without a way to the outside"),
        Option("ip-range", LIST, "Part of the subnet from which containers get addresses"),
        LABEL,
        Option("opt", PAIRS, "Option of the driver", short="o"),
        Option("subnet", LIST, "Its addresses: 10.1.0.0/16"),
    ],
    arguments=(1, 1),
)
async def create(session: Session, parsed: Parsed) -> None:
    options, (name,) = parsed
    request = NetworkCreate(
        Name=name,
        Driver=options.get("driver", "bridge"),
        Internal=options.get("internal", False),
        IPAM=IPAM(Config=_pools(options.get("subnet", []), options.get("gateway", []), options.get("ip-range", []))),
        Options=pairs(options.get("opt", [])),
        Labels=pairs(options.get("label", [])),
    )
    async with explained(session, parsed):
        network_id = await session.engine.network_create(request)
    await session.print(network_id)


def _pools(subnets: list[str], gateways: list[str], ranges: list[str]) -> list[IPAMPool]:
    """The n-th gateway and range belong to the n-th subnet."""
    count = max(len(subnets), len(gateways), len(ranges))
    columns = ([*texts, *[""] * (count - len(texts))] for texts in (subnets, gateways, ranges))
    return [
        IPAMPool(Subnet=subnet, Gateway=gateway, IPRange=part) for subnet, gateway, part in zip(*columns, strict=True)
    ]


def pairs(texts: list[str]) -> dict[str, str]:
    return {name: value for name, _, value in (text.partition("=") for text in texts)}


@verb(
    "network rm",
    "network remove",
    usage="[OPTIONS] NETWORK [NETWORK...]",
    summary="Remove one or more networks",
    options=[Option("force", BOOL, "One that is not there is no error", short="f")],
    arguments=(1, UNLIMITED),
    completes="network",
)
async def rm(session: Session, parsed: Parsed) -> int:
    async def remove(name: str) -> None:
        try:
            await session.engine.network_remove(name)
        except NotFound:
            if not parsed.options.get("force"):
                raise

    return await session.for_each(parsed.arguments, remove)


@verb(
    "network connect",
    usage="[OPTIONS] NETWORK CONTAINER",
    summary="Connect a container to a network",
    options=[
        Option("alias", LIST, "Another name that the container has there"),
        Option("ip", Kind("string", values.ipv4_address), "Its IPv4 address there"),
    ],
    arguments=(2, 2),
    completes="network",
)
async def connect(session: Session, parsed: Parsed) -> None:
    options, (network, container) = parsed
    ip = options.get("ip")
    endpoint = EndpointSettings(
        IPAMConfig=EndpointIPAMConfig(IPv4Address=ip) if ip else None, Aliases=options.get("alias")
    )
    await session.engine.network_connect(network, container, endpoint)


@verb(
    "network disconnect",
    usage="[OPTIONS] NETWORK CONTAINER",
    summary="Disconnect a container from a network",
    options=[Option("force", BOOL, "Whatever state it is in", short="f")],
    arguments=(2, 2),
    completes="network",
)
async def disconnect(session: Session, parsed: Parsed) -> None:
    network, container = parsed.arguments
    await session.engine.network_disconnect(network, container, force=parsed.options.get("force", False))

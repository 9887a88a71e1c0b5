"""The drawing of a host: containers standing on their bridges, the kernel below, the outside underneath.

Containers of one network stand in rows; below each row runs the bridge, as a rail that they are plugged into. Rails
lead down, left of everything, into the kernel's routing, where published ports are, and from there out by the uplink.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from cutaway.xray import units
from cutaway.xray.drawing import parts
from cutaway.xray.drawing.canvas import Canvas, width_of
from cutaway.xray.drawing.parts import WALL, WIDTH, accent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cutaway.xray.model import Container, Host

_MARGIN = 28
_HOST_WALL = 12
_TOP = 104
_GAP = 16
_TRUNK = 14
"""Between two rails that lead down beside each other."""
_CABLE = 30
_RAIL = 8
_LABEL = 28
_PADDING = 14
_LAYERS = 4
_HEADER = 84
_GAUGES = 96
_CELLS = 34
_WIDEST_CARD, _MOST_COLUMNS = 520, 4


_NOTES = {"2": "a network that is not plugged into this host", "3": "no network: loopback alone"}


class Band(NamedTuple):
    """Containers of one network. `rail`: what is written on what they are plugged into; "" where there is nothing, and
    a
    `note` instead."""

    name: str
    rail: str
    note: str
    containers: list[Container]


def draw_host(host: Host) -> Canvas:
    """The whole host, with all its containers opened."""
    canvas = Canvas(WIDTH)
    _title(canvas, host)
    bands = list(_bands(host))
    columns = min(_MOST_COLUMNS, max((len(band.containers) for band in bands), default=1))
    shelves = list(_shelves(bands, max(columns, min(sum(len(band.containers) for band in bands), _MOST_COLUMNS))))
    left = _MARGIN + _HOST_WALL + _PADDING + _TRUNK * sum(1 for band in bands if band.rail)
    floor = _Floor(canvas, host, left, WIDTH - _MARGIN - _HOST_WALL - _PADDING - left, shelves)
    y = float(_TOP + _HOST_WALL + _PADDING)
    for shelf in shelves:
        y = floor.shelf(shelf, y)
    if not bands:
        canvas.text(WIDTH / 2, y + 40, "no containers", "muted", 16, room=400, anchor="middle")
        y += 80
    bottom = _kernel(canvas, host, y, floor.trunks)
    canvas.frame(_MARGIN, _TOP, WIDTH - 2 * _MARGIN, bottom - _TOP, _HOST_WALL, "wall host-wall")
    canvas.height = _outside(canvas, host, bottom)
    return canvas


def _title(canvas: Canvas, host: Host) -> None:
    count = units.number(len(host.containers), "container")
    canvas.text(_MARGIN, 54, host.name, "ink bold", 30, room=WIDTH * 0.6)
    canvas.text(WIDTH - _MARGIN, 54, count, "ink bold", 22, room=WIDTH * 0.3, anchor="end")
    facts = [
        f"Linux {host.kernel}",
        units.cpus(host.cpus),
        f"{units.size(host.memory)} of memory",
        f"cgroups {host.cgroups}",
    ]
    said = "  ·  ".join(facts)
    canvas.text(_MARGIN, 80, said, "muted", 12.5, room=WIDTH * 0.5)
    free = _MARGIN + min(width_of(said, 12.5), WIDTH * 0.5) + 24
    engines: dict[str, int] = {}
    for container in host.containers:
        engines[container.engine] = engines.get(container.engine, 0) + 1
    x = float(WIDTH - _MARGIN)
    for engine, number in sorted(engines.items(), key=lambda item: -item[1]):
        label = f"{engine} {number}" if number > 1 else engine
        x -= width_of(label, 12) + 8
        if x - 10 < free:
            break
        canvas.text(x + 4, 80, label, "muted", 12, room=200)
        canvas.rect(x - 10, 71, 9, 9, f"full {accent(engine)}", radius=2)
        x -= 22


def _bands(host: Host) -> Iterator[Band]:
    """Containers by the network they are in: bridges first, then the host's, then none."""
    bridges = {bridge.name: bridge for bridge in host.bridges}
    found: dict[str, list[Container]] = {}
    for container in host.containers:
        found.setdefault(_network_of(container), []).append(container)
    for name, containers in sorted(found.items(), key=lambda item: (item[0][:1], -len(item[1]), item[0])):
        kind, _, bridge = name.partition(" ")
        if kind == "0":
            known = bridges.get(bridge)
            addresses = [each for each in known.addresses if ":" not in each] if known else []
            yield Band(bridge, "  ".join([bridge, *addresses]), "", containers)
        elif kind == "1":
            uplinks = [f"{each.name} {'  '.join(a for a in each.addresses if ':' not in a)}" for each in host.uplinks]
            yield Band("the host's own network", "  ".join(["the host's own network", *uplinks]), "", containers)
        else:
            yield Band(name, "", _NOTES[kind], containers)


def _network_of(container: Container) -> str:
    """A name that sorts: bridges, the host's network, none."""
    network = container.network
    if network is None or network.own is False:
        return "1"
    for interface in network.interfaces:
        if interface.peer:
            return f"0 {interface.peer.bridge or interface.peer.name}"
    return "2" if network.interfaces else "3"


def _shelves(bands: list[Band], columns: int) -> Iterator[list[Band]]:
    """Bands that fit beside each other, in rows of so many containers; one that needs more has as many shelves."""
    shelf: list[Band] = []
    for band in bands:
        parts_of_it = [
            band._replace(containers=band.containers[at : at + columns])
            for at in range(0, len(band.containers), columns)
        ]
        for part in parts_of_it:
            if shelf and sum(len(each.containers) for each in shelf) + len(part.containers) > columns:
                yield shelf
                shelf = []
            shelf.append(part)
    if shelf:
        yield shelf


class _Floor:
    """Where shelves are put, and `trunks`: the place of what leads down from each network's rails, and where it
    starts."""

    def __init__(self, canvas: Canvas, host: Host, left: float, room: float, shelves: list[list[Band]]) -> None:
        self._canvas, self._host, self._left = canvas, host, left
        columns = max((sum(len(band.containers) for band in shelf) for shelf in shelves), default=1)
        self._width = min((room - _GAP * (columns - 1)) / columns, _WIDEST_CARD)
        if len(shelves) == 1:
            self._left += (room - columns * self._width - _GAP * (columns - 1)) / 2
        self._gutter = left
        self.trunks: dict[str, tuple[float, float]] = {}

    def shelf(self, bands: list[Band], y: float) -> float:
        """Draws bands beside each other, each rail below the one on its left; returns where the next shelf starts."""
        height = max(_height(container) for band in bands for container in band.containers)
        x, rail = self._left, y + height + _CABLE
        for band in bands:
            start = x
            for container in band.containers:
                _card(self._canvas, self._host, container, x, y, self._width, height)
                if band.rail:
                    _cable(self._canvas, container, x + self._width / 2, y + height, rail, self._width)
                x += self._width + _GAP
            if band.rail:
                self._rail(band, start, x - _GAP - self._width / 2, rail)
                rail += _RAIL + _LABEL
            else:
                room = x - _GAP - start
                self._canvas.text(start, y + height + 20, band.note, "muted", 11.5, room=room)
        return max(rail, y + height + _CABLE) + (0 if any(band.rail for band in bands) else 8)

    def _rail(self, band: Band, start: float, end: float, y: float) -> None:
        trunk, _ = self.trunks.setdefault(band.name, (self._gutter - _TRUNK * (len(self.trunks) + 1), y))
        self._canvas.rect(trunk - 1, y, end - trunk + 14, _RAIL, "rail", radius=_RAIL / 2)
        self._canvas.text(start, y + _RAIL + 14, band.rail, "ink bold mono", 11.5, room=WIDTH - _MARGIN - 20 - start)


def _height(container: Container) -> float:
    risk = 18 if container.security and container.security.risks else 0
    return WALL * 2 + _HEADER + risk + _GAUGES + _CELLS + parts.strata_height(container.root, _LAYERS) + 6


def _card(canvas: Canvas, host: Host, container: Container, x: float, y: float, width: float, height: float) -> None:
    """One container: its wall, who it is, what it may use, its namespaces, and at the bottom its files."""
    style = accent(container.engine)
    canvas.start("card", container.name)
    canvas.rect(x, y, width, height, "inside", radius=WALL)
    canvas.frame(x, y, width, height, WALL, f"wall {style}")
    inner, room = x + WALL + 12, width - 2 * WALL - 24
    top = y + WALL
    canvas.text(inner, top + 25, container.name, "ink bold", 16, room=room)
    engine = min(width_of(container.engine, 11.5, "bold"), room / 2)
    canvas.text(inner, top + 44, container.engine, f"engine bold {style}", 11.5, room=engine + 1)
    age = units.age(time.time() - container.started)
    within = f" · in {container.within}" if container.within else ""
    facts = f"PID {container.pid} · {age}{within}"
    canvas.text(inner + room, top + 44, facts, "muted", 11, room=room - engine - 8, anchor="end")
    canvas.rect(inner, top + 54, room, 21, "well", radius=4)
    canvas.text(
        inner + 8, top + 68.5, f"$ {container.command}", "ink mono", 10.5, room=room - 16, title=container.command
    )
    at = top + _HEADER
    if container.security and container.security.risks:
        count = len(container.security.risks)
        said = f"▲ {count} riskier than the default"
        canvas.text(inner, at + 9, said, "risk bold", 11, room=room, title="\n".join(container.security.risks))
        at += 18
    parts.memory_gauge(canvas, inner, at, room, container, host.memory, style)
    parts.cpu_gauge(canvas, inner, at + 30, room, container, host.cpus, style)
    parts.tasks_gauge(canvas, inner, at + 60, room, container, style)
    parts.cells(canvas, inner, at + _GAUGES, room, container.namespaces, style)
    files = parts.strata_height(container.root, _LAYERS)
    parts.strata(canvas, x + WALL, y + height - WALL - files, width - 2 * WALL, container.root, _LAYERS, style)
    canvas.end()


def _cable(canvas: Canvas, container: Container, x: float, y: float, rail: float, width: float) -> None:
    """From the card down into the rail, with the address beside it."""
    network = container.network
    canvas.line(x, y, x, rail + 2, "cable")
    canvas.rect(x - 7, y - 4, 14, 9, "plug", radius=2)
    if network is None or not network.interfaces:
        return
    first = network.interfaces[0]
    address = next((each for each in first.addresses if ":" not in each), "")
    canvas.text(x + 12, y + 20, f"{first.name} {address}", "ink mono", 10.5, room=width / 2 - 14)
    if first.peer:
        canvas.text(x - 12, y + 20, first.peer.name, "muted mono", 10.5, room=width / 2 - 14, anchor="end")


def _kernel(canvas: Canvas, host: Host, y: float, trunks: dict[str, tuple[float, float]]) -> float:
    """The floor that rails lead into: routing, translation, published ports."""
    x, width = _MARGIN + _HOST_WALL, WIDTH - 2 * (_MARGIN + _HOST_WALL)
    ports = [
        (port, container) for container in host.containers if container.network for port in container.network.ports
    ]
    chips = _chips(
        [f":{port.host_port}/{port.protocol} → {container.name}:{port.port}" for port, container in ports], width - 48
    )
    height = 42 + len(chips) * 32 + (6 if chips else 0)
    for at, start in trunks.values():
        canvas.rect(at, start, _RAIL, y - start + 10, "rail", radius=_RAIL / 2)
    canvas.rect(x, y, width, height, "kernel")
    translated = sum(1 for each in host.containers if each.network and each.network.translation)
    canvas.text(x + 24, y + 27, "the kernel", "kernel-ink bold", 14, room=200)
    said = f"routing · address translation for {translated} of {len(host.containers)}"
    said += f" · {units.number(len(ports), 'published port')}"
    canvas.text(x + 132, y + 27, said, "kernel-ink", 12.5, room=width - 160)
    for row, line in enumerate(chips):
        for left, room, label in line:
            canvas.rect(x + 24 + left, y + 42 + row * 32, room, 24, "chip", radius=12)
            canvas.text(
                x + 24 + left + room / 2,
                y + 58 + row * 32,
                label,
                "chip-ink mono",
                11.5,
                room=room - 12,
                anchor="middle",
            )
    return y + height + _HOST_WALL


def _chips(labels: list[str], room: float) -> list[list[tuple[float, float, str]]]:
    """Labels in rows: where each starts, and how wide it is."""
    rows: list[list[tuple[float, float, str]]] = []
    at = room
    for label in labels:
        width = min(width_of(label, 11.5, "mono") + 24, room)
        if at + width > room:
            rows.append([])
            at = 0
        rows[-1].append((at, width, label))
        at += width + 10
    return rows


def _outside(canvas: Canvas, host: Host, y: float) -> float:
    """The uplinks, through the wall and out; returns how high the picture is."""
    for at, uplink in enumerate(host.uplinks[:3]):
        x = _MARGIN + 60 + at * 380
        canvas.rect(x - 4, y - _HOST_WALL - 4, _RAIL, _HOST_WALL + 34, "rail", radius=_RAIL / 2)
        address = next((each for each in uplink.addresses if ":" not in each), "")
        canvas.text(x + 16, y + 22, f"{uplink.name}  {address}", "ink bold mono", 12, room=300)
    canvas.text(WIDTH - _MARGIN, y + 22, "the outside", "muted", 12, room=200, anchor="end")
    return y + 44

"""The drawing of one container: cut open at its wall, with its processes and files inside, its limits and rights
beside it, and the way of its packets below."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from cutaway.xray import units
from cutaway.xray.drawing import parts
from cutaway.xray.drawing.canvas import Canvas, width_of, wrapped
from cutaway.xray.drawing.parts import WIDTH, accent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cutaway.xray.model import Container, Host

_MARGIN = 28
_WALL = 14
_TOP = 116
_INSIDE = 824
"""Where the right-hand side of the container's wall is."""
_ROW = 22
_PROCESSES, _CHANGES, _LAYERS, _RISKS, _PORTS = 10, 6, 10, 6, 8
_SPACE, _CHANGE = 26, 19
_KINDS = {"added": "+", "changed": "~", "deleted": "−"}
_MEANINGS = {
    "pid": "processes", "mnt": "files", "net": "network", "uts": "host name", "ipc": "shared memory", "user": "users",
    "cgroup": "cgroups", "time": "clocks",
}  # fmt: skip


def draw_container(host: Host, container: Container) -> Canvas:
    """One container, opened."""
    canvas, style = Canvas(WIDTH), accent(container.engine)
    _title(canvas, host, container, style)
    inner, room = _MARGIN + _WALL + 22, _INSIDE - _MARGIN - 2 * (_WALL + 22)
    inside, beside = Canvas(WIDTH), Canvas(WIDTH)
    y = _processes(inside, container, inner, _TOP + _WALL + 16, room)
    y = _namespaces(inside, container, inner, y + _SPACE, room, style)
    right = _rights(beside, host, container, _INSIDE + 34, _TOP + 4, WIDTH - _MARGIN - _INSIDE - 34, style)
    files = _files_height(container)
    bottom = max(y + _SPACE + files + _WALL, right)
    _files(inside, container, _MARGIN + _WALL, bottom - _WALL - files, _INSIDE - _MARGIN - 2 * _WALL, style)
    canvas.start("card", container.name)
    canvas.rect(_MARGIN, _TOP, _INSIDE - _MARGIN, bottom - _TOP, "inside", radius=_WALL)
    canvas.frame(_MARGIN, _TOP, _INSIDE - _MARGIN, bottom - _TOP, _WALL, f"wall {style}")
    canvas.shapes += inside.shapes
    canvas.end()
    canvas.shapes += beside.shapes
    canvas.height = _network(canvas, host, container, bottom)
    return canvas


def _title(canvas: Canvas, host: Host, container: Container, style: str) -> None:
    engine = width_of(container.engine, 18, "bold")
    canvas.text(_MARGIN, 54, container.name, "ink bold", 30, room=WIDTH - 2 * _MARGIN - engine - 30)
    canvas.text(WIDTH - _MARGIN, 54, container.engine, f"engine bold {style}", 18, room=engine + 4, anchor="end")
    facts = [f"process {container.pid} of {host.name}", f"for {units.ago(time.time() - container.started)}"]
    facts += [f"ID {container.id[:12]}"] if container.id and container.id[:12] != container.name else []
    facts += [f"calls itself {container.hostname}"] if container.hostname else []
    facts += [f"inside {container.within}"] if container.within else []
    canvas.text(_MARGIN, 80, "   ·   ".join(facts), "muted", 13, room=WIDTH - 2 * _MARGIN)
    canvas.text(_MARGIN, 101, f"$ {container.command}", "ink mono", 12.5, room=WIDTH - 2 * _MARGIN)


def _heading(canvas: Canvas, x: float, y: float, title: str, room: float, note: str = "") -> float:
    canvas.text(x, y + 12, title, "ink bold", 13, room=room * 0.55 if note else room)
    if note:
        canvas.text(x + room, y + 12, note, "muted", 11.5, room=room * 0.45 - 8, anchor="end")
    canvas.line(x, y + 20, x + room, y + 20, "rule")
    return y + 28


def _processes(canvas: Canvas, container: Container, x: float, y: float, room: float) -> float:
    count = f"{len(container.processes)} process{'es' if len(container.processes) != 1 else ''}"
    y = _heading(canvas, x, y, "Processes", room, f"{count}; number outside → inside")
    for each in container.processes[:_PROCESSES]:
        canvas.text(x, y + 14, f"{each.pid} → {each.inner_pid}", "muted mono", 12, room=140)
        who = each.user if each.user == each.inner_user else f"{each.user} → {each.inner_user}"
        canvas.text(x + 150, y + 14, who, "muted", 12, room=120)
        indent = min(each.depth, 8) * 14
        canvas.text(x + 280 + indent, y + 14, each.command, "ink mono", 12, room=room - 380 - indent)
        canvas.text(x + room, y + 14, units.size(each.memory), "muted", 12, room=90, anchor="end")
        y += _ROW
    if len(container.processes) > _PROCESSES:
        canvas.text(x, y + 14, f"and {len(container.processes) - _PROCESSES} more", "muted", 12, room=room)
        y += _ROW
    return y


def _namespaces(canvas: Canvas, container: Container, x: float, y: float, room: float, style: str) -> float:
    own = sum(bool(each.own) for each in container.namespaces)
    y = _heading(canvas, x, y, "Namespaces", room, f"{own} of {len(container.namespaces)} are its own")
    columns, gap = 4, 10
    width = (room - gap * (columns - 1)) / columns
    for at, each in enumerate(container.namespaces):
        left, top = x + at % columns * (width + gap), y + 4 + at // columns * 54
        state = "hollow" if not each.own else f"half {style}" if each.shared_with else f"full {style}"
        canvas.rect(left, top, width, 46, state, radius=6)
        shared = (
            f"with {', '.join(each.shared_with)}" if each.shared_with else "its own" if each.own else "not to be seen"
        )
        words = "cell bold" if each.own else "ink bold"
        canvas.text(left + 10, top + 19, f"{each.kind}: {_MEANINGS.get(each.kind, '')}", words, 12, room=width - 20)
        canvas.text(left + 10, top + 36, shared, "cell bold" if each.own else "muted", 11, room=width - 20)
    return y + 4 + -(-len(container.namespaces) // columns) * 54


def _files_height(container: Container) -> float:
    """How high `_files` will be."""
    changes = len(container.root.changes) if container.root else 0
    return 28 + _CHANGE * min(changes, _CHANGES + 1) + 8 + parts.strata_height(container.root, _LAYERS)


def _files(canvas: Canvas, container: Container, x: float, y: float, room: float, style: str) -> None:
    """What it wrote, then the strata, from wall to wall."""
    root = container.root
    changes = root.changes if root else []
    kind = (
        f"{root.kind}, {units.number(len(root.layers), 'layer')}" if root and root.layers else root.kind if root else ""
    )
    y = _heading(canvas, x + 22, y, "Files", room - 44, kind)
    for change in changes[:_CHANGES]:
        canvas.text(x + 22, y + 14, f"{_KINDS[change.kind]} {change.path}", "ink mono", 12, room=room - 150)
        if change.size:
            canvas.text(x + room - 22, y + 14, units.size(change.size), "muted", 12, room=90, anchor="end")
        y += _CHANGE
    if len(changes) > _CHANGES:
        canvas.text(x + 22, y + 14, f"and {len(changes) - _CHANGES} more", "muted", 12, room=room - 44)
        y += _CHANGE
    parts.strata(canvas, x, y + 8, room, root, _LAYERS, style)


def _rights(canvas: Canvas, host: Host, container: Container, x: float, y: float, room: float, style: str) -> float:
    """Beside the container: its limits, what it may do, what is risky about that."""
    version = f"cgroup {container.cgroup.version}" if container.cgroup else ""
    y = _heading(canvas, x, y, "Limits", room, version)
    parts.memory_gauge(canvas, x, y, room, container, host.memory, style)
    parts.cpu_gauge(canvas, x, y + 34, room, container, host.cpus, style)
    parts.tasks_gauge(canvas, x, y + 68, room, container, style)
    y += 104
    for line in _counted(container):
        canvas.text(x, y + 12, line, "muted", 12, room=room)
        y += 19
    y = _heading(canvas, x, y + _SPACE, "What it may do", room)
    for label, value in _may(container):
        canvas.text(x, y + 13, label, "muted", 12, room=96)
        for line in wrapped(value, room - 104, 12, 3):
            canvas.text(x + 104, y + 13, line, "ink", 12, room=room - 104)
            y += 17
        y += 4
    security = container.security
    if security is None:
        return y + 8
    y = _heading(canvas, x, y + _SPACE - 8, "Riskier than Docker's default", room)
    for risk in security.risks[:_RISKS]:
        canvas.text(x, y + 13, "▲", "risk", 10, room=14)
        for line in wrapped(risk, room - 18, 12, 2):
            canvas.text(x + 18, y + 13, line, "ink", 12, room=room - 18)
            y += 17
        y += 4
    if not security.risks:
        canvas.text(x, y + 13, "nothing", "muted", 12, room=room)
        y += 21
    elif len(security.risks) > _RISKS:
        canvas.text(x + 18, y + 13, f"and {len(security.risks) - _RISKS} more", "muted", 12, room=room)
        y += 21
    return y + 8


def _counted(container: Container) -> Iterator[str]:
    found = container.cgroup
    if found is None or not found.own:
        return
    cpu = found.cpu
    yield f"killed for want of memory: {found.memory.oom_kills}"
    yield f"held up in {cpu.throttled_periods} of {cpu.periods} periods, for {units.seconds(cpu.throttled_time)}"
    if found.pressure:
        yield "waiting: " + ", ".join(f"{each.resource} {each.some10:g}%" for each in found.pressure) + " of 10 s"


def _may(container: Container) -> Iterator[tuple[str, str]]:
    found = container.security
    if found is None:
        yield "not seen", "its first process has ended"
        return
    more, less = len(found.beyond_default), len(found.below_default)
    against = (
        "Docker's default"
        if not more and not less
        else f"{len(found.bounding)}: {more} more and {less} fewer than Docker's"
    )
    yield "capabilities", against if found.bounding else "none"
    yield "system calls", {"filter": "filtered (seccomp)", "off": "all, no filter"}.get(found.seccomp, found.seccomp)
    yield "privileges", "no new ones" if found.no_new_privileges else "new ones by set-user-ID programs"
    yield "hidden", units.number(len(found.masked), "path") + f", {len(found.read_only)} read-only"
    yield "devices", ", ".join(each.split()[-1] for each in found.devices) or "those of every container"
    if found.user_mapping:
        yield "users", "; ".join(found.user_mapping)


def _network(canvas: Canvas, host: Host, container: Container, y: float) -> float:
    """The way of its packets, station by station, with published ports below; returns how high the picture is."""
    y = _heading(canvas, _MARGIN, y + _SPACE, "The way of its packets", WIDTH - 2 * _MARGIN)
    stations = list(_stations(host, container))
    gap = 34
    width = min((WIDTH - 2 * _MARGIN - gap * (len(stations) - 1)) / len(stations), 300)
    for at, (title, detail) in enumerate(stations):
        x = _MARGIN + at * (width + gap)
        if at:
            canvas.rect(x - gap, y + 35, gap, 8, "rail")
        canvas.rect(x, y + 10, width, 58, "station", radius=8)
        canvas.text(x + 14, y + 34, title, "ink bold", 13, room=width - 28)
        canvas.text(x + 14, y + 54, detail, "muted mono", 11.5, room=width - 28)
    y += 86
    ports = container.network.ports if container.network else []
    for at, port in enumerate(ports[:_PORTS]):
        x = _MARGIN + at % 2 * (WIDTH / 2 - _MARGIN + 8)
        label = f"{port.host_address}:{port.host_port}/{port.protocol} → {port.address}:{port.port}"
        width = min(width_of(label, 12, "mono") + 24, 330)
        canvas.rect(x, y, width, 26, "chip", radius=13)
        canvas.text(x + width / 2, y + 17.5, label, "chip-ink mono", 12, room=width - 16, anchor="middle")
        canvas.text(x + width + 12, y + 17.5, f"by {', '.join(port.by)}", "muted", 11.5, room=WIDTH / 2 - width - 60)
        y += 34 if at % 2 or at == len(ports[:_PORTS]) - 1 else 0
    return y + 20


def _stations(host: Host, container: Container) -> Iterator[tuple[str, str]]:
    network = container.network
    uplink = [(each.name, next((a for a in each.addresses if ":" not in a), "")) for each in host.uplinks[:1]]
    if network is None or network.own is False:
        yield "the host's network", "shared: interfaces, addresses, ports"
        yield from uplink
        return
    if not network.interfaces:
        yield "loopback", "127.0.0.1: no way out"
        return
    first = next((each for each in network.interfaces if each.peer), network.interfaces[0])
    yield first.name, next((each for each in first.addresses if ":" not in each), "no address")
    if first.peer is None:
        return
    yield first.peer.name, "the other end, on the host"
    if first.peer.bridge:
        yield first.peer.bridge, next((each for each in first.peer.bridge_addresses if ":" not in each), "a bridge")
    if network.translation:
        yield "address translation", network.translation.removeprefix("nftables ")
        yield from uplink

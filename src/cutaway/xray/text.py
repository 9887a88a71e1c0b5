"""An x-ray as text for a terminal: a list of all containers, or one opened; readable in 80 columns."""

from __future__ import annotations

import shutil
import textwrap
import time
import unicodedata
from typing import TYPE_CHECKING

from cutaway.xray import units
from cutaway.xray.harmless import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cutaway.xray.model import Cgroup, Container, Cpu, Host, Interface, Memory, Network, Process, Root, Security

_BOLD, _DIM, _RED, _GREEN, _YELLOW, _CYAN = "1", "2", "31", "32", "33", "36"
_BAR = 20
_MARKS = {"added": ("+", _GREEN), "changed": ("~", _YELLOW), "deleted": ("-", _RED)}
_LABEL = 15
"""Columns of what stands before a line."""
_SHOWN_CHANGES = 12
_HEADER = ("NAME", "ENGINE", "PID", "PROCS", "MEMORY", "CPU", "ADDRESS")
_RIGHT = frozenset({2, 3, 5})
_NARROWEST_NAME, _NARROWEST_TEXT = 8, 20


class Text:
    """Text `width` columns wide; None: as wide as it gets. `colour`: with the terminal's."""

    def __init__(self, *, width: int | None, colour: bool) -> None:
        self._width, self._colour = width, colour

    def listed(self, host: Host) -> str:
        """All containers, one a line."""
        host = printable(host)
        rows = [_row(container) for container in host.containers]
        lines = [
            self._paint(line, _BOLD) if not at else line for at, line in enumerate(self._columns([_HEADER, *rows]))
        ]
        if not rows:
            lines = ["No containers: no process on this host has namespaces of its own."]
        lines += [line for note in self._notes(host) for line in self._wrapped("", note, _DIM)]
        return "\n".join(lines)

    def opened(self, host: Host, container: Container) -> str:
        """One container, part by part."""
        host, container = printable(host), printable(container)
        parts = [
            list(self._head(container)),
            self._titled("PROCESSES", list(self._processes(container.processes))),
            self._titled("NAMESPACES", list(self._namespaces(container))),
            self._cgroup(host, container.cgroup) if container.cgroup else [],
            self._root(container) if container.root else [],
            self._titled("NETWORK", list(self._network(container.network, host))) if container.network else [],
            self._titled("MAY", list(self._security(container.security))) if container.security else [],
            self._titled("RISKIER THAN DOCKER'S DEFAULT", list(self._risks(container))),
            self._titled("NOT SEEN", [line for each in container.unseen for line in self._wrapped("  ", each)]),
        ]
        return "\n\n".join("\n".join(part) for part in parts if part)

    def _notes(self, host: Host) -> Iterator[str]:
        for each in host.kept_namespaces:
            yield f"without a process: {each.kind} namespace {each.inode}, kept by {each.path}"
        for sentence in host.unseen:
            yield f"not seen: {sentence}"

    def _columns(self, rows: Sequence[Sequence[str]]) -> Iterator[str]:
        widths = [max(columns_of(row[at]) for row in rows) for at in range(len(_HEADER))]
        if self._width:
            excess = sum(widths) + 2 * (len(widths) - 1) - self._width
            widths[0] = max(widths[0] - max(excess, 0), _NARROWEST_NAME)
        for row in rows:
            cells = [
                _fit(cell, width, right=at in _RIGHT) for at, (cell, width) in enumerate(zip(row, widths, strict=True))
            ]
            yield "  ".join(cells).rstrip()

    def _head(self, container: Container) -> Iterator[str]:
        age = units.ago(time.time() - container.started)
        where = f" · inside {container.within}" if container.within else ""
        yield f"{self._paint(container.name, _BOLD)} · {container.engine} · process {container.pid} · for {age}{where}"
        yield from self._line("runs", container.command)
        if container.id:
            yield from self._line("ID", container.id)
        if container.hostname:
            yield from self._line("host name", container.hostname)
        if container.keeper:
            yield from self._line("started by", f"{container.keeper.pid} {container.keeper.command}")

    def _processes(self, processes: Sequence[Process]) -> Iterator[str]:
        if not processes:
            return
        widths = [
            max([6, *(len(str(pid)) for pid in pids)])
            for pids in zip(*((p.pid, p.inner_pid) for p in processes), strict=True)
        ]
        users = [_both_users(each) for each in processes]
        user = min(max(len(text) for text in [*users, "USER"]), 18)
        yield self._paint(
            f"  {'HOST':>{widths[0]}}  {'INSIDE':>{widths[1]}}  {'USER':<{user}}  {'MEMORY':>8}  COMMAND", _DIM
        )
        for each, who in zip(processes, users, strict=True):
            branch = "  " * (each.depth - 1) + "└ " if each.depth else ""
            pids = f"{each.pid:>{widths[0]}}  {each.inner_pid:>{widths[1]}}"
            start = f"  {pids}  {_fit(who, user)}  {units.size(each.memory):>8}  "
            yield self._cut(f"{start}{branch}{each.command}")

    def _namespaces(self, container: Container) -> Iterator[str]:
        for each in container.namespaces:
            if each.own is None:
                state = self._paint("not to be seen without root rights", _DIM)
            elif each.own and not each.shared_with:
                state = self._paint("its own", _GREEN)
            else:
                state = self._paint(f"shared with {', '.join(each.shared_with)}", _YELLOW)
            number = self._paint(f"{each.inode or '':<11}", _DIM)
            yield f"  {each.kind:<{_LABEL - 2}}{number} {state}"

    def _cgroup(self, host: Host, found: Cgroup) -> list[str]:
        title = f"CGROUP ({'v1, pressure by v2' if found.version == 'hybrid' else found.version})"
        if not found.own:
            return self._titled(title, list(self._wrapped("  ", f"none of its own: it is counted in {found.path}")))
        return self._titled(title, [*self._line("path", found.path), *self._limits(host, found)])

    def _limits(self, host: Host, found: Cgroup) -> Iterator[str]:
        yield from self._memory(host, found.memory)
        yield from self._cpu(found.cpu)
        tasks = found.tasks
        yield from self._line(
            "tasks", f"{tasks.current} of {tasks.limit}" if tasks.limit else f"{tasks.current}, no limit"
        )
        for disk in found.disks:
            read = f"read {units.size(disk.read_bytes)} in {units.number(disk.read_operations, 'operation')}"
            written = f"written {units.size(disk.written_bytes)} in {units.number(disk.write_operations, 'operation')}"
            yield from self._line(f"disk {disk.device}", f"{read} · {written}")
        if found.pressure:
            waited = " · ".join(f"{each.resource} {each.some10:g}%" for each in found.pressure)
            yield from self._line("pressure", f"{waited} of the last 10 s spent waiting")
        if found.frozen:
            yield from self._line("frozen", "all its processes are stopped")

    def _memory(self, host: Host, memory: Memory) -> Iterator[str]:
        limit = (
            f"of {units.size(memory.limit)}" if memory.limit else f"no limit (the host has {units.size(host.memory)})"
        )
        by = f", set by {memory.limited_by}" if memory.limited_by else ""
        bar = self._bar(units.share(memory.usage, memory.limit or host.memory))
        yield from self._line("memory", f"{bar} {units.size(memory.usage)} {limit}{by}")
        beside = [f"{units.size(memory.working)} without cache", f"at most {units.size(memory.peak)} so far"]
        if memory.swap or memory.swap_limit:
            swap_limit = f" of {units.size(memory.swap_limit)}" if memory.swap_limit else ""
            beside.append(f"swap {units.size(memory.swap)}{swap_limit}")
        yield from self._line("", " · ".join(beside))
        yield from self._line("", units.number(memory.oom_kills, "OOM kill"), _RED if memory.oom_kills else "")

    def _cpu(self, cpu: Cpu) -> Iterator[str]:
        said = [f"{units.seconds(cpu.time)} used", f"at most {units.cpus(cpu.limit)}" if cpu.limit else "no limit"]
        if cpu.weight:
            usual = ", the default" if cpu.weight == cpu.default_weight else ""
            said.append(f"{'shares' if cpu.default_weight == 1024 else 'weight'} {cpu.weight}{usual}")
        if cpu.cpus:
            said.append(f"on CPUs {cpu.cpus}")
        yield from self._line("CPU", " · ".join(said))
        if cpu.periods:
            held = (
                f"held up in {cpu.throttled_periods} of {cpu.periods} periods, for {units.seconds(cpu.throttled_time)}"
            )
            yield from self._line("", held, _YELLOW if cpu.throttled_periods else "")

    def _root(self, container: Container) -> list[str]:
        root = container.root
        assert root is not None
        return self._titled(
            f"ROOT FILE SYSTEM ({_kind_of_root(root)})", [*self._layers(root), *self._mounts(container)]
        )

    def _layers(self, root: Root) -> Iterator[str]:
        if root.source:
            yield from self._line("files", root.source)
        if root.upper:
            counts = {kind: sum(each.kind == kind for each in root.changes) for kind in _MARKS}
            summary = ", ".join(f"{count} {kind}" for kind, count in counts.items())
            yield from self._line("written", f"{units.size(root.size)} on top: {summary}")
            for each in root.changes[:_SHOWN_CHANGES]:
                mark, colour = _MARKS[each.kind]
                size = f"  {units.size(each.size)}" if each.size else ""
                yield self._paint(self._cut(" " * _LABEL + f"{mark} {each.path}{size}"), colour)
            if len(root.changes) > _SHOWN_CHANGES:
                yield " " * _LABEL + f"… and {len(root.changes) - _SHOWN_CHANGES} more (-o json has them all)"
            yield from self._line("upper", root.upper)
        for at, layer in enumerate(root.layers):
            shared = f", shared with {units.number(layer.shared_with, 'other')}" if layer.shared_with else ""
            files = units.number(layer.files, "file") if layer.files is not None else "? files"
            yield from self._line(f"layer {len(root.layers) - at}", f"{units.size(layer.size)}, {files}{shared}")
            yield from self._line("", layer.path, _DIM)

    def _mounts(self, container: Container) -> Iterator[str]:
        for each in container.mounts or []:
            access = " (read-only)" if each.read_only else ""
            yield from self._line("mounted", f"{each.target}{access} from {each.source}")

    def _network(self, network: Network, host: Host) -> Iterator[str]:
        if network.own is False:
            yield "  the host's: its interfaces, addresses and ports"
            return
        if not network.interfaces:
            yield "  loopback alone"
        for interface in network.interfaces:
            yield from self._line(interface.name, " ↔ ".join(path_of(interface, network, host)))
            traffic = f"{units.size(interface.received_bytes)} received, {units.size(interface.sent_bytes)} sent"
            yield from self._line("", traffic + (f" · {interface.mac}" if interface.mac else ""))
        if network.gateway:
            yield from self._line("gateway", network.gateway)
        if network.translation:
            yield from self._line("translation", f"outgoing packets get the host's address: {network.translation}")
        for port in network.ports:
            outside, inside = f"{_address(port.host_address)}:{port.host_port}", f"{_address(port.address)}:{port.port}"
            yield from self._line("published", f"{outside} → {inside} {port.protocol}, by {', '.join(port.by)}")

    def _security(self, found: Security) -> Iterator[str]:
        yield from self._line("capabilities", _capabilities(found))
        if found.beyond_default:
            yield from self._line("", "more: " + ", ".join(found.beyond_default), _RED)
        if found.below_default and found.bounding:
            yield from self._line("", "less: " + ", ".join(found.below_default))
        filters = f", {units.number(found.seccomp_filters, 'filter')}" if found.seccomp_filters else ""
        yield from self._line("seccomp", f"{found.seccomp}{filters}")
        yield from self._line(
            "privileges", "no new ones" if found.no_new_privileges else "new ones by set-user-ID programs"
        )
        if found.confinement:
            yield from self._line("confinement", found.confinement)
        if found.user_mapping:
            yield from self._line("users", "; ".join(found.user_mapping))
        yield from self._line("masked", ", ".join(found.masked) or "nothing")
        yield from self._line("read-only", ", ".join(found.read_only) or "nothing of /proc and /sys")
        yield from self._line("devices", ", ".join(found.devices) or "those of every container")

    def _risks(self, container: Container) -> Iterator[str]:
        if container.security is None:
            return
        for risk in container.security.risks:
            yield from self._wrapped("  ! ", risk, _RED)
        if not container.security.risks:
            yield self._paint("  nothing", _GREEN)

    def _titled(self, title: str, lines: list[str]) -> list[str]:
        return [self._paint(title, f"{_BOLD};{_CYAN}"), *lines] if lines else []

    def _line(self, label: str, text: str, colour: str = "") -> Iterator[str]:
        yield from self._wrapped("  " + label.ljust(_LABEL - 2), text, colour)

    def _wrapped(self, start: str, text: str, colour: str = "") -> Iterator[str]:
        """Lines that fit, the further ones indented as far as `start` is wide; what is painted already stays whole."""
        lines = [text]
        if self._width and "\x1b" not in text and columns_of(start + text) > self._width:
            lines = textwrap.wrap(text, max(self._width - len(start), _NARROWEST_TEXT), break_on_hyphens=False)
        for line in lines:
            yield start + (self._paint(line, colour) if colour else line)
            start = " " * len(start)

    def _cut(self, line: str) -> str:
        return line if self._width is None else _fit(line, self._width).rstrip()

    def _bar(self, part: float) -> str:
        full = round(part * _BAR)
        colour = _RED if part > 0.9 else _YELLOW if part > 0.7 else _GREEN
        return self._paint("█" * full, colour) + self._paint("░" * (_BAR - full), _DIM)

    def _paint(self, text: str, colour: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self._colour and text else text


def for_terminal(*, is_terminal: bool, environment_allows: bool) -> Text:
    """Text as wide as the terminal and with its colours; for a file without either."""
    width = shutil.get_terminal_size().columns if is_terminal else None
    return Text(width=width, colour=is_terminal and environment_allows)


def path_of(interface: Interface, network: Network, host: Host) -> Iterator[str]:
    """The way from a container's interface to the outside, station by station."""
    yield ", ".join(each for each in interface.addresses if not each.startswith("fe80:")) or "no address"
    if interface.peer is None:
        return
    yield interface.peer.name
    if interface.peer.bridge:
        yield " ".join([interface.peer.bridge, *[each for each in interface.peer.bridge_addresses if ":" not in each]])
    if network.translation:
        yield "address translation"
        yield from [each.name for each in host.uplinks][:1]


def columns_of(text: str) -> int:
    """How many columns of a terminal it takes; wide characters take two."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(letter) else 2 if unicodedata.east_asian_width(letter) in "WF" else 1
        for letter in text
    )


def _fit(text: str, width: int, *, right: bool = False) -> str:
    """Exactly `width` columns of it, with an ellipsis where it is longer."""
    if columns_of(text) > width:
        while text and columns_of(text) > width - 1:
            text = text[:-1]
        text += "…"
    space = " " * (width - columns_of(text))
    return space + text if right else text + space


def _row(container: Container) -> tuple[str, ...]:
    found = container.cgroup
    memory = cpu = "-"
    if found and found.own:
        limit = f"/{units.short(found.memory.limit)}" if found.memory.limit else ""
        memory, cpu = f"{units.short(found.memory.usage)}{limit}", units.seconds(found.cpu.time)
    address = next((each.partition("/")[0] for each in container.addresses or [] if ":" not in each), "-")
    return container.name, container.engine, str(container.pid), str(container.process_count), memory, cpu, address


def _both_users(process: Process) -> str:
    return process.user if process.user == process.inner_user else f"{process.user} ({process.inner_user})"


def _kind_of_root(root: Root) -> str:
    kind = {
        "overlay": f"overlay, {units.number(len(root.layers), 'layer')}",
        "fuse-overlayfs": f"fuse-overlayfs, {units.number(len(root.layers), 'layer')}",
        "directory": "a directory of the host, without layers",
        "host": "the host's own",
    }.get(root.kind, root.kind)
    return f"{kind}, read-only" if root.read_only else kind


def _capabilities(found: Security) -> str:
    if not found.bounding:
        return "none"
    if not found.beyond_default and not found.below_default:
        return f"Docker's default: {', '.join(found.bounding)}"
    return f"{len(found.bounding)}, against the 14 of Docker's default"


def _address(host: str) -> str:
    return f"[{host}]" if ":" in host else host

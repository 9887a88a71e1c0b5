"""`state`, `list` and `ps`: what there is."""

from __future__ import annotations

from cutaway.runtime.command import document
from cutaway.runtime.command.container import Container, all_in
from cutaway.runtime.command.failure import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from cutaway.runtime.command.main import Invocation

_COLUMNS = {
    "ID": "id", "PID": "pid", "STATUS": "status", "BUNDLE": "bundle", "CREATED": "created", "OWNER": "owner",
}  # fmt: skip


def state(invocation: Invocation) -> int:
    """`state ID`: as the specification has it, and runc's own words besides."""
    print(document.indented(_described(Container.find(invocation.root, invocation.operands[0]))), end="")
    return 0


def list_all(invocation: Invocation) -> int:
    """`list`: a table, JSON, or with `--quiet` the IDs."""
    found = [_described(container) for container in all_in(invocation.root)]
    style = _style(invocation)
    if invocation.options["quiet"]:
        print("".join(f"{each['id']}\n" for each in found), end="")
    elif style == "json":
        print(document.text_of([each | {"owner": "root"} for each in found]))
    else:
        rows = [[str(each[key]) for key in _COLUMNS.values()] for each in found]
        _show_table([list(_COLUMNS), *([*row[:-1], "root"] for row in rows)])
    return 0


def ps(invocation: Invocation) -> int:
    """`ps ID [OPTIONS]`: the processes as ps(1) shows them, or their PIDs as JSON."""
    from cutaway.runtime.command.undoing import cgroup_of

    identifier, *options = invocation.operands
    container = Container.find(invocation.root, identifier)
    if container.status() == "stopped":
        raise Failure("container not running")
    pids = sorted(cgroup_of(container).processes())
    if _style(invocation) == "json":
        print(document.text_of(pids))
        return 0
    from cutaway.kernel.ps import table

    _show_table(table(pids, options))
    return 0


def _described(container: Container) -> dict[str, Any]:
    shown = container.state()
    rest = {"rootfs": container.facts["rootfs"], "created": container.facts["created"], "owner": ""}
    annotations = {"annotations": shown.pop("annotations")} if "annotations" in shown else {}
    return shown | rest | annotations


def _style(invocation: Invocation) -> str:
    style = invocation.options["format"] or "table"
    if style not in ("table", "json"):
        raise Failure(f'invalid format option "{style}": expected table or json')
    return str(style)


def _show_table(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        *cells, last = row
        print(*(cell.ljust(width) for cell, width in zip(cells, widths, strict=False)), last, sep="  ")

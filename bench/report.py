"""The table of what was measured, for the terminal and `docs/benchmarks.md`."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Iterator
from datetime import date
from pathlib import Path

from bench.contest import OURS, Outcome, Spread

INTRODUCTION = """\
Medians, with quartiles in brackets; ratios are ours by the peer's, taken round by round. Times are of whole processes,
from `posix_spawn` to `wait4`, unless it says *from Python*. Memory is the PSS of what the engine itself runs: ours
engine and spawner; Docker dockerd, containerd, shims and proxies; podman its conmons.
"""
HEADER = ("measure", "cutaway", "against", "its figure", "ratio, pair by pair", "to reach", "")


def rows(outcome: Outcome) -> Iterator[tuple[str, ...]]:
    """A row for each peer; one for us alone where there is a limit, or no peer."""
    figure, ours = outcome.figure, OURS in outcome.samples
    shown = _amount(outcome.spread(OURS), figure.unit) if ours else "failed"
    first = figure.measure
    if figure.limit is not None or len(outcome.samples) < 2:
        reached = _mark(ours and outcome.spread(OURS).median <= figure.limit) if figure.limit is not None else ""
        limit = f"≤ {figure.limit:g} {figure.unit}".strip() if figure.limit is not None else ""
        yield first, shown, "", "", "", limit, reached
        first = shown = ""
    for peer in outcome.samples:
        if peer != OURS:
            yield first, shown, *_against(outcome, peer)
            first = shown = ""


def _against(outcome: Outcome, peer: str) -> tuple[str, ...]:
    goal = outcome.figure.goals.get(peer)
    ratio = outcome.ratio(peer) if outcome.figure.limit is None else None
    theirs = _amount(outcome.spread(peer), outcome.figure.unit)
    shown = f"{_ratio(ratio.median)} ({_ratio(ratio.lower)} – {_ratio(ratio.upper)})" if ratio else ""
    reached = ratio is not None and goal is not None and ratio.median <= goal
    return peer, theirs, shown, _times(goal), _mark(reached) if goal else ""


def _amount(spread: Spread, unit: str) -> str:
    if unit == "":
        return f"{spread.median:g}"
    digits = 0 if spread.median >= 100 else 1 if spread.median >= 10 else 2
    return f"{spread.median:.{digits}f} {unit} ({spread.lower:.{digits}f} – {spread.upper:.{digits}f})"


def _ratio(value: float) -> str:
    return f"1/{1 / value:.1f}" if 0 < value < 0.95 else f"{value:.2f}×"


def _times(goal: float | None) -> str:
    return "" if goal is None else f"≤ 1/{1 / goal:g}" if goal < 1 else f"≤ {goal:g}×"


def _mark(reached: bool) -> str:
    return "✓" if reached else "✗"


def table(lines: Iterable[tuple[str, ...]]) -> str:
    """Lines of cells as a Markdown table."""
    cells = [HEADER, *lines]
    widths = [max(len(line[at]) for line in cells) for at in range(len(HEADER))]
    rule = tuple("-" * max(width, 3) for width in widths)
    return "".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |\n"
        for line in (HEADER, rule, *cells[1:])
    )


def write(path: Path, outcomes: list[Outcome], versions: dict[str, str]) -> None:
    failures = sorted({f"- {name} gave up: {why}" for outcome in outcomes for name, why in outcome.failed.items()})
    path.write_text(
        "# Benchmarks\n\n"
        f"Written by `make bench` on {date.today().isoformat()}.\n\n{INTRODUCTION}\n"
        f"- Machine: {machine()}\n"
        f"- Versions: {', '.join(f'{name} {version}' for name, version in versions.items())}\n\n"
        + table(row for outcome in outcomes for row in rows(outcome))
        + ("\n" + "\n".join(failures) + "\n" if failures else "")
    )


def machine() -> str:
    processor = Path("/proc/cpuinfo").read_text().partition("model name\t: ")[2].partition("\n")[0]
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    cgroups = "v2" if os.path.exists("/sys/fs/cgroup/cgroup.controllers") else "v1 or hybrid"
    return (
        f"{processor}, {os.cpu_count()} cores, {memory:.0f} GiB, Linux {platform.release()}, cgroups {cgroups}, "
        f"Python {platform.python_version()}"
    )

"""Measures everything, or the measures named, and writes `docs/benchmarks.md` where it was everything."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from bench import arena, report
from bench.contest import Outcome, hold
from bench.measures import ALL

TABLE = Path(__file__).parent.parent / "docs/benchmarks.md"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=sys.modules["bench"].__doc__)
    parser.add_argument("measures", nargs="*", metavar="MEASURE", help=f"of {', '.join(ALL)}; all by default")
    chosen = parser.parse_args().measures or list(ALL)
    if unknown := set(chosen) - set(ALL):
        parser.error(f"no such measure: {', '.join(sorted(unknown))}; there are {', '.join(ALL)}")
    if os.geteuid() != 0:
        parser.error("engines are measured as root")
    outcomes: list[Outcome] = []
    with arena.opened() as opened:
        for name in chosen:
            for contest in ALL[name](opened):
                print(f"{name}: {contest.figures[0].measure}", file=sys.stderr)
                outcomes.extend(hold(contest))
        print(report.table(row for outcome in outcomes for row in report.rows(outcome)))
        if chosen == list(ALL):
            report.write(TABLE, outcomes, opened.versions())


main()

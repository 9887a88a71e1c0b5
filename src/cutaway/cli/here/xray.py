"""`xray`: what containers there are and what they are made of. It asks only the kernel, and runs in the caller's own
process: it works without an engine and starts none."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

import msgspec

from cutaway.cli.verb import local_verb
from cutaway.engine.errors import EngineError, InvalidArgument
from cutaway.engine.options.option import BOOL, STRING, Option
from cutaway.xray import Measure, NotFound, View

if TYPE_CHECKING:
    from cutaway.cli.parser import Parsed
    from cutaway.xray.model import Container, Host

_OUTPUTS = ("text", "json", "svg", "html")
_INTERVAL = 2.0
"""Seconds between two looks of `--watch`."""
_HOME_AND_CLEAR, _CLEAR_REST = "\x1b[H", "\x1b[J"


@local_verb(
    "xray",
    usage="[OPTIONS] [CONTAINER|PID]",
    summary="List the containers of all engines, or show what one is made of; needs no engine",
    options=[
        Option(
            "output", STRING, "How to print: text, json, svg or html", short="o", default='"text"',
            completes="|".join(_OUTPUTS),
        ),
        Option("watch", BOOL, "Show it again every two seconds, until ^C", short="w"),
    ],
    arguments=(0, 1),
    completes="xrayed",
)  # fmt: skip
def xray(parsed: Parsed) -> int:
    output, watch = parsed.options.get("output", "text"), parsed.options.get("watch", False)
    if output not in _OUTPUTS:
        raise InvalidArgument(f"--output {output}: it is text, json, svg or html")
    if watch and output != "text":
        raise InvalidArgument(f"--watch shows text, and --output is {output}")
    wanted, measure = next(iter(parsed.arguments), ""), Measure()
    try:
        if watch:
            return _watch(wanted, measure)
        sys.stdout.write(_shown(wanted, output, measure) + "\n")
        sys.stdout.flush()
    except NotFound as problem:
        raise EngineError(str(problem)) from None
    return 0


def _shown(wanted: str, output: str, measure: Measure) -> str:
    view = View()
    container = view.find(wanted) if wanted else None
    if container:
        view.open(container, measure)
    elif output != "text":
        view.open_all(measure)
    if output == "text":
        return _text(view.host, container)
    if output == "json":
        return _json(container or view.host)
    from cutaway.xray.drawing import html, svg

    return (svg if output == "svg" else html)(view.host, container)


def _text(host: Host, container: Container | None) -> str:
    from cutaway.xray.text import for_terminal

    text = for_terminal(is_terminal=sys.stdout.isatty(), environment_allows=not os.environ.get("NO_COLOR"))
    return text.opened(host, container) if container else text.listed(host)


def _json(model: Host | Container) -> str:
    from cutaway.xray.harmless import text

    return msgspec.json.format(msgspec.json.encode(text(model)), indent=2).decode()


def _watch(wanted: str, measure: Measure) -> int:
    """Until ^C, or until the container has ended."""
    clear = sys.stdout.isatty()
    try:
        while True:
            shown = _shown(wanted, "text", measure)
            if clear:
                lines = shown.split("\n")[: os.get_terminal_size().lines - 1]
                shown = _HOME_AND_CLEAR + "".join(f"{line}\x1b[K\n" for line in lines) + _CLEAR_REST
            sys.stdout.write(shown if clear else f"{shown}\n\n")
            sys.stdout.flush()
            time.sleep(_INTERVAL)
    except KeyboardInterrupt:
        return 130

"""The cutaway drawing: a host, or one container, cut open; as one picture (SVG) or one page (HTML) with all it needs.

Positions are worked out here (`host`, `container`, on a `canvas`), marks are made by templates that escape whatever
they are given: a container may well be called `<script>`. What is cut through is hatched, as in a section drawing.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from cutaway.xray.drawing.container import draw_container
from cutaway.xray.drawing.host import draw_host
from cutaway.xray.harmless import printable
from cutaway.xray.text import Text

if TYPE_CHECKING:
    from jinja2 import Template

    from cutaway.xray.drawing.canvas import Canvas
    from cutaway.xray.model import Container, Host

_COLUMNS = 120
"""Of the text below the picture on a page."""


def svg(host: Host, container: Container | None = None) -> str:
    """One picture: of the host with all its containers, or of one of them. All have to be opened."""
    canvas, title = _drawn(host, container)
    return _template("picture.svg").render(canvas=canvas, title=title, standalone=True)


def html(host: Host, container: Container | None = None) -> str:
    """One page: the picture, and below it everything that is known of each container."""
    canvas, title = _drawn(host, container)
    text = Text(width=_COLUMNS, colour=False)
    known = [container] if container else host.containers
    details = [(printable(each), text.opened(host, each)) for each in known]
    when = time.strftime("%Y-%m-%d %H:%M:%S %Z")
    return _template("page.html").render(
        canvas=canvas, title=title, details=details, when=when, standalone=False, opened=container is not None
    )


def _drawn(host: Host, container: Container | None) -> tuple[Canvas, str]:
    host = printable(host)
    if container is None:
        return draw_host(host), f"Containers on {host.name}"
    container = printable(container)
    return draw_container(host, container), f"{container.name}, a container on {host.name}"


def _template(name: str) -> Template:
    from jinja2 import Environment, PackageLoader  # takes 40 ms to import, and only drawings need it

    environment = Environment(
        loader=PackageLoader("cutaway.xray.drawing"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template(f"{name}.j2")

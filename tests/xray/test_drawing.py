"""The drawings in a real browser: nothing overlaps, nothing is outside of what it is in, and names stay names."""

from __future__ import annotations

import base64
import html as markup
import json
import os
import re
import shutil
import signal
import subprocess
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cutaway.xray.drawing import html, svg
from cutaway.xray.model import Container, Host
from tests.xray.hosts import HOSTILE, host

MEASURE = """
<script>
const boxes = [...document.querySelectorAll(".drawing text")].map(text => {
  const box = text.getBoundingClientRect(), card = text.closest(".card");
  return {text: text.firstChild.textContent, x: box.x, y: box.y, right: box.right, bottom: box.bottom,
          card: card ? [...document.querySelectorAll(".card")].indexOf(card) : -1};
});
const cards = [...document.querySelectorAll(".card")].map(card => {
  const box = card.getBoundingClientRect();
  return {x: box.x, y: box.y, right: box.right, bottom: box.bottom};
});
const picture = document.querySelector(".drawing").getBoundingClientRect();
const paper = getComputedStyle(document.querySelector(".paper")).fill;
const found = {boxes, cards, width: picture.width, height: picture.height, title: document.title, paper,
               scrolls: document.documentElement.scrollWidth > window.innerWidth};
document.body.textContent = "measured " + btoa(unescape(encodeURIComponent(JSON.stringify(found)))) + " end";
</script>
"""
SLACK = 1.0
"""Pixels by which boxes of letters may touch: they are higher than the letters."""


@pytest.fixture
def measured(tmp_path: Path) -> Callable[..., Any]:
    """What Chromium makes of a page at a width of 1280 pixels, in dark or in light."""
    if not shutil.which("chromium"):
        pytest.skip("chromium is not installed")

    def measure(page: str, *, dark: bool = False) -> Any:
        file = tmp_path / "page.html"
        file.write_text(page.replace("</body>", f"{MEASURE}</body>"))
        scheme = f"--blink-settings=preferredColorScheme={0 if dark else 1}"
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/profile"]
        size = ["--window-size=1280,900", "--hide-scrollbars", scheme]
        dom = _dumped(["chromium", *options, *size, "--dump-dom", f"file://{file}"])
        if "measured" not in dom:
            pytest.skip(f"chromium does not run here: {dom[-300:]}")
        encoded = re.search(r"measured (\S+) end", dom)
        assert encoded
        return json.loads(base64.b64decode(encoded[1]))

    return measure


def _dumped(command: list[str]) -> str:
    """What Chromium prints; the processes that it starts end with it."""
    quiet = subprocess.DEVNULL
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=quiet, stdin=quiet, text=True, start_new_session=True
    ) as chromium:
        try:
            printed, _ = chromium.communicate(timeout=50)
        finally:
            try:
                os.killpg(chromium.pid, signal.SIGKILL)
            except ProcessLookupError:  # all have ended
                pass
    return printed


def overlapping(boxes: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [
        (one["text"], other["text"])
        for at, one in enumerate(boxes)
        for other in boxes[at + 1 :]
        if min(one["right"], other["right"]) - max(one["x"], other["x"]) > SLACK
        and min(one["bottom"], other["bottom"]) - max(one["y"], other["y"]) > 2 * SLACK
    ]


def outside(found: Any) -> list[str]:
    """Texts that leave the card they are in, or the picture."""
    return [
        box["text"]
        for box in found["boxes"]
        for card in [
            found["cards"][box["card"]] if box["card"] >= 0 else {"x": 0, "y": 0, "right": 1280, "bottom": 1e9}
        ]
        if box["x"] < card["x"] or box["right"] > card["right"] or box["bottom"] > card["bottom"]
    ]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("count", [1, 5, 20])
def test_nothing_overlaps_on_a_host(measured: Callable[..., Any], count: int, dark: bool) -> None:
    found = measured(html(host(count)), dark=dark)
    assert len(found["cards"]) == count
    assert overlapping(found["boxes"]) == []
    assert overlapping([{"text": str(at), **card} for at, card in enumerate(found["cards"])]) == []
    assert outside(found) == []
    assert found["width"] == 1280 and not found["scrolls"]
    assert (found["paper"] == "rgb(13, 18, 32)") is dark


@pytest.mark.parametrize("number", [4, 11])
def test_nothing_overlaps_in_a_container(measured: Callable[..., Any], number: int) -> None:
    crowded = host(20)
    found = measured(html(crowded, crowded.containers[number]))
    assert overlapping(found["boxes"]) == []
    assert outside(found) == []


def test_names_are_names_whatever_they_are(measured: Callable[..., Any]) -> None:
    assert measured(html(host(20)))["title"] == "Containers on a-host.example.org"


@pytest.mark.parametrize("draw", [svg, html])
def test_markup_in_names_is_escaped(draw: Callable[[Host, Container | None], str]) -> None:
    crowded = host(20)
    for drawn in (draw(crowded, None), draw(crowded, crowded.containers[4])):
        assert HOSTILE not in drawn
        assert markup.escape(HOSTILE, quote=False)[:40] in markup.escape(markup.unescape(drawn), quote=False)
        assert "<script" not in drawn


def test_a_picture_stands_alone() -> None:
    """It is well-formed XML, and asks nobody for anything."""
    crowded = host(20)
    for drawn in (svg(crowded), svg(crowded, crowded.containers[3])):
        ElementTree.fromstring(drawn)
        assert not re.search(r"""(?:href|src)\s*=|url\((?!#)|@import""", drawn)


def test_control_characters_do_not_get_into_a_picture() -> None:
    crowded = host(1)
    crowded.containers[0].name = "a\x1b]0;title\x07\x00\udcff\u202eb"
    ElementTree.fromstring(svg(crowded))

"""How an image was made, step by step, from its configuration (OCI image-spec, `config.md`, *history*)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from cutaway.image.config import History, ImageConfig

Position = tuple[int, tuple[str, ...], str | None, str]
"""A place in the history of images: the number of steps, the layers made by then, when and by what the last one was."""


class Step(NamedTuple):
    """`size`: bytes of its layer; `image`: the ID of the image that it made, empty where that is not known."""

    made: History
    size: int
    image: str


def steps(config: ImageConfig, sizes: Mapping[str, int], known: Mapping[Position, str]) -> list[Step]:
    """The last one first. `sizes`: of the layers, by diff ID; `known`: images by where their own histories end.

    Layers of which the history does not tell are taken for the last ones.
    """
    history = config.history or []
    untold = len(config.diff_ids) - sum(not made.empty_layer for made in history)
    found: list[Step] = []
    layers = 0
    for made in [*history, *(History() for _ in range(untold))]:
        has_layer = not made.empty_layer and layers < len(config.diff_ids)
        layers += has_layer
        size = sizes[config.diff_ids[layers - 1]] if has_layer else 0
        position = (len(found) + 1, tuple(config.diff_ids[:layers]), made.created, made.created_by)
        found.insert(0, Step(made, size, known.get(position, "")))
    return found


def end(config: ImageConfig) -> Position:
    """Where an image's history ends."""
    history = config.history or [History()]
    return len(history), tuple(config.diff_ids), history[-1].created, history[-1].created_by

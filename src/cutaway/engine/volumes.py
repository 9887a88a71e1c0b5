"""Volumes: directories that outlive containers, and what is mounted where in each container."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cutaway.engine.containers import Container
    from cutaway.engine.places import Places


class Volumes:
    def __init__(self, places: Places) -> None:
        self._places = places

    def mounts(self, container: Container) -> list[dict[str, Any]]:
        """The container's volumes and bind mounts, as OCI mounts."""
        return []

    def release(self, container: Container, *, remove_anonymous: bool) -> None:
        """The container uses its volumes no more."""

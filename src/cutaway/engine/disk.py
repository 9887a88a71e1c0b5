"""What the engine takes of the disk, and giving back what nothing uses: `system df` and the `prune`s.

All sizes are bytes on the disk, as `du(1)` counts them, not the lengths of files: what is removed gives back just that.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from cutaway.engine import filters
from cutaway.engine.errors import Conflict, NotFound
from cutaway.engine.images import explained, summary
from cutaway.engine.model import DiskUsage, ImageDelete, ImagesPruned, Pruned, VolumeUsage

if TYPE_CHECKING:
    from cutaway.engine.containers import Container, Containers
    from cutaway.engine.filters import Filters
    from cutaway.engine.lifecycle import Lifecycle
    from cutaway.engine.model import Container as Seen
    from cutaway.engine.model import ImageSummary, Volume
    from cutaway.engine.networks import Networks
    from cutaway.engine.places import Places
    from cutaway.engine.volumes import Volumes
    from cutaway.image.images import Images, Usage
    from cutaway.image.store import Listed


class Disk:
    """Measures and prunes all kinds of things."""

    def __init__(
        self,
        places: Places,
        containers: Containers,
        images: Images,
        volumes: Volumes,
        networks: Networks,
        lifecycle: Lifecycle,
    ) -> None:
        self._places, self._containers, self._images = places, containers, images
        self._volumes, self._networks, self._lifecycle = volumes, networks, lifecycle

    async def usage(self) -> DiskUsage:
        """What everything takes. A layer that several images share counts once."""
        found = await self._images.usage()
        standing = Counter(container.seen.Image for container in self._containers)
        in_use = {layer for image in standing for layer in found.images.get(image, ())}
        users = Counter(layer for layers in found.images.values() for layer in set(layers))
        unused = sum(size for layer, size in found.layers.items() if layer not in in_use)
        return DiskUsage(
            LayersSize=sum(found.layers.values()) + found.unfinished,
            LayersReclaimable=unused + found.unfinished,
            Images=[_measured(listed, found, users, standing[listed.id]) for listed in self._images.listing()],
            Containers=await self._measured_containers(),
            Volumes=await self._measured_volumes(),
        )

    async def _measured_containers(self) -> list[Seen]:
        containers = list(self._containers)
        sizes = await self._images.measure([self._places.container(container.id) for container in containers])
        return [replace(each.seen, SizeRw=size) for each, size in zip(containers, sizes, strict=True)]

    async def _measured_volumes(self) -> list[Volume]:
        volumes = self._volumes.all()
        sizes = await self._images.measure([f"{self._places.volumes}/{volume.Name}" for volume in volumes])
        return [
            replace(volume, UsageData=VolumeUsage(Size=size, RefCount=self._volumes.users(volume.Name)))
            for volume, size in zip(volumes, sizes, strict=True)
        ]

    async def prune_containers(self, wanted: Filters) -> Pruned:
        """Removes the containers that do not run."""
        fits = filters.to_prune(wanted)
        pruned = Pruned()
        idle = [
            each for each in self._containers if _is_idle(each) and fits(each.seen.Created, each.seen.Config.Labels)
        ]
        sizes = await self._images.measure([self._places.container(container.id) for container in idle])
        for container, size in zip(idle, sizes, strict=True):
            try:
                await self._lifecycle.remove(container, force=False, volumes=False)
            except (Conflict, NotFound):  # it has been started, or removed, meanwhile
                continue
            pruned.Removed.append(container.id)
            pruned.SpaceReclaimed += size
        return pruned

    async def prune_images(self, wanted: Filters, *, everything: bool) -> ImagesPruned:
        """Removes the images that no container stands on and, unless `everything`, that have no name."""
        fits = filters.to_prune(wanted)

        def goes(listed: Listed) -> bool:
            return (everything or not listed.tags) and fits(listed.created, listed.labels)

        with explained():
            removed, space = await self._images.prune(goes)
        return ImagesPruned(Removed=msgspec.convert(removed, list[ImageDelete]), SpaceReclaimed=space)

    async def prune_volumes(self, wanted: Filters, *, named: bool) -> Pruned:
        """Removes the volumes that no container has: the anonymous ones, and with `named` the others."""
        fits = filters.to_prune(wanted, until=False)
        return await self._volumes.prune(lambda volume: fits(volume.CreatedAt, volume.Labels), named=named)

    async def prune_networks(self, wanted: Filters) -> Pruned:
        """Removes the networks that no container is on."""
        fits = filters.to_prune(wanted)
        in_use = {name for container in self._containers for name in container.record.endpoints}
        return self._networks.prune(in_use, lambda network: fits(network.Created, network.Labels))


def _is_idle(container: Container) -> bool:
    """Whether it does not run, and is not just being made to be run."""
    return not (container.process or container.state.Restarting or container.record.provisional)


def _measured(listed: Listed, found: Usage, users: Counter[str], containers: int) -> ImageSummary:
    layers = set(found.images[listed.id])
    return replace(
        summary(listed),
        Size=sum(found.layers[layer] for layer in layers),
        SharedSize=sum(found.layers[layer] for layer in layers if users[layer] > 1),
        Containers=containers,
    )

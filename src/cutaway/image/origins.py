"""What registries know the layers of an image as, and where they have them, as far as the store remembers.

It remembers the manifest of every image that was pulled or pushed, and the repositories that this was from or to. So
what once went to a registry, or came from there, need not be sent to it again, under whatever name.
"""

from __future__ import annotations

from itertools import islice

import msgspec

from cutaway.image import references
from cutaway.image.compression import NONE
from cutaway.image.intake import MEDIA_TYPES
from cutaway.image.layout import StoredLayer
from cutaway.image.manifest import Descriptor
from cutaway.image.store import Store

_IMAGES_ASKED = 16
_KNOWN_MOST = 4


class Origin(msgspec.Struct, frozen=True):
    """A layer to push. `known`: what it may go as, the best first, its own blob among them unless that is uncompressed;
    `elsewhere`: paths of repositories of the registry that may have it."""

    stored: StoredLayer
    known: list[Descriptor]
    elsewhere: list[str]


def origins(store: Store, identifier: str, repository: references.Reference) -> list[Origin]:
    """Of each layer of an image, the lowest first, on its way to `repository`."""
    return [_origin(store, layer, identifier, repository) for layer in store.stored_layers(identifier)]


def _origin(store: Store, layer: StoredLayer, identifier: str, repository: references.Reference) -> Origin:
    known: dict[str, Descriptor] = {}
    elsewhere: dict[str, None] = {}
    holders = sorted(store.holders(layer.diff_id), key=lambda holder: holder[0] != identifier)
    for image, position in holders[:_IMAGES_ASKED]:
        names = [references.parse(name) for name in store.digests(image)]
        for manifest in reversed(store.manifests(image)):
            descriptor = (manifest.parsed().layers or [])[position]
            if names or descriptor.digest != layer.diff_id:  # no registry made it go uncompressed
                known.setdefault(descriptor.digest, descriptor)
        elsewhere |= {name.path: None for name in names if name.domain == repository.domain}
    likely = dict(islice(known.items(), _KNOWN_MOST))
    if layer.media_type != MEDIA_TYPES[NONE]:
        likely.setdefault(layer.blob, Descriptor(layer.blob, layer.media_type, layer.size))
    elsewhere.pop(repository.path, None)
    return Origin(layer, list(likely.values()), list(elsewhere))

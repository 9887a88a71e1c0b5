"""The image `host`: this machine's own root file system, read-only under an overlay, with nothing to download.

Its one lower directory is `/` itself. overlayfs shows what is on the root file system, not what is mounted on it, and
the container writes to its upper directory alone. Whatever root may read on the machine it may read in there too.
"""

from __future__ import annotations

from functools import cache

from cutaway.image import config
from cutaway.image.config import ARCHITECTURE, VARIANT, ImageConfig, RootFS, RunConfig
from cutaway.image.store import Image

NAME = "docker.io/library/host:latest"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@cache
def image() -> Image:
    """The embedded image; the same on every call, and the same ID on every machine of this kind."""
    document = config.encode(
        ImageConfig(
            architecture=ARCHITECTURE,
            variant=VARIANT,
            os="linux",
            created="1970-01-01T00:00:00Z",
            comment="The machine's own root file system",
            config=RunConfig(env=[f"PATH={_PATH}"], cmd=["/bin/sh"]),
            rootfs=RootFS("layers", []),
        )
    )
    return Image(config.image_id(document), document, config.parse(document), ("/",), 0)

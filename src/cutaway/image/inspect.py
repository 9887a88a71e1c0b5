"""An image as `docker image inspect` prints it, so that scripts made for Docker read it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from cutaway.image.config import RunConfig
from cutaway.image.references import Reference
from cutaway.image.store import Image

_NEVER = "0001-01-01T00:00:00Z"


def inspected(
    image: Image, tags: Sequence[Reference], digests: Sequence[Reference], tagged_at: float
) -> dict[str, Any]:
    """The JSON object for one image. `tagged_at` in seconds since 1970, 0 for never."""
    config = image.config
    return {
        "Id": image.id,
        "RepoTags": [tag.familiar for tag in tags],
        "RepoDigests": [digest.familiar for digest in digests],
        "Parent": "",
        "Comment": config.comment,
        "Created": config.created or _NEVER,
        "Container": config.container,
        "DockerVersion": config.docker_version,
        "Author": config.author,
        "Config": run_config(image.run),
        "Architecture": config.architecture,
        **({"Variant": config.variant} if config.variant else {}),
        "Os": config.os,
        **({"OsVersion": config.os_version} if config.os_version else {}),
        "Size": image.size,
        "VirtualSize": image.size,
        "GraphDriver": {"Name": "overlay2", "Data": _directories(image)},
        "RootFS": {"Type": "layers", "Layers": config.diff_ids},
        "Metadata": {"LastTagTime": _time(tagged_at)},
    }


def run_config(run: RunConfig) -> dict[str, Any]:
    """Every member of `config`, with its default where the image does not say."""
    members = {field.encode_name: getattr(run, field.name) for field in msgspec.structs.fields(RunConfig)}
    return {name: msgspec.to_builtins(value) for name, value in members.items() if value is not msgspec.UNSET}


def _directories(image: Image) -> dict[str, str]:
    top, *below = image.lower_dirs or ("",)
    return {"UpperDir": top} | ({"LowerDir": ":".join(below)} if below else {})


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z") if seconds else _NEVER

"""The process that does the heavy work for the engine: `python -I -S … cutaway.image.worker`, see `offload`.

It may be killed at any moment: all it makes is in a staging directory that the engine, or the next one, removes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import msgspec

from cutaway.image import archive, changeset, diff, formats, intake, layout, sources, trees
from cutaway.image.compression import PIECE
from cutaway.image.errors import BrokenArchive, ImageError
from cutaway.image.formats import Described, Layer
from cutaway.image.intake import StagedLayer
from cutaway.image.processes import attempt, each, end_with, report, reporter
from cutaway.image.registry.access import Access
from cutaway.image.sources import Source
from cutaway.kernel.mounts import clone_tree
from cutaway.kernel.syscalls import libc

_BATCH = 100  # changes in one line, each with a path of up to 4,096 bytes


def main() -> None:
    """Does the job that the command line names and reports on standard output."""
    with open(0, "rb") as file:
        job = msgspec.json.decode(file.read())
    end_with(job.pop("parent"))
    report(attempt(lambda: _JOBS[job.pop("do")](**job)))
    os._exit(0)  # threads may still wait for input that nobody wants


def import_(source: int, staging: str) -> StagedLayer:
    """Takes in, as one layer, the tar archive or the directory that `source` gives."""
    layer = intake.take_in(_tar_stream(source), staging, "layer", progress=reporter("", 0))
    if not layer.entries:
        raise BrokenArchive("the archive holds no files")
    return layer


def commit(upper: str, lowers: list[str], made: list[str], staging: str) -> StagedLayer | None:
    """Takes in, as one layer, what the directory `upper` changes of `lowers`; None where that is nothing."""
    chunks = changeset.packed(clone_tree(upper), [clone_tree(lower) for lower in lowers], set(map(os.fsencode, made)))
    layer = intake.take_in(archive.gathered(chunks, PIECE), staging, "layer", progress=reporter("", 0))
    return layer if layer.entries else None


def _tar_stream(source: int) -> Iterator[bytes]:
    return archive.packed(source, "/", ".") if sources.is_directory(source) else sources.pieces(source)


def load(source: int, staging: str, layers: str) -> dict[str, Any]:
    """Takes in the image archive that `source` gives: the layers that are not in the directory `layers`, beside each
    other, and the documents, as files in `staging`."""
    files = sources.opened(source, staging)
    images = formats.described(files)
    wanted = {layer.diff_id: layer for image in images for layer in image.layers if not _is_in(layers, layer)}
    for layer in wanted.values():
        sources.require(files, layer.file)
    staged = list(_take_in_all(files, wanted.values(), staging))
    return {"images": [_written(image, staging, number) for number, image in enumerate(images)], "layers": staged}


def _is_in(layers: str, layer: Layer) -> bool:
    return os.path.isdir(os.path.join(layers, layer.diff_id.removeprefix("sha256:")))


def _written(image: Described, staging: str, number: int) -> dict[str, Any]:
    files = {"config": image.document, "manifest": image.manifest.content if image.manifest else b""}
    paths = {name: os.path.join(staging, f"{number}.{name}") for name in files}
    for name, path in paths.items():
        with open(path, "xb") as file:
            file.write(files[name])
    media_type = image.manifest.media_type if image.manifest else ""
    return {**paths, "tags": image.tags, "media_type": media_type}


def _take_in_all(files: Source, layers: Iterable[Layer], staging: str) -> Iterator[StagedLayer]:
    """As many at once as there are processors, the largest first."""
    ordered = sorted(layers, key=lambda layer: files.size(layer.file), reverse=True)
    work = {layer.diff_id: partial(_take_in, files, layer, staging) for layer in ordered}
    for _, staged in each(work, len(os.sched_getaffinity(0))):
        yield msgspec.convert(staged, StagedLayer)


def _take_in(files: Source, layer: Layer, staging: str) -> StagedLayer:
    name, expected = layer.diff_id.removeprefix("sha256:"), (layer.digest, layer.diff_id)
    progress = reporter(layer.diff_id, files.size(layer.file))
    return intake.take_in(files.chunks(layer.file), staging, name, expected, progress)


def pull(**job: Any) -> Any:
    """Takes in an image from a registry: `pulling.pull`."""
    from cutaway.image import pulling

    return pulling.pull(**job)


def push(**work: Any) -> Any:
    """Brings an image to a registry: `pushing.push`."""
    from cutaway.image import pushing

    return pushing.push(msgspec.convert(work, pushing.Work))


def tags(**job: Any) -> Any:
    """What tags a repository in a registry has."""
    from cutaway.image import pulling

    return pulling.tags(**job)


def measure(paths: list[str]) -> list[int]:
    """How many bytes each of these files and trees takes on the disk."""
    return list(map(trees.disk_usage, paths))


def forget_partial(directory: str) -> int:
    """Removes beginnings of blobs that nobody is downloading; returns how many bytes that gives back."""
    from cutaway.image.registry.partial import forget_unused  # for others, it would be slow to import

    return forget_unused(directory)


def sync(directory: str) -> None:
    """Waits until all that was written to the file system of `directory` is on the disk."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    if libc.syncfs(descriptor) != 0:
        raise ImageError(f"cannot write the layers below {directory} to the disk; is it full or failing?")


def changes(upper: str, lowers: list[str]) -> None:
    """Reports what the directory `upper` changes of `lowers`; of `/`, say, only what is on that file system itself."""
    found = diff.changes(clone_tree(upper), [clone_tree(lower) for lower in lowers])
    for at in range(0, len(found), _BATCH):
        report({"progress": found[at : at + _BATCH]})


def pack(root: int, path: str, name: str, target: int) -> None:
    """Writes the tar stream of `path` inside `root` to the descriptor `target`."""
    _write(target, archive.packed(root, path, name))


def save(target: int, blobs: str, images: list[dict[str, Any]]) -> None:
    """Writes an archive of images to the descriptor `target`."""
    _write(target, layout.archive(msgspec.convert(images, list[layout.Saved]), blobs))


def login(domain: str, access: dict[str, Any]) -> str:
    """Asks a registry whether it accepts credentials; returns its identity token, if it gives one."""
    from cutaway.image.registry.login import identity_token

    return identity_token(domain, msgspec.convert(access, Access))


def _write(target: int, chunks: Iterable[bytes]) -> None:
    for chunk in chunks:
        left = memoryview(chunk)
        while left:
            try:
                left = left[os.write(target, left) :]
            except OSError as error:
                raise ImageError(f"cannot write the archive: {error.strerror}") from None


def unpack(root: int, path: str, source: int, owner: tuple[int, int] | None, keep_kind: bool) -> None:
    """Makes the files of the tar stream from `source` in `path` inside `root`."""
    archive.unpack(root, path, sources.pieces(source), owner, keep_kind)


_JOBS: dict[str, Callable[..., Any]] = {
    "import": import_,
    "commit": commit,
    "load": load,
    "pull": pull,
    "push": push,
    "tags": tags,
    "save": save,
    "login": login,
    "measure": measure,
    "forget_partial": forget_partial,
    "sync": sync,
    "changes": changes,
    "pack": pack,
    "unpack": unpack,
}

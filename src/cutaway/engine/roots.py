"""A container's root directory as the container sees it, opened by the engine: to copy files in and out.

Of a running container it is `/proc/PID/root`, which leads into its mount namespace. Of one that does not run, the same
operations that start it put its layers and volumes together, in a mount namespace that only one thread is in.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from cutaway.engine.errors import Conflict
from cutaway.kernel.openat2 import open_in_root
from cutaway.kernel.pidfd import send_signal
from cutaway.plan.mounts import BindMount, MakeReadonly, MountOverlay, MountVolume
from cutaway.plan.operation import Context

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cutaway.engine.containers import Container
    from cutaway.plan.operation import Operation


def layers(container: Container) -> Operation:
    """What makes the container's root a mount: its layers put together, or the host's directory that it has instead."""
    directories = container.seen.GraphDriver.Data
    merged = directories["MergedDir"]
    if container.seen.HostConfig.Rootfs:
        return MountVolume(merged, "none", merged, ["rbind"])
    return MountOverlay(merged, container.record.lower_dirs, directories["UpperDir"], directories["WorkDir"])


def open_running(container: Container) -> int:
    """A descriptor of the root of a container whose program runs. Raises `Conflict` where it has just ended."""
    process = container.process
    assert process
    root = -1
    try:
        root = os.open(f"/proc/{process.pid}/root", os.O_PATH | os.O_DIRECTORY)
        send_signal(process.pidfd, 0)  # it runs, so its PID was still its own
        return root
    except (FileNotFoundError, ProcessLookupError):
        if root >= 0:
            os.close(root)
        raise Conflict(f"container {container.name} ended while its files were looked for; try again") from None


@contextmanager
def writable(container: Container, root: int, path: str) -> Iterator[int]:
    """A descriptor of the container's root to write through to the directory `path`: `root`, or, where `path` is on a
    root file system that is read-only inside, the same one as it is on the host. Raises `OSError`."""
    outside = os.open(container.seen.GraphDriver.Data["MergedDir"], os.O_PATH | os.O_DIRECTORY)
    try:
        directory = open_in_root(root, path, os.O_PATH | os.O_DIRECTORY)
        try:
            is_read_only = os.fstatvfs(directory).f_flag & os.ST_RDONLY
            on_root = os.fstat(directory).st_dev == os.fstat(outside).st_dev
        finally:
            os.close(directory)
        yield outside if is_read_only and on_root else root
    finally:
        os.close(outside)


@contextmanager
def assembled(container: Container, mounts: list[dict[str, Any]], *, past_read_only: bool = False) -> Iterator[int]:
    """A descriptor of the root of a container that does not run, with `mounts`, the OCI mounts that are its volumes.

    `past_read_only`: writable also where it is read-only to the container. To be called in a thread with mounts of its
    own, while the container's lock is held.
    """
    context, root = Context(), layers(container)
    try:
        root.apply(context)
        context.root = os.open(container.seen.GraphDriver.Data["MergedDir"], os.O_PATH | os.O_DIRECTORY)
        context.descriptors["root"] = context.root
        operations = _mounts(mounts)
        if container.seen.HostConfig.ReadonlyRootfs and not past_read_only:
            operations.append(MakeReadonly(["/"]))
        for operation in operations:
            operation.prepare(context)
            operation.apply(context)
        yield context.root
    finally:
        for descriptor in context.descriptors.values():
            os.close(descriptor)
        root.undo(context)


def _mounts(mounts: list[dict[str, Any]]) -> list[Operation]:
    bound = [mount for mount in mounts if mount["type"] == "bind"]
    return [BindMount(mount["source"], mount["destination"], mount["options"]) for mount in bound]


def tree_size(directory: str) -> int:
    """How many bytes the files in a directory have; one with several names counts once, what vanishes meanwhile not."""
    sizes, waiting = {}, [directory]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    else:
                        sizes[entry.inode()] = entry.stat(follow_symlinks=False).st_size
        except OSError:
            continue
    return sum(sizes.values())

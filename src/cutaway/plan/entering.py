"""Operations of who enters a container with a program of the host: what it sees beside the namespaces it joins.
`nsenter(1)`"""

from __future__ import annotations

import os

from cutaway.kernel.errors import KernelError
from cutaway.kernel.mounts import (
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID,
    MS_PRIVATE,
    attach_at,
    new_mount,
    propagate,
)
from cutaway.kernel.namespaces import CLONE_NEWNS, unshare
from cutaway.plan.operation import Context, Operation

_HARMLESS = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC


class ShowEntered(Operation):
    """Mounts over the host's `/proc` and `/sys` those of the namespaces that were joined, for this process and its
    children alone: `filesystems` by target. Else `ps` and `ip` would go on showing the host's."""

    filesystems: dict[str, str]
    manual = "mount_namespaces(7)"

    def apply(self, context: Context) -> None:  # noqa: ARG002
        unshare(CLONE_NEWNS)
        propagate("/", MS_PRIVATE, recursive=True)
        for target, filesystem in self.filesystems.items():
            made = new_mount(filesystem, filesystem, attributes=_HARMLESS)
            try:
                attach_at(made, target)
            finally:
                os.close(made)

    def shell(self) -> str:
        mounts = (f"mount -t {filesystem} {filesystem} {target}" for target, filesystem in self.filesystems.items())
        return " && ".join(["unshare --mount --propagation private", *mounts])

    def why(self) -> str:
        return f"The program has the host's files, but {' and '.join(self.filesystems)} of where it has gone."


class EnterRoot(Operation):
    """Makes the directory that the context holds as `descriptor` the root directory, in the mount namespace as it
    is."""

    descriptor: str
    manual = "chroot(2)"

    def apply(self, context: Context) -> None:
        try:
            os.fchdir(context.descriptors[self.descriptor])
            os.chroot(".")
        except OSError as error:
            raise KernelError(error.errno or 0, "chroot", "the container's root directory") from None

    def shell(self) -> str:
        return "chroot /proc/$PID/root"

    def why(self) -> str:
        return "The program sees the container's files."

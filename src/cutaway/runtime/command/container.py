"""A container as this command knows it between two invocations: a directory under `--root`, named after it.

    config.json   the bundle's, as it was when the container was created: changes after that have no effect
    state.json    what was made for it, as operations to undo, written down before they are done; and its first process
    start         the socket at which that process waits to be told to execute the program; gone once it was told

A status is never written down: it is what these files and the kernel say now. The directory is locked as long as a verb
changes the container. <https://github.com/opencontainers/runtime-spec/blob/main/runtime.md>
"""

from __future__ import annotations

import errno
import fcntl
import os

from cutaway.runtime.command import document
from cutaway.runtime.command.failure import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SPECIFICATION = "1.3.0"
_ID_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-.")
NO_CONTAINER = "~"
"""In the name of what is under the root and no container (yet): no ID has it."""
_TAKEN = (errno.EEXIST, errno.ENOTEMPTY)
_EXISTS = "container with given ID already exists"
_FROZEN = ("FROZEN", "FREEZING", "1")
_DEAD = ("Z", "X")


class NoSuchContainer(Failure):
    """There is none of that ID."""


class Container:
    """`facts` is what `state.json` holds: `pid` and `start_time` of its first process (0 as long as there is none), the
    `bundle`, its `rootfs`, when it was `created`, its `cgroup`, the `unit` that this is of `systemd` (at that socket),
    if it is one, the `freezer` file, operations to `undo`. `lock`: the descriptor by which it is locked, -1 if not."""

    def __init__(self, directory: str, facts: dict[str, Any]) -> None:
        self.directory, self.facts = directory, facts
        self.id = directory.rpartition("/")[2]
        self.lock = -1

    @classmethod
    def find(cls, root: str, identifier: str, *, lock: bool = False) -> Container:
        """The container of that ID; with `lock` no other verb changes it until this process ends.

        Raises `NoSuchContainer`, and `Failure` where what is known of it cannot be read.
        """
        container = cls(_directory(root, identifier), {})
        try:
            if lock:
                container._take_lock()
            container.facts = document.read(f"{container.directory}/state.json")
        except (FileNotFoundError, NotADirectoryError):
            raise NoSuchContainer("container does not exist") from None
        except ValueError as error:
            raise Failure(f"{container.directory}/state.json: {error}") from None
        return container

    @classmethod
    def reserve(cls, root: str, identifier: str, facts: dict[str, Any], config: bytes) -> Container:
        """A new container, locked. It appears in one step, so that whatever happens it can be deleted.

        Raises `Failure`: the ID is taken.
        """
        directory = _directory(root, identifier)
        container = cls(f"{directory}{NO_CONTAINER}{os.urandom(4).hex()}", facts)
        os.makedirs(container.directory, 0o700)
        try:
            container._take_lock()
            container.save()
            _write(f"{container.directory}/config.json", config)
            os.rename(container.directory, directory)
        except BaseException as error:
            container.forget()
            if isinstance(error, OSError) and error.errno in _TAKEN:
                raise Failure(_EXISTS) from None
            raise
        container.directory, container.id = directory, identifier
        return container

    def save(self) -> None:
        """Writes `facts` down; whoever reads meanwhile sees the old ones or the new."""
        _write(f"{self.directory}/state.json", document.text_of(self.facts).encode())

    def forget(self) -> None:
        """Removes its directory."""
        for name in os.listdir(self.directory):
            os.unlink(f"{self.directory}/{name}")
        os.rmdir(self.directory)

    def is_busy(self) -> bool:
        """Whether another verb changes it at the moment."""
        try:
            directory = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:  # it is gone
            return False
        try:
            fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(directory)
        return False

    def unlock(self) -> None:
        """Lets go of the lock, in a process that goes on."""
        os.close(self.lock)

    @property
    def config(self) -> dict[str, Any]:
        """Its `config.json`."""
        parsed: dict[str, Any] = document.read(f"{self.directory}/config.json")
        return parsed

    @property
    def pid(self) -> int:
        return int(self.facts["pid"])

    @property
    def gate(self) -> str:
        """Where its first process waits to be started."""
        return f"{self.directory}/start"

    def status(self) -> str:
        """One of the specification's words, or `paused`."""
        if not self.is_alive():
            return "stopped" if self.pid else "creating"
        if self.is_frozen():
            return "paused"
        return "created" if os.path.exists(self.gate) else "running"

    def is_alive(self) -> bool:
        """Whether its first process has not ended; a PID that is another's by now is not it."""
        if not self.pid:
            return False
        state, start_time = look_at(self.pid)
        return start_time == self.facts["start_time"] and state not in _DEAD

    def is_frozen(self) -> bool:
        try:
            with open(self.facts["freezer"], encoding="utf-8") as file:
                return file.read().strip() in _FROZEN
        except OSError:
            return False

    def pidfd(self) -> int:
        """A descriptor of its first process; raises `ProcessLookupError` where that has ended."""
        if self.pid:
            descriptor = os.pidfd_open(self.pid)
            if self.is_alive():
                return descriptor
            os.close(descriptor)
        raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))

    def state(self, status: str = "") -> dict[str, Any]:
        """What `state` prints and hooks are told. `status`: for a hook, which has its own view of where things are."""
        now = status or self.status()
        shown = {
            "ociVersion": self.facts["ociVersion"],
            "id": self.id,
            "pid": 0 if now == "stopped" else self.pid,
            "status": now,
            "bundle": self.facts["bundle"],
        }
        return shown | ({"annotations": self.facts["annotations"]} if self.facts["annotations"] else {})

    def _take_lock(self) -> None:
        self.lock = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(self.lock, fcntl.LOCK_EX)
        if os.fstat(self.lock).st_nlink == 0:  # deleted while we waited
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))


def check_free(root: str, identifier: str) -> None:
    """Raises `Failure` where the ID is none, or taken: before anything else is said of what is asked for. Who comes at
    the same time is met by `Container.reserve`."""
    if os.path.exists(_directory(root, identifier)):
        raise Failure(_EXISTS)


def forget_unborn(root: str, identifier: str) -> None:
    """Removes what was written down for a container of that ID by who was killed before it appeared."""
    for name in os.listdir(root) if os.path.isdir(root) else ():
        unborn = Container(f"{root}/{name}", {})
        if name.startswith(f"{identifier}{NO_CONTAINER}") and not unborn.is_busy():
            unborn.forget()


def all_in(root: str) -> list[Container]:
    """The containers under `root`, by ID."""
    found = []
    names = os.listdir(root) if os.path.isdir(root) else []
    for identifier in sorted(name for name in names if NO_CONTAINER not in name):
        try:
            found.append(Container.find(root, identifier))
        except Failure:  # being created or deleted, or not ours
            continue
    return found


def look_at(pid: int) -> tuple[str, int]:
    """The state letter and the start time of process `pid`; ("X", 0) where it is gone. `proc_pid_stat(5)`"""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return "X", 0
    return fields[0].decode(), int(fields[19])


def _directory(root: str, identifier: str) -> str:
    if (
        not identifier
        or identifier in (".", "..")
        or not _ID_CHARACTERS.issuperset(identifier)
        or len(identifier) > 1024
    ):
        raise Failure("invalid container ID format")
    return f"{root}/{identifier}"


def _write(path: str, content: bytes) -> None:
    passing = f"{path}.new"
    with open(os.open(passing, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
        file.write(content)
    os.rename(passing, path)

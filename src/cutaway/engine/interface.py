"""What the engine does for those above it: the command line, the Python client's requests, the Docker API.

`name` is always a name, an ID or a beginning of an ID that only one object has; every method raises `errors.NotFound`
where there is none, and any other `errors.EngineError` with one sentence that says what is wrong.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from cutaway.engine import model
    from cutaway.engine.filters import Filters
    from cutaway.engine.rehearsal import Replay
    from cutaway.image.registry.access import Access


class Stdio(NamedTuple):
    """Descriptors that the container's process gets as its own 0, 1 and 2; -1 stands for `/dev/null`. They are
    duplicated; whoever passes them keeps them."""

    stdin: int = -1
    stdout: int = -1
    stderr: int = -1


class Streams(NamedTuple):
    """Descriptors of an attachment, to be closed by whoever asked for it; -1 where there is none.

    `stdin` is written (the terminal's master where there is one), `stdout` and `stderr` are read to their end; with a
    terminal `stdout` holds all output, and `terminal` is its master: the window's size is set there. Everything the
    process wrote is in the pipes before `wait` and `exec_wait` return.
    """

    stdin: int = -1
    stdout: int = -1
    stderr: int = -1
    terminal: int = -1


class Exit(NamedTuple):
    """How a container ended. `error` is why it could not be started, where that is so; `oom_killed`: the kernel killed
    a process of it at its memory limit; `duration`: seconds that it ran."""

    code: int
    error: str = ""
    oom_killed: bool = False
    duration: float = 0.0


class LogLine(NamedTuple):
    """A line of a container's log, with its line end if it has one; where it has none, more of it may follow. `time` in
    nanoseconds since 1970."""

    stream: Literal["stdout", "stderr"]
    time: int
    line: bytes


class Commit(NamedTuple):
    """How an image is to be made of a container. `reference` may be empty; `changes` are Dockerfile
    instructions; `pause`: a container that runs stands still while it is read."""

    reference: str = ""
    author: str = ""
    message: str = ""
    changes: Sequence[str] = ()
    pause: bool = True


class Step(NamedTuple):
    """How far something is that takes long: an image that is pulled, say. `status` in the words of Docker's API; `id`
    is what of it: a layer, in short, or a tag; `done` of `total` bytes, where it has some."""

    status: str
    id: str = ""
    done: int = 0
    total: int = 0


class Pulled(NamedTuple):
    """An image as a registry has it. `name` is what was asked for, in full and with its tag or digest; `digest` that of
    the manifest or index it names; `is_new`: the name meant another image here before, or none."""

    id: str
    name: str
    digest: str
    is_new: bool


class Usage(NamedTuple):
    """What a container has used so far, and is using. Times in nanoseconds, sizes in bytes."""

    time: int
    """When this was read, on the monotonic clock."""
    cpu: int
    cpus: int
    """How many CPUs the host has online."""
    memory: int
    """Without the page cache that the kernel can take back at once, as `docker stats` counts."""
    memory_limit: int
    received: int
    sent: int
    read: int
    written: int
    pids: int


class Pushed(NamedTuple):
    """What a name means in its registry now: a manifest, by its digest and its size in bytes."""

    digest: str
    size: int


class Engine(Protocol):
    # Containers

    async def create(
        self, request: model.CreateRequest, *, owned: bool = False, provisional: bool = False
    ) -> model.Created:
        """`owned`: it does not outlive who created it, nor this engine: the next one removes it. `provisional`: so it
        is until it runs."""

    async def replay(self, request: model.CreateRequest, title: str = "") -> Replay:
        """A script that makes the container with stock tools, runs it and removes it; nothing is changed. `title`: what
        was typed. Raises what `create` and `start` would."""

    async def start(self, name: str, stdio: Stdio | None = None) -> None:
        """Returns once the program runs. With `stdio` its output goes there and not to the log.

        Raises `errors.CommandNotFound` and `errors.CannotInvoke`; a container with AutoRemove is then removed.
        """

    async def attach(self, name: str, *, stdin: bool, stdout: bool, stderr: bool) -> Streams:
        """Connects with a container's streams from now on; one that is not started yet is waited for."""

    async def wait(
        self, name: str, condition: Literal["not-running", "next-exit", "removed"] = "not-running"
    ) -> Exit: ...

    async def stop(self, name: str, timeout: int | None = None, signal: str = "") -> None:
        """The stop signal, and SIGKILL `timeout` seconds later (None: the container's own; -1: never)."""

    async def kill(self, name: str, signal: str = "KILL") -> None:
        """`signal` is a name with or without `SIG`, or a number. Raises `errors.Conflict` where nothing runs."""

    async def restart(self, name: str, timeout: int | None = None, signal: str = "") -> None: ...

    async def remove(self, name: str, *, force: bool = False, volumes: bool = False) -> None:
        """`volumes`: its anonymous volumes too."""

    async def container_prune(self, filters: Filters) -> model.Pruned:
        """Removes those that do not run."""

    async def containers(self) -> list[model.Container]:
        """All of them, whatever their state, newest first. Not to be changed."""

    async def inspect(self, name: str, *, size: bool = False) -> model.Container: ...

    async def rename(self, name: str, new_name: str) -> None: ...

    async def pause(self, name: str) -> None: ...

    async def unpause(self, name: str) -> None: ...

    async def update(self, name: str, request: model.UpdateRequest) -> list[str]:
        """Returns warnings."""

    async def pids(self, name: str) -> list[int]:
        """The processes of a running container, as the host numbers them."""

    async def usage(self, name: str) -> Usage: ...

    async def diff(self, name: str) -> list[model.Change]: ...

    async def commit(self, name: str, asked: Commit) -> str:
        """Makes an image of a container; returns the image's ID."""

    async def export(self, name: str, descriptor: int) -> None:
        """Writes a container's root file system, without what is mounted in it, as a tar archive to a descriptor."""

    def logs(
        self,
        name: str,
        *,
        stdout: bool = True,
        stderr: bool = True,
        since: int = 0,
        until: int = 0,
        tail: int | None = None,
        follow: bool = False,
    ) -> AsyncIterator[LogLine]:
        """`since` and `until` in nanoseconds since 1970, 0 for no bound; `tail` the number of lines from the end."""

    async def path_stat(self, name: str, path: str) -> model.PathStat:
        """Of a path in the container, a last symbolic link not followed."""

    async def archive_out(self, name: str, path: str, descriptor: int, called: str = "") -> None:
        """Writes a tar archive of a path in the container to a descriptor; in it the path is named as `called`, or by
        its own last component."""

    async def archive_in(
        self, name: str, path: str, descriptor: int, *, keep_ids: bool = False, past_read_only: bool = False
    ) -> None:
        """Unpacks a tar archive, in any compression, read from a descriptor, in a directory of the container.

        `keep_ids`: with the archive's owners; else the files belong to the container's root. `past_read_only`: also on
        a root file system that is read-only to the container itself.
        """

    # Processes in containers

    async def exec_create(self, name: str, config: model.ExecConfig) -> str:
        """Returns the exec's ID."""

    async def exec_start(self, exec_id: str, stdio: Stdio | None = None) -> Streams:
        """Starts it, with `stdio`, or attached to what its configuration says."""

    async def exec_wait(self, exec_id: str) -> int:
        """Its exit code."""

    async def exec_kill(self, exec_id: str, signal: str, *, group: bool = False) -> None:
        """Signals its process, or with `group` all of its process group, where the kernel can (since 6.9)."""

    async def oom_kills(self, name: str) -> int:
        """How many processes of a running container the kernel has killed at its memory limit."""

    async def exec_forget(self, exec_id: str) -> None:
        """It has ended, and nobody is going to ask how."""

    async def exec_inspect(self, exec_id: str) -> model.Exec: ...

    async def resize(self, name: str, rows: int, columns: int) -> None: ...

    async def exec_resize(self, exec_id: str, rows: int, columns: int) -> None: ...

    # Images

    async def images(self) -> list[model.ImageSummary]:
        """All of them, newest first."""

    async def image_descendants(self, name: str) -> set[str]:
        """The IDs of an image and of all that stand on its layers; none where there is no such image."""

    async def image_history(self, name: str) -> list[model.HistoryStep]:
        """How it was made, the last step first."""

    async def image_inspect(self, name: str) -> model.Image: ...

    async def image_import(self, descriptor: int, reference: str, changes: list[str], message: str = "") -> str:
        """Makes an image of a tar archive, in any compression, read from a descriptor. Returns its ID."""

    async def image_load(self, descriptor: int) -> list[str]:
        """Loads a Docker archive or OCI layout, as a tar archive, from a descriptor. Returns names, or IDs of the
        images that have none."""

    async def image_pull(
        self, reference: str, platform: str = "", access: Access | None = None, progress: Callable[[Step], None] = ...
    ) -> Pulled:
        """Takes in the image that a reference names in its registry, for a platform (`OS/ARCHITECTURE[/VARIANT]`, empty
        for this machine's)."""

    async def image_push(
        self, reference: str, access: Access | None = None, progress: Callable[[Step], None] = ...
    ) -> Pushed:
        """Brings the image that a reference names to its registry."""

    async def remote_tags(self, repository: str, access: Access | None = None) -> list[str]:
        """The tags that a repository has in its registry."""

    async def image_save(self, names: Sequence[str], descriptor: int) -> None:
        """Writes an archive, an OCI layout and a Docker archive in one, of images to a descriptor. A repository's name
        stands for all its tags."""

    async def login(self, domain: str, access: Access) -> str:
        """Asks a registry whether it accepts credentials. Returns an identity token to show it in the place of the
        password, empty where it gives none."""

    async def image_tag(self, name: str, reference: str) -> None: ...

    async def image_remove(self, name: str, *, force: bool = False, prune: bool = True) -> list[model.ImageDelete]: ...

    async def image_prune(self, filters: Filters, *, all: bool = False) -> model.ImagesPruned:
        """Removes the images without a name that no container stands on; with `all` those with a name too."""

    # Networks

    async def network_create(self, request: model.NetworkCreate) -> str:
        """Returns its ID."""

    async def networks(self) -> list[model.Network]: ...

    async def network_inspect(self, name: str) -> model.Network: ...

    async def network_remove(self, name: str) -> None: ...

    async def network_connect(self, name: str, container: str, endpoint: model.EndpointSettings) -> None: ...

    async def network_disconnect(self, name: str, container: str, *, force: bool = False) -> None: ...

    async def network_prune(self, filters: Filters) -> model.Pruned:
        """Removes those that no container is on; `filters`: `until`, `label`, `label!`, as for all that is pruned."""

    # Volumes

    async def volume_create(self, request: model.VolumeCreate) -> model.Volume:
        """The volume of this name, made if there is none."""

    async def volumes(self) -> list[model.Volume]: ...

    async def volume_inspect(self, name: str) -> model.Volume: ...

    async def volume_remove(self, name: str, *, force: bool = False) -> None:
        """`force`: one that is not there is no error."""

    async def volume_prune(self, filters: Filters, *, all: bool = False) -> model.Pruned:
        """Removes anonymous volumes that no container uses; with `all` the named ones too."""

    # The engine itself

    async def disk_usage(self) -> model.DiskUsage:
        """What images, containers and volumes take of the disk."""

    async def version(self) -> model.Version: ...

    async def info(self) -> model.SystemInfo: ...

    async def status(self) -> model.EngineStatus: ...

    async def shutdown(self, *, stop_containers: bool = False) -> None:
        """Ends the engine, and the spawner when it has no container left; containers run on unless told otherwise."""

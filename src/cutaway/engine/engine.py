"""The engine: everything it knows and does, behind the methods of `interface.Engine`.

One per state root. It owns the state, talks to the spawner, and hands each question to the room that knows the answer.
"""

from __future__ import annotations

import asyncio
import os
import platform
from typing import TYPE_CHECKING, Any

import cutaway
from cutaway.engine.archives import Archives
from cutaway.engine.containers import Containers, Record, now
from cutaway.engine.creation import directory_operations, new_container
from cutaway.engine.database import Table, open_database
from cutaway.engine.disk import Disk
from cutaway.engine.endpoints import Endpoints
from cutaway.engine.errors import Conflict
from cutaway.engine.execs import Executions
from cutaway.engine.images import Catalogue
from cutaway.engine.janitor import Janitor
from cutaway.engine.lifecycle import Lifecycle
from cutaway.engine.limits import Limits
from cutaway.engine.logs import Wanted, lines
from cutaway.engine.model import Created, EngineStatus
from cutaway.engine.networks import Kept, Networks
from cutaway.engine.outfit import Outfitter
from cutaway.engine.procview import ProcView
from cutaway.engine.publishing import Publishing
from cutaway.engine.recovery import Recovery
from cutaway.engine.rehearsal import Rehearsal
from cutaway.engine.seccomp import Filters
from cutaway.engine.signals import signal_number
from cutaway.engine.snapshots import Snapshots
from cutaway.engine.spawners import SpawnerLink
from cutaway.engine.starting import Starter
from cutaway.engine.system import info, version
from cutaway.engine.usage import pids, usage
from cutaway.engine.volumes import Volumes
from cutaway.image.images import Images
from cutaway.image.registry.access import Access
from cutaway.kernel.cgroups import Cgroup, host_layout
from cutaway.kernel.pty import set_window_size
from cutaway.network.watch import RulesetWatch
from cutaway.plan.operation import Context
from cutaway.plan.plan import apply

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence

    from cutaway.engine import model
    from cutaway.engine.interface import Commit, Exit, LogLine, Pulled, Pushed, Stdio, Step, Streams, Usage
    from cutaway.engine.places import Places
    from cutaway.engine.processes import Process
    from cutaway.engine.rehearsal import Replay
    from cutaway.engine.spawners import Adoption


class LocalEngine:
    """Made by `open`, ended by `shutdown`."""

    def __init__(self, places: Places) -> None:
        for directory in (places.root, f"{places.root}/containers", places.runtime_dir):
            os.makedirs(directory, 0o711, exist_ok=True)
        self.places, self._started_at = places, now()
        database = self._database = open_database(places.database)
        self._all = Containers(Table(database, "containers", Record))
        self._janitor = Janitor()
        self._link = SpawnerLink(
            places.spawner_socket, f"{places.runtime_dir}/spawner.log", self._adoption, self._on_loss
        )
        self._images = Images(places.images, database, self._users_of)
        unfinished: Table[list[Any]] = Table(database, "unfinished", list)
        self._networks = Networks(places, Table(database, "networks", Kept), unfinished)
        self._publishing = Publishing(places, self._all, unfinished)
        self._endpoints = Endpoints(places, self._all, self._networks, self._publishing, unfinished)
        self._volumes = Volumes(places, database, self._all)
        self._proc_view = ProcView(places, Table(database, "proc_view", list), self._all)
        self._outfitter = Outfitter(
            places, self._all, self._endpoints, self._volumes, self._proc_view, Filters(places.seccomp_cache)
        )
        starter = Starter(places, self._all, unfinished, self._link, self._outfitter)
        self._lifecycle = Lifecycle(places, self._all, unfinished, self._link, self._outfitter, starter, self._janitor)
        self._recovery = Recovery(
            places, self._all, unfinished, self._link, self._outfitter, starter, self._lifecycle, self._janitor
        )
        self._rehearsal = Rehearsal(
            places, self._all, self._networks, self._endpoints, self._volumes, self._proc_view, self._outfitter
        )
        self._executions = Executions(places, self._link, self._outfitter)
        self._catalogue = Catalogue(self._images)
        self._archives = Archives(self._volumes, self._images)
        self._limits = Limits(self._all, self._outfitter, self._publishing, unfinished)
        self._snapshots = Snapshots(self._images, self._limits)
        self._disk = Disk(places, self._all, self._images, self._volumes, self._networks, self._lifecycle)
        self._lifecycle.on_container_end(self._executions.container_ended)
        self._lifecycle.on_container_removal(self._images.release)
        self._tasks: set[asyncio.Task[None]] = set()
        self._watch: RulesetWatch | None = None
        self.ending = asyncio.Event()

    @classmethod
    async def open(cls, places: Places) -> LocalEngine:
        """The engine of these places, having taken over what one before it left."""
        engine = cls(places)
        engine._networks.recover()
        await engine._volumes.recover()
        await engine._recovery.take_over()
        await engine._proc_view.recover()
        engine._watch = RulesetWatch(places.table, engine._apply_networks_again)
        await engine._images.sweep()
        await engine._volumes.sweep()
        return engine

    # Containers

    async def create(
        self, request: model.CreateRequest, *, owned: bool = False, provisional: bool = False
    ) -> model.Created:
        image = None if request.host_config.Rootfs else self._catalogue.resolve(request.config.Image)
        container = new_container(request, image, self.places, self._all, self._networks)
        container.record.owned, container.record.provisional = owned, provisional
        apply(directory_operations(container, self.places), Context())
        try:
            await self._volumes.prepare(container)
            self._all.add(container)
            self._volumes.settle(container)
        except BaseException:
            await self._volumes.release(container, remove_anonymous=True)
            await self._janitor.remove_tree(self.places.container(container.id))
            raise
        return Created(Id=container.id)

    async def replay(self, request: model.CreateRequest, title: str = "") -> Replay:
        image = None if request.host_config.Rootfs else self._catalogue.resolve(request.config.Image)
        return await self._rehearsal.replay(request, image, title)

    async def start(self, name: str, stdio: Stdio | None = None) -> None:
        await self._lifecycle.start(self._all.find(name), stdio)

    async def wait(self, name: str, condition: str = "not-running") -> Exit:
        return await self._lifecycle.wait(self._all.find(name), condition)

    async def stop(self, name: str, timeout: int | None = None, signal: str = "") -> None:
        await self._lifecycle.stop(self._all.find(name), timeout, signal_number(signal) if signal else None)

    async def kill(self, name: str, signal: str = "KILL") -> None:
        await self._lifecycle.kill(self._all.find(name), signal_number(signal))

    async def restart(self, name: str, timeout: int | None = None, signal: str = "") -> None:
        await self._lifecycle.restart(self._all.find(name), timeout, signal_number(signal) if signal else None)

    async def remove(self, name: str, *, force: bool = False, volumes: bool = False) -> None:
        await self._lifecycle.remove(self._all.find(name), force=force, volumes=volumes)

    async def container_prune(self, filters: dict[str, list[str]]) -> model.Pruned:
        return await self._disk.prune_containers(filters)

    async def containers(self) -> list[model.Container]:
        return sorted((container.seen for container in self._all), key=lambda seen: seen.Created, reverse=True)

    async def inspect(self, name: str, *, size: bool = False) -> model.Container:
        container = self._all.find(name)
        return await self._archives.measured(container) if size else container.seen

    async def attach(self, name: str, *, stdin: bool, stdout: bool, stderr: bool) -> Streams:
        return await self._lifecycle.attach(self._all.find(name), stdin=stdin, stdout=stdout, stderr=stderr)

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
        container = self._all.find(name)
        streams = frozenset(stream for stream, wanted in (("stdout", stdout), ("stderr", stderr)) if wanted)
        directory = self.places.container(container.id)
        return lines(container, directory, Wanted(streams, since, until), tail, follow=follow)

    # Processes in containers

    async def exec_create(self, name: str, config: model.ExecConfig) -> str:
        return self._executions.create(self._all.find(name), config)

    async def exec_start(self, exec_id: str, stdio: Stdio | None = None) -> Streams:
        return await self._executions.start(exec_id, stdio)

    async def exec_wait(self, exec_id: str) -> int:
        return await self._executions.wait(exec_id)

    async def exec_kill(self, exec_id: str, signal: str, *, group: bool = False) -> None:
        process = self._executions.find(exec_id).process
        if process:
            process.signal(signal_number(signal), group=group)

    async def oom_kills(self, name: str) -> int:
        return self._outfitter.oom_kills(self._all.find(name))

    async def exec_forget(self, exec_id: str) -> None:
        self._executions.forget(exec_id)

    async def exec_inspect(self, exec_id: str) -> model.Exec:
        return self._executions.find(exec_id).seen

    async def resize(self, name: str, rows: int, columns: int) -> None:
        container = self._all.find(name)
        if not container.process or container.process.terminal < 0:
            raise Conflict(f"container {container.name} has no terminal")
        set_window_size(container.process.terminal, columns, rows)

    async def exec_resize(self, exec_id: str, rows: int, columns: int) -> None:
        process = self._executions.find(exec_id).process
        if not process or process.terminal < 0:
            raise Conflict(f"exec {exec_id} has no terminal")
        set_window_size(process.terminal, columns, rows)

    async def rename(self, name: str, new_name: str) -> None:
        container = self._all.find(name)
        self._all.rename(container, new_name)
        self._outfitter.name_cgroup(container)

    async def pause(self, name: str) -> None:
        await self._limits.pause(self._all.find(name))

    async def unpause(self, name: str) -> None:
        await self._limits.unpause(self._all.find(name))

    async def update(self, name: str, request: model.UpdateRequest) -> list[str]:
        return await self._limits.update(self._all.find(name), request)

    async def pids(self, name: str) -> list[int]:
        container = self._all.find(name)
        return pids(container, self._outfitter.cgroup(container))

    async def usage(self, name: str) -> Usage:
        container = self._all.find(name)
        return usage(container, self._outfitter.cgroup(container))

    # Files in containers

    async def diff(self, name: str) -> list[model.Change]:
        return await self._archives.diff(self._all.find(name))

    async def commit(self, name: str, asked: Commit) -> str:
        return await self._snapshots.commit(self._all.find(name), asked)

    async def export(self, name: str, descriptor: int) -> None:
        await self._snapshots.export(self._all.find(name), descriptor)

    async def path_stat(self, name: str, path: str) -> model.PathStat:
        return await self._archives.stat(self._all.find(name), path)

    async def archive_out(self, name: str, path: str, descriptor: int, called: str = "") -> None:
        await self._archives.pack(self._all.find(name), path, descriptor, called)

    async def archive_in(
        self, name: str, path: str, descriptor: int, *, keep_ids: bool = False, past_read_only: bool = False
    ) -> None:
        container = self._all.find(name)
        await self._archives.unpack(container, path, descriptor, keep_ids=keep_ids, past_read_only=past_read_only)

    # Images

    async def images(self) -> list[model.ImageSummary]:
        return self._catalogue.all()

    async def image_descendants(self, name: str) -> set[str]:
        return self._catalogue.descendants(name)

    async def image_history(self, name: str) -> list[model.HistoryStep]:
        return self._catalogue.history(name)

    async def image_inspect(self, name: str) -> model.Image:
        return self._catalogue.inspect(name)

    async def image_import(self, descriptor: int, reference: str, changes: list[str], message: str = "") -> str:
        return await self._catalogue.import_(descriptor, reference, changes, message)

    async def image_load(self, descriptor: int) -> list[str]:
        return await self._catalogue.load(descriptor)

    async def image_pull(
        self,
        reference: str,
        platform: str = "",
        access: Access | None = None,
        progress: Callable[[Step], None] = lambda _: None,
    ) -> Pulled:
        return await self._catalogue.pull(reference, platform, access or Access(), progress)

    async def image_push(
        self, reference: str, access: Access | None = None, progress: Callable[[Step], None] = lambda _: None
    ) -> Pushed:
        return await self._catalogue.push(reference, access or Access(), progress)

    async def remote_tags(self, repository: str, access: Access | None = None) -> list[str]:
        return await self._catalogue.remote_tags(repository, access or Access())

    async def image_save(self, names: Sequence[str], descriptor: int) -> None:
        await self._catalogue.save(names, descriptor)

    async def login(self, domain: str, access: Access) -> str:
        return await self._catalogue.login(domain, access)

    async def image_tag(self, name: str, reference: str) -> None:
        self._catalogue.tag(name, reference)

    async def image_remove(self, name: str, *, force: bool = False, prune: bool = True) -> list[model.ImageDelete]:  # noqa: ARG002
        return await self._catalogue.remove(name, force=force)

    async def image_prune(self, filters: dict[str, list[str]], *, all: bool = False) -> model.ImagesPruned:
        return await self._disk.prune_images(filters, everything=all)

    # Volumes

    async def volume_create(self, request: model.VolumeCreate) -> model.Volume:
        return self._volumes.create(request)

    async def volumes(self) -> list[model.Volume]:
        return self._volumes.all()

    async def volume_inspect(self, name: str) -> model.Volume:
        return self._volumes.inspect(name)

    async def volume_remove(self, name: str, *, force: bool = False) -> None:
        await self._volumes.remove(name, force=force)

    async def volume_prune(self, filters: dict[str, list[str]], *, all: bool = False) -> model.Pruned:
        return await self._disk.prune_volumes(filters, named=all)

    # Networks

    async def network_create(self, request: model.NetworkCreate) -> str:
        return self._networks.create(request)

    async def networks(self) -> list[model.Network]:
        return [network.seen for network in self._networks]

    async def network_inspect(self, name: str) -> model.Network:
        return self._networks.find(name).seen

    async def network_remove(self, name: str) -> None:
        self._networks.remove(name)

    async def network_connect(self, name: str, container: str, endpoint: model.EndpointSettings) -> None:
        network, found = self._networks.find(name), self._all.find(container)
        async with found.lock:
            await self._endpoints.connect(found, network, endpoint)

    async def network_disconnect(self, name: str, container: str, *, force: bool = False) -> None:  # noqa: ARG002
        network, found = self._networks.find(name), self._all.find(container)
        async with found.lock:
            await self._endpoints.disconnect(found, network)

    async def network_prune(self, filters: dict[str, list[str]]) -> model.Pruned:
        return await self._disk.prune_networks(filters)

    # The engine itself

    async def disk_usage(self) -> model.DiskUsage:
        return await self._disk.usage()

    async def version(self) -> model.Version:
        return version()

    async def info(self) -> model.SystemInfo:
        images = len(self._catalogue.all())
        return info(self.places, self._all, images, host_layout(), swap=self._outfitter.swap_is_accounted())

    async def status(self) -> model.EngineStatus:
        return EngineStatus(
            engine_pid=os.getpid(),
            spawner_pid=self._link.pid,
            root=self.places.root,
            runtime_dir=self.places.runtime_dir,
            socket=self.places.engine_socket,
            version=cutaway.__version__,
            python_version=platform.python_version(),
            kernel_version=os.uname().release,
            containers=len(self._all),
            containers_running=sum(container.state.Running for container in self._all),
            started_at=self._started_at,
        )

    def end(self) -> None:
        """Has it shut down, in its own time."""
        self._spawn(self.shutdown())

    async def shutdown(self, *, stop_containers: bool = False) -> None:
        await self._lifecycle.come_to_rest()
        owned = [container for container in self._all if container.record.owned]
        await self._each(self._lifecycle.remove(container, force=True, volumes=True) for container in owned)
        if stop_containers:
            running = [container for container in self._all if container.process or container.restarting]
            await self._each(self._lifecycle.stop(container, None, None) for container in running)
            await self._lifecycle.come_to_rest()
        await self._janitor.all_finished()
        if self.ending.is_set():  # somebody else was quicker
            return
        self.ending.set()
        self._watch_no_more()  # what is taken down now is not to be put back
        if any(container.process for container in self._all):
            self._link.close()
        else:
            self._link.stop()
            self._networks.take_down_all()
            Cgroup(self.places.cgroup_parent).remove_unused()

    async def _each(self, work: Iterable[Awaitable[None]]) -> None:
        """Does it all, whatever goes wrong with some."""
        for outcome in await asyncio.gather(*work, return_exceptions=True):
            if isinstance(outcome, Exception):
                print(f"ending: {outcome}", flush=True)

    def is_needed(self) -> bool:
        """Whether there is anything to look after: a container that runs or is to be restarted."""
        return any(container.process or container.restarting for container in self._all)

    async def close(self) -> None:
        """Lets go of threads and files; the last thing."""
        self._watch_no_more()
        self._proc_view.close()
        await self._images.close()
        self._janitor.close()
        self._database.close()

    def _users_of(self, image_id: str) -> list[tuple[str, bool]]:
        return [(container.id, container.state.Running) for container in self._all if container.seen.Image == image_id]

    def _watch_no_more(self) -> None:
        if self._watch:
            self._watch.close()
        self._watch = None

    def _apply_networks_again(self) -> None:
        try:
            self._networks.apply_again()
            apply(self._publishing.operations(), Context())
        except OSError as error:
            print(f"networks: {error}", flush=True)

    def _adoption(self, process: Process) -> Adoption:
        return self._recovery.adoption(process)

    def _on_loss(self) -> None:
        if not self.ending.is_set():
            self._spawn(self._recovery.spawner_lost())

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

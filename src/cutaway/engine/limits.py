"""Holding containers: freezing them where they are, and giving them other limits while they run."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from msgspec.structs import asdict, replace

from cutaway.engine.beside import beside
from cutaway.engine.description import limits
from cutaway.engine.errors import Conflict, EngineError, InvalidArgument
from cutaway.engine.validation import check_resources
from cutaway.kernel.cgroups import UnsupportedResource
from cutaway.plan.cgroups import FreezeCgroup, update_operations
from cutaway.plan.operation import Context, dump
from cutaway.plan.plan import apply, undo

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from cutaway.engine.containers import Container, Containers
    from cutaway.engine.database import Table
    from cutaway.engine.model import HostConfig, UpdateRequest
    from cutaway.engine.outfit import Outfitter
    from cutaway.engine.publishing import Publishing
    from cutaway.plan.operation import Operation

_NO_SWAP_LIMIT = (
    "Your kernel does not support swap limit capabilities or the cgroup is not mounted. Memory limited without swap."
)


class Limits:
    """Changes what the cgroups of containers say. `unfinished` is where it is written down before it is done."""

    def __init__(
        self, containers: Containers, outfitter: Outfitter, publishing: Publishing, unfinished: Table[list[Any]]
    ) -> None:
        self._containers, self._outfitter, self._publishing = containers, outfitter, publishing
        self._unfinished = unfinished

    async def pause(self, container: Container) -> None:
        """Stops all its processes where they are. Raises `Conflict` where it does not run, or is paused already."""
        async with container.lock:
            _check_running(container)
            if container.state.Paused:
                raise Conflict(f"Container {container.id} is already paused")
            self._note_paused(container, paused=True)  # before it is so: a crash leaves what `unpause` mends
            freeze = self._freeze(container)
            try:
                await beside(lambda _: freeze.apply(Context()))
            except BaseException as error:
                await self._thaw(container, freeze)
                if isinstance(error, OSError):
                    raise EngineError(f"cannot pause container {container.id}: {error}") from None
                raise
            if not container.state.Paused:  # it was killed meanwhile, and what is frozen does not die
                await self._thaw(container, freeze)

    async def unpause(self, container: Container) -> None:
        """Lets its processes run on. Raises `Conflict` where it is not paused."""
        async with container.lock:
            if not container.state.Paused:
                raise Conflict(f"Container {container.id} is not paused")
            await self._thaw(container, self._freeze(container))

    @asynccontextmanager
    async def paused(self, container: Container) -> AsyncIterator[None]:
        """The same for a while; one that is no more paused then, or does not even run, is left as it is."""
        await self.pause(container)
        try:
            yield
        finally:
            if container.state.Paused:
                await self.unpause(container)

    def _freeze(self, container: Container) -> FreezeCgroup:
        cgroup = self._outfitter.cgroup(container)
        return FreezeCgroup(cgroup.path, cgroup.layout.plain())

    async def _thaw(self, container: Container, freeze: FreezeCgroup) -> None:
        await beside(lambda _: freeze.undo(Context()))
        if container.state.Paused:
            self._note_paused(container, paused=False)

    def _note_paused(self, container: Container, *, paused: bool) -> None:
        container.state.Paused, container.state.Status = paused, "paused" if paused else "running"
        self._containers.save(container)

    async def update(self, container: Container, request: UpdateRequest) -> list[str]:
        """Changes limits, restart policy and published ports; returns warnings. Of a container that does not run it
        changes what the next start gives it. Raises `EngineError`; then nothing is changed."""
        async with container.lock:
            host, warnings = self._updated(container, request)
            operations = self._operations(container, host) if container.process else []
            await self._apply(container, operations, request)
            for name in request.__struct_fields__:
                if name in host.__struct_fields__:
                    setattr(container.seen.HostConfig, name, getattr(host, name))
            self._containers.save(container)
            self._unfinished.delete(_key(container))
            return warnings

    def _updated(self, container: Container, request: UpdateRequest) -> tuple[HostConfig, list[str]]:
        """The container's `HostConfig` as it is to be. What is None, empty or 0 stays as it is, as in Docker."""
        host = container.seen.HostConfig
        changes = {name: value for name, value in asdict(request).items() if name in host.__struct_fields__ and value}
        if request.PidsLimit is not None:
            changes["PidsLimit"] = request.PidsLimit or -1
        warnings = []
        if changes.get("MemorySwap") and not self._outfitter.swap_is_accounted():
            del changes["MemorySwap"]
            warnings.append(_NO_SWAP_LIMIT)
        _check(host, changes)
        updated = replace(host, **changes)
        try:
            check_resources(updated)
        except ValueError as error:
            raise InvalidArgument(str(error)) from None
        return updated, warnings

    def _operations(self, container: Container, host: HostConfig) -> list[Operation]:
        """Those that change what is different."""
        swap = self._outfitter.swap_is_accounted()
        before, after = limits(container.seen.HostConfig, swap=swap), limits(host, swap=swap)
        changed = {section: wanted for section, wanted in after.items() if wanted != before.get(section)}
        try:
            return update_operations(self._outfitter.cgroup(container), changed)
        except UnsupportedResource as error:
            raise InvalidArgument(str(error)) from None

    async def _apply(self, container: Container, operations: list[Operation], request: UpdateRequest) -> None:
        self._unfinished.save(_key(container), dump(operations))
        try:
            await beside(lambda _: apply(operations, Context()))
            if request.PublishAdd or request.PublishRemove:
                _check_running(container)
                self._publishing.change(container, request.PublishAdd, request.PublishRemove)
        except BaseException as error:
            await beside(lambda _: undo(operations, Context()))
            self._unfinished.delete(_key(container))
            if isinstance(error, OSError):
                raise EngineError(f"Cannot update container {container.id}: {error}") from None
            raise


def _key(container: Container) -> str:
    """Not that of a container, so that after a crash what was half done is undone, though the container runs."""
    return f"{container.id}:update"


def _check_running(container: Container) -> None:
    if container.state.Restarting:
        raise Conflict(f"Container {container.id} is restarting, wait until the container is running")
    if not container.state.Running:
        raise Conflict(f"Container {container.id} is not running")


def _check(host: HostConfig, changes: dict[str, Any]) -> None:
    """What contradicts what there is, in Docker's words."""
    if host.NanoCpus and (changes.get("CpuPeriod") or changes.get("CpuQuota")):
        raise Conflict("Conflicting options: CPU Period or Quota cannot be updated as NanoCPUs has already been set")
    if "NanoCpus" in changes and (host.CpuPeriod or host.CpuQuota):
        raise Conflict("Conflicting options: Nano CPUs cannot be updated as CPU Period or Quota has already been set")
    swap = changes.get("MemorySwap", host.MemorySwap)
    if 0 < swap < changes.get("Memory", 0):
        raise Conflict(
            "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time"
        )
    policy = changes.get("RestartPolicy")
    if policy and policy.Name not in ("", "no") and host.AutoRemove:
        raise Conflict("Restart policy cannot be updated because AutoRemove is enabled for the container")
    if policy and policy.MaximumRetryCount < 0:
        raise InvalidArgument("maximum retry count must be a positive integer")

"""The containers an engine has: what is kept of each, and how one is found by name or ID."""

from __future__ import annotations

import asyncio
import secrets
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from msgspec import Struct, field

from cutaway.engine import model
from cutaway.engine.errors import Conflict, NotFound
from cutaway.engine.validation import check_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cutaway.engine.database import Table
    from cutaway.engine.interface import Exit
    from cutaway.engine.processes import Process
    from cutaway.engine.streams import Attachment
    from cutaway.plan.plan import Step


class Record(Struct, kw_only=True):
    """What is kept of a container from one engine to the next, beside what everyone may see of it (`seen`).

    `endpoints`: what was asked for on each network, by its name; `start_time`: of the first process, in clock ticks
    since the host's boot, which `boot_id` names; `stopped`: it was stopped by a person, so not to be restarted;
    `own_log`: its output goes to its log, not to a caller's descriptors; `lower_dirs`: of its image, the top one first;
    `mounts`: what is to be mounted, volumes by their names, in the order of `seen.Mounts`; `anonymous`: names of the
    volumes made for it alone; `owned`: it does not outlive who created it, nor the engine that did; `provisional`: nor
    does it until it runs.
    """

    seen: model.Container
    endpoints: dict[str, model.EndpointSettings] = field(default_factory=dict)
    start_time: int = 0
    boot_id: str = ""
    stopped: bool = False
    own_log: bool = True
    lower_dirs: list[str] = field(default_factory=list)
    mounts: list[model.Mount] = field(default_factory=list)
    anonymous: list[str] = field(default_factory=list)
    owned: bool = False
    provisional: bool = False


class RestartDelay:
    """How long to wait before the next restart: 0.1 s, then twice as long each time, at most a minute. A container that
    ran for ten seconds is forgiven. All in seconds."""

    first, longest, quiet = 0.1, 60.0, 10.0

    def __init__(self) -> None:
        self._next = self.first

    def after(self, ran: float) -> float:
        """The delay after a run of `ran` seconds."""
        delay = self.first if ran >= self.quiet else self._next
        self._next = min(delay * 2, self.longest)
        return delay


class Container:
    """A container in the engine's memory. Whoever changes its state holds `lock`."""

    def __init__(self, record: Record) -> None:
        self.record = record
        self.lock = asyncio.Lock()
        self.process: Process | None = None
        self._waiting: dict[str, set[asyncio.Future[Exit]]] = {"next-exit": set(), "removed": set()}
        self.attaching: list[tuple[Attachment, asyncio.Future[None]]] = []
        self.restart_delay = RestartDelay()
        self.restarting: asyncio.Task[None] | None = None
        self.watcher: Callable[[Step], None] | None = None
        """Who is told of what is done when its first process ends: who started it, or stops it."""
        self.removed = False
        self.is_restarted = False
        """A person is restarting it: when it ends now it is to be started again, not removed."""

    @property
    def id(self) -> str:
        """64 hexadecimal digits."""
        return self.record.seen.Id

    @property
    def name(self) -> str:
        """Without the slash that the API puts before it."""
        return self.record.seen.Name[1:]

    @property
    def seen(self) -> model.Container:
        """What everyone may see of it."""
        return self.record.seen

    @property
    def state(self) -> model.State:
        return self.record.seen.State

    def expect(self, event: str) -> asyncio.Future[Exit]:
        """Gets its result with the next `event`, `"next-exit"` or `"removed"`; who waits no more cancels it."""
        future: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        self._waiting[event].add(future)
        future.add_done_callback(self._waiting[event].discard)
        return future

    def settle(self, event: str, exit: Exit) -> None:
        """Tells those who wait for `event`."""
        for future in self._waiting[event]:
            if not future.done():
                future.set_result(exit)


class Containers:
    """All of them, in memory and in the database."""

    def __init__(self, table: Table[Record]) -> None:
        self._table = table
        self._by_id: dict[str, Container] = {}
        self._by_name: dict[str, Container] = {}
        for record in table.all():
            self._remember(Container(record))

    def __iter__(self) -> Iterator[Container]:
        return iter(list(self._by_id.values()))

    def __len__(self) -> int:
        return len(self._by_id)

    def get(self, container_id: str) -> Container | None:
        """The container with this whole ID."""
        return self._by_id.get(container_id)

    def find(self, name: str) -> Container:
        """By name, ID, or the beginning of an ID that only one has. Raises `NotFound`."""
        wanted = name.removeprefix("/")
        found = self._by_id.get(wanted) or self._by_name.get(wanted)
        if found:
            return found
        matching = [container for key, container in self._by_id.items() if wanted and key.startswith(wanted)]
        if len(matching) == 1:
            return matching[0]
        if matching:
            raise NotFound(f"Multiple IDs found with provided prefix: {wanted}", "container", name)
        raise NotFound(f"No such container: {name}", "container", name)

    def check_free(self, name: str) -> None:
        """Raises `Conflict` where a container has this name."""
        other = self._by_name.get(name)
        if other:
            raise Conflict(
                f'Conflict. The container name "/{name}" is already in use by container "{other.id}". '
                "You have to remove (or rename) that container to be able to reuse that name."
            )

    def is_free(self, name: str) -> bool:
        """Whether no container has this name."""
        return name not in self._by_name

    def add(self, container: Container) -> None:
        """Takes in a new one and keeps it. Raises `Conflict` where its name is taken."""
        self.check_free(container.name)
        self.save(container)
        self._remember(container)

    def save(self, container: Container) -> None:
        """Keeps it as it is now."""
        if not container.removed:
            self._table.save(container.id, container.record)

    def rename(self, container: Container, name: str) -> None:
        """Raises `InvalidArgument` for what cannot be a name, `Conflict` where it is taken."""
        check_name(name)
        name = name.removeprefix("/")
        self.check_free(name)
        del self._by_name[container.name]
        container.seen.Name = f"/{name}"
        self._by_name[name] = container
        self.save(container)

    def strike(self, container: Container) -> None:
        """Has the next engine know nothing of it."""
        self._table.delete(container.id)
        container.removed = True

    def remove(self, container: Container) -> None:
        """Forgets it; its name is free again."""
        if not container.removed:
            self.strike(container)
        self._by_id.pop(container.id, None)
        if self._by_name.get(container.name) is container:  # not that of another, which has its name by now
            del self._by_name[container.name]

    def _remember(self, container: Container) -> None:
        self._by_id[container.id] = container
        self._by_name[container.name] = container


def new_id() -> str:
    """64 random hexadecimal digits; the first twelve are never digits alone, which would look like a PID."""
    while True:
        found = secrets.token_hex(32)
        if not found[:12].isdigit():
            return found


def now() -> str:
    """This moment, as the API writes it."""
    return moment(time.time_ns())


def moment(nanoseconds: int) -> str:
    """Nanoseconds since 1970 as an RFC 3339 string with nine digits of a second."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"


def seconds_between(start: str, end: str) -> float:
    """From one moment of the API's to another."""
    return (datetime.fromisoformat(end[:26]) - datetime.fromisoformat(start[:26])).total_seconds()

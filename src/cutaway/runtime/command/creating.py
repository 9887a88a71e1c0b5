"""`create` and `run`: from a bundle to a container."""

from __future__ import annotations

import _socket
import os
import time

from cutaway.kernel.cgroups import host_layout
from cutaway.kernel.errors import sentence
from cutaway.kernel.procfs import is_host_root
from cutaway.plan.operation import Context, Operation, dump
from cutaway.plan.plan import apply
from cutaway.runtime import meaning, specification
from cutaway.runtime.bundle import compile_bundle
from cutaway.runtime.command import document
from cutaway.runtime.command.birth import Child, bear, has_home
from cutaway.runtime.command.container import SPECIFICATION, Container, check_free, look_at
from cutaway.runtime.command.failure import Failure
from cutaway.runtime.command.given import add_environment, listening, pass_on_notify_socket, preserve, write_pid_file
from cutaway.runtime.command.starting import started
from cutaway.runtime.command.talk import MOUNTED, READY, Process
from cutaway.runtime.command.terminals import Terminal
from cutaway.runtime.command.undoing import remove

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cutaway.runtime.command.foreground import Foreground
    from cutaway.runtime.command.main import Invocation
    from cutaway.runtime.systemd import Manager


def create(invocation: Invocation) -> int:
    """`create ID`: all but the program; it waits to be started, on its own."""
    creation = Creation(invocation, detached=True)
    process = creation.make()
    try:
        write_pid_file(invocation.options["pid-file"], process.pid)
    except OSError:
        creation.abandon()
        raise
    return 0


def run(invocation: Invocation) -> int:
    """`run ID`: creates it, starts it and, unless `--detach`ed, waits for its end and deletes it."""
    detached = bool(invocation.options["detach"])
    creation = Creation(invocation, detached=detached, starts_at_once=True)
    process = creation.make()
    try:
        foreground = None if detached else creation.foreground(process, reaps=not invocation.options["no-subreaper"])
        creation.start(process)
        write_pid_file(invocation.options["pid-file"], process.pid)
        code = foreground.attend() if foreground else 0
    except BaseException:
        if not invocation.options["keep"]:
            remove(creation.container, invocation.log)
        raise
    if not (detached or invocation.options["keep"]):
        try:
            remove(creation.container, invocation.log)
        except (Failure, OSError) as error:  # how the program ended counts more
            invocation.log.error(sentence(error))
    return code


class Creation:
    """A container on its way from a bundle. What was done when one of its steps raises is undone.

    `starts_at_once`: its first process waits for this one, not for another that comes to start it.
    """

    def __init__(self, invocation: Invocation, *, detached: bool, starts_at_once: bool = False) -> None:
        options = invocation.options
        self._invocation, self._starts_at_once = invocation, starts_at_once
        self._terminal = Terminal(options["console-socket"], detached=detached)
        sockets = listening()
        self._kept = preserve(options["preserve-fds"], sockets)
        self._bundle, self._config = _read_bundle(options["bundle"])
        self._spec = _checked(self._config, self._bundle)
        if sockets:
            add_environment(self._spec, f"LISTEN_FDS={sockets}", "LISTEN_PID=1")
        if refused := pass_on_notify_socket(self._spec):
            invocation.log.warning(refused)
        self._terminal.check(self._spec["process"])
        check_free(invocation.root, invocation.operands[0])
        self._parts = compile_bundle(
            self._spec,
            self._bundle,
            invocation.operands[0],
            host_layout(),
            invocation.filters(self._spec),
            pivot=not options["no-pivot"],
            keyring=not options["no-new-keyring"],
            preserved=self._kept,
            systemd=_manager() if invocation.systemd else None,
            rootless=not is_host_root() if invocation.rootless is None else invocation.rootless,
        )
        for warning in self._parts.warnings:
            invocation.log.warning(warning)
        for moment in ("before", "joins", "born", "setup", "ready", "enter", "program"):
            invocation.log.operations(moment, getattr(self._parts, moment))
        self.container: Container
        self.process: Process | None = None

    def make(self) -> Process:
        """Up to where only the program is missing."""
        context = Context(self._terminal.descriptors(), host=os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
        self.container = Container.reserve(
            self._invocation.root, self._invocation.operands[0], self._facts(), self._config
        )
        context.state = self.container.state("creating")
        try:
            apply(self._parts.before, context)
            self.process = self._bear(context)
            self._accompany(self.process, context)
        except BaseException:
            self.abandon()
            raise
        return self.process

    def start(self, process: Process) -> None:
        """Executes the program of a container that starts at once. Raises `Failure`."""
        process.go()
        process.expect_execution()
        self.container.unlock()
        started(self.container, self._spec)

    def foreground(self, process: Process, *, reaps: bool) -> Foreground:
        """Who stays with it until it ends."""
        from cutaway.runtime.command.foreground import Foreground

        return Foreground(process, self._terminal, reaps=reaps)

    def _bear(self, context: Context) -> Process:
        parts, program = self._parts, self._spec["process"]
        powerless = os.geteuid() != 0
        for operation in [*parts.joins, *parts.born] if powerless else parts.prepared:
            operation.prepare(context)
        child = Child(
            parts.setup,
            parts.enter,
            parts.program,
            joins=parts.joins,
            flags=parts.flags,
            lock=self.container.lock,
            preserved=self._kept,
            gate=None if self._starts_at_once else _listen_at(self.container),
            waits_at_birth=bool(parts.born),
            waits_mounted=bool(parts.ready),
            prepares=parts.inside if powerless else parts.prepared_late,
            dumpable=powerless,  # or its /proc/PID would be root's, and its IDs could not be mapped
            homeless=None if has_home(program) else program.get("user", {}).get("uid", 0),
        )
        process = bear(child, context)
        self.container.facts |= {"pid": process.pid, "start_time": look_at(process.pid)[1]}
        self.container.save()
        return process

    def _accompany(self, process: Process, context: Context) -> None:
        """The host's part of what the process does until it is ready."""
        context.pid = context.state["pid"] = process.pid
        if self._parts.born:
            apply(self._parts.born, context)
            process.go()
        if self._parts.ready:
            process.expect(MOUNTED)
            apply(self._parts.ready, context)
            process.go()
        if self._starts_at_once:
            from cutaway.runtime.command import foreground  # noqa: F401, while there is nothing else to do
        process.expect(READY)

    def abandon(self) -> None:
        """Ends it and takes it away."""
        if self.process:
            self.process.end()
        remove(self.container, self._invocation.log)

    def _facts(self) -> dict[str, Any]:
        parts = self._parts
        kept = [each for each in [*parts.before, *parts.born, *parts.ready] if type(each).undo is not Operation.undo]
        return {
            "ociVersion": SPECIFICATION,
            "pid": 0,
            "start_time": 0,
            "bundle": self._bundle,
            "rootfs": os.path.join(self._bundle, self._spec["root"]["path"]),
            "created": _now(),
            "annotations": self._spec.get("annotations") or {},
            "cgroup": parts.cgroup,
            "unit": parts.unit,
            "systemd": parts.systemd,
            "freezer": _freezer_file(parts.cgroup),
            "undo": dump(kept),
            "modules": sorted({type(operation).__module__ for operation in kept}),
        }


def _read_bundle(bundle: str) -> tuple[str, bytes]:
    """Its directory, which becomes the working directory as relative paths are meant from there, and `config.json`."""
    try:
        os.chdir(bundle or ".")
    except OSError as error:
        raise Failure(f"chdir {bundle}: {(error.strerror or '').lower()}") from None
    try:
        with open("config.json", "rb") as file:
            return os.getcwd(), file.read()
    except FileNotFoundError:
        raise Failure("JSON specification file config.json not found") from None


def _manager() -> Manager:
    from cutaway.runtime.systemd import own_manager

    return own_manager(host_layout())


def _checked(config: bytes, bundle: str) -> dict[str, Any]:
    try:
        spec = document.parse(config.decode())
    except ValueError as error:
        raise Failure(f"config.json: {error}") from None
    specification.check(spec)
    meaning.check(spec, bundle)
    linux: dict[str, Any] = {"namespaces": [], **(spec.get("linux") or {})}
    return {**spec, "linux": linux}


def _freezer_file(cgroup: str) -> str:
    """The file that says whether a cgroup is frozen; none for no cgroup."""
    freezer = host_layout().find("freezer")
    if not (cgroup and freezer):
        return ""
    return f"{freezer.directory(cgroup)}/{'freezer.state' if freezer.version == 1 else 'cgroup.freeze'}"


def _listen_at(container: Container) -> _socket.socket:
    gate = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
    os.chdir(container.directory)  # a socket's path may have 107 characters, a container's directory has more
    gate.bind("start")
    os.chdir(container.facts["bundle"])
    gate.listen(1)
    return gate


def _now() -> str:
    nanoseconds = time.time_ns()
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(nanoseconds // 1_000_000_000))
    return f"{moment}.{nanoseconds % 1_000_000_000:09}Z"

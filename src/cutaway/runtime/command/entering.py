"""`exec`: a further process in a running container."""

from __future__ import annotations

import os

from cutaway.kernel.cgroups import host_layout
from cutaway.kernel.namespaces import CLONE_NEWPID, FLAGS, identity, setns
from cutaway.plan.cgroups import JoinCgroup, join_operation
from cutaway.plan.namespaces import JoinProcess
from cutaway.plan.operation import Context
from cutaway.runtime import meaning, specification
from cutaway.runtime.bundle import filter_operation, first_of_last, granted
from cutaway.runtime.command import document
from cutaway.runtime.command.birth import Child, bear, has_home
from cutaway.runtime.command.container import Container
from cutaway.runtime.command.failure import Failure
from cutaway.runtime.command.foreground import Foreground
from cutaway.runtime.command.given import preserve, write_pid_file
from cutaway.runtime.command.talk import READY, Process
from cutaway.runtime.command.terminals import Terminal
from cutaway.runtime.compile import entering

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cutaway.kernel.cgroups import Layout
    from cutaway.plan.operation import Operation
    from cutaway.plan.process import LoadSeccomp
    from cutaway.runtime.command.main import Invocation


def execute(invocation: Invocation) -> int:
    """`exec ID COMMAND`, or `exec --process FILE ID`: returns its exit code, or with `--detach` once it runs."""
    options = invocation.options
    container = Container.find(invocation.root, invocation.operands[0])
    status = _enterable_status(container, ignore_paused=options["ignore-paused"])
    terminal = Terminal(options["console-socket"], detached=options["detach"])
    config = container.config
    described = _described(config["process"], invocation)
    kept = preserve(options["preserve-fds"])  # which closes all others, the file of the process perhaps among them
    described.setdefault("capabilities", config["process"].get("capabilities"))
    terminal.check(described)
    if not has_home(described):
        described["env"] = [*described.get("env", ()), f"HOME={_home(container, described)}"]
    wanted, warnings = granted(described.get("capabilities") or {}, everything=_has_own_users(container))
    for warning in warnings:
        invocation.log.warning(warning)
    first, then = _namespaces(container)
    operations = entering(
        described | {"capabilities": wanted},
        _join(container, options["cgroup"]),
        then,
        _filter(config, container.state(status), invocation.filters(config)),
        kept,
        config.get("linux"),
    )
    invocation.log.operations("enter", operations)
    process = _bear(container, first, operations, terminal)
    try:
        process.expect(READY)
        foreground = None if options["detach"] else Foreground(process, terminal, reaps=False)
        process.go()
        process.expect_execution()
        write_pid_file(options["pid-file"], process.pid)
    except BaseException:
        process.end()  # or the container could not end as long as nobody has reaped it
        raise
    return foreground.attend() if foreground else 0


def _enterable_status(container: Container, *, ignore_paused: bool) -> str:
    """How the container is. Raises `Failure` where nothing can be executed in it."""
    status = container.status()
    if status in ("creating", "stopped"):
        raise Failure("cannot exec in a stopped container")
    if status == "paused" and not ignore_paused:
        raise Failure("cannot exec in a paused container (use --ignore-paused to override)")
    return status


def _namespaces(container: Container) -> tuple[list[str], list[str]]:
    """The kinds it joins before it is born, and those afterwards. An ordinary user has powers only over the namespaces
    of a user namespace that is joined already."""
    kinds = [kind for kind in FLAGS if identity(kind, container.pid) != identity(kind)]
    first = [kind for kind in kinds if kind in ("user", "pid") and os.geteuid() != 0]
    return first, [kind for kind in kinds if kind not in first]


def _bear(container: Container, first: list[str], operations: list[Operation], terminal: Terminal) -> Process:
    context = Context(terminal.descriptors(), host=os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
    context.descriptors["process"] = init = container.pidfd()
    for operation in operations:
        operation.prepare(context)
    last = first_of_last(operations)
    if not first:
        setns(init, CLONE_NEWPID)  # which children are born into
    joins = [JoinProcess("process", first)] if first else []
    return bear(Child([], operations[:last], operations[last:], joins=joins), context)


def _has_own_users(container: Container) -> bool:
    return identity("user", container.pid) != identity("user")


def _home(container: Container, process: dict[str, Any]) -> str:
    from cutaway.runtime.identity import home

    root = os.open(f"/proc/{container.pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return home(root, process.get("user", {}).get("uid", 0))
    finally:
        os.close(root)


def _described(of_first: dict[str, Any], invocation: Invocation) -> dict[str, Any]:
    """The process as in the OCI runtime-spec: of a file, or as the container's first one but for what is said."""
    if path := invocation.options["process"]:
        try:
            process = document.read(path)
        except ValueError as error:
            raise Failure(f"{path}: {error}") from None
    else:
        process = _varied(of_first, invocation.options, invocation.operands[1:])
    specification.check_process(process)
    meaning.check_process(process)
    return dict(process)


def _varied(of_first: dict[str, Any], options: dict[str, Any], args: list[str]) -> dict[str, Any]:
    if not args:
        raise Failure("process args cannot be empty")
    sets = {name: [*names] for name, names in (of_first.get("capabilities") or {}).items()}
    for name in ("bounding", "effective", "permitted") if options["cap"] else ():
        sets[name] = [*sets.get(name, ()), *options["cap"]]
    if options["cap"] and sets.get("inheritable"):
        sets["ambient"] = [*sets.get("ambient", ()), *options["cap"]]
    process = of_first | {
        "args": args,
        "cwd": options["cwd"] or of_first["cwd"],
        "env": [*of_first.get("env", ()), *options["env"]],
        "terminal": options["tty"],
        "user": _user(of_first.get("user") or {}, options),
        "capabilities": sets,
        "noNewPrivileges": options["no-new-privs"] or of_first.get("noNewPrivileges", False),
    }
    labels = {"apparmorProfile": options["apparmor"], "selinuxLabel": options["process-label"]}
    return process | {name: label for name, label in labels.items() if label}


def _user(of_first: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    user = dict(of_first)
    uid, colon, gid = options["user"].partition(":")
    try:
        if uid:
            user["uid"] = int(uid)
        if colon:
            user["gid"] = int(gid)
        if options["additional-gids"]:
            user["additionalGids"] = [*user.get("additionalGids", ()), *map(int, options["additional-gids"])]
    except ValueError:
        raise Failure(f"--user {options['user']}: expected UID[:GID], in numbers") from None
    return user


def _filter(config: dict[str, Any], state: dict[str, Any], directory: str) -> LoadSeccomp | None:
    profile = (config.get("linux") or {}).get("seccomp")
    return filter_operation(profile, state, directory) if profile else None


def _join(container: Container, below: list[str]) -> list[Operation]:
    """By which it joins the container's cgroup, if it has one, or those `below` it: `PATH`, or `CONTROLLER,…:PATH`."""
    layout, path = host_layout(), container.facts["cgroup"]
    if not path and not below:
        return []
    if not path:
        raise Failure(f"container {container.id} has no cgroup of its own")
    if not below:
        return [join_operation(path, layout, container.pid)]
    wanted = _by_controller(below)
    known = {name for each in layout.hierarchies for name in each.controllers} | {""}
    if unknown := wanted.keys() - known:
        raise Failure(f"--cgroup {below[-1]}: this host has no controller {', '.join(unknown)}")
    tasks = [each.join_file(f"{path.strip('/')}/{_chosen(each.controllers, wanted)}") for each in _versions(layout, 1)]
    directory = layout.unified.directory(f"{path.strip('/')}/{wanted.get('', '')}") if layout.unified else ""
    return [JoinCgroup(tasks, directory)]


def _by_controller(below: list[str]) -> dict[str, str]:
    wanted: dict[str, str] = {}
    for each in below:
        controllers, colon, path = each.rpartition(":")
        if ".." in path.split("/"):
            raise Failure(f"--cgroup {each}: a cgroup below the container's is expected")
        wanted |= dict.fromkeys(controllers.split(",") if colon else [""], path.strip("/"))
    return wanted


def _chosen(controllers: tuple[str, ...], wanted: dict[str, str]) -> str:
    return next((wanted[each] for each in controllers if each in wanted), wanted.get("", ""))


def _versions(layout: Layout, version: int) -> list[Any]:
    return [each for each in layout.hierarchies if each.version == version]

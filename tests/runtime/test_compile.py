"""A description compiled to operations: their order, and that nothing is done on the way. Needs no root."""

from __future__ import annotations

from typing import Any

from cutaway.plan.cgroups import JoinCgroup
from cutaway.plan.mounts import (
    AttachRoot,
    BindMount,
    MakeDevice,
    MakeReadonly,
    MaskPaths,
    Mount,
    MountCgroups,
    PivotRoot,
)
from cutaway.plan.namespaces import JoinNamespace, JoinProcess, NewNamespaces
from cutaway.plan.operation import Operation
from cutaway.plan.process import (
    BecomeInit,
    ChangeDirectory,
    DropCapabilities,
    Exec,
    LoadSeccomp,
    OpenTerminal,
    SetHostname,
    SetNoNewPrivileges,
    SetUser,
)
from cutaway.runtime.compile import Given, entering, inside

JOIN = JoinCgroup(["/sys/fs/cgroup/pids/box/tasks"])
FILTER = LoadSeccomp(descriptor="seccomp")


def spec(**more: Any) -> dict[str, Any]:
    process = {"args": ["sh"], "env": ["A=b"], "cwd": "/", "user": {"uid": 1, "gid": 2}, **more.pop("process", {})}
    linux = {"namespaces": [{"type": kind} for kind in ("mount", "pid", "network", "cgroup")], **more.pop("linux", {})}
    mounts = [{"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid"]}]
    return {"root": {"path": "/box"}, "mounts": mounts, "process": process, "linux": linux, **more}


def compiled(description: dict[str, Any], *, init: bool = False, held: dict[str, str] | None = None) -> list[Operation]:
    return inside(description, Given(held or {}, [JOIN], {}, {}, FILTER, "", init))


def order(operations: list[Operation], *kinds: type[Operation]) -> bool:
    places = [next(n for n, each in enumerate(operations) if isinstance(each, kind)) for kind in kinds]
    return places == sorted(places)


def test_the_steps_come_in_the_only_order_that_works() -> None:
    operations = compiled(spec(hostname="box"))
    assert operations[0] == NewNamespaces(["mnt", "pid", "net"])
    assert order(
        operations, NewNamespaces, JoinCgroup, AttachRoot, Mount, MakeDevice, PivotRoot, SetHostname, SetUser, Exec
    )
    assert operations[-1] == Exec(["sh"], ["A=b"])


def test_the_cgroup_is_joined_before_its_namespace_is_made() -> None:
    operations = compiled(spec())
    assert operations.index(JOIN) < operations.index(NewNamespaces(["cgroup"]))


def test_a_network_made_beforehand_is_joined() -> None:
    operations = compiled(spec(), held={"net": "netns"})
    assert operations[0] == NewNamespaces(["mnt", "pid"])
    assert JoinNamespace("net", "", "netns") in operations


def test_a_namespace_with_a_path_is_joined() -> None:
    operations = compiled(spec(linux={"namespaces": [{"type": "mount"}, {"type": "ipc", "path": "/proc/7/ns/ipc"}]}))
    assert JoinNamespace("ipc", "/proc/7/ns/ipc") in operations


def test_a_filter_is_loaded_while_root_has_its_powers_or_after_they_cannot_be_gained() -> None:
    assert order(compiled(spec()), LoadSeccomp, SetUser, DropCapabilities)
    assert order(
        compiled(spec(process={"noNewPrivileges": True})), SetUser, DropCapabilities, SetNoNewPrivileges, LoadSeccomp
    )


def test_mounts_become_what_they_are() -> None:
    operations = compiled(
        spec(
            mounts=[
                {"destination": "/sys/fs/cgroup", "type": "cgroup", "options": ["ro"]},
                {"destination": "/data", "type": "bind", "source": "/srv", "options": ["rbind", "ro"]},
                {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"},
            ]
        )
    )
    assert MountCgroups("/sys/fs/cgroup", {}, {}, ["ro"]) in operations
    assert BindMount("/srv", "/data", ["rbind", "ro"]) in operations
    assert Mount("tmpfs", "/tmp", "tmpfs", []) in operations


def test_what_is_hidden_and_read_only_is_so_before_the_root_is_entered() -> None:
    hidden = {"maskedPaths": ["/proc/kcore"], "readonlyPaths": ["/proc/sys"]}
    operations = compiled(
        spec(linux={"namespaces": [{"type": "mount"}], **hidden}, root={"path": "/box", "readonly": True})
    )
    assert order(operations, MakeReadonly, MaskPaths, PivotRoot)
    assert MakeReadonly(["/"]) in operations


def test_a_terminal_and_an_init_only_where_asked_for() -> None:
    plain, full = compiled(spec()), compiled(spec(process={"terminal": True}), init=True)
    assert not any(isinstance(each, OpenTerminal | BecomeInit) for each in plain)
    assert order(full, OpenTerminal, PivotRoot, BecomeInit, Exec)


def test_an_exec_enters_and_becomes_the_same() -> None:
    operations = entering(spec()["process"], [JOIN], ["mnt", "pid"], FILTER)
    assert operations[0] == JOIN
    assert JoinProcess("process", ["mnt", "pid"]) in operations
    assert order(operations, JoinProcess, LoadSeccomp, ChangeDirectory, SetUser, Exec)


def test_every_step_says_itself_and_why() -> None:
    for operation in compiled(spec(hostname="box"), init=True):
        assert isinstance(operation.shell(), str)
        assert operation.why().endswith((".", "out."))

"""Systemds of its own. The system's: this machine's program as PID 1 of new namespaces, over the machine's files, with
cgroups of the same layout as the machine's below one that ends with it. It starts nothing by itself.

    with booted() as systemd:
        systemd("systemctl", "is-system-running")

And a user's, below a cgroup that was given to the user:

    with session() as systemd:
        systemd("systemctl", "--user", "status")
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cutaway.kernel.cgroups import Cgroup, host_layout
from tests.children import wait_until
from tests.conformance.bundles import NOBODY

INIT = "/lib/systemd/systemd"
TOOLS = ("unshare", "nsenter", "systemctl", "busctl", INIT)
SECONDS_TO_BOOT = 120

BOOT = """
mount --make-rprivate /
mount -t proc proc /proc
mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys
mount --rbind /run /run
mkdir -p /run/systemd && mount -t tmpfs -o mode=755 tmpfs /run/systemd
mkdir -p /run/systemd/system /run/systemd/proc
mount -t proc proc /run/systemd/proc  # whole, as the kernel asks of who mounts another in a user namespace
printf '[Unit]\\nDefaultDependencies=no\\n' > /run/systemd/system/alone.target
umount -R /sys/fs/cgroup
{cgroups}
export container=test
exec {init} --unit=alone.target --log-target=console --show-status=no
"""


class Systemd:
    """Runs commands where it is PID 1."""

    def __init__(self, pid: int) -> None:
        self.within = ("nsenter", f"--target={pid}", "--mount", "--pid", "--cgroup", "--ipc", "--uts")
        self.socket = Path(f"/proc/{pid}/root/run/systemd/private")

    def __call__(self, *command: str) -> str:
        done = subprocess.run(
            [*self.within, *command], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30, check=False
        )
        return (done.stdout + done.stderr).strip()

    def property(self, unit: str, name: str) -> str:
        """As `systemctl show` says it."""
        return self("systemctl", "show", f"--property={name}", "--value", unit)


@contextmanager
def booted() -> Iterator[Systemd]:
    """Skips the test where it cannot be had."""
    if missing := [tool for tool in TOOLS if not shutil.which(tool)]:
        pytest.skip(f"needs {', '.join(missing)}")
    cgroup = Cgroup(f"cutaway-systemd-{os.getpid()}", host_layout())
    cgroup.create()
    with tempfile.TemporaryFile("w+") as console:
        init = _start(cgroup, console.fileno())
        try:
            yield _wait_until_booted(init, console.fileno())
        finally:
            init.kill()
            init.wait()
            cgroup.kill()
            cgroup.remove(10)


def _start(cgroup: Cgroup, console: int) -> subprocess.Popen[bytes]:
    """It alone is in the cgroup: on version 2, none with processes of its own passes controllers on."""
    join = "".join(f"echo 0 > {each.join_file(cgroup.path)}\n" for each in cgroup.layout.hierarchies)
    script = BOOT.format(cgroups="\n".join(_mounts()), init=INIT)
    return subprocess.Popen(
        ["unshare", "--pid", "--fork", "--mount", "--uts", "--ipc", "--kill-child",
         "sh", "-ec", join + 'exec unshare --cgroup sh -ec "$0"', script],
        stdin=subprocess.DEVNULL, stdout=console, stderr=console,
    )  # fmt: skip


def _mounts() -> Iterator[str]:
    """Mounts the machine's hierarchies once more, as seen from the cgroup namespace."""
    hierarchies = host_layout().hierarchies
    if any(each.version == 1 for each in hierarchies):
        yield "mount -t tmpfs -o mode=755 tmpfs /sys/fs/cgroup"
    for each in hierarchies:
        options = ["none" if each.name.startswith("name=") else "rw", *each.controllers]
        kind = "cgroup2" if each.version == 2 else f"cgroup -o {','.join(options)}"
        yield f"mkdir -p {each.mount_point} && mount -t {kind} cgroup {each.mount_point}"


def _wait_until_booted(init: subprocess.Popen[bytes], console: int) -> Systemd:
    deadline = time.monotonic() + SECONDS_TO_BOOT
    while time.monotonic() < deadline and init.poll() is None:
        children = Path(f"/proc/{init.pid}/task/{init.pid}/children").read_text().split()
        if children and (systemd := Systemd(int(children[0]))).socket.exists():
            return systemd
        time.sleep(0.05)  # of its start, systemd gives no notice to who is no unit of it
    pytest.skip(f"no systemd boots here: {os.pread(console, 4096, 0).decode(errors='replace')}")


SESSION = """
mkdir -p /run/systemd && mount -t tmpfs tmpfs /run/systemd && mkdir /run/systemd/system
echo 0 > {cgroup}/cgroup.procs
exec {user} {init} --user --unit=alone.target --log-target=console
"""


class UserSystemd:
    """Runs commands as the user whose systemd it is. `path`: of its cgroup; `runtime`: its `XDG_RUNTIME_DIR`; `place`:
    what to run other users' commands in, so that they are there."""

    def __init__(self, pid: int, path: str, caller: Path, runtime: Path) -> None:
        self.path, self.runtime = path, runtime
        join = f'echo 0 > {caller}/cgroup.procs; exec "$@"'
        self.place = ("nsenter", f"--target={pid}", "--mount", "sh", "-ec", join, "sh")
        self.within = (*self.place, *_user(runtime))

    def __call__(self, *command: str) -> str:
        done = subprocess.run(
            [*self.within, *command], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30, check=False
        )
        return (done.stdout + done.stderr).strip()

    def property(self, unit: str, name: str) -> str:
        """As `systemctl show` says it."""
        return self("systemctl", "--user", "show", f"--property={name}", "--value", unit)


@contextmanager
def session() -> Iterator[UserSystemd]:
    """Of NOBODY. Skips the test on hosts that are not on pure version 2, where no user may have cgroups."""
    if missing := [tool for tool in (*TOOLS, "setpriv") if not shutil.which(tool)]:
        pytest.skip(f"needs {', '.join(missing)}")
    if any(each.version == 1 for each in host_layout().hierarchies):
        pytest.skip("not on pure cgroup v2")
    cgroup = Cgroup(f"cutaway-session-{os.getpid()}", host_layout())
    cgroup.create()
    place = Path(cgroup.directories[0])
    (place / "caller").mkdir()
    with tempfile.TemporaryDirectory() as name:
        runtime = Path(name)
        _write_units(runtime / "systemd/user")
        _give_away(place, runtime)
        script = SESSION.format(cgroup=place, user=" ".join(_user(runtime)), init=INIT)
        manager = subprocess.Popen(["unshare", "--mount", "sh", "-ec", script], stdin=subprocess.DEVNULL)
        try:
            wait_until((runtime / "systemd/private").exists)
            yield UserSystemd(manager.pid, cgroup.path, place / "caller", runtime)
        finally:
            manager.kill()
            manager.wait()
            cgroup.kill()
            cgroup.remove(10)


def _write_units(units: Path) -> None:
    """A target to begin with, and a bus, which podman talks to systemd over."""
    units.mkdir(parents=True)
    bus = f"{shutil.which('dbus-daemon')} --session --address=systemd: --nofork --nopidfile --systemd-activation"
    for name, wanted, more in (
        ("alone.target", "Wants=dbus.service" if shutil.which("dbus-daemon") else "", ""),
        ("dbus.service", "Requires=dbus.socket", f"[Service]\nType=notify\nExecStart={bus}\n"),
        ("dbus.socket", "", "[Socket]\nListenStream=%t/bus\n"),
    ):
        (units / name).write_text(f"[Unit]\nDefaultDependencies=no\n{wanted}\n{more}")


def _user(runtime: Path) -> list[str]:
    identity = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    return [*identity, "env", "-i", f"PATH={os.environ['PATH']}", f"XDG_RUNTIME_DIR={runtime}", "HOME=/"]


def _give_away(cgroup: Path, runtime: Path) -> None:
    """As systemd does with what it delegates to a user. <https://systemd.io/CGROUP_DELEGATION>"""
    files = ("cgroup.procs", "cgroup.subtree_control", "cgroup.threads")
    delegated = [part / file for part in (cgroup, cgroup / "caller") for file in ("", *files)]
    for path in [runtime, *runtime.rglob("*"), *delegated]:
        os.chown(path, NOBODY, NOBODY)

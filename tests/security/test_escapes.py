"""The published escapes from containers, each played again: what the exploit did is done, and does not get out.

None of them would harm the host if it worked: what is opened for writing is not written to, and what is aimed at is a
directory or a parameter of the test's own.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.children import wait_until
from tests.conformance.bundles import RUNTIME, Bundle
from tests.conformance.test_config import in_terminal

RENAME_EXCHANGE = 2
TRIES = 6
"""As often a race is run: before it was mended, each of them was won within a few tries."""


@contextmanager
def exchanging(one: Path, other: Path) -> Iterator[None]:
    """Two names of a directory are exchanged with each other all the time, as a neighbour who shares it could."""
    libc = ctypes.CDLL(None)
    names = [os.fsencode(path) for path in (one, other)]
    over = threading.Event()

    def race() -> None:
        while not over.is_set():
            libc.renameat2(-100, names[0], -100, names[1], RENAME_EXCHANGE)

    racer = threading.Thread(target=race)
    racer.start()
    try:
        yield
    finally:
        over.set()
        racer.join()


def digest(path: str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def parameter(pid: int, name: str) -> str:
    """A kernel parameter of the network namespace that process `pid` is in."""
    shown = subprocess.run(
        ["nsenter", f"--net=/proc/{pid}/ns/net", "cat", f"/proc/sys/{name}"], capture_output=True, text=True, check=True
    )
    return shown.stdout.strip()


@pytest.fixture
def spy(bundle: Bundle) -> Callable[[str], list[str]]:
    """Runs a container whose program looks at every process that comes in, while ten do. Returns what it has found."""

    def watch(look: str) -> list[str]:
        (bundle.rootfs / "found").touch()
        script = f"touch /ready; while :; do for p in /proc/[0-9]*; do [ $p = /proc/1 ] || {{ {look}; }}; done; done"
        bundle.create("sh", "-c", f"( {script} ) 2>/dev/null")
        assert bundle.start().returncode == 0
        wait_until(lambda: (bundle.rootfs / "ready").exists())
        for _ in range(10):
            assert bundle.runtime("exec", bundle.id, "true").returncode == 0
        return (bundle.rootfs / "found").read_text().split()

    return watch


def test_cve_2016_9962_who_enters_cannot_be_looked_into(spy: Callable[[str], list[str]]) -> None:
    """The process that entered for `exec` could be traced, and had directories of the host open."""
    found = spy(
        "for d in $p/fd/*; do [ -d $d/ ] && echo descriptor >> /found; done;"
        "[ -d $p/root/ ] && [ ! -e $p/root/found ] && echo root >> /found;"
        "grep -q CUTAWAY $p/environ && echo environment >> /found"
    )
    assert found == []


def test_cve_2019_5736_the_runtimes_binary_cannot_be_opened_for_writing(bundle: Bundle) -> None:
    """Through /proc/PID/exe of the process that enters, the host's runtime was overwritten: its descriptor was kept
    until the runtime had ended, and then opened again."""
    binaries = [os.path.realpath(sys.executable), RUNTIME]
    before = [digest(path) for path in binaries]
    own = "[ $(readlink $p/exe) = /bin/busybox ]"
    script = (
        "touch /ready; while :; do for p in /proc/[0-9]*; do "
        f"{own} || {{ exec 9< $p/exe && touch /held && sleep 0.3 && : >> /proc/self/fd/9 && touch /opened; }}; "
        "done; done"
    )
    bundle.create("sh", "-c", f"( {script} ) 2>/dev/null")
    bundle.start()
    wait_until(lambda: (bundle.rootfs / "ready").exists())
    for _ in range(10):
        bundle.runtime("exec", bundle.id, "/proc/self/exe", "-c", "pass")
    assert not (bundle.rootfs / "opened").exists()
    assert [digest(path) for path in binaries] == before


def test_cve_2019_5736_an_image_whose_program_is_the_runtime(bundle: Bundle) -> None:
    """The image's program was a link to /proc/self/exe, so that the runtime executed itself with the image's files."""
    (bundle.rootfs / "program").symlink_to("/proc/self/exe")
    done = bundle.runs("/program", "-c", "open('/proc/self/exe', 'r+b'); print('opened')")
    assert "opened" not in done.said


def false_proc(bundle: Bundle) -> Path:
    """A directory that looks like /proc where the runtime might write; one of its files."""
    false = bundle.directory / "false"
    fake = false / "sys/net/ipv4/ip_forward"
    fake.parent.mkdir(parents=True)
    fake.write_text("fake")
    (false / "self/attr").mkdir(parents=True)
    for name in ("self/attr/exec", "self/oom_score_adj"):
        (false / name).write_text("fake")
    return fake


def asked_for(bundle: Bundle) -> None:
    """Has the runtime write to /proc."""
    bundle.linux["sysctl"] = {"net.ipv4.ip_forward": "1"}
    bundle.process["oomScoreAdj"] = 55


def wrote_to_the_real_one(bundle: Bundle, fake: Path) -> None:
    pid = int(bundle.state()["pid"])
    assert parameter(pid, "net/ipv4/ip_forward") == "1"
    assert Path(f"/proc/{pid}/oom_score_adj").read_text() == "55\n"
    assert {each.read_text() for each in fake.parents[3].rglob("*") if each.is_file()} == {"fake"}


def test_cve_2019_16884_a_volume_over_proc_gets_no_writes(bundle: Bundle) -> None:
    """An image's volume at /proc was mounted after the kernel's, and took what was meant for the security module."""
    fake = false_proc(bundle)
    bundle.bind(bundle.directory / "false", "/proc")
    asked_for(bundle)
    bundle.create("sleep", "60")
    wrote_to_the_real_one(bundle, fake)


@pytest.mark.parametrize("place", ["proc", "sys"])
def test_cve_2019_19921_a_proc_that_is_a_link_leads_nowhere_else(bundle: Bundle, place: str) -> None:
    """The image had a link at /proc, so that procfs was mounted elsewhere, and a false one took its place."""
    aim = bundle.directory / "aim"
    aim.mkdir()
    (bundle.rootfs / place).rmdir()
    (bundle.rootfs / place).symlink_to(os.path.relpath(aim, "/"))
    assert "must be mounted on ordinary directory" in bundle.refusal()
    assert not os.path.ismount(aim) and os.listdir(aim) == []


def test_cve_2023_27561_a_proc_that_is_exchanged_while_it_is_mounted(bundle: Bundle) -> None:
    """The same again after a regression: the link at /proc led into a volume, in which a neighbour exchanged names."""
    volume = bundle.directory / "volume"
    (volume / "one").mkdir(parents=True)
    (volume / "other").symlink_to("/elsewhere")
    (bundle.rootfs / "proc").rmdir()
    (bundle.rootfs / "proc").symlink_to("/volume/one")
    bundle.spec["mounts"].insert(0, {"destination": "/volume", "type": "bind", "source": str(volume)})
    with exchanging(volume / "one", volume / "other"):
        assert not any(bundle.is_created() for _ in range(TRIES))


REVEAL = """
import ctypes, os
libc = ctypes.CDLL(None)
os.close(0)
user, mnt, pid = 0x10000000, 0x20000, 0x20000000
assert libc.unshare(user | mnt | pid) == 0
if os.fork() == 0:
    if libc.mount(b"none", b"/mnt", b"proc", 0, None) == 0:
        os.open("/mnt/sys/kernel/core_pattern", os.O_WRONLY | os.O_APPEND)
        os.write(1, b"the host's core_pattern is open")
    os._exit(0)
os.wait()
"""


@pytest.mark.parametrize("how", ["", "--no-pivot", "link"])
def test_cve_2023_28642_who_unshares_inside_gets_no_whole_proc(bundle: Bundle, how: str) -> None:
    """Where a /proc with nothing hidden was left in the mount namespace, covered or below the root, the kernel let a
    process without any capability mount another."""
    for directory in ("/usr", "/lib", "/lib64"):
        bundle.bind(directory, directory, "rbind", "ro")
    bundle.mount("/dev", "tmpfs", "tmpfs")
    if how == "link":
        (bundle.rootfs / "dev/p").mkdir(parents=True)
        (bundle.rootfs / "proc").rmdir()
        (bundle.rootfs / "proc").symlink_to("/dev/p")
    (bundle.rootfs / "mnt").mkdir(exist_ok=True)
    bundle.linux |= {"maskedPaths": ["/proc/timer_list"], "readonlyPaths": ["/proc/sys"]}
    bundle.process["args"] = [os.path.realpath("/usr/bin/python3"), "-IS", "-c", REVEAL]
    done = bundle.does("run", *filter(lambda word: word == "--no-pivot", [how]))
    assert "core_pattern" not in done.stdout
    assert (done.returncode == 0) == (how != "link"), done.said


def test_cve_2021_30465_a_destination_that_is_exchanged_while_it_is_mounted_on(bundle: Bundle) -> None:
    """A neighbour exchanged a directory in a shared volume with a link, and the mount went to where that led on the
    host, or a mount of the host came in."""
    volume, aim = bundle.directory / "volume", bundle.directory / "aim"
    (volume / "one/inner").mkdir(parents=True)
    (aim / "inner").mkdir(parents=True)
    (aim / "marker").touch()
    (volume / "other").symlink_to(aim)
    bundle.bind(volume, "/volume", "rbind")
    bundle.mount("/volume/one/inner")
    (bundle.rootfs / "only-inside").touch()
    with exchanging(volume / "one", volume / "other"):
        for _ in range(TRIES):
            done = bundle.runs("sh", "-c", "ls /; find / -name marker -xdev; cat /proc/self/mountinfo")
            assert done.returncode != 0 or "only-inside" in done.stdout
            assert "marker" not in done.stdout
    assert {*os.listdir(aim)} == {"inner", "marker"} and not os.path.ismount(aim / "inner")


def test_cve_2024_45310_nothing_is_made_on_the_host_where_a_destination_is_missing(bundle: Bundle) -> None:
    """In the same race, the empty file or directory that is to be mounted on was made on the host."""
    volume, aim = bundle.directory / "volume", bundle.directory / "aim"
    (volume / "one").mkdir(parents=True)
    aim.mkdir()
    (volume / "other").symlink_to(aim)
    bundle.bind(volume, "/volume", "rbind")
    bundle.mount("/volume/one/new/directory")
    bundle.bind("config.json", "/volume/one/file")
    with exchanging(volume / "one", volume / "other"):
        for _ in range(TRIES):
            bundle.runs("true")
    assert os.listdir(aim) == []


def test_cve_2022_29162_who_enters_has_no_inheritable_capabilities(bundle: Bundle) -> None:
    """`exec --cap` gave them, so that files inside with such could give them on."""
    bundle.create("sleep", "60")
    bundle.start()
    for more in ((), ("--cap", "CAP_NET_RAW")):
        done = bundle.runtime("exec", *more, bundle.id, "grep", "CapInh", "/proc/self/status")
        assert done.stdout == "CapInh:\t0000000000000000\n", done.said


@pytest.mark.parametrize("linked", [False, True])
def test_cve_2024_21626_no_working_directory_is_outside(bundle: Bundle, linked: bool) -> None:
    """A descriptor of the host's directories was open, and `/proc/self/fd/N` the working directory."""
    (bundle.rootfs / "only-inside").touch()
    for number in range(3, 11):
        path = f"/proc/self/fd/{number}"
        if linked:
            (bundle.rootfs / f"link{number}").symlink_to(path)
            path = f"/link{number}"
        bundle.process["cwd"] = path
        done = bundle.runs("sh", "-c", "ls -a ../../../../../../../../..")
        assert done.returncode != 0 or "only-inside" in done.stdout


def test_cve_2024_21626_not_for_who_enters_either(bundle: Bundle) -> None:
    (bundle.rootfs / "only-inside").touch()
    bundle.create("sleep", "60")
    bundle.start()
    for number in range(3, 11):
        up = ("ls", "-a", "../../../../../../../../..")
        done = bundle.runtime("exec", "--cwd", f"/proc/self/fd/{number}", bundle.id, *up)
        assert done.returncode != 0 or "only-inside" in done.stdout


AIM = "/proc/sys/net/ipv4/ip_local_port_range"
"""Stands for /proc/sys/kernel/core_pattern, which would be the host's."""


def without_dev(bundle: Bundle) -> None:
    """The image's own /dev is the container's."""
    bundle.spec["mounts"] = [each for each in bundle.spec["mounts"] if each["destination"] != "/dev"]
    (bundle.rootfs / "dev").mkdir(exist_ok=True)


@pytest.mark.parametrize("bound", [False, True])
def test_cve_2025_31133_a_null_device_that_is_a_link_masks_nothing_and_opens_nothing(
    bundle: Bundle, bound: bool
) -> None:
    """/dev/null was a link to a file of /proc, which then was bound, writable, over what was to be masked."""
    without_dev(bundle)
    (bundle.rootfs / "dev/null").unlink(missing_ok=True)
    (bundle.rootfs / "dev/null").symlink_to(AIM)
    if bound:
        bundle.spec["mounts"].insert(1, {"destination": "/dev", "type": "bind", "source": str(bundle.rootfs / "dev")})
    bundle.linux["maskedPaths"] = ["/proc/timer_list"]
    bundle.linux["readonlyPaths"] = ["/proc/sys"]
    assert "/dev/null" in bundle.refusal()


def test_cve_2025_31133_nor_one_that_is_exchanged(bundle: Bundle) -> None:
    """The mended runtime looked at it, and it was exchanged afterwards."""
    without_dev(bundle)
    device, link = bundle.rootfs / "dev/null", bundle.rootfs / "dev/other"
    device.unlink(missing_ok=True)
    os.mknod(device, 0o20666, os.makedev(1, 3))
    link.symlink_to(AIM)
    bundle.linux["maskedPaths"] = ["/proc/timer_list"]
    bundle.linux["readonlyPaths"] = ["/proc/sys"]
    with exchanging(device, link):
        for _ in range(TRIES):
            done = bundle.runs(
                "sh", "-c", "cat /proc/timer_list; echo 1 > /proc/timer_list; grep timer_list /proc/mounts"
            )
            assert " /proc/timer_list proc " not in done.stdout and "32768" not in done.stdout


@pytest.mark.parametrize("name", ["console", "ptmx", "pts"])
def test_cve_2025_52565_a_console_that_is_a_link_is_bound_nowhere(bundle: Bundle, name: str) -> None:
    """/dev/console was bound before there were masks, and its name led to a file of /proc that became writable."""
    without_dev(bundle)
    (bundle.rootfs / "aimed").write_text("untouched")
    place = bundle.rootfs / "dev" / name
    place.rmdir() if place.is_dir() else place.unlink(missing_ok=True)
    place.symlink_to(AIM if name == "console" else "/aimed")
    bundle.process["terminal"] = True
    bundle.linux["readonlyPaths"] = ["/proc/sys"]
    try:
        shown = in_terminal(bundle, "cat /proc/self/mountinfo")
    except AssertionError:  # refused
        shown = ""
    assert AIM not in shown
    assert (bundle.rootfs / "aimed").read_text() == "untouched"


def test_cve_2025_52881_writes_meant_for_proc_do_not_follow_what_is_mounted_there(bundle: Bundle) -> None:
    """A file system mounted below /proc had a link in the place of a label or a parameter: the write went to where it
    led, /proc/sysrq-trigger for one."""
    fake = false_proc(bundle)
    target = bundle.rootfs / "target"
    target.write_text("untouched")
    (fake.parents[3] / "sys/net/ipv4/link").symlink_to("/target")
    bundle.bind(fake.parents[2], "/proc/sys")
    asked_for(bundle)
    bundle.create("sleep", "60")
    wrote_to_the_real_one(bundle, fake)
    assert target.read_text() == "untouched"


def test_no_module_of_the_image_is_imported(bundle: Bundle) -> None:
    """A runtime in Python has one more way in: a module of the image at the place of one of its own."""
    for directory in {*sys.path, os.path.dirname(os.__file__), "/usr/lib/python3", "/usr/lib/python3.11"}:
        if directory.startswith("/"):
            place = bundle.rootfs / directory.lstrip("/")
            place.mkdir(parents=True, exist_ok=True)
            for module in ("json", "shlex", "traceback", "encodings", "re"):
                (place / f"{module}.py").write_text("open('/imported', 'w')\n")
    bundle.spec["hooks"] = {"startContainer": [{"path": "/bin/true", "timeout": 5}]}
    bundle.process["cwd"] = "/made"
    assert bundle.runs("true").returncode == 0
    assert bundle.runs("/absent").returncode != 0
    bundle.create("sleep", "60")
    bundle.start()
    bundle.runtime("exec", bundle.id, "true")
    assert not (bundle.rootfs / "imported").exists()

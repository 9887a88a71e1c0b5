"""What a container must not be able to do, each as an attempt that fails; docs/security.md says more of the CVEs."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.engines import Engine

pytestmark = pytest.mark.usefixtures("busybox")

DEFAULT_CAPABILITIES = "00000000a80425fb"


def run(cutaway: Engine, *words: str, check: bool = True) -> str:
    done = cutaway("run", "--rm", "--network", "none", *words, check=check)
    return done.stdout + done.stderr


@pytest.fixture
def hostile(cutaway: Engine, busybox_tar: Path, tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Makes an image of busybox and links: `hostile({"data": "/outside"})`; returns its name."""
    made: list[str] = []

    def make(links: dict[str, str]) -> str:
        archive = tmp_path / "hostile.tar"
        with tarfile.open(busybox_tar) as original, tarfile.open(archive, "w") as copy:
            for member in original:
                name = member.name.removeprefix("./").rstrip("/")
                if not any(name == link or name.startswith(f"{link}/") for link in links):
                    copy.addfile(member, original.extractfile(member) if member.isfile() else None)
            for name, target in links.items():
                link = tarfile.TarInfo(name)
                link.type, link.linkname = tarfile.SYMTYPE, target
                copy.addfile(link)
        made.append(f"hostile-{len(made)}")
        cutaway("import", archive, made[-1])
        return made[-1]

    yield make
    for name in made:
        cutaway("rmi", name)


def test_root_inside_has_dockers_capabilities_and_a_filter(cutaway: Engine) -> None:
    status = run(cutaway, "busybox", "cat", "/proc/self/status")
    assert f"CapBnd:\t{DEFAULT_CAPABILITIES}" in status and f"CapEff:\t{DEFAULT_CAPABILITIES}" in status
    assert "Seccomp:\t2" in status and "NoNewPrivs:\t0" in status
    status = run(cutaway, "--security-opt", "no-new-privileges", "-u", "1000", "busybox", "cat", "/proc/self/status")
    assert "NoNewPrivs:\t1" in status and "CapEff:\t0000000000000000" in status


def test_no_descriptor_of_the_engines_gets_in(cutaway: Engine) -> None:
    """CVE-2024-21626"""
    shown = run(cutaway, "busybox", "sh", "-c", "for fd in /proc/self/fd/*; do echo $fd; done").split()
    assert len(shown) <= 4  # 0, 1, 2, and the one that lists them
    for number in range(3, 12):
        # one of them may be the container's own root
        look = ("sh", "-c", "[ /proc/self/cwd/ -ef / ] || ls /proc/self/cwd/")
        outside = run(cutaway, "-w", f"/proc/self/fd/{number}", "busybox", *look, check=False)
        assert "etc" not in outside and "boot" not in outside


def test_an_exec_does_not_show_the_engines_descriptors_either(cutaway: Engine) -> None:
    """CVE-2016-9962"""
    container = cutaway("run", "-d", "busybox", "sleep", "100").stdout.strip()
    try:
        shown = cutaway("exec", container, "sh", "-c", "echo /proc/self/fd/*").stdout.split()
        assert len(shown) <= 4
    finally:
        cutaway("rm", "-f", container)


def test_the_interpreter_cannot_be_overwritten_from_inside(cutaway: Engine) -> None:
    """CVE-2019-5736: what is behind /proc/PID/exe of the process that enters is a sealed copy in memory."""
    pid = cutaway.status()["spawner_pid"]
    assert "memfd:" in os.readlink(f"/proc/{pid}/exe")
    with pytest.raises(OSError), open(f"/proc/{pid}/exe", "r+b") as copy:  # as root of the host, even
        copy.write(b"#!")
    attack = "#!/proc/self/exe\n"
    got = run(cutaway, "busybox", "sh", "-c", f"printf '{attack}' > /x; chmod +x /x; exec /x", check=False)
    assert "Traceback" not in got


def test_an_init_of_ours_shows_nothing_of_the_host(cutaway: Engine) -> None:
    got = run(
        cutaway, "--init", "busybox", "sh", "-c", "ls -l /proc/1/exe /proc/1/fd /proc/1/root /proc/1/map_files 2>&1"
    )
    assert "python" not in got and "memfd" not in got and "Permission denied" in got


def test_host_facts_are_masked_and_proc_sys_is_read_only(cutaway: Engine) -> None:
    """CVE-2025-31133"""
    assert (
        run(cutaway, "busybox", "sh", "-c", "cat /proc/keys /proc/timer_list /proc/kcore 2>/dev/null | wc -c").strip()
        == "0"
    )
    assert run(cutaway, "busybox", "ls", "/sys/firmware").strip() == ""
    for attempt in ("echo x > /proc/sys/kernel/hostname", "touch /sys/x"):
        assert "ead-only" in run(cutaway, "busybox", "sh", "-c", attempt, check=False)


def test_dev_null_of_the_image_masks_nothing(cutaway: Engine, hostile: Callable[..., str]) -> None:
    """CVE-2025-31133: a link at /dev/null would be bound over the masked files."""
    image = hostile({"dev": "/tmp"})
    got = run(cutaway, image, "sh", "-c", "cat /proc/keys /proc/kcore 2>/dev/null | wc -c", check=False)
    assert got.strip().splitlines()[-1] == "0" or "not the null device" in got


def test_links_of_the_image_do_not_lead_mounts_out(
    cutaway: Engine, hostile: Callable[..., str], tmp_path: Path
) -> None:
    """CVE-2021-30465"""
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "file").write_text("given")
    outside = tmp_path / "outside"
    outside.mkdir()
    image = hostile({"data": str(outside), "etc/resolv.conf": f"{outside}/resolv.conf", "up": "../../../../.."})
    got = run(
        cutaway,
        "-v",
        f"{tmp_path}/given:/data/x",
        "-v",
        f"{tmp_path}/given:/up/y",
        image,
        "cat",
        "/data/x/file",
        "/y/file",
    )
    assert got == "givengiven"
    assert list(outside.iterdir()) == []


def test_a_false_proc_of_the_image_is_not_written_to(cutaway: Engine, hostile: Callable[..., str]) -> None:
    """CVE-2019-16884, CVE-2019-19921"""
    image = hostile({"proc": "/tmp"})
    got = run(cutaway, "--sysctl", "net.ipv4.ip_forward=1", image, "cat", "/proc/sys/net/ipv4/ip_forward", check=False)
    assert got.strip() == "1" or "proc" in got


def test_devices_that_were_not_given_cannot_be_opened(cutaway: Engine) -> None:
    attempt = "mknod /disk b 254 0 && head -c 1 /disk"
    assert "not permitted" in run(cutaway, "busybox", "sh", "-c", attempt, check=False)
    given = ["--device", "/dev/fuse:/dev/given:r"]
    assert "not permitted" in run(cutaway, *given, "busybox", "sh", "-c", "echo > /dev/given", check=False)


def test_system_calls_beyond_the_profile_are_refused(cutaway: Engine) -> None:
    assert "not permitted" in run(cutaway, "busybox", "unshare", "-m", "true", check=False)
    assert "denied" in run(cutaway, "busybox", "mount", "-t", "tmpfs", "x", "/mnt", check=False)


def test_mounts_made_inside_are_not_seen_outside(cutaway: Engine) -> None:
    before = Path("/proc/self/mountinfo").read_text()
    run(
        cutaway,
        "--privileged",
        "busybox",
        "sh",
        "-c",
        "mkdir /here; mount -t tmpfs here /here; grep -q here /proc/mounts",
    )
    assert Path("/proc/self/mountinfo").read_text().count("here") == before.count("here")


def test_the_hosts_directories_cannot_be_reached_through_standard_input(cutaway: Engine) -> None:
    root = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    try:
        done = cutaway("run", "-i", "--rm", "busybox", "ls", "/proc/self/fd/0/", check=False, stdin=root)
    finally:
        os.close(root)
    assert "boot" not in done.stdout


def test_the_engines_socket_is_for_root_alone(cutaway: Engine) -> None:
    assert os.stat(cutaway.runtime_dir / "engine.sock").st_mode & 0o007 == 0
    assert os.stat(cutaway.runtime_dir / "spawner.sock").st_mode & 0o077 == 0


def test_a_container_of_the_hosts_files_does_not_see_the_engines(cutaway: Engine) -> None:
    got = run(cutaway, "host", "sh", "-c", f"ls {cutaway.root}; id -u")
    assert got.strip() == "0"

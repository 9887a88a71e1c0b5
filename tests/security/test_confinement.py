"""What a program with powers does in its container, it does not do to the host."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.bundles import Bundle
from tests.engines import Engine

NULL = os.stat("/dev/null")


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Path]:
    """A mount of the host that is shared, and below it one more, with a directory `place` in it."""
    above, below = tmp_path / "shared", tmp_path / "shared" / "below"
    above.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "shared", above], check=True)
    try:
        subprocess.run(["mount", "--make-shared", above], check=True)
        below.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "below", below], check=True)
        (below / "place").mkdir()
        yield above
    finally:
        subprocess.run(["umount", "-R", above], check=True)


@pytest.mark.parametrize("propagation", ["", "private", "slave", "unbindable", "rprivate", "rslave"])
def test_mounts_below_a_bind_mount_are_the_containers_own(bundle: Bundle, shared: Path, propagation: str) -> None:
    bundle.bind(shared, "/mnt", "rbind", *filter(None, [propagation]))
    for kind in ("bounding", "effective", "permitted"):
        bundle.process["capabilities"][kind] = ["CAP_SYS_ADMIN"]
    bundle.shell("mount -t tmpfs escaped /mnt/below/place; umount /mnt/below/place; mount -t tmpfs escaped /mnt/below")
    assert "escaped" not in Path("/proc/self/mounts").read_text()
    subprocess.run(["mount", "-t", "tmpfs", "hosts", shared / "below" / "place"], check=True)
    bundle.shell("umount /mnt/below/place || true; umount /mnt/below")
    assert "hosts" in Path("/proc/self/mounts").read_text()


@pytest.mark.parametrize("propagation", ["shared", "rshared"])
def test_what_is_to_be_shared_with_the_host_is(bundle: Bundle, shared: Path, propagation: str) -> None:
    bundle.bind(shared, "/mnt", "rbind", propagation)
    bundle.process["capabilities"]["effective"] = bundle.process["capabilities"]["permitted"] = ["CAP_SYS_ADMIN"]
    bundle.process["capabilities"]["bounding"] = ["CAP_SYS_ADMIN"]
    bundle.shell("mkdir /mnt/new; mount -t tmpfs seen /mnt/new")
    assert "seen" in Path("/proc/self/mounts").read_text()


@pytest.mark.parametrize(
    "key",
    ["net/../kernel/domainname", "net.//.kernel.domainname", "fs/mqueue/../../kernel/domainname", "net..x", "net."],
)
def test_a_parameter_is_not_called_what_it_is_not(bundle: Bundle, key: str) -> None:
    before = Path("/proc/sys/kernel/domainname").read_text()
    bundle.without_namespace("uts")
    bundle.linux["sysctl"] = {key: before.strip()}
    assert f"linux.sysctl.{key}: is no name of a kernel parameter" in bundle.refusal()


@pytest.mark.parametrize(
    ("kind", "file", "key"),
    [("network", "net", "net.ipv4.ip_default_ttl"), ("ipc", "ipc", "kernel.msgmax"), ("uts", "uts", "kernel.hostname")],
)
def test_no_parameter_of_a_namespace_that_is_the_hosts_is_set(bundle: Bundle, kind: str, file: str, key: str) -> None:
    now = Path("/proc/sys", key.replace(".", "/")).read_text().strip()
    bundle.with_namespace(kind, path=f"/proc/self/ns/{file}")
    bundle.linux["sysctl"] = {key: now}
    assert f"not allowed in host {kind} namespace" in bundle.refusal()


NUMBERS = "stat -Lc '%d %i' /proc/self/fd/0; stat -c '%d %i' /dev/null; echo written >&0"


def assert_is_its_own(said: str) -> None:
    stream, device = said.splitlines()
    assert stream == device != f"{NULL.st_dev} {NULL.st_ino}"


def test_a_stream_that_is_the_null_device_is_the_containers(bundle: Bundle) -> None:
    """By what is open, the host's would have its mode changed: `chmod 0 /proc/self/fd/0`."""
    assert_is_its_own(bundle.shell(NUMBERS))


def test_and_so_is_that_of_what_is_executed(bundle: Bundle) -> None:
    bundle.create("sleep", "1000")
    bundle.start()
    assert_is_its_own(bundle.runtime("exec", bundle.id, "sh", "-ec", NUMBERS).stdout)


def test_what_an_image_has_in_its_place_is_not_taken_for_it(bundle: Bundle) -> None:
    bundle.spec["mounts"] = [mount for mount in bundle.spec["mounts"] if not mount["destination"].startswith("/dev")]
    bundle.create("sleep", "1000")
    bundle.start()
    inside = f"/proc/{bundle.state()['pid']}/root/dev/null"
    os.unlink(inside)
    os.mkfifo(inside)
    said = bundle.runtime("exec", bundle.id, "stat", "-Lc", "%d %i", "/proc/self/fd/0").stdout
    assert said.split() == [str(NULL.st_dev), str(NULL.st_ino)]


@pytest.mark.usefixtures("busybox")
def test_nor_has_a_container_of_the_engine_the_hosts(cutaway: Engine) -> None:
    assert_is_its_own(cutaway("run", "--rm", "--network", "none", "busybox", "sh", "-ec", NUMBERS).stdout)
    cutaway("run", "-d", "--network", "none", "--name", "box", "busybox", "sleep", "1000")
    assert_is_its_own(cutaway("exec", "box", "sh", "-ec", NUMBERS).stdout)
    cutaway("rm", "-f", "box")

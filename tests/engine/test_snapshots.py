"""What a container has become: `commit` makes an image of it, `export` an archive, and neither loses anything."""

from __future__ import annotations

import io
import json
import os
import signal
import stat
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.children import wait_until
from tests.dockerd import Docker
from tests.engine.containers import inspected, running
from tests.engine.killing import workers
from tests.engines import COMMAND, Engine
from tests.image.trees import seen

MADE_TO_MOUNT_ON = {"etc", "etc/hosts", "etc/hostname", "etc/resolv.conf"}
CHANGES = """
rm /bin/vi; rm -r /home; mkdir -m 711 /home; echo new > /home/new; echo x >> /etc/passwd; chmod 700 /root
mkdir -p /srv/a/b; echo 1 > /srv/a/b/one; ln /srv/a/b/one /srv/two; ln -s a/b/one /srv/link; mkfifo /srv/fifo
mknod /srv/null c 1 3; mknod /srv/loop b 7 0; touch -d '2001-02-03 04:05:06' /srv/a; chown 1000:50 /srv/two
chmod 4755 /srv/a/b/one; mv /bin/wc /bin/wc2; rm -r /usr/bin; touch /usr/bin; mkdir /tmp/empty; touch /tmp/gone
rm /tmp/gone; cp /bin/busybox /srv/copy; : > /etc/group
"""


@contextmanager
def image_of(cutaway: Engine, container: str, *options: str) -> Iterator[str]:
    """The ID of an image made of a container."""
    image = cutaway("commit", *options, container).stdout.strip()
    try:
        yield image
    finally:
        cutaway("rmi", "-f", image)


def tree(cutaway: Engine, container: str) -> dict[str, tuple[object, ...]]:
    """All files of a running container, without what is mounted in it, and what was made to mount something on."""
    return {path: found for path, found in seen(merged(cutaway, container)).items() if path not in MADE_TO_MOUNT_ON}


def merged(cutaway: Engine, container: str) -> Path:
    return Path(inspected(cutaway, container, "{{.GraphDriver.Data.MergedDir}}"))


def image(cutaway: Engine, name: str) -> Any:
    return json.loads(cutaway("image", "inspect", name).stdout)[0]


def make_what_no_shell_makes(root: Path) -> None:
    """Attributes, holes, nanoseconds, and names that are neither text nor short."""
    program = root / "srv/copy"
    os.setxattr(program, "security.capability", bytes.fromhex("0100000200040000000000000000000000000000"))
    os.setxattr(program, "user.mine", b"\0\xff")
    os.setxattr(root / "srv", "trusted.overlay.opaque", b"y")  # of an overlay inside the container
    os.setxattr(root / "srv/a", "system.posix_acl_default", _acl())
    os.setxattr(root / "srv/link", "trusted.on-a-link", b"1", follow_symlinks=False)
    with open(root / "srv/sparse", "wb") as file:
        file.truncate(1 << 30)
        file.seek(500_000_000)
        file.write(b"in the middle")
    with open(root / "srv/ends", "wb") as file:
        file.write(b"begin")
        file.seek(10_000_000)
        file.write(b"end")
    (root / "srv" / os.fsdecode(b"not-\xff-text\n")).write_bytes(b"")
    deep = root / "srv" / ("n" * 255) / ("\N{SNOWMAN}" * 85)
    deep.mkdir(parents=True)
    (deep / ("f" * 255)).write_bytes(b"deep")
    os.link(deep / ("f" * 255), deep / ("l" * 200))
    os.chown(deep, 3_000_000, 4_000_000)
    for path in (root / "srv/two", root / "srv/link", root / "srv/fifo", root / "srv/a/b", root / "srv/sparse"):
        os.utime(path, ns=(1, 1_600_000_000_123_456_789), follow_symlinks=False)


def _acl() -> bytes:
    """user::rwx, user:7:r--, group::r-x, mask::rwx, other::---; `acl(5)`, `linux/posix_acl_xattr.h`."""
    entries = ((1, 7, 0xFFFFFFFF), (2, 4, 7), (4, 5, 0xFFFFFFFF), (0x10, 7, 0xFFFFFFFF), (0x20, 0, 0xFFFFFFFF))
    packed = (
        tag.to_bytes(2, "little") + mode.to_bytes(2, "little") + of.to_bytes(4, "little") for tag, mode, of in entries
    )
    return (2).to_bytes(4, "little") + b"".join(packed)


@pytest.mark.usefixtures("busybox")
class TestCommit:
    def test_the_image_has_exactly_the_files_that_the_container_had(self, cutaway: Engine) -> None:
        with running(cutaway, "--rm", "-v", "/data", "-w", "/new/dir") as box:
            cutaway("exec", box, "sh", "-ec", CHANGES + "echo hidden > /data/x")
            make_what_no_shell_makes(merged(cutaway, box))
            before = tree(cutaway, box)
            with image_of(cutaway, box, "-c", 'CMD ["sleep", "1000"]') as made:
                again = cutaway("run", "-d", "--network", "none", made).stdout.strip()
                try:
                    after, root = tree(cutaway, again), merged(cutaway, again)
                    assert os.stat(root / "srv/sparse").st_blocks < 1000
                finally:
                    cutaway("rm", "-f", "-v", again)
        assert {path: after.get(path) for path in before} == before
        assert after.keys() == before.keys()
        assert "srv/copy" in before and "bin/vi" not in before and "data/x" not in before

    def test_the_layer_is_what_docker_would_write(self, cutaway: Engine) -> None:
        with running(cutaway) as box:
            cutaway(
                "exec", box, "sh", "-ec", "rm /bin/vi; rm -r /home; mkdir /home; touch /home/a; mkdir /n; touch /n/b"
            )
            with image_of(cutaway, box) as made:
                layer = image(cutaway, made)["RootFS"]["Layers"][-1].removeprefix("sha256:")
                with tarfile.open(cutaway.root / "images/blobs/sha256" / layer) as tar:
                    members = {member.name: member for member in tar}
        assert list(members) == ["bin", "bin/.wh.vi", "home", "home/.wh..wh..opq", "home/a", "n", "n/b"]
        assert members["bin/.wh.vi"].isreg() and members["bin/.wh.vi"].size == 0

    def test_what_the_engine_made_in_the_container_is_not_in_the_image(self, cutaway: Engine) -> None:
        """Unchanged, it is its image under another history."""
        with running(cutaway) as box, image_of(cutaway, box, "-m", "nothing") as made:
            parent, child = image(cutaway, "busybox"), image(cutaway, made)
            steps = cutaway("history", "--format", "{{.Size}} {{.Comment}}", made).stdout.splitlines()
        assert child["RootFS"] == parent["RootFS"]
        assert child["Id"] != parent["Id"]
        assert steps[0] == "0B nothing"

    def test_what_it_says_of_containers_comes_from_the_container(self, cutaway: Engine) -> None:
        options = ("-e", "A=1", "-l", "l=m", "-w", "/srv", "-u", "1000", "--expose", "80", "-v", "/data", "-h", "name")
        changes = ("-c", "ENV B=$A/2", "-c", "EXPOSE 53/udp", "-c", 'ENTRYPOINT ["env"]')
        with running(cutaway, "--rm", *options, "--stop-signal", "INT") as box:
            with image_of(cutaway, box, "-a", "me", "-m", "why", *changes) as made:
                found = image(cutaway, made)
            with image_of(cutaway, box) as plain:
                assert image(cutaway, plain)["Config"]["Cmd"] == ["sleep", "1000"]
        config = found["Config"]
        assert (found["Author"], found["Comment"], config["Hostname"]) == ("me", "why", "")
        assert (config["Env"], config["Labels"]) == (["A=1", "B=1/2"], {"l": "m"})
        assert (config["WorkingDir"], config["User"], config["StopSignal"]) == ("/srv", "1000", "INT")
        assert (sorted(config["ExposedPorts"]), list(config["Volumes"])) == (["53/udp", "80/tcp"], ["/data"])
        assert (config["Entrypoint"], config["Cmd"]) == (["env"], None)

    def test_a_container_stands_still_meanwhile(self, cutaway: Engine) -> None:
        """What it writes one after the other is all there or all missing behind a moment."""
        program = (
            "i=0; while true; do i=$((i+1)); touch /tmp/a$i; touch /var/z$i; rm -f /tmp/a$((i-9)) /var/z$((i-9)); done"
        )
        with running(cutaway, command=("sh", "-c", program)) as box:
            for _ in range(3):
                with image_of(cutaway, box) as made:
                    shown = cutaway("run", "--rm", "--network", "none", made, "sh", "-c", "ls /tmp /var").stdout.split()
                    numbers = [{int(name[1:]) for name in shown if name[0] == letter} for letter in "az"]
                    assert len(numbers[0] ^ numbers[1]) <= 2
                assert inspected(cutaway, box, "{{.State.Status}}") == "running"

    def test_without_a_pause_and_of_a_paused_one(self, cutaway: Engine) -> None:
        with running(cutaway) as box:
            with image_of(cutaway, box, "--pause=false"):
                pass
            cutaway("pause", box)
            with image_of(cutaway, box):
                assert inspected(cutaway, box, "{{.State.Status}}") == "paused"

    def test_of_one_that_has_ended_under_a_name(self, cutaway: Engine) -> None:
        cutaway("run", "--name", "ended", "busybox", "sh", "-c", "echo done > /result")
        try:
            cutaway("commit", "ended", "result:1")
            assert cutaway("run", "--rm", "result:1", "cat", "/result").stdout == "done\n"
            cutaway("rmi", "result:1")
        finally:
            cutaway("rm", "ended")

    @pytest.mark.parametrize(
        ("arguments", "sentence"),
        [
            (("nowhere",), "No such container: nowhere"),
            (("box", "not/Allowed"), "invalid reference format: repository name (not/Allowed) must be lowercase"),
            (("-c", "RUN make", "box"), "RUN is not a valid change command"),
            (("of-host",), "cutaway export of-host | cutaway import - NAME"),
        ],
    )
    def test_what_cannot_be(self, cutaway: Engine, arguments: tuple[str, ...], sentence: str) -> None:
        cutaway("create", "--name", "box", "busybox", "true")
        cutaway("create", "--name", "of-host", "host")
        before = cutaway("images", "-q").stdout
        done = cutaway("commit", *arguments, check=False)
        cutaway("rm", "box", "of-host")
        assert (done.returncode, sentence in done.stderr) == (1, True), done.stderr
        assert cutaway("images", "-q").stdout == before

    def test_a_name_that_would_delete_is_refused(self, cutaway: Engine) -> None:
        with running(cutaway) as box:
            cutaway("exec", box, "touch", "/etc/.wh.passwd")
            done = cutaway("commit", box, check=False)
        assert done.returncode == 1
        assert "/etc/.wh.passwd: in a layer, a name that begins with .wh. means a deletion" in done.stderr

    def test_one_that_is_removed_meanwhile_leaves_no_image(self, cutaway: Engine) -> None:
        before = cutaway("images", "-q").stdout
        with running(cutaway) as box:
            cutaway("exec", box, "dd", "if=/dev/urandom", "of=/large", "bs=1M", "count=100")
            engine = cutaway.status()["engine_pid"]
            committing = subprocess.Popen(
                [COMMAND, "commit", "-p=false", box], env=cutaway.environment, stderr=subprocess.PIPE
            )
            staging = cutaway.root / "images/staging"
            wait_until(lambda: list(staging.glob("*/layer.blob")))
            for worker in (stopped := workers(engine)):
                os.kill(worker, signal.SIGSTOP)
            cutaway("rm", "-f", box)
            for worker in stopped:
                os.kill(worker, signal.SIGCONT)
            _, said = committing.communicate(timeout=60)
        assert committing.returncode == 1, said
        assert cutaway("images", "-q").stdout == before
        assert not list(staging.iterdir())

    def test_docker_takes_it_and_sees_the_same(self, cutaway: Engine, docker: Docker, tmp_path: Path) -> None:
        with running(cutaway) as box:
            cutaway("exec", box, "sh", "-ec", CHANGES)
            cutaway("commit", "-m", "for Docker", box, "committed:1")
        cutaway("save", "-o", tmp_path / "image.tar", "committed:1")
        cutaway("create", "--name", "ours", "committed:1")
        docker("load", "--input", str(tmp_path / "image.tar"))
        try:
            theirs = docker("create", "committed:1")
            docker("export", "--output", str(tmp_path / "theirs.tar"), theirs)
            cutaway("export", "-o", tmp_path / "ours.tar", "ours")
            assert docker("image", "inspect", "-f", "{{.Id}}", "committed:1") == image(cutaway, "committed:1")["Id"]
            told = (
                "history",
                "--no-trunc",
                "--format",
                "{{.CreatedAt}} {{.CreatedBy}} {{.Size}} {{.Comment}}",
                "committed:1",
            )
            assert docker(*told) == cutaway(*told).stdout.strip()
            docker("rm", theirs)
        finally:
            cutaway("rm", "ours")
            cutaway("rmi", "committed:1")
        ours, others = _members(tmp_path / "ours.tar"), _members(tmp_path / "theirs.tar")
        assert {path: others.get(path) for path in ours} == ours
        assert {path.partition("/")[0] for path in others.keys() - ours.keys()} <= {".dockerenv", "dev", "etc"}


def _members(archive: Path) -> dict[str, tuple[object, ...]]:
    with tarfile.open(archive) as tar:
        return {
            member.name: (
                member.type,
                member.mode & 0o7777,
                member.uid,
                member.gid,
                member.size,
                int(member.mtime),
                member.linkname,
            )
            for member in tar
            if member.name not in ("dev", "etc", "proc", "sys")  # Docker makes more in them
        }


@pytest.mark.usefixtures("busybox")
class TestExport:
    def test_it_is_the_whole_root_without_what_is_mounted(self, cutaway: Engine, tmp_path: Path) -> None:
        with running(cutaway, "-v", "named:/data", "--tmpfs", "/memory") as box:
            cutaway("exec", box, "sh", "-ec", CHANGES + "touch /data/x /memory/y")
            expected = tree(cutaway, box)
            cutaway("export", "-o", tmp_path / "running.tar", box)
            cutaway("stop", "-t", "0", box)
            cutaway("export", "-o", tmp_path / "stopped.tar", box)
        cutaway("volume", "rm", "named")
        assert (tmp_path / "running.tar").read_bytes() == (tmp_path / "stopped.tar").read_bytes()
        (tmp_path / "root").mkdir()
        unpack = ("tar", "-C", tmp_path / "root", "--numeric-owner", "--xattrs", "--xattrs-include=*", "-xpf")
        subprocess.run([*unpack, tmp_path / "running.tar"], check=True)
        exported = seen(tmp_path / "root")
        assert {path: exported.get(path) for path in expected} == expected
        assert exported.keys() - expected.keys() == MADE_TO_MOUNT_ON
        assert {"data", "memory", "proc", "dev"} <= expected.keys()
        assert not expected.keys() & {"data/x", "memory/y", "proc/1"}

    def test_to_standard_output_and_back_in(self, cutaway: Engine) -> None:
        with running(cutaway) as box:
            archive = subprocess.run(
                [COMMAND, "export", box], env=cutaway.environment, stdout=subprocess.PIPE, check=True
            ).stdout
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            assert "bin/busybox" in tar.getnames() and "." not in tar.getnames()
        done = subprocess.run([COMMAND, "import", "-", "back"], input=archive, env=cutaway.environment, check=True)
        assert done.returncode == 0
        assert cutaway("run", "--rm", "back", "cat", "/etc/passwd").stdout.startswith("root:")
        cutaway("rmi", "back")

    def test_not_to_a_terminal(self, cutaway: Engine) -> None:
        with running(cutaway) as box:
            ours, theirs = os.openpty()
            done = subprocess.run(
                [COMMAND, "export", box], env=cutaway.environment, stdout=theirs, stderr=subprocess.PIPE, text=True
            )
            os.close(ours)
            os.close(theirs)
        assert done.returncode == 1
        assert "cowardly refusing to export to a terminal. Use the -o flag or redirect" in done.stderr

    def test_of_a_directory_as_root(self, cutaway: Engine, tmp_path: Path) -> None:
        (tmp_path / "root").mkdir()
        (tmp_path / "root/file").write_text("x")
        cutaway("create", "--name", "rootfs", "--rootfs", tmp_path / "root", "/file")
        cutaway("export", "-o", tmp_path / "root.tar", "rootfs")
        refused = cutaway("commit", "rootfs", check=False).stderr
        cutaway("rm", "rootfs")
        with tarfile.open(tmp_path / "root.tar") as tar:
            assert tar.getnames() == ["file"]
        assert "cutaway export rootfs | cutaway import - NAME" in refused
        assert stat.S_ISREG((tmp_path / "root/file").stat().st_mode)

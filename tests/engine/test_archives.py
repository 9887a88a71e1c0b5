"""Files copied into containers and out of them, and what a container changed."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engines import COMMAND, Engine

CREATE = ("create", "--network", "none")


@pytest.fixture(params=["running", "stopped", "created"])
def container(request: pytest.FixtureRequest, engine: Engine, busybox: str) -> Iterator[str]:
    """The name of a container with a volume /vol that holds a file, in each state that it can be in."""
    engine("volume", "create", "shelf")
    engine(*CREATE, "--name", "box", "-v", "shelf:/vol", busybox, "sleep", "1000")
    if request.param != "created":
        engine("start", "box")
    if request.param == "stopped":
        engine("stop", "-t", "0", "box")
    place = Path(engine("volume", "inspect", "-f", "{{.Mountpoint}}", "shelf").stdout.strip())
    (place / "file").write_text("in the volume")
    yield "box"
    engine("rm", "-f", "box")
    engine("volume", "rm", "shelf")


@pytest.fixture
def running(engine: Engine, busybox: str) -> Iterator[str]:
    engine("run", "-d", "--network", "none", "--name", "live", busybox, "sleep", "1000")
    yield "live"
    engine("rm", "-f", "live")


def listed(engine: Engine, path: str) -> tarfile.TarFile:
    """What `cp CONTAINER:PATH -` writes."""
    done = subprocess.run([COMMAND, "cp", path, "-"], env=engine.environment, capture_output=True, check=True)
    return tarfile.open(fileobj=io.BytesIO(done.stdout))


def sent(engine: Engine, archive: bytes, path: str, *options: str) -> subprocess.CompletedProcess[bytes]:
    """`cp - CONTAINER:PATH` of an archive."""
    return subprocess.run(
        [COMMAND, "cp", *options, "-", path], input=archive, env=engine.environment, capture_output=True, check=False
    )


def archive_of(*members: tarfile.TarInfo) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for member in members:
            tar.addfile(member, io.BytesIO(bytes(member.size)))
    return stream.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, linkname: str = "", **more: int) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, linkname
    for field, value in more.items():
        setattr(made, field, value)
    return made


class TestCopying:
    def test_a_file_in_and_out(self, cutaway: Engine, container: str, tmp_path: Path) -> None:
        (tmp_path / "in").write_text("content")
        (tmp_path / "in").chmod(0o640)
        cutaway("cp", tmp_path / "in", f"{container}:/root/there")
        cutaway("cp", f"{container}:/root/there", tmp_path / "out")
        assert (tmp_path / "out").read_text() == "content"
        assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o640

    def test_a_directory_in_and_out(self, cutaway: Engine, container: str, tmp_path: Path) -> None:
        (tmp_path / "in/below").mkdir(parents=True)
        (tmp_path / "in/below/file").write_text("content")
        (tmp_path / "in/link").symlink_to("below/file")
        cutaway("cp", tmp_path / "in", f"{container}:/root")
        cutaway("cp", f"{container}:/root/in/.", tmp_path / "out")
        assert (tmp_path / "out/below/file").read_text() == "content"
        assert os.readlink(tmp_path / "out/link") == "below/file"

    def test_reaches_the_volumes(self, cutaway: Engine, container: str, tmp_path: Path) -> None:
        cutaway("cp", f"{container}:/vol/file", tmp_path / "out")
        assert (tmp_path / "out").read_text() == "in the volume"
        (tmp_path / "more").touch()
        cutaway("cp", tmp_path / "more", f"{container}:/vol")
        place = Path(cutaway("volume", "inspect", "-f", "{{.Mountpoint}}", "shelf").stdout.strip())
        assert sorted(os.listdir(place)) == ["file", "more"]

    def test_what_was_copied_is_there_when_it_runs(self, cutaway: Engine, container: str, tmp_path: Path) -> None:
        (tmp_path / "in").write_text("content")
        cutaway("cp", tmp_path / "in", f"{container}:/root")
        cutaway("start", container)
        assert cutaway("exec", container, "cat", "/root/in").stdout == "content"

    def test_files_belong_to_root_inside(self, cutaway: Engine, container: str) -> None:
        sent(cutaway, archive_of(member("file", uid=1234, gid=99)), f"{container}:/root")
        [entry] = listed(cutaway, f"{container}:/root/file")
        assert (entry.uid, entry.gid) == (0, 0)

    def test_files_keep_their_owners_if_wanted(self, cutaway: Engine, container: str) -> None:
        sent(cutaway, archive_of(member("file", uid=1234, gid=99)), f"{container}:/root", "-a")
        [entry] = listed(cutaway, f"{container}:/root/file")
        assert (entry.uid, entry.gid) == (1234, 99)

    def test_what_is_not_there(self, cutaway: Engine, container: str, tmp_path: Path) -> None:
        done = cutaway("cp", f"{container}:/nowhere/file", tmp_path, check=False)
        assert done.returncode == 1
        assert f"Could not find the file /nowhere/file in container {container}" in done.stderr
        assert os.listdir(tmp_path) == []


class TestStayingInside:
    """Whatever the container's links say, they lead where they lead inside."""

    @pytest.fixture
    def trap(self, cutaway: Engine, container: str, tmp_path: Path) -> Iterator[str]:
        """A path in a container that leads to a directory of the host, if it is followed there."""
        (tmp_path / "secret").write_text("of the host")
        links = [
            member("absolute", tarfile.SYMTYPE, str(tmp_path)),
            member("up", tarfile.SYMTYPE, "../" * 20 + "tmp"),
        ]
        assert sent(cutaway, archive_of(*links), f"{container}:/root").returncode == 0
        yield f"{container}:/root/absolute"
        assert os.listdir(tmp_path) == ["secret"]

    def test_going_out(self, cutaway: Engine, trap: str) -> None:
        done = cutaway("cp", f"{trap}/secret", "-", check=False)
        assert "Could not find the file" in done.stderr

    def test_going_in(self, cutaway: Engine, trap: str) -> None:
        assert sent(cutaway, archive_of(member("file")), trap).returncode == 1
        assert sent(cutaway, archive_of(member("file")), trap.replace("absolute", "up")).returncode == 0
        assert [entry.name for entry in listed(cutaway, trap.replace("root/absolute", "tmp"))] == ["tmp", "tmp/file"]

    def test_a_link_of_the_archives_own(self, cutaway: Engine, container: str, tmp_path: Path) -> None:
        members = [member("way", tarfile.SYMTYPE, str(tmp_path)), member("way/file", size=3)]
        sent(cutaway, archive_of(*members), f"{container}:/root")
        assert os.listdir(tmp_path) == []

    @pytest.mark.parametrize("name", ["../file", "a/../../file"])
    def test_names_that_lead_up(self, cutaway: Engine, container: str, name: str) -> None:
        done = sent(cutaway, archive_of(member(name)), f"{container}:/root")
        assert done.returncode == 1
        assert b"leads out of the archive" in done.stderr

    def test_a_root_that_changes_while_it_is_read(self, cutaway: Engine, running: str, tmp_path: Path) -> None:
        """The container swaps a directory for a link to the host's, again and again."""
        (tmp_path / "secret").write_text("of the host")
        script = (
            f"cd /root; mkdir a; echo inside > a/secret; while true; do mv a b; ln -s {tmp_path} a; rm a; mv b a; done"
        )
        cutaway("exec", "-d", running, "sh", "-c", script)
        for _ in range(20):
            done = subprocess.run(
                [COMMAND, "cp", f"{running}:/root", "-"], env=cutaway.environment, capture_output=True, check=False
            )
            assert b"of the host" not in done.stdout


class TestRefusals:
    def test_a_read_only_root_stays_as_it_is(self, cutaway: Engine, busybox: str) -> None:
        cutaway(*CREATE, "--name", "fixed", "--read-only", "-v", "/vol", busybox, "sleep", "1000")
        for _ in range(2):
            done = sent(cutaway, archive_of(member("file")), "fixed:/root")
            assert done.returncode == 1
            assert b"Read-only file system" in done.stderr
            assert sent(cutaway, archive_of(member("file")), "fixed:/vol").returncode == 0
            cutaway("start", "fixed")
        cutaway("rm", "-f", "-v", "fixed")

    def test_a_directory_is_not_replaced_by_a_file(self, cutaway: Engine, container: str) -> None:
        done = sent(cutaway, archive_of(member("etc")), f"{container}:/")
        assert (done.returncode, done.stdout) == (1, b"")
        assert b"cannot overwrite directory" in done.stderr

    def test_what_is_no_archive(self, cutaway: Engine, container: str) -> None:
        done = sent(cutaway, b"no archive " * 100, f"{container}:/root")
        assert done.returncode == 1
        assert done.stderr.count(b"\n") == 1

    def test_a_file_is_no_place_for_an_archive(self, cutaway: Engine, container: str) -> None:
        done = sent(cutaway, archive_of(member("file")), f"{container}:/etc/passwd")
        assert done.returncode == 1
        assert b"not a directory" in done.stderr


class TestLargeAndSlow:
    def test_a_reader_that_goes_away_ends_it(self, cutaway: Engine, running: str) -> None:
        cutaway("exec", running, "dd", "if=/dev/zero", "of=/root/large", "bs=1M", "count=64")
        with subprocess.Popen(
            [COMMAND, "cp", f"{running}:/root/large", "-"], env=cutaway.environment, stdout=subprocess.PIPE
        ) as copying:
            assert copying.stdout
            copying.stdout.read(100)
        assert copying.returncode != 0

    def test_a_command_that_is_killed_lets_the_container_go(self, cutaway: Engine, busybox: str) -> None:
        """It waits for an archive that never comes, and meanwhile the container cannot start."""
        cutaway(*CREATE, "--name", "waiting", busybox, "true")
        reading, writing = os.pipe()
        with subprocess.Popen([COMMAND, "cp", "-", "waiting:/root"], env=cutaway.environment, stdin=reading) as copying:
            os.close(reading)
            with open(writing, "wb", buffering=0, closefd=False) as pipe:
                pipe.write(
                    archive_of(member("begun", size=1 << 20))[: 1 << 19]
                )  # more than a pipe holds: it is being read
            copying.kill()
        cutaway("start", "-a", "waiting")
        os.close(writing)
        cutaway("rm", "waiting")

    def test_other_containers_start_meanwhile(self, cutaway: Engine, busybox: str, running: str) -> None:
        reading, writing = os.pipe()
        with subprocess.Popen(
            [COMMAND, "cp", "-", f"{running}:/root"], env=cutaway.environment, stdin=reading
        ) as copying:
            os.close(reading)
            cutaway("run", "--rm", "--network", "none", busybox, "true")
            with open(writing, "wb") as pipe:
                pipe.write(archive_of(member("file")))
        assert copying.returncode == 0


class TestChanges:
    def test_are_listed(self, cutaway: Engine, busybox: str) -> None:
        script = "echo more >> /etc/passwd; mkdir /new; touch /new/file; rm /etc/group"
        cutaway(*CREATE, "--name", "changed", busybox, "sh", "-c", script)
        before = cutaway("diff", "changed").stdout
        cutaway("start", "-a", "changed")
        after = cutaway("diff", "changed").stdout.splitlines()
        cutaway("rm", "changed")
        assert before == ""
        assert after == ["C /etc", "D /etc/group", "C /etc/passwd", "A /new", "A /new/file"]

    def test_are_none_of_the_engines_own(self, cutaway: Engine, running: str) -> None:
        assert cutaway("diff", running).stdout == ""

    def test_their_size_is_shown(self, cutaway: Engine, busybox: str) -> None:
        cutaway(*CREATE, "--name", "sized", busybox, "dd", "if=/dev/zero", "of=/file", "bs=1000", "count=7")
        cutaway("start", "-a", "sized")
        own, whole = map(int, cutaway("inspect", "-s", "-f", "{{.SizeRw}} {{.SizeRootFs}}", "sized").stdout.split())
        image = int(cutaway("image", "inspect", "-f", "{{.Size}}", busybox).stdout)
        cutaway("rm", "sized")
        assert 7000 <= own < 8000
        assert whole == own + image

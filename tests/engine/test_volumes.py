"""Volumes, bind mounts and tmpfs, as a person and a program in the container see them."""

from __future__ import annotations

import asyncio
import io
import json
import os
import stat
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from cutaway.engine import model
from cutaway.engine.containers import Container, Containers, Record
from cutaway.engine.database import Table, open_database
from cutaway.engine.errors import Conflict
from cutaway.engine.places import Places
from cutaway.engine.volumes import Volumes
from tests.children import wait_until
from tests.engine.killing import kill, kill_part
from tests.engines import COMMAND, Engine

RUN = ("run", "--rm", "--network", "none")
DETACHED = ("run", "-d", "--network", "none")


@pytest.fixture(scope="module")
def stocked(engine: Engine, busybox_tar: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """An image with a directory /stock of user 1000, and a volume /declared."""
    archive = tmp_path_factory.mktemp("stocked") / "stocked.tar"
    archive.write_bytes(busybox_tar.read_bytes())
    with tarfile.open(archive, "a") as tar:
        tar.addfile(_member("stock", tarfile.DIRTYPE, 0o2750))
        tar.addfile(_member("stock/below", tarfile.DIRTYPE, 0o700))
        file = _member("stock/file", tarfile.REGTYPE, 0o4755, size=4)
        file.pax_headers = {"SCHILY.xattr.user.colour": "green"}
        tar.addfile(file, io.BytesIO(b"here"))
        tar.addfile(_member("stock/below/other-name", tarfile.LNKTYPE, 0o755, linkname="stock/file"))
        tar.addfile(_member("stock/link", tarfile.SYMTYPE, 0o777, linkname="/etc/passwd"))
        tar.addfile(_member("shelf", tarfile.SYMTYPE, 0o777, linkname="stock"))
        tar.addfile(_member("declared/file", tarfile.REGTYPE, 0o644, size=4), io.BytesIO(b"here"))
    engine("import", "--change", "VOLUME /declared", archive, "stocked")
    return "stocked"


def _member(name: str, kind: bytes, mode: int, size: int = 0, linkname: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.mode, member.size, member.linkname = kind, mode, size, linkname
    member.uid, member.gid = 1000, 50
    return member


@pytest.fixture
def volume(engine: Engine) -> Iterator[str]:
    """The name of a new volume."""
    name = f"volume-{os.urandom(4).hex()}"
    engine("volume", "create", name)
    yield name
    engine("volume", "rm", "-f", name)


def contents(engine: Engine, volume: str) -> Path:
    return Path(json.loads(engine("volume", "inspect", volume).stdout)[0]["Mountpoint"])


def volumes(engine: Engine) -> set[str]:
    return set(engine("volume", "ls", "-q").stdout.split())


def inspected(engine: Engine, container: str) -> Any:
    return json.loads(engine("inspect", container).stdout)[0]


def refused(engine: Engine, *arguments: str | Path) -> str:
    done = engine(*arguments, check=False)
    assert done.returncode == (125 if arguments[0] == "run" else 1)
    return done.stderr.strip()


class TestWhatAVolumeHolds:
    def test_outlives_its_containers(self, cutaway: Engine, busybox: str, volume: str) -> None:
        cutaway(*RUN, "-v", f"{volume}:/kept", busybox, "sh", "-c", "echo written > /kept/file")
        assert cutaway(*RUN, "-v", f"{volume}:/seen", busybox, "cat", "/seen/file").stdout == "written\n"

    def test_is_filled_from_the_image_with_owners_modes_attributes_and_links(
        self, cutaway: Engine, stocked: str, volume: str
    ) -> None:
        cutaway(*RUN, "-v", f"{volume}:/stock", stocked, "true")
        place = contents(cutaway, volume)
        assert _owner_and_mode(place) == (1000, 50, 0o2750)
        assert _owner_and_mode(place / "file") == (1000, 50, 0o4755)
        assert _owner_and_mode(place / "below") == (1000, 50, 0o700)
        assert os.getxattr(place / "file", "user.colour") == b"green"
        assert (place / "below/other-name").samefile(place / "file")
        assert os.readlink(place / "link") == "/etc/passwd"

    def test_is_filled_also_where_the_image_has_a_link(self, cutaway: Engine, stocked: str, volume: str) -> None:
        cutaway(*RUN, "-v", f"{volume}:/shelf", stocked, "true")
        assert (contents(cutaway, volume) / "file").read_text() == "here"

    def test_is_not_filled_where_it_holds_something(self, cutaway: Engine, stocked: str, volume: str) -> None:
        (contents(cutaway, volume) / "own").touch()
        assert cutaway(*RUN, "-v", f"{volume}:/stock", stocked, "ls", "/stock").stdout == "own\n"

    @pytest.mark.parametrize("option", ["-v={}:/stock:nocopy", "--mount=src={},dst=/stock,volume-nocopy"])
    def test_is_not_filled_with_nocopy(self, cutaway: Engine, stocked: str, volume: str, option: str) -> None:
        assert cutaway(*RUN, option.format(volume), stocked, "ls", "/stock").stdout == ""

    def test_is_not_filled_over_a_file(self, cutaway: Engine, busybox: str) -> None:
        before = volumes(cutaway)
        message = refused(cutaway, *RUN, "-v", "/etc/passwd", busybox, "true")
        assert "cannot mount volume over existing file, file exists /etc/passwd" in message
        assert volumes(cutaway) == before

    def test_is_filled_once_by_many_at_once(self, cutaway: Engine, stocked: str, volume: str) -> None:
        arguments = [str(COMMAND), *RUN, "-v", f"{volume}:/stock", stocked, "cat", "/stock/file"]
        starts = [
            subprocess.Popen(arguments, env=cutaway.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            for _ in range(4)
        ]
        assert [start.communicate() for start in starts] == [(b"here", b"")] * 4


def _owner_and_mode(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)


class TestVolumesOfContainers:
    def test_a_named_one_is_made_by_its_first_use(self, cutaway: Engine, busybox: str) -> None:
        cutaway(*RUN, "-v", "made-by-use:/x", busybox, "true")
        assert "made-by-use" in volumes(cutaway)
        cutaway("volume", "rm", "made-by-use")

    def test_those_without_a_name_go_with_rm(self, cutaway: Engine, busybox: str) -> None:
        before = volumes(cutaway)
        cutaway(*RUN, "-v", "/x", "--mount", "dst=/y", busybox, "sh", "-c", "touch /x/a /y/b")
        assert volumes(cutaway) == before

    @pytest.mark.parametrize(("options", "left"), [((), 1), (("-v",), 0)])
    def test_those_without_a_name_go_with_rm_v(
        self, cutaway: Engine, busybox: str, options: tuple[str, ...], left: int
    ) -> None:
        before = volumes(cutaway)
        cutaway("create", "--name", "anonymous", "-v", "/x", busybox, "true")
        cutaway("rm", *options, "anonymous")
        made = volumes(cutaway) - before
        assert len(made) == left
        if made:
            cutaway("volume", "rm", *made)

    def test_the_images_own_are_made_and_filled(self, cutaway: Engine, stocked: str) -> None:
        before = volumes(cutaway)
        assert cutaway(*RUN, stocked, "cat", "/declared/file").stdout == "here"
        cutaway("create", "--name", "declared", stocked, "true")
        [mount] = inspected(cutaway, "declared")["Mounts"]
        assert (mount["Type"], mount["Destination"], mount["Driver"]) == ("volume", "/declared", "local")
        assert mount["Name"] in volumes(cutaway) - before
        cutaway("rm", "-v", "declared")
        assert volumes(cutaway) == before

    def test_another_mount_takes_the_place_of_the_images(self, cutaway: Engine, stocked: str, tmp_path: Path) -> None:
        before = volumes(cutaway)
        (tmp_path / "mine").touch()
        assert cutaway(*RUN, "-v", f"{tmp_path}:/declared", stocked, "ls", "/declared").stdout == "mine\n"
        assert cutaway(*RUN, "--tmpfs", "/declared", stocked, "ls", "/declared").stdout == ""
        assert volumes(cutaway) == before

    def test_what_is_mounted_above_others_comes_first(
        self, cutaway: Engine, busybox: str, tmp_path: Path, volume: str
    ) -> None:
        (tmp_path / "deep").touch()
        mounts = ("-v", f"{tmp_path}:/a/b/c", "--tmpfs", "/a/b", "-v", f"{volume}:/a")
        assert cutaway(*RUN, *mounts, busybox, "find", "/a").stdout.split() == ["/a", "/a/b", "/a/b/c", "/a/b/c/deep"]

    def test_a_volume_over_etc_keeps_the_containers_own_names(self, cutaway: Engine, busybox: str, volume: str) -> None:
        command = (*RUN, "--hostname", "mine", "-v", f"{volume}:/etc", busybox, "cat", "/etc/hostname")
        assert cutaway(*command).stdout == "mine\n"

    def test_read_only(self, cutaway: Engine, busybox: str, volume: str) -> None:
        for option in (f"-v={volume}:/x:ro", f"--mount=src={volume},dst=/x,readonly"):
            done = cutaway(*RUN, option, busybox, "touch", "/x/file", check=False)
            assert "Read-only file system" in done.stderr

    def test_inspect_shows_them_as_docker_does(
        self, cutaway: Engine, busybox: str, tmp_path: Path, volume: str
    ) -> None:
        mounts = (
            "-v",
            f"{volume}:/named:ro",
            "--mount",
            f"type=bind,src={tmp_path},dst=/bound/,bind-propagation=rslave",
        )
        cutaway("create", "--name", "shown", *mounts, "--mount", "type=tmpfs,dst=/memory", busybox, "true")
        named, bound, memory = sorted(
            inspected(cutaway, "shown")["Mounts"], key=lambda mount: mount["Type"] != "volume"
        )
        cutaway("rm", "shown")
        assert named == {
            "Type": "volume", "Name": volume, "Source": str(contents(cutaway, volume)), "Destination": "/named",
            "Driver": "local", "Mode": "ro", "RW": False, "Propagation": "",
        }  # fmt: skip
        assert (bound["Type"], bound["Source"], bound["Destination"]) == ("bind", str(tmp_path), "/bound")
        assert (bound["Mode"], bound["RW"], bound["Propagation"]) == ("", True, "rslave")
        assert (memory["Type"], memory["Source"], memory["Destination"]) == ("tmpfs", "", "/memory")

    def test_they_come_back_with_a_new_engine(self, new_engine: Callable[[], Engine], busybox_tar: Path) -> None:
        engine = new_engine()
        engine("import", busybox_tar, "busybox")
        engine("create", "--network", "none", "--name", "keeper", "-v", "kept:/kept", "busybox", "touch", "/kept/file")
        engine("engine", "stop")
        engine("start", "-a", "keeper")
        assert os.listdir(contents(engine, "kept")) == ["file"]
        assert "volume is in use" in refused(engine, "volume", "rm", "kept")
        engine("rm", "keeper")
        engine("volume", "rm", "kept")


class TestPartOfAVolume:
    def test_is_all_that_is_seen(self, cutaway: Engine, busybox: str, volume: str) -> None:
        (contents(cutaway, volume) / "part").mkdir()
        mount = f"src={volume},dst=/x,volume-subpath=part"
        cutaway(*RUN, "--mount", mount, busybox, "touch", "/x/file")
        assert (contents(cutaway, volume) / "part/file").exists()

    def test_must_be_there(self, cutaway: Engine, busybox: str, volume: str) -> None:
        message = refused(cutaway, *RUN, "--mount", f"src={volume},dst=/x,volume-subpath=part", busybox, "true")
        assert f"cannot access part in volume {volume}: No such file or directory" in message

    def test_cannot_be_outside(self, cutaway: Engine, busybox: str, volume: str) -> None:
        (contents(cutaway, volume) / "etc").mkdir()
        (contents(cutaway, volume) / "etc/mine").touch()
        (contents(cutaway, volume) / "out").symlink_to("../../../../../../../etc")
        mount = f"src={volume},dst=/x,volume-subpath=out"
        assert cutaway(*RUN, "--mount", mount, busybox, "ls", "/x").stdout == "mine\n"


class TestRemovingVolumes:
    def test_one_in_use_stays(self, cutaway: Engine, busybox: str, volume: str) -> None:
        cutaway("create", "--name", "user", "-v", f"{volume}:/x", busybox, "true")
        container = inspected(cutaway, "user")["Id"]
        for force in ((), ("-f",)):
            assert refused(cutaway, "volume", "rm", *force, volume).endswith(
                f"remove {volume}: volume is in use - [{container}]"
            )
        cutaway("rm", "user")
        cutaway("volume", "rm", volume)
        assert volume not in volumes(cutaway)

    def test_nothing_of_it_is_left(self, cutaway: Engine, busybox: str) -> None:
        before = set(os.listdir(cutaway.root / "volumes"))
        script = "cd {}; for i in $(seq 1500); do mkdir d; cd d; done; touch file"
        cutaway(*RUN, "-v", "deep:/x", busybox, "sh", "-c", f"{script.format('/x')}; {script.format('/')}")
        cutaway("volume", "rm", "deep")
        assert set(os.listdir(cutaway.root / "volumes")) == before

    def test_one_that_is_not_there(self, cutaway: Engine) -> None:
        assert refused(cutaway, "volume", "rm", "nowhere").endswith("get nowhere: no such volume")
        cutaway("volume", "rm", "-f", "nowhere")

    def test_prune_takes_the_anonymous_that_nobody_uses(self, cutaway: Engine, busybox: str, volume: str) -> None:
        (contents(cutaway, volume) / "file").write_bytes(bytes(1000))
        lost = cutaway("volume", "create").stdout.strip()
        (contents(cutaway, lost) / "file").write_bytes(bytes(2000))
        cutaway("create", "--name", "user", "-v", "/used", busybox, "true")
        used = inspected(cutaway, "user")["Mounts"][0]["Name"]
        pruned = cutaway("volume", "prune", "-f").stdout.split("\n")
        assert lost in pruned
        assert "Total reclaimed space: 12.29kB" in pruned  # two directories and a file, of a block each
        assert used in volumes(cutaway)
        cutaway("rm", "-v", "user")
        assert volume in volumes(cutaway)
        assert volume in cutaway("volume", "prune", "-f", "-a").stdout


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["a/b"], 'create a/b: "a/b" includes invalid characters for a local volume name, only'),
        (["../x"], "includes invalid characters for a local volume name"),
        ([".hidden"], "includes invalid characters for a local volume name"),
        (["x"], "create x: volume name is too short, names should be at least two alphanumeric characters"),
        (["x" * 256], "volume name is longer than 255 characters"),
        (["-d", "cloud", "xy"], 'create xy: error looking up volume plugin cloud: plugin "cloud" not found'),
        (["-o", "colour=red", "xy"], 'create xy: invalid option: "colour"'),
        (["-o", "type=tmpfs", "xy"], 'create xy: missing required option: "device"'),
    ],
)
def test_a_volume_that_cannot_be_is_refused(cutaway: Engine, arguments: list[str], sentence: str) -> None:
    before = volumes(cutaway), set(os.listdir(cutaway.root / "volumes"))
    assert sentence in refused(cutaway, "volume", "create", *arguments)
    assert (volumes(cutaway), set(os.listdir(cutaway.root / "volumes"))) == before


def test_a_volume_made_twice_is_one(cutaway: Engine, volume: str) -> None:
    (contents(cutaway, volume) / "file").touch()
    assert cutaway("volume", "create", volume).stdout == f"{volume}\n"
    assert (contents(cutaway, volume) / "file").exists()


def test_nobody_but_root_reaches_what_volumes_hold(cutaway: Engine, volume: str) -> None:
    """A container can leave setuid programs there, for users of the host to find."""
    program = contents(cutaway, volume) / "program"
    program.touch(0o4755)
    done = subprocess.run(["stat", program], user=65534, capture_output=True, text=True, check=False)
    assert "Permission denied" in done.stderr


class TestFileSystemsKeptElsewhere:
    @pytest.fixture
    def tmpfs(self, engine: Engine) -> Iterator[str]:
        name = f"tmpfs-{os.urandom(4).hex()}"
        engine("volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "-o", "o=size=1m,mode=1700,noexec", name)
        yield name
        engine("volume", "rm", "-f", name)

    def test_are_mounted_while_a_container_runs(self, cutaway: Engine, busybox: str, tmpfs: str) -> None:
        place = contents(cutaway, tmpfs)
        cutaway(*DETACHED, "--name", "first", "-v", f"{tmpfs}:/x", busybox, "sleep", "1000")
        cutaway(*DETACHED, "--name", "second", "-v", f"{tmpfs}:/y", busybox, "sleep", "1000")
        assert _mounted(place) == ["tmpfs"]
        cutaway("exec", "first", "touch", "/x/file")
        assert cutaway("exec", "second", "ls", "/y").stdout == "file\n"
        assert "size=1024k,mode=1700" in cutaway("exec", "first", "grep", " /x ", "/proc/mounts").stdout
        cutaway("rm", "-f", "first")
        assert cutaway("exec", "second", "ls", "/y").stdout == "file\n"
        cutaway("stop", "-t", "0", "second")
        assert _mounted(place) == []
        cutaway("rm", "second")

    def test_a_directory_of_the_host(self, cutaway: Engine, busybox: str, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        cutaway("volume", "create", "-o", "type=none", "-o", "o=bind", "-o", f"device={tmp_path}", "elsewhere")
        assert cutaway(*RUN, "-v", "elsewhere:/x", busybox, "ls", "/x").stdout == "file\n"
        cutaway("volume", "rm", "elsewhere")
        assert os.listdir(tmp_path) == ["file"]

    def test_what_cannot_be_mounted_is_said_and_leaves_nothing(self, cutaway: Engine, busybox: str) -> None:
        cutaway("volume", "create", "-o", "type=ext4", "-o", "device=/dev/null", "broken")
        message = refused(cutaway, *RUN, "-v", "broken:/x", busybox, "true")
        assert "error while mounting volume broken: mount(ext4" in message
        assert cutaway("ps", "-aq").stdout == ""
        assert _mounted(contents(cutaway, "broken")) == []
        cutaway("volume", "rm", "broken")

    def test_are_unmounted_after_a_crash(self, new_engine: Callable[[], Engine], busybox_tar: Path) -> None:
        engine = new_engine()
        engine("import", busybox_tar, "busybox")
        engine("volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "memory")
        engine(*DETACHED, "--name", "ends", "-v", "memory:/x", "busybox", "sleep", "1000")
        engine(*DETACHED, "--name", "stays", "-v", "memory:/x", "busybox", "sh", "-c", "touch /x/file; sleep 1000")
        place = contents(engine, "memory")
        wait_until((place / "file").exists)
        kill_part(engine, "engine")
        kill(inspected(engine, "ends")["State"]["Pid"])
        engine("wait", "ends")
        assert (place / "file").exists()
        kill_part(engine, "engine")
        engine("rm", "-f", "stays", "ends")
        assert _mounted(place) == []
        engine("volume", "rm", "memory")


@pytest.fixture
def apart(tmp_path: Path) -> Iterator[Callable[[], tuple[Volumes, Containers]]]:
    """Volumes without an engine; each call is as good as a new engine."""
    places = Places(str(tmp_path / "root"), str(tmp_path / "run"))
    os.mkdir(places.root)
    with closing(open_database(places.database)) as database:

        def open_volumes() -> tuple[Volumes, Containers]:
            containers = Containers(Table(database, "containers", Record))
            return Volumes(places, database, containers), containers

        yield open_volumes


def _container(name: str, **host: Any) -> Container:
    seen = model.Container(Id=name * 64, Created="", Name=f"/{name}", HostConfig=model.HostConfig(**host))
    return Container(Record(seen=seen))


def test_what_was_mounted_for_a_start_that_never_was_is_unmounted(
    apart: Callable[[], tuple[Volumes, Containers]],
) -> None:
    """The engine ends between the mount of a volume and the start of the container."""

    async def main() -> None:
        before, _ = apart()
        options = {"type": "tmpfs", "device": "tmpfs"}
        place = Path(before.create(model.VolumeCreate(Name="memory", DriverOpts=options)).Mountpoint)
        container = _container("a", Binds=["memory:/x:nocopy"])
        await before.prepare(container)
        await before.hold(container)
        assert _mounted(place) == ["tmpfs"]
        after, _ = apart()
        await after.recover()
        assert _mounted(place) == []

    asyncio.run(main())


def test_a_container_has_what_another_one_has(apart: Callable[[], tuple[Volumes, Containers]], tmp_path: Path) -> None:
    """`VolumesFrom`, of the API."""

    async def main() -> None:
        volumes, containers = apart()
        first = _container("a", Binds=["named:/named:nocopy", f"{tmp_path}:/bound", f"{tmp_path}:/own"])
        await volumes.prepare(first)
        containers.add(first)
        second = _container("b", VolumesFrom=["a:ro"], Tmpfs={"/own": ""})
        await volumes.prepare(second)
        assert {(mount.Destination, mount.Source, mount.RW) for mount in second.seen.Mounts} == {
            ("/named", volumes.inspect("named").Mountpoint, False),
            ("/bound", str(tmp_path), False),
        }
        await volumes.release(first, remove_anonymous=True)
        with pytest.raises(Conflict, match=r"in use - \[b+\]"):
            await volumes.remove("named")

    asyncio.run(main())


def _mounted(place: Path) -> list[str]:
    """The file systems on a directory."""
    lines = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return [line[line.index("-") + 1] for line in lines if line[4] == str(place)]


class TestBindMounts:
    def test_of_a_file(self, cutaway: Engine, busybox: str, tmp_path: Path) -> None:
        file = tmp_path / "file with blanks"
        file.write_text("before")
        cutaway(*RUN, "-v", f"{file}:/new/place", busybox, "sh", "-c", "cat /new/place; echo -n after > /new/place")
        assert file.read_text() == "after"

    def test_v_makes_a_directory_that_is_missing(self, cutaway: Engine, busybox: str, tmp_path: Path) -> None:
        cutaway(*RUN, "-v", f"{tmp_path}/a/b:/x", busybox, "touch", "/x/file")
        assert (tmp_path / "a/b/file").exists()

    def test_v_says_why_a_directory_cannot_be_made(self, cutaway: Engine, busybox: str) -> None:
        message = refused(cutaway, *RUN, "-v", "/proc/nothing:/x", busybox, "true")
        assert "error while creating mount source path '/proc/nothing': mkdir /proc/nothing: no such file" in message

    def test_mount_does_not(self, cutaway: Engine, busybox: str, tmp_path: Path) -> None:
        message = refused(cutaway, *RUN, "--mount", f"type=bind,src={tmp_path}/a,dst=/x", busybox, "true")
        assert f'invalid mount config for type "bind": bind source path does not exist: {tmp_path}/a' in message
        assert os.listdir(tmp_path) == []
        assert cutaway("ps", "-aq").stdout == ""

    def test_mount_looks_again_at_each_start(self, cutaway: Engine, busybox: str, tmp_path: Path) -> None:
        source = tmp_path / "source"
        source.mkdir()
        cutaway(
            "create",
            "--network",
            "none",
            "--name",
            "again",
            "--mount",
            f"type=bind,src={source},dst=/x",
            busybox,
            "true",
        )
        source.rmdir()
        assert f"bind source path does not exist: {source}" in refused(cutaway, "start", "again")
        source.mkdir()
        cutaway("start", "-a", "again")
        cutaway("rm", "again")

    def test_a_directory_does_not_go_onto_a_file(self, cutaway: Engine, busybox: str, tmp_path: Path) -> None:
        assert "Not a directory" in refused(cutaway, *RUN, "-v", f"{tmp_path}:/etc/passwd", busybox, "true")

    @pytest.mark.parametrize(
        ("option", "writable"),
        [
            ("-v={}:/x:ro", []),
            ("--mount=type=bind,src={},dst=/x,ro", []),
            ("--mount=type=bind,src={},dst=/x,ro,bind-recursive=writable", ["/x/below"]),
            ("--mount=type=bind,src={},dst=/x,ro,bind-propagation=rprivate,bind-recursive=readonly", []),
            ("-v={}:/x", ["/x", "/x/below"]),
        ],
    )
    def test_read_only_goes_for_what_is_mounted_below(
        self, cutaway: Engine, busybox: str, two_mounts: Path, option: str, writable: list[str]
    ) -> None:
        script = "for place in /x /x/below; do touch $place/file 2> /dev/null && echo $place; done; true"
        done = cutaway(*RUN, option.format(two_mounts), busybox, "sh", "-c", script)
        assert done.stdout.split() == writable

    def test_not_recursive(self, cutaway: Engine, busybox: str, two_mounts: Path) -> None:
        (two_mounts / "below/file").touch()
        for option, seen in (("bind-nonrecursive", ""), ("bind-nonrecursive=false", "file\n")):
            mount = f"type=bind,src={two_mounts},dst=/x,{option}"
            assert cutaway(*RUN, "--mount", mount, busybox, "ls", "/x/below").stdout == seen

    @pytest.fixture
    def two_mounts(self, tmp_path: Path) -> Iterator[Path]:
        """A directory of the host where something is mounted."""
        (tmp_path / "below").mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "below", tmp_path / "below"], check=True)
        yield tmp_path
        subprocess.run(["umount", tmp_path / "below"], check=True)


class TestPropagation:
    @pytest.fixture
    def mount(self, tmp_path: Path) -> Iterator[Path]:
        """A mount of the host, with a directory `below`."""
        subprocess.run(["mount", "-t", "tmpfs", "above", tmp_path], check=True)
        (tmp_path / "below").mkdir()
        yield tmp_path
        subprocess.run(["umount", "-R", tmp_path], check=True)

    @pytest.mark.parametrize(("propagation", "seen"), [("rprivate", False), ("rslave", True), ("rshared", True)])
    def test_what_the_host_mounts_later(
        self, cutaway: Engine, busybox: str, mount: Path, propagation: str, seen: bool
    ) -> None:
        subprocess.run(["mount", "--make-shared", mount], check=True)
        cutaway(*DETACHED, "--name", "viewer", "-v", f"{mount}:/x:{propagation}", busybox, "sleep", "1000")
        subprocess.run(["mount", "-t", "tmpfs", "later", mount / "below"], check=True)
        shown = cutaway("exec", "viewer", "cat", "/proc/mounts").stdout
        cutaway("rm", "-f", "viewer")
        assert ("later /x/below" in shown) == seen

    @pytest.mark.parametrize(("propagation", "seen"), [("rslave", False), ("rshared", True)])
    def test_what_the_container_mounts(
        self, cutaway: Engine, busybox: str, mount: Path, propagation: str, seen: bool
    ) -> None:
        subprocess.run(["mount", "--make-shared", mount], check=True)
        options = ("--privileged", "-v", f"{mount}:/x:{propagation}")
        cutaway(*RUN, *options, busybox, "mount", "-t", "tmpfs", "inner", "/x/below")
        assert ("inner" in Path("/proc/self/mounts").read_text()) == seen

    @pytest.mark.parametrize(
        ("made", "wanted", "what"),
        [
            ("private", "rshared", "a shared"),
            ("private", "slave", "a shared or slave"),
            ("slave", "shared", "a shared"),
        ],
    )
    def test_needs_a_mount_that_passes_it_on(
        self, cutaway: Engine, busybox: str, mount: Path, made: str, wanted: str, what: str
    ) -> None:
        subprocess.run(["mount", f"--make-{made}", mount], check=True)
        message = refused(cutaway, *RUN, "-v", f"{mount}/below:/x:{wanted}", busybox, "true")
        assert f"path {mount}/below is mounted on {mount} but it is not {what} mount" in message


class TestTmpfs:
    def test_has_dockers_options(self, cutaway: Engine, busybox: str) -> None:
        shown = cutaway(*RUN, "--tmpfs", "/x", busybox, "grep", " /x ", "/proc/mounts").stdout
        assert shown == "tmpfs /x tmpfs rw,nosuid,nodev,noexec,relatime 0 0\n"

    def test_has_those_that_are_given(self, cutaway: Engine, busybox: str) -> None:
        shown = cutaway(*RUN, "--tmpfs", "/x:exec,size=64k,mode=700,uid=5", busybox, "grep", " /x ", "/proc/mounts")
        assert shown.stdout == "tmpfs /x tmpfs rw,nosuid,nodev,relatime,size=64k,mode=700,uid=5 0 0\n"
        mount = "type=tmpfs,dst=/x,tmpfs-size=64k,tmpfs-mode=0700,ro"
        shown = cutaway(*RUN, "--mount", mount, busybox, "grep", " /x ", "/proc/mounts")
        assert shown.stdout == "tmpfs /x tmpfs ro,nosuid,nodev,noexec,relatime,size=64k,mode=700 0 0\n"

    def test_is_empty_and_has_the_mode_of_what_it_covers(self, cutaway: Engine, stocked: str) -> None:
        script = "ls /stock; stat -c %a /stock /missing"
        tmpfs = ("--tmpfs", "/stock", "--tmpfs", "/missing")
        assert cutaway(*RUN, *tmpfs, stocked, "sh", "-c", script).stdout.split() == ["2750", "1777"]

    def test_is_bounded(self, cutaway: Engine, busybox: str) -> None:
        done = cutaway(*RUN, "--tmpfs", "/x:size=64k", busybox, "dd", "if=/dev/zero", "of=/x/file", check=False)
        assert "No space left on device" in done.stderr

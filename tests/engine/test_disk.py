"""What takes how much of the disk, and what gives it back: `system df` and the `prune`s, beside `du`."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.engine.containers import running
from tests.engines import Engine
from tests.image.archives import docker_archive
from tests.image.trees import archive, member

UNITS = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9}
BASE, ONE, OTHER = (archive([member(name, os.urandom(300_000))]) for name in ("base", "one", "other"))


@pytest.fixture
def fresh(new_engine: Callable[[], Engine], busybox_tar: Path, tmp_path: Path) -> Engine:
    """An engine with busybox, and two images that share a layer: `one`, which has a name, and one that has none."""
    engine = new_engine()
    engine("import", busybox_tar, "busybox")
    docker_archive(tmp_path / "two.tar", [([BASE, ONE], ["one"]), ([BASE, OTHER], [])])
    engine("load", "-i", tmp_path / "two.tar")
    return engine


def number(text: str) -> float:
    """`"1.5MB"` in bytes."""
    matched = re.fullmatch(r"([\d.]+)(\w+)", text)
    assert matched, text
    return float(matched[1]) * UNITS[matched[2]]


def told(engine: Engine, kind: str) -> tuple[int, int, float, float]:
    """What `system df` says of a kind of things: how many, how many in use, bytes, and bytes that could be freed."""
    template = "{{.Type}}|{{.TotalCount}}|{{.Active}}|{{.Size}}|{{.Reclaimable}}"
    lines = engine("system", "df", "--format", template).stdout.splitlines()
    total, active, size, reclaimable = next(line.split("|")[1:] for line in lines if line.startswith(kind))
    return int(total), int(active), number(size), number(reclaimable.partition(" ")[0])


def du(*paths: Path) -> int:
    """What `du(1)` counts, in bytes."""
    said = subprocess.run(["du", "-scxB1", *paths], check=True, capture_output=True, text=True).stdout
    return int(said.splitlines()[-1].split()[0])


def stored(engine: Engine) -> list[Path]:
    """Everything that is kept of images."""
    images = engine.root / "images"
    return [*images.glob("layers/*"), *images.glob("blobs/sha256/*"), *images.glob("partial/*")]


def reclaimed(said: str) -> float:
    return number(said.rstrip().rpartition("Total reclaimed space: ")[2])


def about(expected: float) -> object:
    """Four digits are shown."""
    return pytest.approx(expected, rel=0.001)


class TestDf:
    def test_it_says_what_du_says(self, fresh: Engine) -> None:
        fresh("run", "--name", "ended", "busybox", "sh", "-c", "head -c 500000 /dev/urandom > /file; ln /file /same")
        with running(fresh, "-v", "data:/data") as box:
            fresh(
                "exec", box, "sh", "-c", "head -c 70000 /dev/urandom > /data/x; truncate -s 1G /data/hole; mkdir /new"
            )
            fresh("volume", "create", "unused")
            own = {
                name: fresh.root / "containers" / fresh("inspect", "-f", "{{.Id}}", name).stdout.strip()
                for name in ("ended", box)
            }
            containers, volumes = told(fresh, "Containers"), told(fresh, "Local Volumes")
            expected = (2, 1, about(du(*own.values())), about(du(own["ended"])))
            assert containers == expected
            places = [fresh.root / "volumes" / name for name in ("data", "unused")]
            assert volumes == (2, 1, about(du(*places)), about(du(places[1])))
            total, active, size, _ = told(fresh, "Images")
            assert (total, active, size) == (3, 1, about(du(*stored(fresh))))
            verbose = fresh("system", "df", "-v").stdout
        fresh("rm", "ended")
        assert "Images space usage:" in verbose and "Local Volumes space usage:" in verbose
        shared = re.search(r"^one +latest +\S+ +.* ago|N/A +(\S+) +(\S+) +(\S+) +0$", verbose, re.MULTILINE)
        assert shared

    def test_a_shared_layer_is_shared(self, fresh: Engine) -> None:
        row = next(line for line in fresh("system", "df", "-v").stdout.splitlines() if line.startswith("one "))
        size, shared, unique, containers = row.split()[-4:]
        assert number(shared) == pytest.approx(number(size) / 2, rel=0.02)
        assert number(unique) == pytest.approx(number(size) / 2, rel=0.02)
        assert containers == "0"

    def test_verbose_and_a_format_contradict(self, cutaway: Engine) -> None:
        done = cutaway("system", "df", "-v", "--format", "json", check=False)
        assert (done.returncode, done.stderr) == (1, "cutaway: the verbose and format options conflict\n")


class TestImagePrune:
    def test_it_frees_what_nothing_uses_and_says_how_much(self, fresh: Engine) -> None:
        (fresh.root / "images/partial" / ("0" * 64)).write_bytes(os.urandom(100_000))
        fresh("create", "--name", "user", "busybox", "true")
        before, reclaimable = du(*stored(fresh)), told(fresh, "Images")[3]
        dangling = fresh("image", "prune", "-f").stdout
        assert dangling.startswith("Deleted Images:\ndeleted: sha256:")
        middle = du(*stored(fresh))
        assert reclaimed(dangling) == about(before - middle)
        everything = fresh("image", "prune", "-a", "-f").stdout
        assert "untagged: one:latest\ndeleted: sha256:" in everything
        assert reclaimed(everything) == about(middle - du(*stored(fresh)))
        assert reclaimed(dangling) + reclaimed(everything) == about(reclaimable)
        assert fresh("images", "--format", "{{.Repository}}").stdout.split() == ["busybox", "host"]
        fresh("rm", "user")
        fresh("image", "prune", "-a", "-f")
        assert stored(fresh) == []

    def test_filters(self, fresh: Engine) -> None:
        fresh("create", "--name", "made", "busybox", "true")
        for label in ("keep=1", "keep=2", "other=3"):
            fresh("commit", "-c", f"LABEL {label}", "made")
        fresh("rm", "made")
        assert fresh("image", "prune", "-f", "--filter", "until=1h").stdout.count("deleted") == 2  # that of 1970
        assert fresh("image", "prune", "-f", "--filter", "label=keep=1").stdout.count("deleted") == 1
        assert fresh("image", "prune", "-f", "--filter", "label!=keep").stdout.count("deleted") == 1
        assert fresh("image", "prune", "-f").stdout.count("deleted") == 1

    @pytest.mark.parametrize(
        ("filter", "sentence"),
        [
            ("name=x", "Invalid filter 'name'"),
            ("until=often", "'often' is neither a date, nor seconds since 1970, nor a duration"),
            ("label", "bad format of filter: label"),
        ],
    )
    def test_a_wrong_filter_is_refused_before_anything_is_asked(
        self, cutaway: Engine, filter: str, sentence: str
    ) -> None:
        done = cutaway("image", "prune", "--filter", filter, check=False)
        assert (done.returncode, done.stdout) == (1, "")
        assert sentence in done.stderr


class TestContainerPrune:
    def test_it_removes_those_that_do_not_run(self, fresh: Engine) -> None:
        ended = fresh("run", "-d", "--network", "none", "busybox", "true").stdout.strip()
        fresh("wait", ended)
        created = fresh("create", "-l", "mine=yes", "busybox", "true").stdout.strip()
        with running(fresh) as box:
            fresh("pause", box)
            said = fresh("container", "prune", input="y\n").stdout
            assert said.startswith(
                "WARNING! This will remove all stopped containers.\nAre you sure you want to continue? "
            )
            assert fresh("ps", "-aq", "--no-trunc").stdout.split() == [box]
        assert {ended, created} <= set(said.splitlines())
        assert reclaimed(said) > 0

    def test_filters(self, fresh: Engine) -> None:
        mine = fresh("create", "-l", "mine=yes", "busybox", "true").stdout.strip()
        other = fresh("create", "busybox", "true").stdout.strip()
        assert fresh("container", "prune", "-f", "--filter", "until=1h").stdout == "Total reclaimed space: 0B\n"
        assert other in fresh("container", "prune", "-f", "--filter", "label!=mine=yes").stdout
        assert mine in fresh("container", "prune", "-f", "--filter", "label=mine").stdout


class TestSystemPrune:
    def test_it_asks_and_does_nothing_without_a_yes(self, fresh: Engine) -> None:
        said = fresh("system", "prune", "--volumes", "--filter", "label=x", input="\n").stdout
        assert said == (
            "WARNING! This will remove:\n"
            "  - all stopped containers\n"
            "  - all networks not used by at least one container\n"
            "  - all anonymous volumes not used by at least one container\n"
            "  - all dangling images\n\n"
            "  Items to be pruned will be filtered with:\n"
            "  - label=x\n\n"
            "Are you sure you want to continue? [y/N] "
        )
        assert told(fresh, "Images")[0] == 3

    def test_it_gives_everything_back(self, fresh: Engine) -> None:
        fresh("network", "create", "lonely")
        fresh("run", "-v", "/data", "--network", "none", "busybox", "sh", "-c", "head -c 90000 /dev/urandom > /data/x")
        before = du(fresh.root / "images", fresh.root / "containers", fresh.root / "volumes")
        said = fresh("system", "prune", "-a", "-f", "--volumes").stdout
        freed = before - du(fresh.root / "images", fresh.root / "containers", fresh.root / "volumes")
        for kind in ("Containers", "Networks", "Volumes", "Images"):
            assert f"Deleted {kind}:\n" in said
        assert reclaimed(said) == about(freed)
        for kind in ("Images", "Containers", "Local Volumes"):
            assert told(fresh, kind) == (0, 0, 0, 0)

    def test_age_means_nothing_to_volumes(self, cutaway: Engine) -> None:
        done = cutaway("system", "prune", "-f", "--volumes", "--filter", "until=1h", check=False)
        assert (done.returncode, done.stdout) == (1, "")
        assert 'The "until" filter is not supported with "--volumes"' in done.stderr

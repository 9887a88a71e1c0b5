"""`diff`: what a container changed of its image, read from its upper directory."""

from __future__ import annotations

import asyncio
import os
import subprocess
from pathlib import Path

from cutaway.image.images import Images
from tests.dockerd import Docker
from tests.image.archives import Layout
from tests.image.overlays import mounted
from tests.image.stores import import_file, load_file
from tests.image.trees import archive, directory, link, member

LAYERS = [
    archive(
        [
            *(directory("kept"), member("kept/same"), member("kept/changed", b"1"), member("kept/deleted")),
            *(directory("anew"), member("anew/a"), member("anew/b"), member("anew/below"), directory("anew/dir")),
            *(member("hidden"), directory("mode"), directory("time"), directory("touched"), link("link", "kept")),
            *(directory("kind"), member("kind/x"), member("kind2"), directory("deep/er"), member("deep/er/x")),
        ]
    ),
    archive([member(".wh.hidden"), directory("anew"), member("anew/.wh.below"), member("anew/above")]),
]
SCRIPT = """
echo 2 >> kept/changed; rm kept/deleted; mkdir kept/new; touch kept/new/file
rm -r anew; mkdir anew; touch anew/a anew/new
touch hidden
chmod 700 mode; touch -d 2001-01-01 time; touch touched/x; rm touched/x
ln -sfn elsewhere link
rm -r kind; touch kind; rm kind2; mkdir kind2; touch kind2/x
touch made; rm made
echo x > deep/er/x
"""
CHANGES = [
    *("C /anew", "C /anew/a", "D /anew/above", "D /anew/b", "D /anew/dir", "A /anew/new"),
    *("C /deep", "C /deep/er", "C /deep/er/x", "A /hidden"),
    *("C /kept", "C /kept/changed", "D /kept/deleted", "A /kept/new", "A /kept/new/file"),
    *("C /kind", "C /kind2", "A /kind2/x", "C /link", "C /mode"),
]


def changed(images: Images, lower_dirs: tuple[str, ...], where: Path, script: str, *shell: str) -> list[str]:
    """What `script`, run in a container of these layers, changes, as `docker diff` prints it."""
    with mounted(lower_dirs, where) as merged:
        command = [*shell, "/bin/sh", "-ec", script]
        subprocess.run(command if not shell else ["chroot", merged, *command], cwd=merged, check=True)
        found = asyncio.run(images.changes(str(where / "upper"), lower_dirs))
    return [f"{kind} {path}" for kind, path in found]


def test_changes(images: Images, tmp_path: Path) -> None:
    (loaded,) = load_file(images, Layout(LAYERS).write(tmp_path / "layout"))
    lower_dirs = images.resolve(loaded.id).lower_dirs
    assert changed(images, lower_dirs, tmp_path, SCRIPT) == CHANGES


def test_nothing_changed(images: Images, tmp_path: Path) -> None:
    (loaded,) = load_file(images, Layout(LAYERS).write(tmp_path / "layout"))
    assert changed(images, images.resolve(loaded.id).lower_dirs, tmp_path, "ls -R > /dev/null") == []


def test_names_of_all_kinds_and_depths(images: Images, tmp_path: Path) -> None:
    script = """
    d=.; for i in $(seq 300); do d=$d/x; done; mkdir -p $d
    mkdir many; cd many; touch $(seq 3000) 'a\nb' $(printf 'a\\377')
    """
    (loaded,) = load_file(images, Layout(LAYERS).write(tmp_path / "layout"))
    found = changed(images, images.resolve(loaded.id).lower_dirs, tmp_path, script)
    assert len(found) == 300 + 1 + 3002
    assert {"A /many/a\nb", "A /many/a\N{REPLACEMENT CHARACTER}"} <= set(found)
    assert "A " + "/x" * 300 in found


def test_of_the_host_only_what_is_on_its_root_file_system_counts(images: Images, tmp_path: Path) -> None:
    """What is mounted on the host is not in its image: a new file under a mount point is no change of one there."""
    upper = tmp_path / "upper"
    (upper / "proc").mkdir(parents=True)
    (upper / "proc/version").touch()
    os.utime(upper / "proc", ns=(0, 0))
    assert asyncio.run(images.changes(str(upper), ["/"])) == [("C", "/proc"), ("A", "/proc/version")]


IN_BUSYBOX = """
mkdir /srv; echo x > /srv/x; rm /bin/vi; echo x >> /etc/passwd; chmod 700 /root; rm -r /var; mkdir -p /tmp/a/b
ln -s x /tmp/link; mv /bin/wc /bin/wc2; touch /home/made; rm /home/made
"""


def test_docker_says_the_same(docker: Docker, images: Images, busybox_tar: Path, tmp_path: Path) -> None:
    container = docker("run", "--detach", "busybox", "sh", "-c", IN_BUSYBOX)
    try:
        assert docker("wait", container) == "0"
        theirs = docker("diff", container).splitlines()
    finally:
        docker("rm", container)
    image = import_file(images, busybox_tar)
    ours = changed(images, image.lower_dirs, tmp_path, IN_BUSYBOX, "/bin/busybox")
    assert sorted(ours) == sorted(theirs)

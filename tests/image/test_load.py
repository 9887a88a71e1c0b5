"""`load`: image archives of every kind, honest, broken and hostile."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import select
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from cutaway.image.errors import BrokenArchive
from cutaway.image.images import Images
from tests.image.archives import COMPRESSIONS, HERE, Layout, configuration, digest, docker_archive, tarred
from tests.image.overlays import mounted
from tests.image.stores import kept, load_file
from tests.image.trees import archive, directory, hard_link, link, member, seen

LAYERS = [
    archive(
        [
            directory("etc", mode=0o711),
            member("etc/kept", b"1"),
            member("etc/changed", b"1", mode=0o600),
            member("etc/deleted"),
            directory("gone"),
            member("gone/x"),
            directory("anew"),
            member("anew/old"),
            directory("deep/er"),
            member("deep/er/hidden"),
            link("link", "etc"),
        ]
    ),
    archive(
        [
            directory("etc", mode=0o755),
            member("etc/changed", b"22", uid=1000),
            member("etc/.wh.deleted"),
            member(".wh.gone"),
            directory("anew", mode=0o700),
            member("anew/.wh..wh..opq"),
            member("anew/new", b"2"),
            member("link", b"a file now"),
        ]
    ),
    archive([directory("gone")]),
    archive(
        [
            directory("deep"),
            directory("deep/er"),
            member("deep/er/.wh.hidden"),
            member("deep/er/new", b"3"),
            hard_link("deep/er/same", "deep/er/new"),
        ]
    ),
]
TREE = {
    "etc": "drwxr-xr-x",
    "etc/kept": b"1",
    "etc/changed": b"22",
    "gone": "drwxr-xr-x",
    "anew": "drwx------",
    "anew/new": b"2",
    "deep": "drwxr-xr-x",
    "deep/er": "drwxr-xr-x",
    "deep/er/new": b"3",
    "deep/er/same": b"3",
    "link": b"a file now",
}


def shown(tree: Path) -> dict[str, object]:
    """Files by their contents, the rest by kind and mode."""
    described = seen(tree)
    return {
        path: (tree / path).read_bytes() if (tree / path).is_file() else what[0] for path, what in described.items()
    }


def as_docker_archive(path: Path) -> Path:
    docker_archive(path / "image.tar", [(LAYERS, ["app:v1"])])
    return path / "image.tar"


def as_new_docker_archive(path: Path) -> Path:
    return Layout(LAYERS, "plain").write_docker(path / "image.tar", ["app:v1"])


def as_layout(compression: str) -> Callable[[Path], Path]:
    return lambda path: Layout(LAYERS, compression, "docker.io/library/app:v1").write(path / "layout")


def as_layout_archive(path: Path) -> Path:
    return tarred(as_layout("gzip")(path), path / "layout.tar")


def compressed(make: Callable[[Path], Path], command: str) -> Callable[[Path], Path]:
    def make_compressed(path: Path) -> Path:
        if not shutil.which(command):
            pytest.skip(f"{command} is not installed")
        with open(path / "compressed", "wb") as file:
            subprocess.run([command, "-c", make(path)], stdout=file, check=True)
        return path / "compressed"

    return make_compressed


FORMS = {
    "Docker archive": as_docker_archive,
    "Docker archive, new": as_new_docker_archive,
    "Docker archive, gzip": compressed(as_docker_archive, "gzip"),
    "Docker archive, xz": compressed(as_docker_archive, "xz"),
    "OCI layout archive": as_layout_archive,
    "OCI layout archive, zstd": compressed(as_layout_archive, "zstd"),
    **{f"OCI layout, {compression} layers": as_layout(compression) for compression in COMPRESSIONS},
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_makes_the_same_image(form: str, images: Images, tmp_path: Path) -> None:
    (loaded,) = load_file(images, FORMS[form](tmp_path))
    assert (loaded.id, loaded.tags) == (digest(configuration(LAYERS)), ["app:v1"])
    image = images.resolve("app:v1")
    assert [Path(layer).name for layer in image.lower_dirs] == [digest(layer)[7:] for layer in reversed(LAYERS)]
    with mounted(image.lower_dirs, tmp_path) as merged:
        assert shown(merged) == TREE


def test_an_archive_from_a_pipe(images: Images, tmp_path: Path, root: Path) -> None:
    with subprocess.Popen(["cat", as_docker_archive(tmp_path)], stdout=subprocess.PIPE) as source:
        assert source.stdout
        (loaded,) = asyncio.run(images.load(source.stdout.fileno()))
    assert images.resolve("app:v1").id == loaded.id
    assert [name for name in kept(root) if name.startswith("staging")] == []


def test_layers_are_kept_once(images: Images, tmp_path: Path, root: Path) -> None:
    images_of = [(LAYERS[:2], ["two", "deux"]), (LAYERS[:1] * 3, ["one"]), (LAYERS[:2], [])]
    identifiers = docker_archive(tmp_path / "image.tar", images_of)
    loaded = load_file(images, tmp_path / "image.tar")
    assert [(image.id, image.tags) for image in loaded] == [
        *((identifiers[0], ["two:latest", "deux:latest"]), (identifiers[1], ["one:latest"]), (identifiers[2], []))
    ]
    assert len(kept(root)) == 4  # two layers and their blobs
    assert len(images.resolve("one").lower_dirs) == 3
    before = {path: path.stat().st_ino for path in root.rglob("*")}
    load_file(images, tmp_path / "image.tar")
    assert {path: path.stat().st_ino for path in root.rglob("*")} == before


def test_a_layer_that_is_a_link_in_the_archive(images: Images, tmp_path: Path) -> None:
    """So does `docker save` with a layer that comes twice."""
    document = configuration(LAYERS[:1] * 2)
    manifest = [{"Config": "config.json", "RepoTags": None, "Layers": ["a/layer.tar", "b/layer.tar"]}]
    files = [member("config.json", document), member("./a/layer.tar", LAYERS[0]), link("b/layer.tar", "../a/layer.tar")]
    (tmp_path / "image.tar").write_bytes(archive([*files, member("manifest.json", json.dumps(manifest).encode())]))
    (loaded,) = load_file(images, tmp_path / "image.tar")
    assert len(images.resolve(loaded.id).lower_dirs) == 2


def test_a_name_moves_to_the_image_loaded_last(images: Images, tmp_path: Path) -> None:
    (first,) = docker_archive(tmp_path / "first.tar", [(LAYERS[:1], ["app"])])
    (second,) = docker_archive(tmp_path / "second.tar", [(LAYERS[:2], ["app", "app:2"])])
    load_file(images, tmp_path / "first.tar")
    (loaded,) = load_file(images, tmp_path / "second.tar")
    assert loaded.displaced == {"app:latest": first}
    assert images.resolve("app").id == second
    assert images.tags(images.resolve(first)) == []


def test_an_index_gives_the_image_for_this_machine(images: Images, tmp_path: Path) -> None:
    layout = Layout(LAYERS, "gzip")
    mine = layout.manifest() | {"platform": HERE}
    others = [layout.add(b"{}", "x") | {"platform": {"os": "linux", "architecture": cpu}} for cpu in ("unknown", "z80")]
    nested = layout.index([others[0], layout.index([*others, mine]) | {"platform": HERE}])
    (loaded,) = load_file(images, layout.write(tmp_path / "layout", [nested]))
    assert loaded.id == layout.image_id
    layout = Layout(LAYERS, "gzip")
    with pytest.raises(BrokenArchive, match="no image for linux/amd64, only for linux/z80, linux/unknown"):
        load_file(images, layout.write(tmp_path / "other", [layout.index(others[::-1]) | {"annotations": {}}]))


def test_an_annotation_that_is_only_a_tag_names_no_image(images: Images, tmp_path: Path) -> None:
    (loaded,) = load_file(images, Layout(LAYERS, tag="v1").write(tmp_path / "layout"))
    assert loaded.tags == []


def replaced(layout: Layout, digest: str, content: bytes) -> Layout:
    layout.blobs[digest] = content
    return layout


def with_config(document: bytes) -> Layout:
    layout = Layout(LAYERS)
    layout.config = layout.add(document, "application/vnd.oci.image.config.v1+json")
    return layout


def with_other_layer() -> Layout:
    """Sound blobs, but a configuration that names another layer."""
    layout = Layout(LAYERS[:2])
    layout.layers[1] = layout.add(gzip.compress(LAYERS[2]), "x")
    return layout


def with_hostile_layer() -> Layout:
    return Layout([*LAYERS, archive([member("fine", bytes(3_000_000)), member("../../escaped")])])


def with_manifest(document: object) -> Layout:
    layout = Layout(LAYERS)
    layout.manifest = lambda: layout.add(json.dumps(document).encode(), "x")  # type: ignore[method-assign]
    return layout


DEEP: object = []
for _ in range(800):
    DEEP = [DEEP]

BROKEN: dict[str, tuple[Callable[[], Layout], str]] = {
    "layer does not match": (
        lambda: replaced(Layout(LAYERS), Layout(LAYERS).layers[1]["digest"], gzip.compress(LAYERS[2])),
        r"layer sha256:\w+: layer sha256:\w+ does not have the digest it is named by",
    ),
    "diff ID does not match": (with_other_layer, "does not have the digest it is named by"),
    "configuration does not match": (
        lambda: replaced(Layout(LAYERS), Layout(LAYERS).image_id, configuration(LAYERS[:3])),
        "does not have that digest",
    ),
    "layer is missing": (lambda: _without(Layout(LAYERS), 1), "does not hold"),
    "layer is no archive": (lambda: Layout([*LAYERS, b"<html>" * 200]), "not a tar archive"),
    "layer is hostile": (with_hostile_layer, r"\.\./\.\./escaped leads out of the archive"),
    "layer is cut": (
        lambda: _cut(Layout(LAYERS, "gzip")),
        "does not have the digest|ends early",
    ),
    "configuration is no JSON": (lambda: with_config(b"{"), "configuration cannot be read"),
    "configuration is huge": (lambda: with_config(b" " * 5_000_000), "are not accepted"),
    "too few layers": (lambda: with_config(configuration(LAYERS[:2])), "names 2 layers, the archive holds 4"),
    "manifest without configuration": (lambda: with_manifest({"layers": []}), "neither an image's nor an index"),
    "manifest is deep": (lambda: with_manifest({"config": DEEP, "layers": DEEP}), "cannot be read"),
    "blob named to lead out": (
        lambda: with_manifest({"config": {"digest": "sha256:../../../../etc/passwd", "size": 1}, "layers": []}),
        "no sha256 digest",
    ),
}


def _without(layout: Layout, layer: int) -> Layout:
    del layout.blobs[layout.layers[layer]["digest"]]
    return layout


def _cut(layout: Layout) -> Layout:
    name = layout.layers[0]["digest"]
    return replaced(layout, name, layout.blobs[name][:-20])


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_leaves_nothing(name: str, packed: bool, images: Images, tmp_path: Path, root: Path) -> None:
    make, reason = BROKEN[name]
    path = make().write(tmp_path / "layout")
    with pytest.raises(BrokenArchive, match=reason):
        load_file(images, tarred(path, tmp_path / "layout.tar") if packed else path)
    assert kept(root) == []
    assert images.listing() == []


def test_a_broken_archive_takes_nothing_away(images: Images, tmp_path: Path, root: Path) -> None:
    load_file(images, Layout(LAYERS, tag="docker.io/library/app:v1").write(tmp_path / "good"))
    before = kept(root)
    with pytest.raises(BrokenArchive):
        load_file(images, with_hostile_layer().write(tmp_path / "bad"))
    assert kept(root) == before
    assert len(images.resolve("app:v1").lower_dirs) == 4


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "neither manifest.json nor oci-layout"),
        (archive([member("etc/passwd")]), "neither manifest.json nor oci-layout"),
        (archive([member("manifest.json", b"[]")]), "holds no images"),
        (archive([member("manifest.json", b"[[]]")]), "manifest.json cannot be read"),
        (archive([member("manifest.json", b'[{"Config": "c", "Layers": []}]')]), "does not hold 'c'"),
        (archive([member("oci-layout", b"{}")]), "does not hold 'index.json'"),
        (archive([member("file")])[:512] * 100_001, "it is no image"),
    ],
)
def test_what_is_no_image_archive(content: bytes, reason: str, images: Images, tmp_path: Path, root: Path) -> None:
    (tmp_path / "image.tar").write_bytes(content)
    with pytest.raises(BrokenArchive, match=reason):
        load_file(images, tmp_path / "image.tar")
    assert kept(root) == []


def test_a_layout_directory_leads_nowhere_else(images: Images, tmp_path: Path) -> None:
    layout = Layout(LAYERS)
    path = layout.write(tmp_path / "layout")
    blob = path / "blobs/sha256" / layout.layers[0]["digest"][7:]
    blob.rename(tmp_path / "outside")
    blob.symlink_to("../../../outside")
    with pytest.raises(BrokenArchive, match="does not hold"):
        load_file(images, path)
    blob.unlink()
    os.mkfifo(blob)
    with pytest.raises(BrokenArchive, match="is not a regular file"):
        load_file(images, path)


SLOW_LOAD = """
import asyncio, os, sqlite3, sys
from cutaway.image.images import Images
images = Images(sys.argv[1], sqlite3.connect(sys.argv[2]))
asyncio.run(images.load(os.dup(0)))
"""


@contextmanager
def unfinished_load(root: Path, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """An engine whose worker has begun to copy an archive of which the second half does not come."""
    command: list[str | Path] = [sys.executable, "-c", SLOW_LOAD, root, tmp_path / "state.db"]
    docker_archive(tmp_path / "image.tar", [([archive([member("x", os.urandom(4_000_000))])], ["slow"])])
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, env=os.environ | {"PYTHONPATH": ":".join(sys.path)}
    ) as engine:
        assert engine.stdin
        engine.stdin.write((tmp_path / "image.tar").read_bytes()[:2_000_000])
        engine.stdin.flush()  # more than a pipe holds: the worker reads
        yield engine


def test_kill_9_of_the_engine_leaves_what_the_next_one_sweeps(tmp_path: Path, root: Path) -> None:
    with unfinished_load(root, tmp_path) as engine:
        (worker,) = children(engine.pid)
        assert kept(root) != []
        engine.kill()
        engine.wait()
        wait_for_end(worker)
    with closing(sqlite3.connect(tmp_path / "state.db")) as database:
        images = Images(str(root), database)
        (root / "layers/orphan").mkdir()  # as a crash between moving a layer and recording it leaves it
        (root / "blobs/sha256/orphan").touch()
        images = Images(str(root), database)
        asyncio.run(images.sweep())
        assert kept(root) == []
        assert images.listing() == []


def test_kill_9_of_the_worker_is_an_error(tmp_path: Path, root: Path) -> None:
    with unfinished_load(root, tmp_path) as engine:
        (worker,) = children(engine.pid)
        os.kill(worker, signal.SIGKILL)
        assert engine.wait() == 1
    assert kept(root) == []


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def wait_for_end(pid: int) -> None:
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    assert select.select([process], [], [], 10)[0]
    os.close(process)


def test_a_cancelled_load_leaves_nothing(images: Images, root: Path) -> None:
    async def cancelled() -> None:
        read_end, write_end = os.pipe()
        load = asyncio.create_task(images.load(read_end))
        async with asyncio.timeout(10):
            while not list(root.glob("staging/*")):
                await asyncio.sleep(0)
        load.cancel()
        with pytest.raises(asyncio.CancelledError):
            await load
        os.close(read_end)
        os.close(write_end)

    asyncio.run(cancelled())
    assert kept(root) == []


def test_the_loop_is_not_held_up(images: Images, tmp_path: Path) -> None:
    """Other tasks run while an archive is loaded."""
    docker_archive(tmp_path / "image.tar", [([archive([member("x", os.urandom(20_000_000))])], [])])

    async def turns_during_load() -> int:
        turns = 0
        with open(tmp_path / "image.tar", "rb") as file:
            loading = asyncio.create_task(images.load(file.fileno()))
            while not loading.done():
                await asyncio.sleep(0.001)
                turns += 1
            await loading
        return turns

    assert asyncio.run(turns_during_load()) > 10

"""Images in the store: how they are found, named and removed, and what stays while containers need it."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from pathlib import Path

import pytest

from cutaway.image.errors import AmbiguousImage, ImageConflict, InvalidReference, NoSuchImage
from cutaway.image.images import Images
from tests.image.archives import Layout, configuration, digest, docker_archive
from tests.image.stores import Containers, kept, load_file, names, remove
from tests.image.trees import archive, member

BASE, APP, OTHER = (archive([member(name)]) for name in ("base", "app", "other"))
FORTY_TWO = "4" * 64


@pytest.fixture
def two(images: Images, tmp_path: Path) -> tuple[str, str]:
    """Two images on one base layer, `app:v1` (also `app:v2`, `me/app:v1`) and `other`; their IDs."""
    archives = [([BASE, APP], ["app:v1", "app:v2", "me/app:v1"]), ([BASE, OTHER], ["other"])]
    app, other = docker_archive(tmp_path / "two.tar", archives)
    load_file(images, tmp_path / "two.tar")
    return app, other


def layers(*wanted: bytes) -> list[str]:
    return sorted(f"{where}/{digest(layer)[7:]}" for layer in wanted for where in ("layers", "sha256"))


def tags(images: Images, name: str) -> list[str]:
    return [tag.familiar for tag in images.tags(images.resolve(name))]


def test_names_ids_and_beginnings(images: Images, two: tuple[str, str]) -> None:
    app, other = two
    for name in ("app:v1", "docker.io/library/app:v2", "me/app:v1", app, app[7:], app[7:19], app[:15]):
        assert images.resolve(name).id == app
    assert images.resolve("other").id == images.resolve("other:latest").id == other
    assert tags(images, app) == ["app:v1", "app:v2", "me/app:v1"]


@pytest.mark.usefixtures("two")
def test_what_is_not_there(images: Images) -> None:
    for name, shown in {
        "app": "app:latest",
        "docker.io/library/app:v3": "app:v3",
        "registry.example/app:v1": "registry.example/app:v1",
        "f" * 64: "f" * 64,
        "sha256:" + "f" * 64: "sha256:" + "f" * 64,
        f"app@sha256:{'f' * 64}": f"app@sha256:{'f' * 64}",
    }.items():
        with pytest.raises(NoSuchImage) as caught:
            images.resolve(name)
        assert str(caught.value) == f"No such image: {shown}"
    with pytest.raises(InvalidReference):
        images.resolve("App")


def test_a_beginning_that_several_share(images: Images, tmp_path: Path) -> None:
    """With 17 images, at least two begin with the same digit."""
    layers = [archive([member(str(number))]) for number in range(17)]
    ids = docker_archive(tmp_path / "several.tar", [([layer], []) for layer in layers])
    load_file(images, tmp_path / "several.tar")
    digits = [identifier[7] for identifier in ids]
    shared = next(digit for digit in digits if digits.count(digit) > 1)
    with pytest.raises(AmbiguousImage, match=f"No such image: {shared}: {digits.count(shared)} image IDs begin so"):
        images.resolve(shared)


def test_a_name_goes_before_a_beginning(images: Images, two: tuple[str, str]) -> None:
    app, other = two
    images.tag("other", app[7:13])
    assert images.resolve(app[7:13]).id == other


def test_tag(images: Images, two: tuple[str, str]) -> None:
    app, other = two
    images.tag(app[7:19], "registry.example:5000/app")
    assert images.resolve("registry.example:5000/app:latest").id == app
    assert images.resolve("other").id == other
    images.tag("app:v1", "other")
    assert images.resolve("other").id == app
    assert tags(images, other) == []
    assert images.inspect(app)["Metadata"]["LastTagTime"] > "2001"
    with pytest.raises(NoSuchImage):
        images.tag("nothing", "x")
    with pytest.raises(InvalidReference, match="refusing to create a tag with a digest reference"):
        images.tag("app:v1", f"x@sha256:{FORTY_TWO}")


def test_removing_names_then_the_image(images: Images, two: tuple[str, str], root: Path) -> None:
    app, other = two
    assert remove(images, "app:v1") == [{"Untagged": "app:v1"}]
    assert remove(images, "me/app:v1") == [{"Untagged": "me/app:v1"}]
    assert kept(root) == layers(BASE, APP, OTHER)
    removed = remove(images, "app:v2")
    chain = digest(f"{digest(BASE)} {digest(APP)}".encode())
    assert removed == [{"Untagged": "app:v2"}, {"Deleted": app}, {"Deleted": chain}]
    assert kept(root) == layers(BASE, OTHER)  # the base is the other image's too
    assert names(remove(images, other[7:19]), "Deleted")[-1] == digest(BASE)
    assert kept(root) == []
    assert images.listing() == []
    with pytest.raises(NoSuchImage):
        remove(images, "other")


def test_an_id_with_several_names(images: Images, two: tuple[str, str], root: Path) -> None:
    app, _ = two
    message = f"conflict: unable to delete {app[7:19]} (must be forced) - image is referenced in multiple repositories"
    with pytest.raises(ImageConflict) as caught:
        remove(images, app)
    assert str(caught.value) == message
    assert tags(images, app) == ["app:v1", "app:v2", "me/app:v1"]
    assert names(remove(images, app, force=True), "Untagged") == ["app:v1", "app:v2", "me/app:v1"]
    assert kept(root) == layers(BASE, OTHER)


@pytest.mark.parametrize("running", [True, False])
def test_what_a_container_uses(
    running: bool, images: Images, two: tuple[str, str], containers: Containers, root: Path
) -> None:
    _, other = two
    containers.by_image[other] = [("c" * 64, running)]
    with pytest.raises(ImageConflict) as caught:
        remove(images, "other")
    assert str(caught.value) == (
        'conflict: unable to remove repository reference "other" (must force) - '
        f"container cccccccccccc is using its referenced image {other[7:19]}"
    )
    state, way = ("running", "cannot be forced") if running else ("stopped", "must be forced")
    with pytest.raises(ImageConflict) as caught:
        remove(images, other)
    assert str(caught.value) == (
        f"conflict: unable to delete {other[7:19]} ({way}) - image is being used by {state} container cccccccccccc"
    )
    assert images.resolve("other").id == other
    assert kept(root) == layers(BASE, APP, OTHER)


def test_force_under_a_running_container_takes_only_the_name(
    images: Images, two: tuple[str, str], containers: Containers, root: Path
) -> None:
    _, other = two
    containers.by_image[other] = [("c" * 64, True)]
    assert remove(images, "other", force=True) == [{"Untagged": "other:latest"}]
    assert images.resolve(other).id == other
    with pytest.raises(ImageConflict, match="cannot be forced"):
        remove(images, other, force=True)
    assert kept(root) == layers(BASE, APP, OTHER)


def test_force_under_a_stopped_container_keeps_what_it_stands_on(
    images: Images, two: tuple[str, str], containers: Containers, root: Path
) -> None:
    app, other = two
    containers.by_image[other] = [("c" * 64, False)]
    lower_dirs = images.resolve(other).lower_dirs
    assert remove(images, "other", force=True) == [{"Untagged": "other:latest"}, {"Deleted": other}]
    with pytest.raises(NoSuchImage):
        images.resolve(other)
    assert [image.id for image in images.listing()] == [app]
    assert images.by_id(other).lower_dirs == lower_dirs  # the container can be started again
    assert kept(root) == layers(BASE, APP, OTHER)
    asyncio.run(images.release())
    assert kept(root) == layers(BASE, APP, OTHER)
    containers.by_image.clear()
    asyncio.run(images.release())
    assert kept(root) == layers(BASE, APP)
    with pytest.raises(NoSuchImage):
        images.by_id(other)


def test_an_image_that_comes_back_while_a_container_holds_it(
    images: Images, two: tuple[str, str], containers: Containers, tmp_path: Path
) -> None:
    _, other = two
    containers.by_image[other] = [("c" * 64, False)]
    remove(images, other, force=True)
    load_file(images, tmp_path / "two.tar")
    containers.by_image.clear()
    asyncio.run(images.release())
    assert images.resolve("other").id == other


def test_a_root_that_hides_all_below_ends_the_layers(images: Images, tmp_path: Path) -> None:
    """overlayfs never looks whether a root is opaque."""
    layers = [BASE, archive([member(".wh..wh..opq"), member("new")]), APP]
    (loaded,) = load_file(images, Layout(layers).write(tmp_path / "layout"))
    assert [Path(lower).name for lower in images.resolve(loaded.id).lower_dirs] == [
        digest(x)[7:] for x in layers[:0:-1]
    ]


def test_host_is_this_machine(images: Images, root: Path) -> None:
    image = images.resolve("host")
    assert image.lower_dirs == ("/",)
    assert (
        image == images.resolve("docker.io/library/host:latest") == images.resolve(image.id) == images.by_id(image.id)
    )
    assert images.inspect("host")["RepoTags"] == ["host:latest"]
    assert images.inspect("host")["GraphDriver"]["Data"] == {"UpperDir": "/"}
    assert images.listing() == []
    with pytest.raises(ImageConflict, match="stays"):
        remove(images, "host", force=True)
    with pytest.raises(ImageConflict):
        images.tag("host", "mine")
    assert kept(root) == []


def test_listing(images: Images, two: tuple[str, str], tmp_path: Path) -> None:
    layout = Layout([BASE])
    dates = {"created": "2030-01-01T00:00:00Z", "config": {"Labels": {"a": "b"}}}
    layout.config = layout.add(configuration([BASE], **dates), "x")
    (newest,) = load_file(images, layout.write(tmp_path / "layout"))
    first, *rest = images.listing()
    assert (first.id, first.created, first.labels, first.tags) == (newest.id, 1893456000, {"a": "b"}, [])
    assert {image.id for image in rest} == set(two)


@pytest.mark.usefixtures("two")
def test_another_engine_finds_what_one_stored(images: Images, database: sqlite3.Connection, root: Path) -> None:
    again = Images(str(root), database)
    asyncio.run(again.sweep())
    assert again.resolve("app:v1") == images.resolve("app:v1")
    assert kept(root) == layers(BASE, APP, OTHER)


def test_after_a_power_cut_an_image_is_whole_or_gone(
    two: tuple[str, str], database: sqlite3.Connection, root: Path
) -> None:
    """Layers that were not known to be on the disk when the machine went down are given up, with what needs them."""
    _, other = two
    asyncio.run(settled(Images(str(root), database, settle_after=0)))
    database.execute("UPDATE layers SET unsettled = 'another boot' WHERE diff_id = ?", (digest(APP),))
    database.commit()
    again = Images(str(root), database)
    assert [image.id for image in again.listing()] == [other]
    asyncio.run(again.sweep())
    assert kept(root) == layers(BASE, OTHER)


def test_what_the_last_engine_had_not_settled_the_next_one_does(
    images: Images, two: tuple[str, str], database: sqlite3.Connection, root: Path
) -> None:
    database.execute("UPDATE layers SET unsettled = ?", (Path("/proc/sys/kernel/random/boot_id").read_text().strip(),))
    database.commit()
    again = Images(str(root), database, settle_after=0)
    assert {image.id for image in again.listing()} == set(two) == {image.id for image in images.listing()}
    asyncio.run(settled(again))
    assert database.execute("SELECT count(*) FROM layers WHERE unsettled <> ''").fetchone() == (0,)


async def settled(images: Images) -> None:
    """Sweeps, and waits until nothing goes on in the background."""
    await images.sweep()
    await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()})


def test_a_leftover_of_an_attempt_is_no_obstacle(images: Images, tmp_path: Path, root: Path) -> None:
    """A layer moved into place by an attempt whose record failed."""
    (root / "layers" / digest(BASE)[7:] / "stale").mkdir(parents=True)
    docker_archive(tmp_path / "x.tar", [([BASE], ["x"])])
    os.rename(root / "layers" / digest(BASE)[7:], root / "aside")
    source = os.open(tmp_path / "x.tar", os.O_RDONLY)

    async def leftover_appears() -> None:
        load = asyncio.create_task(images.load(source))
        async with asyncio.timeout(10):
            while not list(root.glob("staging/*/*.layer")):
                await asyncio.sleep(0)
        os.rename(root / "aside", root / "layers" / digest(BASE)[7:])
        await load

    asyncio.run(leftover_appears())
    os.close(source)
    (layer,) = images.resolve("x").lower_dirs
    assert os.listdir(layer) == ["base"]

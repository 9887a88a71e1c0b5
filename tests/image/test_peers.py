"""Images made by Docker and skopeo: the same ID and the same files here as there."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import msgspec
import pytest

from cutaway.image.images import Images
from tests.dockerd import Docker
from tests.image.overlays import mounted
from tests.image.stores import load_file
from tests.image.trees import seen

DOCKERFILE = """
FROM busybox
RUN mkdir -p /d/e && echo a > /d/e/x && echo b > /d/y && ln /d/y /d/same && chown 7:8 /d/y && chmod 4755 /d/y
RUN rm -r /d/e && echo c > /d/z && mkfifo /d/fifo && mknod /d/null c 1 3 && touch -d '2001-02-03 04:05:06' /d/z
RUN rm -rf /home && mkdir -m 700 /home && echo new > /home/new && rm /bin/vi
ENV A=b
LABEL made=here
"""
OF_DOCKER = {".dockerenv", "dev", "dev/console", "dev/pts", "dev/shm", "proc", "sys"}
OF_DOCKER |= {"etc", "etc/hostname", "etc/hosts", "etc/mtab", "etc/resolv.conf"}


@pytest.fixture(scope="module")
def archive(docker: Docker, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `docker save` writes of an image of several layers."""
    directory = tmp_path_factory.mktemp("docker")
    (directory / "Dockerfile").write_text(DOCKERFILE)
    os.environ["DOCKER_BUILDKIT"] = "0"
    docker("build", "--quiet", "--tag", "app:v1", str(directory))
    docker("save", "--output", str(directory / "app.tar"), "app:v1")
    return directory / "app.tar"


def test_docker_save(docker: Docker, archive: Path, images: Images, tmp_path: Path) -> None:
    (loaded,) = load_file(images, archive)
    assert loaded.id == docker("image", "inspect", "--format", "{{.Id}}", "app:v1")
    image = images.resolve("app:v1")
    with mounted(image.lower_dirs, tmp_path) as merged:
        ours, theirs = seen(merged), seen(exported(docker, tmp_path))
    assert ours.keys() - theirs.keys() == set()
    assert theirs.keys() - ours.keys() <= OF_DOCKER
    same = ours.keys() - OF_DOCKER - {"usr"}  # of which the archive holds only what is below: each makes it itself
    assert {path: ours[path] for path in same} == {path: theirs[path] for path in same}


def exported(docker: Docker, where: Path) -> Path:
    container = docker("create", "app:v1", "true")
    docker("export", "--output", str(where / "export.tar"), container)
    docker("rm", container)
    (where / "export").mkdir()
    subprocess.run(["tar", "-C", where / "export", "--numeric-owner", "-xf", where / "export.tar"], check=True)
    return where / "export"


def test_inspect_says_what_dockers_says(docker: Docker, archive: Path, images: Images) -> None:
    load_file(images, archive)
    ours = images.inspect("app:v1")
    for field in ("Id", "RepoTags", "RepoDigests", "Created", "Architecture", "Os", "Size"):
        theirs = docker("image", "inspect", "--format", f"{{{{.{field}}}}}", "app:v1")
        assert str(ours[field]).replace("'", "").replace(",", "") == theirs, field
    for field in ("Env", "Cmd", "Labels", "Entrypoint", "WorkingDir", "User"):
        theirs = docker("image", "inspect", "--format", f"{{{{json .Config.{field}}}}}", "app:v1")
        assert msgspec.json.decode(theirs) == ours["Config"][field], field
    layers = docker("image", "inspect", "--format", "{{json .RootFS.Layers}}", "app:v1")
    assert msgspec.json.decode(layers) == ours["RootFS"]["Layers"]


@pytest.mark.parametrize(
    ("transport", "options"),
    [("oci-archive", []), ("oci", []), ("oci", ["--dest-compress", "--dest-compress-format=zstd"])],
)
def test_skopeo(transport: str, options: list[str], archive: Path, images: Images, tmp_path: Path) -> None:
    if not shutil.which("skopeo"):
        pytest.skip("skopeo is not installed")
    where = f"{transport}:{tmp_path}/copy:registry.example/app:v2"
    subprocess.run(["skopeo", "copy", "--quiet", *options, f"docker-archive:{archive}", where], check=True)
    load_file(images, archive)
    (loaded,) = load_file(images, tmp_path / "copy")
    assert loaded.tags == ["registry.example/app:v2"]
    assert images.resolve("registry.example/app:v2").lower_dirs == images.resolve("app:v1").lower_dirs

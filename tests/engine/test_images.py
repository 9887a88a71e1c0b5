"""Images as the engine knows them: listed, taken in, named, removed."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.engines import COMMAND, Engine
from tests.image.archives import Layout, configuration, tarred
from tests.image.trees import archive, member


@pytest.fixture
def image(engine: Engine, busybox_tar: Path) -> Iterator[str]:
    """The name of an image of its own."""
    engine("import", "-m", "made by a test", "-c", 'CMD ["true"]', "-c", "LABEL own=yes", busybox_tar, "own:1")
    yield "own:1"
    engine("rmi", "-f", "own:1", check=False)


def inspected(engine: Engine, image: str) -> Any:
    return json.loads(engine("image", "inspect", image).stdout)[0]


def names(engine: Engine) -> list[str]:
    return engine("images", "--format", "{{.Repository}}:{{.Tag}}").stdout.split()


def refused(engine: Engine, *arguments: str | Path, **more: Any) -> str:
    done = engine(*arguments, check=False, **more)
    assert done.returncode == 1
    return done.stderr.strip()


def test_the_machine_itself_is_an_image(cutaway: Engine, image: str) -> None:
    """The oldest of all, so it comes last."""
    listed = names(cutaway)
    assert listed[-1] == "host:latest"
    assert image in listed
    found = inspected(cutaway, "host")
    assert (found["RepoTags"], found["Config"]["Cmd"]) == (["host:latest"], ["/bin/sh"])


def test_what_import_was_told_is_kept(cutaway: Engine, image: str) -> None:
    found = inspected(cutaway, image)
    assert found["RepoTags"] == [image]
    assert found["Comment"] == "made by a test"
    assert (found["Config"]["Cmd"], found["Config"]["Labels"]) == (["true"], {"own": "yes"})
    assert (found["Os"], len(found["RootFS"]["Layers"])) == ("linux", 1)
    assert found["Size"] > 1_000_000
    assert Path(found["GraphDriver"]["Data"]["UpperDir"], "bin/busybox").exists()


def test_an_image_has_several_names(cutaway: Engine, image: str) -> None:
    cutaway("tag", image, "other:2")
    assert inspected(cutaway, "other:2")["Id"] == inspected(cutaway, image)["Id"]
    assert cutaway("rmi", "other:2").stdout == "Untagged: other:2\n"
    assert inspected(cutaway, image)["RepoTags"] == [image]


def test_removing_its_last_name_removes_it(cutaway: Engine, image: str) -> None:
    identifier = inspected(cutaway, image)["Id"]
    said = cutaway("rmi", image).stdout
    assert said.startswith(f"Untagged: {image}\nDeleted: {identifier}\n")
    assert refused(cutaway, "image", "inspect", image).endswith(f"No such image: {image}")


def test_an_image_that_a_container_has_stays(cutaway: Engine, image: str) -> None:
    cutaway("create", "--name", "holder", image)
    message = refused(cutaway, "rmi", image)
    assert f'conflict: unable to remove repository reference "{image}" (must force) - container' in message
    cutaway("rm", "holder")
    cutaway("rmi", image)


def test_what_docker_saved_is_loaded(cutaway: Engine, tmp_path: Path, docker: Any) -> None:
    docker("tag", "busybox", "saved:3")
    docker("save", "-o", str(tmp_path / "saved.tar"), "saved:3")
    assert cutaway("load", "-i", tmp_path / "saved.tar").stdout == "Loaded image: saved:3\n"
    cutaway("run", "--rm", "--network", "none", "saved:3", "true")
    cutaway("rmi", "saved:3")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("image", "inspect", "nowhere"), "No such image: nowhere:latest"),
        (("image", "inspect", "Not/Allowed"), "invalid reference format"),
        (("rmi", "nowhere"), "No such image: nowhere:latest"),
        (("rmi", "host"), "the image host is this machine's own root file system"),
        (("tag", "nowhere", "somewhere"), "No such image: nowhere:latest"),
        (("tag", "own:1", "Not/Allowed"), "invalid reference format"),
        (("tag", "own:1", "host"), "the name host belongs to the machine's own root file system"),
        (("run", "--pull", "never", "nowhere"), "No such image: nowhere:latest"),
    ],
)
def test_what_cannot_be_is_one_sentence(cutaway: Engine, image: str, arguments: tuple[str, ...], sentence: str) -> None:
    before = names(cutaway)
    done = cutaway(*arguments, check=False)
    assert done.returncode == (125 if arguments[0] == "run" else 1)
    assert sentence in done.stderr
    assert names(cutaway) == before
    assert image in before


@pytest.mark.parametrize("verb", ["import", "load"])
def test_a_broken_archive_leaves_nothing(cutaway: Engine, tmp_path: Path, busybox_tar: Path, verb: str) -> None:
    (tmp_path / "broken.tar").write_bytes(busybox_tar.read_bytes()[:100_000])
    staged = set((cutaway.root / "images/staging").iterdir())
    before = names(cutaway)
    arguments = (
        ("import", tmp_path / "broken.tar", "broken") if verb == "import" else ("load", "-i", tmp_path / "broken.tar")
    )
    assert refused(cutaway, *arguments)
    assert names(cutaway) == before
    assert set((cutaway.root / "images/staging").iterdir()) == staged


def test_import_reads_standard_input(cutaway: Engine, busybox_tar: Path) -> None:
    packed = subprocess.run(["gzip", "-1c", busybox_tar], capture_output=True, check=True).stdout
    command = [str(COMMAND), "import", "-", "piped"]
    done = subprocess.run(command, input=packed, env=cutaway.environment, capture_output=True, check=True)
    assert done.stdout.decode().strip() == inspected(cutaway, "piped")["Id"]
    cutaway("rmi", "piped")


@pytest.mark.usefixtures("busybox")
class TestHistory:
    @pytest.fixture
    def child(self, cutaway: Engine, image: str) -> Iterator[str]:
        """The ID of an image made of a container of `image`."""
        cutaway("run", "--name", "parent", image, "sh", "-c", "head -c 12345 /dev/zero > /file; echo " + 50 * "x")
        made = cutaway("commit", "-m", "made later", "parent").stdout.strip()
        cutaway("rm", "parent")
        yield made
        cutaway("rmi", made)

    def test_it_is_told_from_the_end(self, cutaway: Engine, image: str, child: str) -> None:
        """Each step with the image it made, as far as that is here."""
        parent = inspected(cutaway, image)
        template = "{{.ID}} {{.Size}} {{.CreatedBy}} {{.Comment}}"
        last, first = cutaway("history", "--no-trunc", "-H=false", "--format", template, child).stdout.splitlines()
        assert last == f"{child} 12345 sh -c head -c 12345 /dev/zero > /file; echo {50 * 'x'} made later"
        assert first == f"{parent['Id']} {parent['Size']}  made by a test"
        assert cutaway("image", "history", "-q", child).stdout.split() == [child[7:19], parent["Id"][7:19]]

    def test_as_a_table(self, cutaway: Engine, child: str) -> None:
        header, row, _ = cutaway("history", child).stdout.splitlines()
        assert header.split() == ["IMAGE", "CREATED", "CREATED", "BY", "SIZE", "COMMENT"]
        assert re.search(r" ago +sh -c head -c 12345 /dev/zero > /file; echo …? +12\.3kB +made later$", row)
        header, row, _ = cutaway("history", "-H=false", child).stdout.splitlines()
        assert header.split()[1:3] == ["CREATED", "AT"]
        assert re.search(r" \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(Z|[+-]\d\d:\d\d) .* 12345 +made later$", row)

    def test_of_what_is_not_there(self, cutaway: Engine) -> None:
        assert refused(cutaway, "history", "nowhere").endswith("No such image: nowhere:latest")


class TestList:
    @pytest.fixture
    def three(self, cutaway: Engine, tmp_path: Path) -> Iterator[list[str]]:
        """The IDs of three images, of three following days of 2001, the oldest first."""
        documents = [
            {"created": f"2001-02-0{day}T00:00:00Z", "config": {"Labels": {"day": str(day)}}} for day in (1, 2, 3)
        ]
        layers = [archive([member(str(day))]) for day in (1, 2, 3)]
        ids = []
        for day, (document, layer) in enumerate(zip(documents, layers, strict=True), 1):
            layout = Layout([layer], tag=f"of.day/{day}:x" if day < 3 else "")
            layout.config = layout.add(configuration([layer], **document), layout.config["mediaType"])
            cutaway("load", "-i", tarred(layout.write(tmp_path / str(day)), tmp_path / f"{day}.tar"))
            ids.append(layout.config["digest"])
        yield ids
        cutaway("rmi", "-f", *ids)

    @pytest.mark.parametrize(
        ("filters", "days"),
        [
            (["until=2001-02-03T00:00:00Z", "label=day"], [2, 1]),
            (["label=day=2"], [2]),
            (["label=day", "dangling=true"], [3]),
            (["reference=of.day/*"], [2, 1]),
            (["since=of.day/1:x", "until=2002-01-01"], [3, 2]),
            (["before=of.day/2:x", "label=day"], [1]),
        ],
    )
    def test_filters(self, cutaway: Engine, three: list[str], filters: list[str], days: list[int]) -> None:
        options = [word for filter in filters for word in ("--filter", filter)]
        shown = cutaway("images", "-a", "-q", "--no-trunc", *options).stdout.split()
        assert shown == [three[day - 1] for day in days]

    def test_a_row_for_each_name(self, cutaway: Engine, three: list[str]) -> None:
        cutaway("tag", three[0], "of.day/again")
        rows = [line.split() for line in cutaway("images", "--digests", "of.day/*").stdout.splitlines()]
        assert [row[:4] for row in rows[1:]] == [
            ["of.day/2", "x", "<none>", three[1][7:19]],
            ["of.day/1", "x", "<none>", three[0][7:19]],
            ["of.day/again", "latest", "<none>", three[0][7:19]],
        ]

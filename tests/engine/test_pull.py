"""`cutaway pull`, and what pulls on its own: what is said, and what comes of it when somebody is killed meanwhile."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pexpect
import pytest

import cutaway as client
from tests.children import wait_until
from tests.engine.killing import kill, workers
from tests.engines import Engine
from tests.image.archives import Layout
from tests.image.scripted import Handler, Registry
from tests.image.stores import kept
from tests.image.trees import archive, directory, member

pytestmark = pytest.mark.usefixtures("busybox")
LAYERS = [archive([directory(f"d{number}"), member(f"d{number}/file", os.urandom(2 << 20))]) for number in range(3)]


@pytest.fixture
def registry() -> Iterator[Registry]:
    with Registry() as registry:
        yield registry


@pytest.fixture
def layout(busybox_tar: Path, registry: Registry) -> Layout:
    """An image that can run, `/app` in the registry, tagged `1` and `latest`."""
    layout = Layout([busybox_tar.read_bytes() + bytes(512), *LAYERS])  # none of which an engine has
    registry.hold(layout, "1")
    registry.hold(layout, "latest")
    registry.answers["/tags/list"] = lambda handler: handler.whole(b'{"name": "app", "tags": ["1", "latest"]}')
    return layout


@pytest.fixture
def name(cutaway: Engine, registry: Registry, layout: Layout) -> Iterator[str]:
    """The image's name, which is not in the engine when the test begins, nor when it has ended."""
    name = f"{registry.name}/app"
    yield name
    cutaway("rmi", "-f", layout.image_id, check=False)


def short(layout: Layout) -> list[str]:
    return [layer["digest"][7:19] for layer in layout.layers]


def test_says_what_docker_says(cutaway: Engine, name: str, layout: Layout) -> None:
    digest = layout.manifest()["digest"]
    said = cutaway("pull", name).stdout.splitlines()
    assert said[:2] == ["Using default tag: latest", "latest: Pulling from app"]
    assert said[-3:] == [
        f"Digest: {digest}",
        f"Status: Downloaded newer image for {name}:latest",
        f"{name}:latest",
    ]
    for status in ("Pulling fs layer", "Download complete", "Pull complete"):
        assert {f"{layer}: {status}" for layer in short(layout)} <= set(said)
    again = cutaway("pull", f"{name}@{digest}").stdout.splitlines()
    assert [f"{layer}: Already exists" for layer in short(layout)] == again[1:-3]
    assert again[0] == f"{name}@{digest}: Pulling from app"
    assert cutaway("pull", "-q", f"{name}:1").stdout == f"{layout.image_id}\n"
    assert cutaway("image", "pull", "--all-tags", name).stdout.endswith(f"Image is up to date for {name}\n{name}\n")


def test_names_with_digests(cutaway: Engine, name: str, layout: Layout) -> None:
    digest = layout.manifest()["digest"]
    cutaway("pull", f"{name}@{digest}")
    row = cutaway("images", "--digests", "--no-trunc", "--format", "{{.Repository}} {{.Tag}} {{.Digest}}").stdout
    assert f"{name} <none> {digest}\n" in row
    assert cutaway("image", "inspect", "-f", "{{.RepoDigests}}", f"{name}@{digest}").stdout == f"[{name}@{digest}]\n"
    assert cutaway("run", "--rm", "--network", "none", f"{name}@{digest}", "echo", "hi").stdout == "hi\n"
    said = cutaway("rmi", f"{name}@{digest}").stdout
    assert said.startswith(f"Untagged: {name}@{digest}\nDeleted: {layout.image_id}\n")


def test_a_tag_takes_its_digest_with_it(cutaway: Engine, name: str, layout: Layout) -> None:
    cutaway("pull", f"{name}:1")
    said = cutaway("rmi", f"{name}:1").stdout.splitlines()
    assert said[:2] == [f"Untagged: {name}:1", f"Untagged: {name}@{layout.manifest()['digest']}"]


def test_run_pulls_what_is_missing(cutaway: Engine, registry: Registry, name: str) -> None:
    done = cutaway("run", "--rm", "--network", "none", name, "echo", "hi")
    assert done.stdout == "hi\n"
    assert done.stderr.startswith(f"Unable to find image '{name}:latest' locally\nlatest: Pulling from app\n")
    assert done.stderr.endswith(f"Status: Downloaded newer image for {name}:latest\n")
    assert cutaway("run", "--rm", "--network", "none", name, "true").stderr == ""
    asked = len(registry.requests)
    always = cutaway("run", "--rm", "--pull", "always", "--network", "none", name, "true")
    assert "Image is up to date" in always.stderr
    assert len(registry.requests) > asked
    cutaway("rmi", name)
    refused = cutaway("run", "--rm", "--pull=never", name, "true", check=False)
    assert (refused.returncode, refused.stderr) == (125, f"cutaway: No such image: {name}:latest\n")
    container = cutaway("create", name).stdout.strip()
    cutaway("rm", container)


def test_python_programs_pull_too(cutaway: Engine, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("CUTAWAY_ROOT", "CUTAWAY_RUNTIME_DIR"):
        monkeypatch.setenv(variable, cutaway.environment[variable])
    with pytest.raises(client.NotFound, match="No such image"):
        client.run(name, ["true"], pull="never")
    assert client.run(name, ["echo", "hi"], network="none").stdout == b"hi\n"
    with pytest.raises(client.InvalidArgument, match="none of always, missing and never"):
        client.run(name, ["true"], pull="often")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("pull", "{name}:nothing"), "manifest for {name}:nothing not found: registry {host}: MANIFEST_UNKNOWN"),
        (("pull", "-a", "{name}:1"), "tag can't be used with --all-tags/-a"),
        (("pull", "--disable-content-trust=false", "{name}"), "content trust (Notary's signatures) is not supported"),
        (("pull", "--platform", "linux/s390x", "{name}"), "the image is for linux/amd64, not for linux/s390x"),
        (("pull", "--platform", "a/b/c/d", "{name}"), "platform 'a/b/c/d' is not of the form"),
        (("pull", "Not/Allowed"), "invalid reference format"),
        (("pull", "host"), "the name host belongs to the machine's own root file system"),
    ],
)
def test_refusals_are_one_sentence(
    cutaway: Engine, registry: Registry, name: str, arguments: tuple[str, ...], complaint: str
) -> None:
    fields = {"name": name, "host": registry.name}
    done = cutaway(*(argument.format(**fields) for argument in arguments), check=False)
    assert done.returncode == 1
    assert complaint.format(**fields) in done.stderr
    assert done.stderr.count("\n") == 1


def test_bars_on_a_terminal(cutaway: Engine, name: str, layout: Layout) -> None:
    terminal = pexpect.spawn(f"{cutaway.command} pull {name}", env=cutaway.environment, encoding="utf-8", timeout=30)
    shown: str = terminal.read()
    assert f"{name}:latest\r\n" in shown
    for layer in short(layout):
        assert re.search(rf"{layer}: Pull complete .*━.*MB", shown)
    assert "\x1b[?25l" not in shown, "a cursor that is hidden stays so for who is interrupted"


class Stalled:
    """An answer that sends half of a blob and then nothing more until it is let go."""

    def __init__(self, content: bytes) -> None:
        self.over, self._content = threading.Event(), content

    def __call__(self, handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(self._content)))
        handler.end_headers()
        handler.wfile.write(self._content[: len(self._content) // 2])
        self.over.wait(20)
        handler.close_connection = True


def test_who_is_interrupted_pulls_no_more(cutaway: Engine, registry: Registry, name: str, layout: Layout) -> None:
    blob = max(layout.layers, key=lambda layer: layer["size"])["digest"]
    stalled = registry.answers[f"/blobs/{blob}"] = Stalled(layout.blobs[blob])
    before = kept(cutaway.root / "images")
    pulling = subprocess.Popen([cutaway.command, "pull", name], env=cutaway.environment, stdout=subprocess.DEVNULL)
    come = cutaway.root / "images" / "partial" / blob.removeprefix("sha256:")
    wait_until(lambda: come.exists() and come.stat().st_size > 0)
    engine = cutaway.status()["engine_pid"]
    assert workers(engine)
    pulling.send_signal(signal.SIGINT)
    pulling.wait(20)
    wait_until(lambda: not workers(engine) and kept(cutaway.root / "images") == before)
    stalled.over.set()
    del registry.answers[f"/blobs/{blob}"]
    registry.requests.clear()
    cutaway("pull", name)
    (again,) = registry.asked_for(blob)
    assert again.begin > 0, "what had come is not asked for again"


@pytest.mark.parametrize("victim", ["worker", "engine"])
def test_killed_at_any_moment_it_pulls_the_right_image(
    new_engine: Callable[[], Engine], registry: Registry, layout: Layout, victim: str
) -> None:
    cutaway, name, moment = new_engine(), f"{registry.name}/app", random.Random(victim)
    nothing = kept(cutaway.root / "images")
    cutaway("pull", name)
    whole = kept(cutaway.root / "images")
    for _ in range(10):
        cutaway("rmi", name)
        engine = int(cutaway.status()["engine_pid"])
        pulling = subprocess.Popen([cutaway.command, "pull", "-q", name], env=cutaway.environment, stdout=-3, stderr=-3)
        time.sleep(moment.uniform(0, 0.5))  # any moment is what is asked for
        for pid in workers(engine) if victim == "worker" else [engine]:
            kill(pid)
        pulling.wait(20)
        assert cutaway("pull", "-q", name).stdout == f"{layout.image_id}\n"
        assert kept(cutaway.root / "images") == whole
        assert os.listdir(cutaway.root / "images/partial") == []
    assert cutaway("run", "--rm", "--network", "none", name, "sh", "-c", "wc -c < /d2/file").stdout == f"{2 << 20}\n"
    cutaway("rmi", name)
    assert kept(cutaway.root / "images") == nothing

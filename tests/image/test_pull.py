"""Pulling from registries: real ones, with everything that they may want of us, and one that does as it is told."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from cutaway.image.errors import BrokenArchive, ImageError, NotInRegistry, RegistryError
from cutaway.image.images import Images, Pulled
from cutaway.image.registry.access import Access, Credentials
from tests import registry as real
from tests.host import ADDRESS
from tests.image.archives import Layout, digest
from tests.image.scripted import Handler, Registry
from tests.image.stores import kept, load_file, new_store
from tests.image.trees import archive, directory, hard_link, link, member, seen

ANYBODY, KNOWN = Access(), Access(Credentials(real.USER, real.PASSWORD))
BASE = archive([directory("etc"), member("etc/hostname", b"here"), link("etc/alias", "hostname"), member("old", b"1")])
CHANGE = archive([member(".wh.old"), member("big", os.urandom(3 << 20)), hard_link("same", "big")])


@pytest.fixture
def scripted() -> Iterator[Registry]:
    with Registry() as registry:
        yield registry


@pytest.fixture
def configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of what the administrator says of registries."""
    monkeypatch.setenv("CUTAWAY_CONFIG_DIR", str(tmp_path / "configuration"))
    (tmp_path / "configuration").mkdir()
    return tmp_path / "configuration"


def pull(images: Images, name: str, access: Access = ANYBODY, **options: Any) -> Pulled:
    return asyncio.run(images.pull(name, access=access, **options))


def refusal(images: Images, name: str, kind: type[ImageError] = RegistryError, access: Access = ANYBODY) -> str:
    """Why a pull is refused, after which the store is as it was."""
    root = Path(images._store.root)
    before, listed = kept(root), images.listing()
    with pytest.raises(kind) as caught:
        pull(images, name, access)
    assert (kept(root), images.listing()) == (before, listed)
    assert name.rpartition(":")[0] in str(caught.value), "it says which image"
    return str(caught.value)


def partial(images: Images) -> dict[str, int]:
    """The bytes that there are of each unfinished blob."""
    return {file.name: file.stat().st_size for file in Path(images._store.root, "partial").iterdir()}


def copied(layout: Path, name: str, *options: str) -> None:
    """Has skopeo bring an image to a registry."""
    target = [f"oci:{layout}", f"docker://{name}"]
    subprocess.run(["skopeo", "copy", "--quiet", "--dest-tls-verify=false", *options, *target], check=True)


def trees(images: Images, name: str) -> list[dict[str, tuple[object, ...]]]:
    """Each layer's; whiteouts, whose times mean nothing, by their names alone."""
    layers = [seen(Path(lower)) for lower in images.resolve(name).lower_dirs]
    return [{path: () if what[0] == "c---------" else what for path, what in layer.items()} for layer in layers]


# From a real registry


@pytest.mark.parametrize("compression", ["plain", "gzip", "zstd"])
def test_by_tag_and_by_digest(images: Images, registry: real.Registry, tmp_path: Path, compression: str) -> None:
    layout = Layout([BASE, CHANGE], compression)
    name = f"{registry.name}/team/{compression}"
    copied(layout.write(tmp_path / "layout"), f"{name}:1")
    pulled = pull(images, f"{name}:1")
    assert (pulled.id, pulled.is_new) == (layout.image_id, True)
    assert images.inspect(f"{name}:1")["RepoDigests"] == [f"{name}@{pulled.digest}"]
    with new_store(tmp_path / "other") as other:
        load_file(other, tmp_path / "layout")
        assert trees(images, f"{name}:1") == trees(other, layout.image_id)
    assert not pull(images, f"{name}@{pulled.digest}").is_new
    assert images.resolve(f"{name}@{pulled.digest}").id == layout.image_id
    assert partial(images) == {}


def test_layers_made_by_skopeo_in_zstd(images: Images, registry: real.Registry, tmp_path: Path) -> None:
    layout = Layout([BASE, CHANGE], "plain")
    copied(layout.write(tmp_path / "layout"), f"{registry.name}/zstd:1", "--dest-compress-format=zstd")
    assert pull(images, f"{registry.name}/zstd:1").id == layout.image_id


def test_of_an_index_the_image_for_a_platform(images: Images, registry: real.Registry, tmp_path: Path) -> None:
    here, there = Layout([BASE]), Layout([CHANGE])
    document = here.blobs[here.config["digest"]].replace(b'"amd64"', b'"arm64"')
    there.config = there.add(
        document.replace(digest(BASE).encode(), digest(CHANGE).encode()), there.config["mediaType"]
    )
    platforms = [
        here.manifest() | {"platform": {"os": "linux", "architecture": "amd64"}},
        there.manifest() | {"platform": {"os": "linux", "architecture": "arm64", "variant": "v8"}},
        here.add(b"{}", "text/plain")
        | {"platform": {"os": "unknown", "architecture": "unknown"}}
        | {"annotations": {"vnd.docker.reference.type": "attestation-manifest"}},
    ]
    here.blobs |= there.blobs
    index = here.index(platforms[:2])
    here.write(tmp_path / "layout", [index])
    name = f"{registry.name}/two:1"
    copied(tmp_path / "layout", name, "--all")
    assert pull(images, name).id == here.config["digest"]
    assert pull(images, name, platform="linux/arm64").id == there.config["digest"]
    assert pull(images, name, platform="arm64").digest == index["digest"]
    with pytest.raises(BrokenArchive, match="no image for linux/s390x, only for linux/amd64, linux/arm64/v8"):
        pull(images, name, platform="linux/s390x")


def test_who_wants_to_know_who_asks(images: Images, protected_registry: real.Registry, tmp_path: Path) -> None:
    name = f"{protected_registry.name}/team/app:1"
    layout = Layout([BASE])
    copied(layout.write(tmp_path / "layout"), name, f"--dest-creds={real.USER}:{real.PASSWORD}")
    assert "pull access denied" in refusal(images, name, NotInRegistry)
    wrong = Access(Credentials(real.USER, "guessed"))
    assert "pull access denied" in refusal(images, name, NotInRegistry, wrong)
    assert pull(images, name, KNOWN).id == layout.image_id


def test_tls_by_an_authority_of_ones_own(
    images: Images, secure_registry: real.Registry, tmp_path: Path, configuration: Path
) -> None:
    name = f"{secure_registry.name}/team/app:1"
    layout = Layout([BASE])
    copied(layout.write(tmp_path / "layout"), name, f"--dest-creds={real.USER}:{real.PASSWORD}")
    assert "certificate verify failed" in refusal(images, name, access=KNOWN)
    certificates = configuration / "certs.d" / secure_registry.name
    certificates.mkdir(parents=True)
    (certificates / "ca.crt").write_bytes(secure_registry.authority.read_bytes())
    assert pull(images, name, KNOWN).id == layout.image_id
    (certificates / "ca.crt").unlink()
    (configuration / "registries.toml").write_text(f'[registry."{secure_registry.name}"]\ninsecure = true\n')
    assert not pull(images, name, KNOWN).is_new


def test_all_tags(images: Images, registry: real.Registry, tmp_path: Path) -> None:
    Layout([BASE]).write(tmp_path / "layout")
    for tag in ("1", "2"):
        copied(tmp_path / "layout", f"{registry.name}/many:{tag}")
    assert sorted(asyncio.run(images.remote_tags(f"{registry.name}/many"))) == ["1", "2"]


def test_what_is_not_there(images: Images, registry: real.Registry) -> None:
    message = refusal(images, f"{registry.name}/nothing:1", NotInRegistry)
    assert message.startswith(f"manifest for {registry.name}/nothing:1 not found: registry {registry.name}")
    assert "no connection: Connection refused" in refusal(images, "127.0.0.1:1/nobody:1")


# Mirrors and proxies


def test_mirrors_are_asked_first_and_without_credentials(
    images: Images, scripted: Registry, configuration: Path
) -> None:
    layout = Layout([BASE])
    scripted.hold(layout, "1")
    mirrors = f'["http://127.0.0.1:1", "http://{scripted.name}"]'
    (configuration / "registries.toml").write_text(f'[registry."registry.invalid"]\nmirrors = {mirrors}\n')
    assert pull(images, "registry.invalid/app:1", KNOWN).id == layout.image_id
    assert {request.authorization for request in scripted.requests} == {""}
    assert images.resolve("registry.invalid/app:1").id == layout.image_id


def test_a_mistake_in_the_configuration(images: Images, configuration: Path) -> None:
    (configuration / "registries.toml").write_text('[registry."r.invalid"]\nmirror = "x"\n')
    with pytest.raises(RegistryError, match=r"registries\.toml: Object contains unknown field `mirror`"):
        pull(images, "r.invalid/app:1")


def test_through_a_proxy(images: Images, scripted: Registry, configuration: Path) -> None:
    layout = Layout([BASE])
    scripted.hold(layout, "1")
    (configuration / "registries.toml").write_text(f'[registry."{ADDRESS}:1"]\ninsecure = true\n')
    proxies = {"http_proxy": f"http://{scripted.name}", "https_proxy": f"http://{scripted.name}"}
    assert pull(images, f"{ADDRESS}:1/app:1", Access(proxies=proxies)).id == layout.image_id
    with pytest.raises(RegistryError, match="no connection: Connection refused"):
        pull(images, f"{ADDRESS}:1/app:1", Access(proxies=proxies | {"no_proxy": ADDRESS}))


# Tokens


def guarded(scripted: Registry, layout: Layout) -> str:
    """The name of an image that is given out for a token alone, which one gets for the asking."""
    scripted.hold(layout, "1")
    challenge = f'Bearer realm="http://{scripted.name}/grant/token",service="tests"'

    def answer(handler: Handler) -> None:
        if handler.headers.get("Authorization") != "Bearer granted":
            return handler.status(401, WWW_Authenticate=challenge)
        return handler.regular()

    scripted.answers["/grant/token"] = lambda handler: handler.whole(b'{"access_token": "granted"}')
    for path in ("/manifests/1", *(f"/blobs/{name}" for name in layout.blobs)):
        scripted.answers[path] = answer
    return f"{scripted.name}/app:1"


def test_an_identity_token_goes_in_the_place_of_a_password(images: Images, scripted: Registry) -> None:
    layout = Layout([BASE])
    name = guarded(scripted, layout)
    assert pull(images, name, Access(Credentials(identity_token="who I am"))).id == layout.image_id
    (grant,) = scripted.asked_for("/grant/token")
    assert grant.authorization == ""
    for part in ("grant_type=refresh_token", "refresh_token=who+I+am", "scope=repository%3Aapp%3Apull"):
        assert part in grant.form


def test_a_token_is_asked_for_once_and_sent_to_its_registry_alone(images: Images, scripted: Registry) -> None:
    layout = Layout([BASE, CHANGE])
    assert pull(images, guarded(scripted, layout), KNOWN).id == layout.image_id
    (grant,) = scripted.asked_for("/grant/token")
    assert grant.authorization.startswith("Basic ")


def test_a_redirect_takes_no_credentials_to_another_host(images: Images, scripted: Registry) -> None:
    layout = Layout([BASE])
    scripted.hold(layout, "1")
    (blob,) = [layer["digest"] for layer in layout.layers]
    with Registry() as other:
        other.blobs = layout.blobs
        scripted.answers["/manifests/1"] = lambda handler: (
            handler.regular()
            if handler.headers.get("Authorization")
            else handler.status(401, WWW_Authenticate='Basic realm="x"')
        )
        elsewhere = f"http://{other.name}/v2/app/blobs/{blob}"
        scripted.answers[f"/blobs/{blob}"] = lambda handler: handler.status(307, Location=elsewhere)
        assert pull(images, f"{scripted.name}/app:1", KNOWN).id == layout.image_id
        assert [request.authorization for request in other.requests] == [""]
    assert all(request.authorization for request in scripted.asked_for(blob))


# Downloads that stop in the middle


@pytest.fixture
def stopped(images: Images, scripted: Registry) -> tuple[Layout, str, str]:
    """An image of which one pull has brought half of a layer; the layer's blob; the image's name."""
    layout = Layout([CHANGE], "plain")
    scripted.hold(layout, "1")
    blob: str = layout.layers[0]["digest"]
    half = len(layout.blobs[blob]) // 2
    asked = iter([lambda handler: handler.whole(layout.blobs[blob], short=half)])
    scripted.answers[f"/blobs/{blob}"] = lambda handler: next(asked, lambda refused: refused.status(403))(handler)
    name = f"{scripted.name}/app:1"
    assert "status 403" in refusal(images, name)
    assert partial(images) == {blob[7:]: len(layout.blobs[blob]) - half}
    del scripted.answers[f"/blobs/{blob}"]
    scripted.requests.clear()
    return layout, blob, name


def test_goes_on_where_it_stopped(images: Images, scripted: Registry, stopped: tuple[Layout, str, str]) -> None:
    layout, blob, name = stopped
    (there,) = partial(images).values()
    assert pull(images, name).id == layout.image_id
    assert [request.begin for request in scripted.asked_for(blob)] == [there]
    assert partial(images) == {}


def test_goes_on_with_a_registry_that_knows_no_ranges(
    images: Images, scripted: Registry, stopped: tuple[Layout, str, str]
) -> None:
    layout, blob, name = stopped
    scripted.answers[f"/blobs/{blob}"] = lambda handler: handler.whole(layout.blobs[blob])
    assert pull(images, name).id == layout.image_id


def test_starts_anew_where_what_is_there_is_wrong(
    images: Images, scripted: Registry, stopped: tuple[Layout, str, str]
) -> None:
    layout, blob, name = stopped
    path = Path(images._store.root, "partial", blob[7:])
    there = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-9] + b"corrupted")
    assert pull(images, name).id == layout.image_id
    assert [request.begin for request in scripted.asked_for(blob)] == [there, 0]


def test_goes_on_within_one_pull(images: Images, scripted: Registry) -> None:
    layout = Layout([CHANGE], "plain")
    scripted.hold(layout, "1")
    blob: str = layout.layers[0]["digest"]
    breaking = iter([2 << 20])
    scripted.answers[f"/blobs/{blob}"] = lambda handler: (
        handler.whole(layout.blobs[blob], short=short) if (short := next(breaking, 0)) else handler.regular()
    )
    assert pull(images, f"{scripted.name}/app:1").id == layout.image_id
    assert len(scripted.asked_for(blob)) == 2


def test_two_at_once_work_once(images: Images, scripted: Registry) -> None:
    layout = Layout([BASE, CHANGE])
    scripted.hold(layout, "1")
    said: list[list[str]] = [[], []]

    def listener(heard: list[str]) -> Callable[[Mapping[str, Any]], None]:
        return lambda report: heard.append(report.get("status", ""))

    async def both() -> list[Pulled]:
        name = f"{scripted.name}/app:1"
        return list(await asyncio.gather(*(images.pull(name, progress=listener(heard)) for heard in said)))

    first, second = asyncio.run(both())
    assert (first.id, second.id) == (layout.image_id, layout.image_id)
    assert (first.is_new, second.is_new) == (True, False)
    assert {len(scripted.asked_for(layer["digest"])) for layer in layout.layers} == {1}
    assert ("Pull complete" in said[0], "Pull complete" in said[1]) == (True, False)


def test_what_does_not_fit_on_the_disk_is_given_back(scripted: Registry, tmp_path: Path) -> None:
    layers = [archive([member("half", os.urandom(4 << 20))]), archive([member("other half", os.urandom(4 << 20))])]
    name, _ = served(scripted, *layers)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=10m", "small", tmp_path], check=True)
    try:
        with new_store(tmp_path / "store") as images:
            before = os.statvfs(tmp_path).f_bfree
            assert "No space left on device" in refusal(images, name, ImageError)
            assert os.statvfs(tmp_path).f_bfree == before
    finally:
        subprocess.run(["umount", tmp_path], check=True)


# A hostile registry


def served(scripted: Registry, *layers: bytes, compression: str = "gzip") -> tuple[str, Layout]:
    layout = Layout(layers or [BASE], compression)
    scripted.hold(layout, "1")
    return f"{scripted.name}/evil:1", layout


def answers_for_blob(answer: Callable[[Handler, bytes], None]) -> Callable[[Registry], None]:
    def make(scripted: Registry) -> None:
        _, layout = served(scripted)
        (layer,) = layout.layers
        content = layout.blobs[layer["digest"]]
        scripted.answers[f"/blobs/{layer['digest']}"] = lambda handler: answer(handler, content)

    return make


def answers_for_manifest(answer: Callable[[Handler], None]) -> Callable[[Registry], None]:
    def make(scripted: Registry) -> None:
        served(scripted)
        scripted.answers["/manifests/1"] = answer

    return make


EVIL = {
    "wrong-digest": (answers_for_blob(lambda handler, blob: handler.whole(blob[:-1] + b"\1")), "does not have|damaged"),
    "short-body": (answers_for_blob(lambda handler, blob: handler.whole(blob[:-5])), "ends after"),
    "broken-off": (
        answers_for_blob(lambda handler, blob: handler.whole(blob, short=len(blob) - 9)),
        "broke off after 9",
    ),
    "endless-blob": (answers_for_blob(lambda handler, _: handler.endless()), "more than the"),
    "redirect-loop": (
        answers_for_blob(lambda handler, _: handler.status(302, Location=handler.path)),
        "more than 10 redirects",
    ),
    "redirect-to-file": (
        answers_for_blob(lambda handler, _: handler.status(302, Location="file:///etc/passwd")),
        "no URL of http",
    ),
    "never-well": (answers_for_manifest(lambda handler: handler.status(503)), "status 503"),
    "much-later": (answers_for_manifest(lambda handler: handler.status(429, Retry_After="86400")), "in 86400 seconds"),
    "manifest-of-100-MB": (
        answers_for_manifest(lambda handler: handler.whole(b" " * 100_000_000)),
        "more than 4194304",
    ),
    "endless-manifest": (answers_for_manifest(lambda handler: handler.endless()), "more than 4194304"),
    "nested-manifest": (answers_for_manifest(lambda handler: handler.whole(b"[" * 10_000 + b"]" * 10_000)), "be read"),
    "nested-member": (
        answers_for_manifest(lambda handler: handler.whole(b'{"x":' * 10_000 + b"1" + b"}" * 10_000)),
        "be read",
    ),
    "schema-1": (answers_for_manifest(lambda handler: handler.whole(b'{"schemaVersion": 1}')), "schema 1"),
    "both-at-once": (
        answers_for_manifest(
            lambda handler: handler.whole(
                b'{"schemaVersion": 2, "manifests": [], "layers": [], "config": {"digest": "x", "size": 1}}'
            )
        ),
        "neither",
    ),
    "not-json": (answers_for_manifest(lambda handler: handler.whole(b"\xff\xfe")), "be read"),
    "empty-token": (
        answers_for_manifest(
            lambda handler: handler.status(401, WWW_Authenticate=f'Bearer realm="http://{handler.registry.name}/v2/"')
        ),
        "no token",
    ),
}


@pytest.mark.parametrize("evil", EVIL)
def test_what_a_hostile_registry_does_is_refused(images: Images, scripted: Registry, evil: str) -> None:
    make, reason = EVIL[evil]
    make(scripted)
    message = refusal(images, f"{scripted.name}/evil:1", ImageError)
    assert f"registry {scripted.name}" in message
    assert re.search(reason, message), message
    assert "\n" not in message


def test_by_digest_nothing_else_will_do(images: Images, scripted: Registry) -> None:
    """Neither another manifest under the digest, nor one that the tag's answer is said to be and is not."""
    wanted, other = Layout([BASE]), Layout([CHANGE])
    named, given = scripted.hold(wanted, "1"), scripted.hold(other, "2")
    scripted.manifests[named] = scripted.manifests[given]
    message = refusal(images, f"{scripted.name}/app@{named}")
    assert f"does not have the digest it is named by, {named}, but {given}" in message
    scripted.answers["/manifests/1"] = lambda handler: handler.status(200, b"{}", Docker_Content_Digest=named)
    assert "does not have the digest it is named by" in refusal(images, f"{scripted.name}/app:1")


def test_a_configuration_of_another_digest(images: Images, scripted: Registry) -> None:
    name, layout = served(scripted)
    scripted.blobs[layout.image_id] = layout.blobs[layout.image_id].replace(b"sh", b"xx")
    assert f"blob {layout.image_id} does not have that digest" in refusal(images, name)


def test_a_hiccup_is_no_reason_to_give_up(images: Images, scripted: Registry) -> None:
    name, layout = served(scripted)
    refusals = iter([lambda handler: handler.status(500), lambda handler: handler.status(429, Retry_After="1")])
    scripted.answers["/manifests/1"] = lambda handler: next(refusals, Handler.regular)(handler)
    assert pull(images, name).id == layout.image_id


LONG = "x" * 5_000
HOSTILE_LAYERS = {
    "dot-dot": ([member("../../outside", b"x")], "leads out"),
    "link-out": ([link("a", "/"), hard_link("stolen", "a/../../../etc/passwd")], "leads out|not there"),
    "hard-link-out": ([hard_link("stolen", "/../../etc/passwd")], "leads out"),
    "long-name": ([member(LONG, b"x")], "File name too long"),
    "long-path": ([member("/".join(["d" * 200] * 25), b"x")], "File name too long"),
}


@pytest.mark.parametrize("hostile", HOSTILE_LAYERS)
def test_layers_that_lead_out_are_refused(images: Images, scripted: Registry, hostile: str) -> None:
    members, reason = HOSTILE_LAYERS[hostile]
    name, _ = served(scripted, archive(members))
    assert re.search(reason, refusal(images, name, ImageError))
    assert partial(images) == {}, "it is not worth another try"


def test_what_follows_a_link_stays_in_its_layer(images: Images, scripted: Registry, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    members = [
        link("out", str(outside)),
        member("out/file", b"through the link"),
        member("/absolute", b"absolute"),
        link("twice", "elsewhere"),
        member("twice", b"a file now"),
    ]
    name, _ = served(scripted, archive(members))
    pull(images, name)
    (tree,) = images.resolve(name).lower_dirs
    assert list(outside.iterdir()) == []
    assert Path(tree, "absolute").read_text() == "absolute"
    assert Path(tree, "twice").read_text() == "a file now"
    assert not Path(tree, "twice").is_symlink()


MEASURED = """
import asyncio, resource, sqlite3, sys
from cutaway.image.images import Images
images = Images(sys.argv[1], sqlite3.connect(":memory:"))
try:
    asyncio.run(images.pull(sys.argv[2]))
except Exception as error:
    print(type(error).__name__, error, file=sys.stderr)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def bomb() -> bytes:
    """An archive with 300 MB of zeros behind its end, which gzip makes 300 kB of."""
    return archive([member("file", b"x")]) + bytes(300 << 20)


@pytest.mark.parametrize("evil", ["bomb", "manifest-of-100-MB", "endless-manifest", "endless-blob"])
def test_memory_stays_bounded(scripted: Registry, tmp_path: Path, evil: str) -> None:
    """In kilobytes, of the largest of the worker's processes."""
    served(scripted, bomb()) if evil == "bomb" else EVIL[evil][0](scripted)
    command = [sys.executable, "-c", MEASURED, str(tmp_path / "images"), f"{scripted.name}/evil:1"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 60_000, done.stderr

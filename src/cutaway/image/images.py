"""What the engine asks of images: take in, find, list, name, remove. One object, `Images`, per engine.

Finding is quick and cached; what reads or writes much runs in a child process (`offload`) and is awaited.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

import msgspec

from cutaway.image import config, diff, host, instructions, offload, references, trees
from cutaway.image.errors import AmbiguousImage, ImageConflict, InvalidReference, NoSuchImage
from cutaway.image.history import Step, end, steps
from cutaway.image.inspect import inspected
from cutaway.image.intake import StagedLayer
from cutaway.image.layout import Saved
from cutaway.image.manifest import Document
from cutaway.image.origins import origins
from cutaway.image.references import Reference, digest_in, short_id
from cutaway.image.registry.access import Access
from cutaway.image.store import Freed, Image, Listed, Store

Users = Callable[[str], Iterable[tuple[str, bool]]]
"""Of an image ID: the containers made from it, each as (container ID, whether it runs)."""

Describe = Callable[[str], config.ImageConfig]
"""The configuration of a committed image, given the diff ID of its new layer, empty where there is none. It is asked
when that layer is read, and may still refuse."""


_ANYBODY = Access()


def _silent(_: object) -> None:
    """Progress that nobody watches."""


class Loaded(msgspec.Struct, frozen=True):
    """An image that `load` took in, its names as people write them, and the IDs that names among them had before."""

    id: str
    tags: list[str]
    displaced: dict[str, str]


class Pulled(msgspec.Struct, frozen=True):
    """An image that `pull` took in: `reference` as it was asked for, with its tag or digest; `digest` that of the
    manifest or index by this name in the registry; `is_new`: the name meant another image before, or none."""

    id: str
    reference: Reference
    digest: str
    is_new: bool


class _Found(msgspec.Struct):
    """What `pulling.pull` answers."""

    digest: str
    config: str
    manifest: str
    manifest_digest: str
    media_type: str
    blobs: list[str]
    layers: list[StagedLayer]


class _Pushed(msgspec.Struct):
    """What `pushing.push` answers."""

    manifest: str
    media_type: str
    digest: str


class Pruned(NamedTuple):
    """What `prune` did, in the words of Docker's API, and how many bytes of the disk that gave back."""

    removed: list[dict[str, str]]
    space: int


class Usage(NamedTuple):
    """What images take of the disk, in bytes: each layer, by diff ID, and downloads that are not finished; and the
    layers of each image, by ID, also of those that only containers still hold."""

    layers: dict[str, int]
    images: dict[str, list[str]]
    unfinished: int


class _Member(msgspec.Struct):
    """`manifest` is a file without contents where there is none to be kept."""

    config: str
    tags: list[str]
    manifest: str
    media_type: str


class _Archive(msgspec.Struct):
    images: list[_Member]
    layers: list[StagedLayer]


class Images:
    """The images below the directory `root`, recorded in `database`; `users` tells which containers need an image.

    Layers are written to the disk `settle_after` seconds after they came, so that what is soon removed never is.
    """

    def __init__(
        self, root: str, database: sqlite3.Connection, users: Users = lambda _: (), settle_after: float = 10
    ) -> None:
        self._store, self._users, self._settle_after = Store(root, database), users, settle_after
        self._leftovers = self._store.leftovers()
        self._found: dict[str, Image] = {}
        self._sizes: dict[str, int] = {}
        self._thrown_away: list[str] = []
        self._removing = asyncio.Lock()
        self._settling: asyncio.Task[None] | None = None
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def close(self) -> None:
        """Ends what goes on in the background; to be awaited before the database is closed."""
        if self._settling:
            self._settling.cancel()
            await asyncio.wait([self._settling])

    async def sweep(self) -> None:
        """Removes what a crash left behind; to be awaited once, at leisure, when the containers are known."""
        await self._remove_files(self._leftovers)
        await self.release()
        self._settle_later()

    def resolve(self, name: str) -> Image:
        """The image that a reference, an ID or the beginning of an ID means, as Docker decides it.

        Raises `InvalidReference`, `NoSuchImage` or `AmbiguousImage`.
        """
        if name not in self._found:
            self._found[name] = self._resolved(name)
        return self._found[name]

    def by_id(self, identifier: str) -> Image:
        """The image with this full ID, also one that was removed while containers stand on it."""
        if identifier == host.image().id:
            return host.image()
        image = self._store.find(identifier, removed=True)
        if image is None:
            raise NoSuchImage(identifier)
        return image

    def _resolved(self, name: str) -> Image:
        if full := digest_in(name):
            return self._present(full, name)
        reference = references.parse(name).tagged()
        if str(reference) == host.NAME:
            return host.image()
        if named := self._store.tagged(str(reference.exact())):
            return self._present(named, name)
        candidates = self._store.beginning("sha256:" + name.removeprefix("sha256:"))
        if len(candidates) > 1:
            raise AmbiguousImage(name, candidates)
        return self._present(candidates[0] if candidates else "", reference.familiar)

    def _present(self, identifier: str, name: str) -> Image:
        image = host.image() if identifier == host.image().id else self._store.find(identifier)
        if image is None:
            raise NoSuchImage(name)
        return image

    def tags(self, image: Image) -> list[Reference]:
        """The references that name an image."""
        if image.id == host.image().id:
            return [references.parse(host.NAME)]
        return [references.parse(tag) for tag in self._store.tags(image.id)]

    def digests(self, image: Image) -> list[Reference]:
        """The names with a digest by which registries have an image."""
        return [references.parse(name) for name in self._store.digests(image.id)]

    def listing(self) -> list[Listed]:
        """The images in the store, the newest first; `host`, which is not in the store, is not among them."""
        return self._store.listing()

    def inspect(self, name: str) -> dict[str, Any]:
        """An image as `docker image inspect` prints it."""
        image = self.resolve(name)
        tagged_at = 0 if image.id == host.image().id else self._store.tagged_at(image.id)
        return inspected(image, self.tags(image), self.digests(image), tagged_at)

    def history(self, name: str) -> list[Step]:
        """How an image was made, the last step first; the first of them is the image itself."""
        image = self.resolve(name)
        known = {end(config.parse(document)): identifier for identifier, document in self._store.documents()}
        known[end(image.config)] = image.id
        return steps(image.config, self._store.layer_sizes(image.config.diff_ids), known)

    def descendants(self, name: str) -> set[str]:
        """The IDs of an image and of all whose first layers are its layers."""
        image = self.resolve(name)
        return {image.id, *self._store.standing_on(image.config.diff_ids)}

    def tag(self, source: str, target: str) -> None:
        """Makes the reference `target` name the image that `source` means."""
        self._store.set_tag(_tag(target), self._in_store(source).id)
        self._found.clear()

    def _in_store(self, name: str) -> Image:
        image = self.resolve(name)
        if image.id == host.image().id:
            raise ImageConflict(
                "the image host is this machine's own root file system: it has one name, and stays here"
            )
        return image

    async def import_(
        self,
        source: int,
        reference: str = "",
        changes: Sequence[str] = (),
        message: str = "",
        progress: offload.Progress = _silent,
    ) -> Image:
        """Makes an image of the tar archive, however compressed, that the descriptor `source` gives.

        `changes` are Dockerfile instructions. Raises `ImageError`; then the store is as it was.
        """
        tags = [_tag(reference)] if reference else []
        run = instructions.applied(changes)
        async with self._staging() as staging:
            answer = await offload.run({"do": "import", "source": source, "staging": staging}, [source], progress)
            layer = msgspec.convert(answer, StagedLayer)
            document = config.encode(config.imported(run, layer.diff_id, message))
            self._store.add([(document, tags)], staging, [layer])
        self._found.clear()
        self._settle_later()
        return self.by_id(config.image_id(document))

    async def commit(
        self, parent: Image, upper_dir: str, made: Sequence[str], describe: Describe, reference: str = ""
    ) -> Image:
        """Makes an image of `parent` and what the directory `upper_dir` changes of it: the upper one of an overlay.

        `made` are the paths that are the engine's own, see `changeset.packed`. Raises `ImageError`, and what `describe`
        does; then the store is as it was.
        """
        tags = [_tag(reference)] if reference else []
        job = {"do": "commit", "upper": upper_dir, "lowers": parent.lower_dirs, "made": made}
        async with self._staging() as staging:
            layer = msgspec.convert(await offload.run({**job, "staging": staging}), StagedLayer | None)
            document = config.encode(describe(layer.diff_id if layer else ""))
            self._store.add([(document, tags)], staging, [layer] if layer else [])
        self._found.clear()
        self._settle_later()
        return self.by_id(config.image_id(document))

    async def load(self, source: int, progress: offload.Progress = _silent) -> list[Loaded]:
        """Takes in the images of an archive: Docker's or an OCI layout, compressed or not, or an OCI layout directory.

        `source` is its descriptor. `progress` gets mappings of `layer` (diff ID), `done` and `total` (bytes). Raises
        `ImageError`; then the store is as it was.
        """
        async with self._staging() as staging:
            job = {"do": "load", "source": source, "staging": staging, "layers": self._store.layers}
            answer = msgspec.convert(await offload.run(job, [source], progress), _Archive)
            images = [(_taken(image.config), [_tag(tag) for tag in image.tags]) for image in answer.images]
            loaded = [self._loaded(document, tags) for document, tags in images]
            self._store.add(images, staging, answer.layers)
            for image, (document, _) in zip(answer.images, images, strict=True):
                self._keep_manifest(config.image_id(document), _taken(image.manifest), image.media_type)
        self._found.clear()
        self._settle_later()
        return loaded

    async def pull(
        self, reference: str, platform: str = "", access: Access = _ANYBODY, progress: offload.Progress = _silent
    ) -> Pulled:
        """Takes in the image that a reference names in its registry, for a platform (`OS/ARCHITECTURE[/VARIANT]`,
        empty for this machine's).

        `progress` gets mappings of `layer` (digest; or the tag, for what concerns the image), `total` (bytes), and
        either `status`, in Docker's words, or `done` (bytes). Raises `ImageError`; then the store is as it was. What
        has come of a layer is kept for next time, unless it is wrong or does not fit.
        """
        wanted = references.parse(reference).tagged().exact()
        if str(wanted) == host.NAME:
            raise InvalidReference("the name host belongs to the machine's own root file system, which is always here")
        async with self._turns.setdefault(str(wanted), asyncio.Lock()), self._staging() as staging:
            places = {"staging": staging, "layers": self._store.layers, "partial": self._store.partial}
            job = {"do": "pull", "reference": str(wanted), "platform": platform, "access": access, "places": places}
            found = msgspec.convert(await offload.run(job, progress=progress), _Found)
            document, manifest = _taken(found.config), _taken(found.manifest)
            name = f"{wanted.name}@{found.digest}"
            names = [name] if wanted.digest else [name, str(wanted)]
            displaced = self._store.tagged(names[-1])
            kept = Document(manifest, found.media_type, found.manifest_digest)
            self._store.add([(document, names)], staging, found.layers, kept)
            self._store.drop_partial(found.blobs)
        self._found.clear()
        self._settle_later()
        identifier = config.image_id(document)
        return Pulled(identifier, wanted, found.digest, is_new=displaced != identifier)

    async def push(self, reference: str, access: Access = _ANYBODY, progress: offload.Progress = _silent) -> Document:
        """Brings the image that a reference names to its registry; returns the manifest that it has there.

        `progress` gets what that of `pull` gets, `layer` being a diff ID. Raises `ImageError`.
        """
        wanted = references.parse(reference).tagged()
        if wanted.digest:
            raise InvalidReference("cannot push a digest reference")
        image = self._in_store(str(wanted))
        async with self._staging() as staging:
            work = {
                "reference": str(wanted),
                "document": image.document,
                "layers": origins(self._store, image.id, wanted),
                "manifests": self._store.manifests(image.id)[::-1],
                "access": access,
                "blobs": self._store.blobs,
                "staging": staging,
            }
            found = msgspec.convert(await offload.run({"do": "push", **work}, progress=progress), _Pushed)
            pushed = Document(_taken(found.manifest), found.media_type, found.digest)
        if self._store.find(image.id):
            self._store.add_manifest(image.id, pushed)
            self._store.set_tag(f"{wanted.name}@{pushed.digest}", image.id)
        self._found.clear()
        return pushed

    async def remote_tags(self, repository: str, access: Access = _ANYBODY) -> list[str]:
        """The tags that a repository has in its registry. Raises `RegistryError`."""
        name = references.parse(repository).name
        tags: list[str] = await offload.run({"do": "tags", "reference": name, "access": access})
        return tags

    async def save(self, names: Sequence[str], target: int) -> None:
        """Writes an archive of images, as `layout` describes it, to the descriptor `target`.

        A name without a tag stands for all the repository's tags, an ID for the image without a name. Raises what
        `resolve` raises, and `ImageError`.
        """
        images = [self._saved(identifier, tags) for identifier, tags in self._named(names).items()]
        job = {"do": "save", "target": target, "blobs": self._store.blobs, "images": images}
        await offload.run(job, [target])

    async def login(self, domain: str, access: Access) -> str:
        """The identity token that a registry gives for credentials, empty where it gives none; raises `RegistryError`
        where it does not accept them."""
        token: str = await offload.run({"do": "login", "domain": domain, "access": access})
        return token

    def _named(self, names: Sequence[str]) -> dict[str, list[str]]:
        """The images that names mean, each with the tags meant."""
        meant: dict[str, list[str]] = {}
        for name in names:
            tags = self._tags_meant(name)
            for tag in tags:
                meant.setdefault(self._in_store(tag).id, []).append(tag)
            if not tags:
                meant.setdefault(self._in_store(name).id, [])
        return {identifier: sorted(set(tags)) for identifier, tags in meant.items()}

    def _tags_meant(self, name: str) -> list[str]:
        """The tags that a name stands for: itself, or all of its repository's; none where it is an ID."""
        if digest_in(name):
            return []
        reference = references.parse(name)
        if reference.tag or reference.digest:
            return [str(reference)] if self._store.tagged(str(reference)) else []
        return self._store.repository_tags(reference.name)

    def _saved(self, identifier: str, tags: list[str]) -> Saved:
        layers, manifests = self._store.stored_layers(identifier), self._store.manifests(identifier)[::-1]
        return Saved(self.by_id(identifier).document, tags, layers, manifests)

    def _keep_manifest(self, identifier: str, content: bytes, media_type: str) -> None:
        if content:
            self._store.add_manifest(identifier, Document(content, media_type, config.digest(content)))

    def _loaded(self, document: bytes, tags: list[str]) -> Loaded:
        identifier = config.image_id(document)
        owners = {references.parse(tag).familiar: self._store.tagged(tag) for tag in tags}
        displaced = {tag: owner for tag, owner in owners.items() if owner not in ("", identifier)}
        return Loaded(identifier, list(owners), displaced)

    async def remove(self, name: str, *, force: bool = False) -> list[dict[str, str]]:
        """Takes a name from an image; with its last name, or by its ID, the image itself.

        Returns what was done in the words of Docker's API: `{"Untagged": …}`, `{"Deleted": …}`. Raises `ImageConflict`
        where Docker refuses, and what `resolve` raises.
        """
        image = self._in_store(name)
        users = list(self._users(image.id))
        by_id = image.id.removeprefix("sha256:").startswith(name.removeprefix("sha256:"))
        tags, digests = self._store.tags(image.id), self._store.digests(image.id)
        named = [*tags, *(digest for digest in digests if _repository(digest) not in map(_repository, tags))]
        if by_id:
            _check_removal_by_id(image.id, named, users, force)
            dropped = tags + digests
        else:
            _check_removal_by_name(name, image.id, named, users, force)
            dropped = _names_lost(str(references.parse(name).tagged().exact()), tags, digests)
        for each in dropped:
            self._store.drop_tag(each)
        self._found.clear()
        untagged = [{"Untagged": references.parse(each).familiar} for each in dropped]
        if not by_id and (len(tags + digests) > len(dropped) or any(running for _, running in users)):
            return untagged
        return untagged + await self._delete(image, in_use=bool(users))

    async def _delete(self, image: Image, *, in_use: bool) -> list[dict[str, str]]:
        freed = self._forget(image, in_use=in_use)
        await self._remove_files(freed.names)
        return _deletions(image, freed)

    def _forget(self, image: Image, *, in_use: bool) -> Freed:
        freed = self._store.remove(image.id, in_use=in_use)
        for diff_id in freed.diff_ids:
            self._sizes.pop(diff_id, None)
        return freed

    async def prune(self, wanted: Callable[[Listed], bool]) -> Pruned:
        """Removes those images of which `wanted` says so, but for those that containers stand on, and what has come of
        downloads that nobody goes on with."""
        sizes = (await self.usage()).layers
        removed: list[dict[str, str]] = []
        files: list[str] = []
        space = 0
        for listed in self.listing():
            await asyncio.sleep(0)  # others may want something meanwhile
            image = self._store.find(listed.id)
            if image and wanted(listed) and not list(self._users(listed.id)):
                freed = self._forget(image, in_use=False)
                removed += [{"Untagged": references.familiar(name)} for name in (*listed.tags, *listed.digests)]
                removed += _deletions(image, freed)
                files += freed.names
                space += sum(sizes.get(diff_id, 0) for diff_id in freed.diff_ids)
        self._found.clear()
        await self._remove_files(files)
        space += await offload.run({"do": "forget_partial", "directory": self._store.partial})
        return Pruned(removed, space)

    async def usage(self) -> Usage:
        """What the images take of the disk."""
        layers = self._store.places()
        new = [diff_id for diff_id in layers if diff_id not in self._sizes]
        sizes = await self.measure([path for diff_id in new for path in layers[diff_id]])
        self._sizes |= {diff_id: sum(sizes[2 * at : 2 * at + 2]) for at, diff_id in enumerate(new)}
        unfinished = sum(await self.measure([entry.path for entry in os.scandir(self._store.partial)]))
        by_layer = {diff_id: self._sizes[diff_id] for diff_id in layers}
        return Usage(by_layer, self._store.layers_by_image(), unfinished)

    async def measure(self, paths: Sequence[str]) -> list[int]:
        """How many bytes each of these files and trees takes on the disk: `trees.disk_usage`."""
        return msgspec.convert(await offload.run({"do": "measure", "paths": paths}), list[int])

    async def release(self) -> None:
        """Deletes the images that were removed while containers stood on them and that no container needs any more.

        The engine awaits this after it has removed containers.
        """
        for identifier in self._store.held():
            image = self._store.find(identifier, removed=True)
            if image and not list(self._users(identifier)):
                await self._delete(image, in_use=False)

    async def changes(self, upper_dir: str, lower_dirs: Sequence[str]) -> list[diff.Change]:
        """What a container changed, as (`C`, `A` or `D`, path), sorted by path; `lower_dirs` from the topmost."""
        found: list[diff.Change] = []

        def collect(batch: Any) -> None:
            found.extend(msgspec.convert(batch, list[diff.Change]))

        await offload.run({"do": "changes", "upper": upper_dir, "lowers": lower_dirs}, progress=collect)
        return found

    async def pack(self, root: int, path: str, name: str, target: int) -> None:
        """Writes the tar stream of `path` inside the directory `root` to `target` (descriptors): `archive.packed`.

        Raises `ImageError`, also where nothing is at the path.
        """
        job = {"do": "pack", "root": root, "path": path, "name": name, "target": target}
        await offload.run(job, [root, target])

    async def unpack(
        self, root: int, path: str, source: int, owner: tuple[int, int] | None = None, keep_kind: bool = False
    ) -> None:
        """Makes the files of the tar stream from `source` in `path` inside the directory `root`: `archive.unpack`.

        Raises `ImageError`, also where no directory is at the path.
        """
        job = {"do": "unpack", "root": root, "path": path, "source": source, "owner": owner, "keep_kind": keep_kind}
        await offload.run(job, [root, source])

    def _settle_later(self) -> None:
        """Has new layers written to the disk, and noted that they are, while nobody waits."""
        if self._settling is None or self._settling.done():
            self._settling = asyncio.create_task(self._settle())

    async def _settle(self) -> None:
        while self._store.unsettled():
            await asyncio.sleep(self._settle_after)
            layers = self._store.unsettled()
            await offload.run({"do": "sync", "directory": self._store.root})
            self._store.settle(layers)

    @asynccontextmanager
    async def _staging(self) -> AsyncIterator[str]:
        """A directory for what is not yet the store's; whatever is still in it at the end is removed."""
        name = self._store.stage()
        path = os.path.join(self._store.staging, name)
        try:
            yield path
        finally:
            try:
                os.rmdir(path)
            except OSError:
                await self._remove_files([name])

    async def _remove_files(self, names: Sequence[str]) -> None:
        """Removes what was moved to the staging directory, together with all else that has come there by then."""
        self._thrown_away += names
        async with self._removing:
            names, self._thrown_away = self._thrown_away, []
            if names:
                await asyncio.to_thread(trees.remove_all, self._store.staging, names)


def _tag(reference: str) -> str:
    """The normalised form of a reference that is to name an image."""
    parsed = references.parse(reference).tagged()
    if parsed.digest:
        raise InvalidReference("refusing to create a tag with a digest reference")
    if str(parsed) == host.NAME:
        raise InvalidReference("the name host belongs to the machine's own root file system; choose another")
    return str(parsed)


def _names_lost(name: str, tags: Sequence[str], digests: Sequence[str]) -> list[str]:
    """What is lost with a name: with a repository's last tag its digests too."""
    repository = _repository(name)
    if "@" in name or any(_repository(tag) == repository for tag in tags if tag != name):
        return [name]
    return [name, *(digest for digest in digests if _repository(digest) == repository)]


def _repository(name: str) -> str:
    return references.parse(name).name


def _deletions(image: Image, freed: Freed) -> list[dict[str, str]]:
    """What became of an image that is removed and of its layers, in the words of Docker's API."""
    diff_ids = image.config.diff_ids
    chains = zip(config.chain_ids(diff_ids), diff_ids, strict=True)
    layers = [chain_id for chain_id, diff_id in chains if diff_id in freed.diff_ids]
    return [{"Deleted": identifier} for identifier in (image.id, *reversed(layers))]


def _taken(path: str) -> bytes:
    """The content of a file, and no file any more."""
    with open(path, "rb") as file:
        os.unlink(path)
        return file.read()


def _check_removal_by_name(
    name: str, identifier: str, tags: Sequence[str], users: Sequence[tuple[str, bool]], force: bool
) -> None:
    if users and len(tags) <= 1 and not force:
        raise ImageConflict(
            f'conflict: unable to remove repository reference "{name}" (must force) - '
            f"container {users[0][0][:12]} is using its referenced image {short_id(identifier)}"
        )


def _check_removal_by_id(identifier: str, tags: Sequence[str], users: Sequence[tuple[str, bool]], force: bool) -> None:
    for container, running in sorted(users, key=lambda user: not user[1]):
        state = "running" if running else "stopped"
        if running or not force:
            way = "cannot be forced" if running else "must be forced"
            raise _conflict(identifier, way, f"image is being used by {state} container {container[:12]}")
    if len(tags) > 1 and not force:
        raise _conflict(identifier, "must be forced", "image is referenced in multiple repositories")


def _conflict(identifier: str, way: str, reason: str) -> ImageConflict:
    return ImageConflict(f"conflict: unable to delete {short_id(identifier)} ({way}) - {reason}")

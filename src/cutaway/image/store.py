"""Where images are kept: files named by their digest, and what is known about them in the engine's database.

    <root>/blobs/sha256/HEX     layer archives as they came
    <root>/layers/HEX           each layer unpacked, named by its diff ID, in the form overlayfs wants
    <root>/partial/HEX          what has come of blobs whose download was stopped
    <root>/staging/NAME         what is being taken in, or thrown away; whatever is there at a start is a crash's

A layer is moved into place with `rename(2)` before the database names it and out of place after the database has
forgotten it: what the database does not name is a leftover. Layers are shared by all images that name them.

Nobody waits for the disk. A new layer is *unsettled*, and carries the ID of the boot it was written in, until
`syncfs(2)` has returned after it; one that is unsettled from another boot may have lost contents when the machine went
down, and is forgotten with its images. So a power cut can take away an image just loaded, but never a part of one.

Everything here is quick and runs in the engine's event loop; only the engine calls it.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import msgspec

from cutaway.image import config
from cutaway.image.config import ImageConfig, RunConfig
from cutaway.image.errors import ImageError
from cutaway.image.intake import StagedLayer
from cutaway.image.layout import StoredLayer
from cutaway.image.manifest import Document
from cutaway.kernel.fileflags import spread_subdirectories
from cutaway.kernel.overlay import OPAQUE

_PARTIAL_KEPT = 7 * 24 * 3600  # seconds

_TABLES = """
CREATE TABLE IF NOT EXISTS images (
    id TEXT PRIMARY KEY,
    config BLOB NOT NULL,
    created REAL NOT NULL,          -- seconds since 1970
    size INTEGER NOT NULL,          -- bytes of all files in all layers
    labels TEXT NOT NULL,           -- JSON object
    tagged REAL NOT NULL,           -- seconds since 1970, when last a tag was set
    removed INTEGER NOT NULL DEFAULT 0  -- 1: kept only because containers still stand on its layers
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS layers (
    diff_id TEXT PRIMARY KEY,
    size INTEGER NOT NULL,
    blob TEXT NOT NULL,
    blob_size INTEGER NOT NULL,
    media_type TEXT NOT NULL,
    unsettled TEXT NOT NULL         -- the boot it was written in, empty once it is known to be on the disk
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS image_layers (
    image TEXT NOT NULL REFERENCES images ON DELETE CASCADE,
    position INTEGER NOT NULL,
    layer TEXT NOT NULL REFERENCES layers,
    PRIMARY KEY (image, position)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS image_layers_by_layer ON image_layers (layer);
CREATE TABLE IF NOT EXISTS tags (
    reference TEXT PRIMARY KEY,     -- normalised: docker.io/library/busybox:latest, or …@sha256:…
    image TEXT NOT NULL REFERENCES images ON DELETE CASCADE
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS tags_by_image ON tags (image);
CREATE TABLE IF NOT EXISTS manifests (  -- as they came from a registry, or went to one
    image TEXT NOT NULL REFERENCES images ON DELETE CASCADE,
    digest TEXT NOT NULL,
    media_type TEXT NOT NULL,
    content BLOB NOT NULL,
    PRIMARY KEY (image, digest)
);
"""


class Image(msgspec.Struct, frozen=True):
    """An image as containers need it. `lower_dirs` are absolute paths for overlayfs, the topmost layer first."""

    id: str
    document: bytes
    config: ImageConfig
    lower_dirs: tuple[str, ...]
    size: int

    @property
    def run(self) -> RunConfig:
        """What a container of it runs, unless told otherwise."""
        return self.config.run


class Listed(msgspec.Struct, frozen=True):
    """An image as listings need it. `created` in seconds since 1970, `size` in bytes, `tags`, `digests` normalised."""

    id: str
    created: float
    size: int
    labels: dict[str, str]
    tags: list[str]
    digests: list[str]


class Freed(msgspec.Struct, frozen=True):
    """What the removal of an image freed: layers, by diff ID, and the names of their files in the staging directory."""

    diff_ids: list[str]
    names: list[str]


class Store:
    """The images below the directory `root`, recorded in `database`."""

    def __init__(self, root: str, database: sqlite3.Connection) -> None:
        self.root, self._database = os.path.abspath(root), database
        self.blobs, self.layers, self.staging = (self.path(name) for name in ("blobs/sha256", "layers", "staging"))
        self.partial = self.path("partial")
        for directory in (self.blobs, self.layers, self.staging, self.partial):
            os.makedirs(directory, mode=0o700, exist_ok=True)
        spread_subdirectories(self.staging)
        database.execute("PRAGMA foreign_keys = ON")
        database.executescript(_TABLES)
        with open("/proc/sys/kernel/random/boot_id") as file:
            self._boot = file.read().strip()
        self._forget_unsettled()

    def _forget_unsettled(self) -> None:
        lost = self._database.execute(
            "SELECT DISTINCT image FROM image_layers JOIN layers ON layer = diff_id WHERE unsettled NOT IN ('', ?)",
            (self._boot,),
        ).fetchall()
        for (identifier,) in lost:
            self.remove(identifier, in_use=False)

    def unsettled(self) -> list[str]:
        """The diff IDs of layers not yet known to be on the disk."""
        return [row[0] for row in self._database.execute("SELECT diff_id FROM layers WHERE unsettled <> ''")]

    def settle(self, diff_ids: Iterable[str]) -> None:
        """Notes that these layers are on the disk."""
        with self._transaction():
            self._database.executemany(
                "UPDATE layers SET unsettled = '' WHERE diff_id = ?", [(diff_id,) for diff_id in diff_ids]
            )

    def path(self, *parts: str) -> str:
        return os.path.join(self.root, *parts)

    def layer_dir(self, diff_id: str) -> str:
        """The directory a layer is unpacked in."""
        return os.path.join(self.layers, _hex(diff_id))

    def blob_path(self, digest: str) -> str:
        """The file of a layer archive as it came."""
        return os.path.join(self.blobs, _hex(digest))

    def add(
        self,
        images: Iterable[tuple[bytes, Sequence[str]]],
        staging: str,
        staged: Iterable[StagedLayer],
        manifest: Document | None = None,
    ) -> None:
        """Records images, each as its configuration and names, and the layers newly staged in the directory `staging`.
        `manifest` is what they came with from a registry.

        A layer that the store has meanwhile stays as it is. Raises `ImageError` where a layer is in neither place, and
        what the database does; then nothing is recorded, and what was staged is where it was.
        """
        layers = list(staged)
        try:
            with self._transaction():
                for layer in layers:
                    self._add_layer(layer, staging)
                for document, tags in images:
                    self._add_image(document, tags)
                    if manifest:
                        self.add_manifest(config.image_id(document), manifest)
        except BaseException:
            for layer in layers:
                self._take_back(layer, staging)
            raise

    def _take_back(self, layer: StagedLayer, staging: str) -> None:
        if self.has_layer(layer.diff_id):
            return
        for place, kind in ((self.layer_dir(layer.diff_id), "layer"), (self.blob_path(layer.blob), "blob")):
            try:
                os.rename(place, os.path.join(staging, f"{layer.name}.{kind}"))
            except FileNotFoundError:
                pass  # it did not get so far

    def _add_layer(self, layer: StagedLayer, staging: str) -> None:
        if self.has_layer(layer.diff_id):
            return
        self._set_aside(self.layer_dir(layer.diff_id))  # of an attempt that failed before it was recorded
        os.rename(os.path.join(staging, layer.name + ".layer"), self.layer_dir(layer.diff_id))
        os.rename(os.path.join(staging, layer.name + ".blob"), self.blob_path(layer.blob))
        row = (layer.diff_id, layer.size, layer.blob, layer.blob_size, layer.media_type, self._boot)
        self._database.execute("INSERT INTO layers VALUES (?, ?, ?, ?, ?, ?)", row)

    def _layer_size(self, diff_id: str) -> int:
        row = self._database.execute("SELECT size FROM layers WHERE diff_id = ?", (diff_id,)).fetchone()
        if row is None:
            raise ImageError(f"layer {diff_id} was removed while the image was taken in; try again")
        return int(row[0])

    def _add_image(self, document: bytes, tags: Sequence[str]) -> None:
        image, identifier = config.parse(document), config.image_id(document)
        size = sum(self._layer_size(diff_id) for diff_id in image.diff_ids)
        labels = msgspec.json.encode(image.run.labels or {}).decode()
        self._database.execute(
            "INSERT INTO images (id, config, created, size, labels, tagged) VALUES (?, ?, ?, ?, ?, 0)"
            " ON CONFLICT (id) DO UPDATE SET removed = 0",
            (identifier, document, image.created_at, size, labels),
        )
        layers = [(identifier, position, diff_id) for position, diff_id in enumerate(image.diff_ids)]
        self._database.executemany("INSERT OR IGNORE INTO image_layers VALUES (?, ?, ?)", layers)
        for tag in tags:
            self._set_tag(tag, identifier)

    def has_layer(self, diff_id: str) -> bool:
        return self._database.execute("SELECT 1 FROM layers WHERE diff_id = ?", (diff_id,)).fetchone() is not None

    def find(self, identifier: str, *, removed: bool = False) -> Image | None:
        """The image with this full ID; with `removed` also one that only containers still hold."""
        row = self._database.execute(
            "SELECT config, size FROM images WHERE id = ? AND removed <= ?", (identifier, removed)
        ).fetchone()
        if row is None:
            return None
        parsed = config.parse(row[0])
        return Image(identifier, row[0], parsed, self._lower_dirs(parsed.diff_ids), row[1])

    def stored_layers(self, identifier: str) -> list[StoredLayer]:
        """The layers of an image as archives, the lowest first."""
        rows = self._database.execute(
            "SELECT diff_id, blob, blob_size, media_type FROM image_layers JOIN layers ON layer = diff_id"
            " WHERE image = ? ORDER BY position",
            (identifier,),
        )
        return [StoredLayer(*row) for row in rows]

    def holders(self, diff_id: str) -> list[tuple[str, int]]:
        """The IDs of the images that have a layer, each with its position among theirs, the lowest being 0."""
        return self._database.execute("SELECT image, position FROM image_layers WHERE layer = ?", (diff_id,)).fetchall()

    def _lower_dirs(self, diff_ids: list[str]) -> tuple[str, ...]:
        """Topmost first; ends at a layer whose root hides all below it, which overlayfs would not notice on a root."""
        lower_dirs = []
        for diff_id in reversed(diff_ids):
            lower_dirs.append(self.layer_dir(diff_id))
            if OPAQUE in os.listxattr(lower_dirs[-1]):
                break
        return tuple(lower_dirs)

    def tagged(self, tag: str) -> str:
        """The ID of the image that a normalised reference names; empty where there is none."""
        row = self._database.execute("SELECT image FROM tags WHERE reference = ?", (tag,)).fetchone()
        return row[0] if row else ""

    def beginning(self, prefix: str) -> list[str]:
        """The IDs of the images whose ID begins with `prefix` (`sha256:` and any digits)."""
        between = (prefix, prefix + "g")
        rows = self._database.execute("SELECT id FROM images WHERE id >= ? AND id < ? AND NOT removed", between)
        return [row[0] for row in rows]

    def tags(self, identifier: str) -> list[str]:
        """The normalised references of an image that are tags, sorted."""
        return [name for name in self._names(identifier) if "@" not in name]

    def digests(self, identifier: str) -> list[str]:
        """The normalised references of an image that are digests of manifests (`…@sha256:…`), sorted."""
        return [name for name in self._names(identifier) if "@" in name]

    def _names(self, identifier: str) -> list[str]:
        rows = self._database.execute("SELECT reference FROM tags WHERE image = ? ORDER BY reference", (identifier,))
        return [row[0] for row in rows]

    def add_manifest(self, identifier: str, manifest: Document) -> None:
        """Keeps a manifest of an image, as a registry has it."""
        self._database.execute(
            "INSERT OR REPLACE INTO manifests VALUES (?, ?, ?, ?)",
            (identifier, manifest.digest, manifest.media_type, manifest.content),
        )

    def manifests(self, identifier: str) -> list[Document]:
        """The manifests of an image that registries have; the last one came last."""
        rows = self._database.execute(
            "SELECT content, media_type, digest FROM manifests WHERE image = ? ORDER BY rowid", (identifier,)
        )
        return [Document(*row) for row in rows]

    def repository_tags(self, repository: str) -> list[str]:
        """The normalised references that are tags of a normalised repository, sorted."""
        between = (f"{repository}:", f"{repository};")
        rows = self._database.execute(
            "SELECT reference FROM tags WHERE reference >= ? AND reference < ? ORDER BY reference", between
        )
        return [row[0] for row in rows]

    def tagged_at(self, identifier: str) -> float:
        """When a tag of the image was set last, in seconds since 1970; 0 for never."""
        return float(self._database.execute("SELECT tagged FROM images WHERE id = ?", (identifier,)).fetchone()[0])

    def listing(self) -> list[Listed]:
        """All images, the newest first."""
        names = "json_group_array(reference) FILTER (WHERE instr(reference, '@') {} 0)"
        rows = self._database.execute(
            f"SELECT id, created, size, labels, {names.format('=')}, {names.format('>')}"
            " FROM images LEFT JOIN tags ON image = id WHERE NOT removed GROUP BY id ORDER BY created DESC, id"
        )
        decode = msgspec.json.decode
        return [
            Listed(identifier, created, size, decode(labels), decode(tags), decode(digests))
            for identifier, created, size, labels, tags, digests in rows
        ]

    def documents(self) -> list[tuple[str, bytes]]:
        """The configuration of every image, with its ID."""
        return self._database.execute("SELECT id, config FROM images WHERE NOT removed").fetchall()

    def layer_sizes(self, diff_ids: Iterable[str]) -> dict[str, int]:
        """The bytes of the files in each of these layers."""
        return {diff_id: self._layer_size(diff_id) for diff_id in diff_ids}

    def standing_on(self, diff_ids: Sequence[str]) -> list[str]:
        """The IDs of images whose lowest layers are these."""
        rows = self._database.execute(
            "SELECT id FROM images WHERE NOT EXISTS (SELECT 1 FROM json_each(?) AS wanted WHERE NOT EXISTS"
            " (SELECT 1 FROM image_layers WHERE image = id AND position = wanted.key AND layer = wanted.value))",
            (msgspec.json.encode(diff_ids).decode(),),
        )
        return [row[0] for row in rows]

    def set_tag(self, tag: str, identifier: str) -> None:
        """Makes a normalised reference name this image, whatever it named before."""
        with self._transaction():
            self._set_tag(tag, identifier)

    def _set_tag(self, tag: str, identifier: str) -> None:
        self._database.execute("INSERT OR REPLACE INTO tags VALUES (?, ?)", (tag, identifier))
        self._database.execute("UPDATE images SET tagged = ? WHERE id = ?", (time.time(), identifier))

    def drop_tag(self, tag: str) -> None:
        """Takes a normalised reference away from whatever image it names."""
        self._database.execute("DELETE FROM tags WHERE reference = ?", (tag,))

    def remove(self, identifier: str, *, in_use: bool) -> Freed:
        """Forgets an image and the layers nothing else uses, whose files are set aside for the caller to remove.

        `in_use`: containers stand on it; then it loses its names, and the rest stays until this is called again. Else
        each step is one deletion, for which there is space even where the disk is full.
        """
        if in_use:
            with self._transaction():
                self._database.execute("DELETE FROM tags WHERE image = ?", (identifier,))
                self._database.execute("UPDATE images SET removed = 1 WHERE id = ?", (identifier,))
            return Freed([], [])
        freed = self._unshared_layers(identifier)
        self._database.execute("DELETE FROM images WHERE id = ?", (identifier,))
        self._database.execute(
            "DELETE FROM layers WHERE diff_id IN (SELECT value FROM json_each(?))",
            (msgspec.json.encode([diff_id for diff_id, _ in freed]).decode(),),
        )
        paths = [path for diff_id, blob in freed for path in (self.layer_dir(diff_id), self.blob_path(blob))]
        return Freed([diff_id for diff_id, _ in freed], [self._set_aside(path) for path in paths])

    def _unshared_layers(self, identifier: str) -> list[tuple[str, str]]:
        return self._database.execute(
            "SELECT DISTINCT diff_id, blob FROM layers JOIN image_layers ON layer = diff_id WHERE image = ?1"
            " AND NOT EXISTS (SELECT 1 FROM image_layers WHERE layer = diff_id AND image <> ?1)",
            (identifier,),
        ).fetchall()

    def held(self) -> list[str]:
        """The IDs of images that were removed and wait for their last container to go."""
        return [row[0] for row in self._database.execute("SELECT id FROM images WHERE removed")]

    def layers_by_image(self) -> dict[str, list[str]]:
        """The diff IDs of the layers of each image, also of those that only containers still hold."""
        rows = self._database.execute(
            "SELECT id, json_group_array(layer) FILTER (WHERE layer IS NOT NULL)"
            " FROM images LEFT JOIN image_layers ON image = id GROUP BY id"
        )
        return {identifier: msgspec.json.decode(layers) for identifier, layers in rows}

    def places(self) -> dict[str, list[str]]:
        """The paths of what is kept of each layer, by its diff ID."""
        rows = self._database.execute("SELECT diff_id, blob FROM layers")
        return {diff_id: [self.layer_dir(diff_id), self.blob_path(blob)] for diff_id, blob in rows}

    def leftovers(self) -> list[str]:
        """What a crash left behind, moved to the staging directory; returns the names of all that is there."""
        self._database.execute("DELETE FROM layers WHERE NOT EXISTS (SELECT 1 FROM image_layers WHERE layer = diff_id)")
        layers = {_hex(row[0]) for row in self._database.execute("SELECT diff_id FROM layers")}
        blobs = {_hex(row[0]) for row in self._database.execute("SELECT blob FROM layers")}
        for directory, known in ((self.layers, layers), (self.blobs, blobs)):
            for name in set(os.listdir(directory)) - known:
                self._set_aside(os.path.join(directory, name))
        for entry in list(os.scandir(self.partial)):
            if entry.name in blobs or entry.stat().st_mtime < time.time() - _PARTIAL_KEPT:
                self._set_aside(entry.path)
        return os.listdir(self.staging)

    def drop_partial(self, digests: Iterable[str]) -> None:
        """Forgets what had come of these blobs, which are in the store now."""
        for digest in digests:
            try:
                os.unlink(os.path.join(self.partial, _hex(digest)))
            except FileNotFoundError:
                pass

    def stage(self) -> str:
        """Makes a directory in the staging directory; returns its name."""
        name = _unused_name()
        os.mkdir(os.path.join(self.staging, name), 0o700)
        return name

    def _set_aside(self, path: str) -> str:
        """Moves a file or tree, if there, into the staging directory; returns its name there."""
        name = _unused_name()
        try:
            os.rename(path, os.path.join(self.staging, name))
        except FileNotFoundError:
            pass
        return name

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._database.execute("SAVEPOINT images")
        try:
            yield
            self._database.execute("RELEASE images")
        except BaseException:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            raise


def _unused_name() -> str:
    return secrets.token_hex(8)


def _hex(digest: str) -> str:
    return digest.removeprefix("sha256:")

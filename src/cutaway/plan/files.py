"""Operations on the host's files: the directories a container's layer and volumes are in, what it reads in /etc."""

from __future__ import annotations

import os

from cutaway.kernel.openat2 import open_in_root
from cutaway.plan.copyup import copy_tree
from cutaway.plan.operation import Context, Operation


class MakeDirectory(Operation):
    """A directory of the engine's own on the host, with those above it; one that is there already stays as it is.

    There is no undo: what is in it may be large, and is thrown away in a time of its own.
    """

    path: str
    mode: int = 0o755
    purpose: str = ""
    manual = "mkdir(2)"

    def apply(self, context: Context) -> None:  # noqa: ARG002
        os.makedirs(self.path, self.mode, exist_ok=True)

    def shell(self) -> str:
        return f"mkdir -p -m {self.mode:o} {_quote(self.path)}"

    def shell_undo(self) -> str:
        return f"rm -rf --one-file-system {_quote(self.path)}"

    def why(self) -> str:
        return self.purpose or "A place of its own on the host's disk."


class MakeSource(MakeDirectory):
    """A directory of the host that is to be mounted inside and is not there yet. It is the user's, and stays."""

    def shell_undo(self) -> str:
        return ""

    def why(self) -> str:
        return "What -v names is made if it is missing, and stays when the container goes: it may be wanted again."


class WriteFile(Operation):
    """A text file on the host; what it held before is gone. It goes with its directory."""

    path: str
    content: str
    manual = "open(2)"

    def apply(self, context: Context) -> None:  # noqa: ARG002
        with open(self.path, "w", encoding="utf-8") as file:
            file.write(self.content)

    def shell(self) -> str:
        return f"printf %s {_quote(self.content)} > {_quote(self.path)}"

    def why(self) -> str:
        return f"The container's own /etc/{os.path.basename(self.path)}, which is mounted over the image's."


class FillVolume(Operation):
    """A new volume begins with what the image has at its place: `place` in the mounted root `root`. For a script: the
    engine copies as it unpacks archives, beside everything else."""

    directory: str
    root: str
    place: str
    manual = "cp(1)"

    def apply(self, context: Context) -> None:  # noqa: ARG002
        root = os.open(self.root, os.O_PATH | os.O_DIRECTORY)
        try:
            source = open_in_root(root, self.place, os.O_RDONLY | os.O_DIRECTORY)
        except (FileNotFoundError, NotADirectoryError):
            return
        finally:
            os.close(root)
        target = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            copy_tree(source, target)
        finally:
            os.close(source)
            os.close(target)

    def shell(self) -> str:
        source = _quote(f"{self.root}/{self.place.lstrip('/')}")
        return f"if [ -d {source} ]; then cp -a {source}/. {_quote(self.directory)}; fi"

    def why(self) -> str:
        return f"An empty volume gets what the image has at {self.place}, owners and modes included."


def _quote(word: str) -> str:
    from shlex import quote  # imports `re`; only a script needs it

    return quote(word)

"""`-o FILE`: an archive for the caller, in a file that is there only when it is whole, or on standard output."""

from __future__ import annotations

import os
import secrets
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cutaway.engine.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cutaway.cli.session import Session


@contextmanager
def archive_target(session: Session, output: str, verb: str) -> Iterator[int]:
    """The descriptor to write to: of the file `output` of the caller's, or of its standard output for none.

    What went wrong leaves the file as it was before. Raises `InvalidArgument` for a terminal, or a file that cannot be.
    """
    if not output:
        if session.is_terminal(1):
            raise InvalidArgument(f"cowardly refusing to {verb} to a terminal. Use the -o flag or redirect")
        yield session.command.descriptors[1]
        return
    try:
        path = session.caller.path(output)
        with _in_place(path) if _is_special(path) else _replaced(path) as descriptor:
            yield descriptor
    except OSError as problem:
        raise InvalidArgument(f"cannot write {output}: {(problem.strerror or '').lower()}") from None


def _is_special(path: str) -> bool:
    """Whether there is a pipe or a device, which is written to and never replaced."""
    return os.path.exists(path) and not stat.S_ISREG(os.stat(path).st_mode)


@contextmanager
def _in_place(path: str) -> Iterator[int]:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe that nobody reads is an error
    try:
        os.set_blocking(descriptor, True)
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _replaced(path: str) -> Iterator[int]:
    path = os.path.realpath(path)
    unfinished = os.path.join(os.path.dirname(path), f".{os.path.basename(path)[:200]}.{secrets.token_hex(4)}")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        yield descriptor
        os.rename(unfinished, path)
    except BaseException:
        os.unlink(unfinished)
        raise
    finally:
        os.close(descriptor)

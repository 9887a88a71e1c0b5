"""What a process has as standard input, output and error, and how others get at them.

A container that is not given its caller's own descriptors has named pipes (`fifo(7)`) in its runtime directory. Its end
of the output pipes is open for reading too, so a reader's death breaks no pipe, and the next one opens it by its name.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from cutaway.engine.interface import Stdio, Streams

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cutaway.engine.model import ExecConfig

_STDIN, _STDOUT, _STDERR = "stdin", "stdout", "stderr"


class Ends:
    """Descriptors by the names under which the spawner takes them; closing closes those that are still here."""

    def __init__(self) -> None:
        self.named: dict[str, int] = {}

    def __enter__(self) -> Ends:
        return self

    def __exit__(self, *_: object) -> None:
        close_all(self.named.values())
        self.named.clear()

    def of_process(self) -> dict[str, int]:
        """Those that are the process's own."""
        return {name: descriptor for name, descriptor in self.named.items() if name in (_STDIN, _STDOUT, _STDERR)}

    def ours(self) -> dict[str, int]:
        """The other ends."""
        return {name: descriptor for name, descriptor in self.named.items() if name not in self.of_process()}

    def take(self, name: str) -> int:
        """The descriptor of this name, now the caller's; -1 where there is none."""
        return self.named.pop(name, -1)

    def take_outputs(self) -> dict[str, int]:
        """Our ends of the output pipes, now the caller's."""
        return {name: self.named.pop(name) for name in list(self.named) if name.startswith("output:")}


def given(stdio: Stdio) -> Ends:
    """The caller's own descriptors, duplicated, and /dev/null for those it does not give."""
    ends = Ends()
    for name, descriptor in zip((_STDIN, _STDOUT, _STDERR), stdio, strict=True):
        flags = os.O_RDONLY if name == _STDIN else os.O_WRONLY
        ends.named[name] = os.dup(descriptor) if descriptor >= 0 else os.open(os.devnull, flags)
    return ends


def make_pipes(directory: str, *, stdin: bool, stdin_once: bool) -> Ends:
    """New named pipes in `directory`: the process's ends, and ours as `output:stdout`, `output:stderr`, `input`.

    With `stdin_once` the process reads the end of its standard input when all writers are gone, else never.
    """
    ends = Ends()
    for name in (_STDOUT, _STDERR):
        os.mkfifo(f"{directory}/{name}", 0o600)
        ends.named[name] = os.open(f"{directory}/{name}", os.O_RDWR)
    ends.named |= open_outputs(directory)
    if stdin:
        os.mkfifo(f"{directory}/{_STDIN}", 0o600)
        both = os.open(f"{directory}/{_STDIN}", os.O_RDWR)
        ends.named["input"] = open_input(directory)
        if stdin_once:
            ends.named[_STDIN] = os.open(f"{directory}/{_STDIN}", os.O_RDONLY)
            os.close(both)
        else:
            ends.named[_STDIN] = both
    else:
        ends.named[_STDIN] = os.open(os.devnull, os.O_RDONLY)
    return ends


def open_outputs(directory: str) -> dict[str, int]:
    """Our ends of the output pipes in `directory`, by name; none where there are no pipes."""
    ends = {}
    for name in (_STDOUT, _STDERR):
        with suppress(FileNotFoundError):
            ends[f"output:{name}"] = os.open(f"{directory}/{name}", os.O_RDONLY | os.O_NONBLOCK)
    return ends


def open_input(directory: str) -> int:
    """Our end of the input pipe in `directory`; -1 where there is none, or nobody reads it any more."""
    try:
        descriptor = os.open(f"{directory}/{_STDIN}", os.O_WRONLY | os.O_NONBLOCK)
    except OSError:
        return -1
    os.set_blocking(descriptor, True)
    return descriptor


def give_input_away(directory: str) -> None:
    """Takes away the name of the input pipe in `directory`: nobody but those who have it can write to it any more."""
    os.unlink(f"{directory}/{_STDIN}")


def piped(attachment: Attachment, config: ExecConfig) -> Ends:
    """For an exec that is attached: the process writes straight into the pipes that the attached one reads; `input` is
    our end of its standard input. A terminal's streams come later."""
    ends = Ends()
    if config.Tty:
        return ends
    readers = attachment.readers.named
    for name, stream in ((_STDOUT, 1), (_STDERR, 2)):
        taken = readers.pop(f"reader:{stream}", -1)
        ends.named[name] = taken if taken >= 0 else os.open(os.devnull, os.O_WRONLY)
    if config.AttachStdin:
        ends.named[_STDIN], ends.named["input"] = os.pipe()
    else:
        ends.named[_STDIN] = os.open(os.devnull, os.O_RDONLY)
    return ends


class Attachment:
    """Pipes between the spawner's copies of a process's output (`readers`) and one who is attached (`streams`)."""

    def __init__(self, *, stdout: bool, stderr: bool) -> None:
        self.readers = Ends()
        read = {1: -1, 2: -1}
        for stream, wanted in ((1, stdout), (2, stderr)):
            if wanted:
                read[stream], self.readers.named[f"reader:{stream}"] = os.pipe()
        self._stdout, self._stderr = read[1], read[2]

    def streams(self, stdin: int = -1, terminal: int = -1) -> Streams:
        """What the attached one gets, and is to close."""
        return Streams(stdin, self._stdout, self._stderr, terminal)

    def abandon(self) -> None:
        """Closes everything: nobody is attached after all."""
        close_all([self._stdout, self._stderr, *self.readers.named.values()])


def close_all(descriptors: Iterable[int]) -> None:
    """Closes all that are open (not -1)."""
    for descriptor in descriptors:
        if descriptor >= 0:
            os.close(descriptor)


def duplicate(descriptor: int) -> int:
    """A duplicate, or -1 of -1."""
    return os.dup(descriptor) if descriptor >= 0 else -1

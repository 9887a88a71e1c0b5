"""Containers of tests: one that runs for a while, and what `inspect` says of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tests.engines import Engine

SLEEP = ("sleep", "1000")


@contextmanager
def running(cutaway: Engine, *options: str, command: Sequence[str] = SLEEP) -> Iterator[str]:
    """A container of busybox that runs on no network, by its ID, removed at the end."""
    container = cutaway("run", "-d", "--network", "none", *options, "busybox", *command).stdout.strip()
    try:
        yield container
    finally:
        cutaway("rm", "-f", container)


def inspected(cutaway: Engine, container: str, template: str) -> str:
    """`inspect -f`: `inspected(cutaway, "box", "{{.State.Status}}")`."""
    return cutaway("inspect", "-f", template, container).stdout.strip()


def names(cutaway: Engine, *options: str) -> list[str]:
    """Of all containers, or of those that `options` of `ps` leave."""
    return cutaway("ps", "-a", "--format", "{{.Names}}", *options).stdout.split()

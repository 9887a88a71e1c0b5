"""Which seccomp filter a container gets: Docker's default, one from a file, or none. Each is compiled once and kept."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from cutaway.engine.description import security_options
from cutaway.engine.errors import EngineError, InvalidArgument
from cutaway.kernel.seccomp import LibseccompMissing, compile_cached
from cutaway.plan.process import LoadSeccomp
from cutaway.runtime.seccomp import ProfileError, for_option

if TYPE_CHECKING:
    from cutaway.engine.model import HostConfig
    from cutaway.plan.operation import Context

_MOST_HELD = 64
"""Filters in memory files: whoever gives each container a profile of its own is not to use up the engine's files."""


class Filters:
    """Compiled filters: on disk in `directory`, and those in use in memory files, to be handed on as descriptors."""

    def __init__(self, directory: str) -> None:
        os.makedirs(directory, 0o700, exist_ok=True)
        self._directory = directory
        self._held: dict[tuple[str, frozenset[str]], tuple[int, list[str]] | None] = {}

    def operation(self, host: HostConfig, bounding: list[str], context: Context) -> LoadSeccomp | None:
        """How the container's first process loads its filter, which is put into the context; None for no filter.

        Raises `InvalidArgument` for a profile that cannot be used.
        """
        option = security_options(host).get("seccomp") or ("unconfined" if host.Privileged else "builtin")
        key = option, frozenset(bounding)
        if key not in self._held or os.path.isfile(option):
            self._hold(key, self._compiled(option, bounding))
        held = self._held[key]
        if held is None:
            return None
        context.descriptors["seccomp"] = os.dup(held[0])
        return LoadSeccomp(descriptor="seccomp", flags=held[1])

    def _hold(self, key: tuple[str, frozenset[str]], compiled: tuple[int, list[str]] | None) -> None:
        self._let_go(key)
        self._held[key] = compiled
        if len(self._held) > _MOST_HELD:
            self._let_go(next(iter(self._held)))

    def _let_go(self, key: tuple[str, frozenset[str]]) -> None:
        if held := self._held.pop(key, None):
            os.close(held[0])

    def _compiled(self, option: str, bounding: list[str]) -> tuple[int, list[str]] | None:
        try:
            profile = for_option(option, bounding)
            if profile is None:
                return None
            program = compile_cached(profile, self._directory)
        except LibseccompMissing as error:
            raise EngineError(f"{error}; install libseccomp2, or use --security-opt seccomp=unconfined") from None
        except (ProfileError, ValueError) as error:
            raise InvalidArgument(f"seccomp profile {option}: {error}") from None
        file = os.memfd_create("seccomp", os.MFD_CLOEXEC)
        os.write(file, program)
        return file, profile.get("flags", [])

"""Hooks: programs of whoever asked for a container, run at six moments of its life with its state on standard input.

<https://github.com/opencontainers/runtime-spec/blob/main/config.md#posix-platform-hooks>
"""

from __future__ import annotations

import os

from cutaway.plan.operation import Context, Operation

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Mapping
    from typing import Any, NoReturn
else:
    import _signal  # `signal` imports `enum`

STATUS = {
    "prestart": "creating",
    "createRuntime": "creating",
    "createContainer": "creating",
    "startContainer": "created",
    "poststart": "running",
    "poststop": "stopped",
}
"""The moments, and what the state then says."""
_MOST_OUTPUT = 4096
_LONGEST_POLL = (1 << 31) - 1  # milliseconds


class HookFailed(OSError):
    """A hook that could not be run, failed, or took longer than it may."""

    def __init__(self, moment: str, path: str, how: str) -> None:
        super().__init__(0, f"{moment} hook {path}: {how}")

    def __str__(self) -> str:
        return str(self.strerror)


class RunHook(Operation):
    """Runs one hook, in the bundle's directory, and waits for its end. `moment`: a key of `STATUS`; `env`: its
    environment, None for that of the context; `timeout`: seconds, 0 for none; what it has started by then ends with it.
    Raises `HookFailed`."""

    moment: str
    path: str
    args: list[str] = []
    env: list[str] | None = None
    timeout: int = 0
    manual = "execve(2)"

    def prepare(self, context: Context) -> None:  # noqa: ARG002
        """Inside, what is imported would be the image's."""
        import json
        import select

        _ = json, select

    def apply(self, context: Context) -> None:
        state, output = _memory_file("state", self._state(context)), _memory_file("output", b"")
        try:
            pid = os.fork()
            if pid == 0:
                self._execute(context, state, output)
            problem = self._wait(pid)
            said = os.pread(output, _MOST_OUTPUT, 0).decode(errors="replace").strip()
        finally:
            os.close(state)
            os.close(output)
        if problem:
            raise HookFailed(self.moment, self.path, f"{problem}: {said}" if said else problem)

    def _state(self, context: Context) -> bytes:
        from json import dumps

        pid = {"pid": context.pid or os.getpid()} if self.moment != "poststop" else {}
        return dumps(context.state | {"status": STATUS[self.moment]} | pid).encode()

    def _execute(self, context: Context, state: int, output: int) -> NoReturn:
        directory = str(context.state["bundle"])
        try:
            os.setsid()
            for source, target in ((state, 0), (output, 1), (output, 2)):
                os.dup2(source, target)
            if os.path.isdir(directory):  # which is not to be seen from inside
                os.chdir(directory)
            for number in (_signal.SIGPIPE, _signal.SIGXFSZ):  # which Python ignores
                _signal.signal(number, _signal.SIG_DFL)
            _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
            os.execve(self.path, self.args or [self.path], self._environment(context))
        except OSError as error:
            os.write(output, str(error.strerror).lower().encode())
        finally:
            os._exit(127)

    def _environment(self, context: Context) -> Mapping[str, str]:
        entries = context.environment if self.env is None else self.env
        if entries is None:
            return os.environ
        return dict(entry.split("=", 1) for entry in entries if "=" in entry[1:])

    def _wait(self, pid: int) -> str:
        """How it failed; empty if it did not."""
        in_time = not self.timeout or _ends_within(pid, self.timeout)
        if not in_time:
            os.killpg(pid, _signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if not in_time:
            return f"killed, as it took longer than {self.timeout} s"
        return f"exit status {code}" if code > 0 else f"killed by signal {-code}" if code else ""

    def shell(self) -> str:
        from shlex import join

        limit = f"timeout {self.timeout} " if self.timeout else ""
        environment = [] if self.env is None else ["env", "-i", *self.env]
        return f"{limit}{join([*environment, self.path, *self.args[1:]])} <state.json"

    def why(self) -> str:
        return f"Whoever asked for the container wants {self.path} run at this moment, {self.moment}."


def hook_operations(hooks: Mapping[str, Any] | None, *moments: str) -> list[Operation]:
    """The hooks of `moments`, as in the OCI runtime-spec, in their order."""
    return [
        RunHook(moment, hook["path"], hook.get("args") or [], hook.get("env"), hook.get("timeout") or 0)
        for moment in moments
        for hook in (hooks or {}).get(moment) or ()
    ]


def _memory_file(name: str, content: bytes) -> int:
    file = os.memfd_create(name, os.MFD_CLOEXEC)
    os.write(file, content)
    os.lseek(file, 0, os.SEEK_SET)
    return file


def _ends_within(pid: int, seconds: int) -> bool:
    from select import POLLIN, poll

    pidfd = os.pidfd_open(pid)
    try:
        ended = poll()
        ended.register(pidfd, POLLIN)
        return bool(ended.poll(min(seconds * 1000, _LONGEST_POLL)))
    finally:
        os.close(pidfd)

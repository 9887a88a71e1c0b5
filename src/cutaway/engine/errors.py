"""What can go wrong, as the engine says it: each error is one sentence for a person.

EngineError
├── NotFound          no such container, image, network, volume, exec or path
├── Conflict          it is there already, in use, or in a state that does not allow it
├── InvalidArgument   what was asked for makes no sense
└── NotStarted        the container's program could not be started
    ├── CannotInvoke      it is there and cannot be executed: exit code 126
    └── CommandNotFound   it is not there: exit code 127
"""

from __future__ import annotations


class EngineError(Exception):
    """`exit_code` is the command line's for it, `status` the HTTP status that the Docker API gives it."""

    exit_code = 125
    status = 500


class NotFound(EngineError):
    """`kind` and `name` say what was looked for, where that is an object: `"container"`, `"web"`."""

    status = 404

    def __init__(self, sentence: str, kind: str = "", name: str = "") -> None:
        super().__init__(sentence)
        self.kind, self.name = kind, name


class Conflict(EngineError):
    status = 409


class InvalidArgument(EngineError):
    status = 400


class NotStarted(EngineError):
    status = 400


class CannotInvoke(NotStarted):
    exit_code = 126


class CommandNotFound(NotStarted):
    exit_code = 127

"""Dockerfile instructions that change an image's configuration, for `--change`: `CMD ["sh"]`, `ENV A=1 B="two words"`.

Those that describe how to run the image; the words are split and quoted as the Dockerfile reference says.
"""

from __future__ import annotations

import posixpath
import re
import signal
from collections.abc import Callable, Iterable

import msgspec

from cutaway.image.config import RunConfig
from cutaway.image.errors import InvalidChange

_WORD = re.compile(r"""(?:[^\s"'\\]|\\.|"(?:[^"\\]|\\.)*"|'[^']*')+""")
_PART = re.compile(r"""\\(.)|"((?:[^"\\]|\\.)*)"|'([^']*)'|([^"'\\])""")
_PORT = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?(?:/(tcp|udp|sctp))?", re.IGNORECASE)
_SHELL = ["/bin/sh", "-c"]


def applied(changes: Iterable[str]) -> RunConfig:
    """The configuration that the instructions make, in order; raises `InvalidChange` with the instruction."""
    run = RunConfig()
    for change in changes:
        name, _, rest = change.strip().partition(" ")
        instruction = _INSTRUCTIONS.get(name.upper())
        if instruction is None:
            raise InvalidChange(f"{name or repr(change)} is not a valid change command; {', '.join(_INSTRUCTIONS)} are")
        if not rest.strip():
            raise InvalidChange(f"{name.upper()} requires at least one argument")
        instruction(run, rest.strip())
    return run


def _cmd(run: RunConfig, rest: str) -> None:
    run.cmd = _command(rest)


def _entrypoint(run: RunConfig, rest: str) -> None:
    run.entrypoint = _command(rest)


def _env(run: RunConfig, rest: str) -> None:
    pairs = dict(variable.split("=", 1) for variable in run.env or [])
    pairs |= _pairs("ENV", rest)
    run.env = [f"{name}={value}" for name, value in pairs.items()]


def _label(run: RunConfig, rest: str) -> None:
    run.labels = (run.labels or {}) | _pairs("LABEL", rest)


def _workdir(run: RunConfig, rest: str) -> None:
    run.working_dir = posixpath.normpath(posixpath.join("/", run.working_dir, _unquoted(rest)))


def _user(run: RunConfig, rest: str) -> None:
    run.user = _unquoted(rest)


def _expose(run: RunConfig, rest: str) -> None:
    ports = dict(run.exposed_ports or {})
    for word in rest.split():
        ports |= {port: {} for port in _ports(word)}
    run.exposed_ports = ports


def _volume(run: RunConfig, rest: str) -> None:
    paths = _json_words(rest) or [_unquoted(word) for word in _WORD.findall(rest)]
    run.volumes = (run.volumes or {}) | {path: {} for path in paths}


def _stopsignal(run: RunConfig, rest: str) -> None:
    name = "SIG" + rest.upper().removeprefix("SIG")
    if not (rest.isdigit() and 0 < int(rest) <= signal.SIGRTMAX) and name not in signal.Signals.__members__:
        raise InvalidChange(f"invalid signal: {rest}")
    run.stop_signal = rest


_INSTRUCTIONS: dict[str, Callable[[RunConfig, str], None]] = {
    "CMD": _cmd,
    "ENTRYPOINT": _entrypoint,
    "ENV": _env,
    "EXPOSE": _expose,
    "LABEL": _label,
    "STOPSIGNAL": _stopsignal,
    "USER": _user,
    "VOLUME": _volume,
    "WORKDIR": _workdir,
}


def _command(rest: str) -> list[str]:
    """The exec form, a JSON array, or the shell form, a line for `/bin/sh -c`."""
    words = _json_words(rest)
    return [*_SHELL, rest] if words is None else words


def _json_words(rest: str) -> list[str] | None:
    try:
        return msgspec.json.decode(rest, type=list[str])
    except msgspec.MsgspecError:
        return None


def _pairs(name: str, rest: str) -> dict[str, str]:
    """`A=1 B=2`, or the old form `A the whole rest`."""
    words = _WORD.findall(rest)
    if words and "=" not in words[0]:
        key, _, value = rest.partition(" ")
        if not value:
            raise InvalidChange(f"{name} must have two arguments, {key} has no value")
        return {key: value.strip()}
    pairs = [word.partition("=") for word in words]
    for key, equals, _ in pairs:
        if not key or not equals:
            raise InvalidChange(f"{name} wants NAME=VALUE, not {key or rest}")
    return {_unquoted(key): _unquoted(value) for key, _, value in pairs}


def _unquoted(word: str) -> str:
    def plain(part: re.Match[str]) -> str:
        escaped, double, single, other = part.groups()
        return re.sub(r"\\(.)", r"\1", double) if double is not None else escaped or single or other or ""

    return _PART.sub(plain, word)


def _ports(word: str) -> list[str]:
    match = _PORT.fullmatch(word)
    first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not match or not 0 < first <= last <= 65535:
        raise InvalidChange(f"invalid containerPort: {word}")
    return [f"{port}/{(match[3] or 'tcp').lower()}" for port in range(first, last + 1)]

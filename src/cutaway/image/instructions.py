"""Dockerfile instructions that change an image's configuration, for `--change`: `CMD ["sh"]`, `ENV A=1 B="two words"`.

Those that describe how to run the image; the words are split and quoted as the Dockerfile reference says.
"""

from __future__ import annotations

import copy
import posixpath
import re
import signal
from collections.abc import Callable, Iterable

import msgspec

from cutaway.image.config import Healthcheck, RunConfig
from cutaway.image.errors import InvalidChange

_WORD = re.compile(r"""(?:[^\s"'\\]|\\.|"(?:[^"\\]|\\.)*"|'[^']*')+""")
_QUOTED = re.compile(r"""'([^']*)'|"((?:[^"\\]|\\.)*)"|((?:[^"'\\]|\\.)+)""")
_REPLACED = re.compile(r"\\(.)|\$(\w+)|\$\{(\w+)(?::([-+])([^}]*))?\}")
_PORT = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?(?:/(tcp|udp|sctp))?", re.IGNORECASE)
_SHELL = ["/bin/sh", "-c"]
_FLAGS = re.compile(r"--([\w-]+)=(\S+)\s+")
_HEALTH_OPTIONS = {name.replace("_", "-"): name for name in ("interval", "timeout", "start_period", "retries")}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ns|us|ms|s|m|h)")
_NANOSECONDS = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}


def applied(changes: Iterable[str], to: RunConfig | None = None) -> RunConfig:
    """The configuration that the instructions make of another, in order; raises `InvalidChange` with the instruction.

    A new entrypoint discards the command it was not made with, as in a Dockerfile.
    """
    run, has_command = copy.deepcopy(to) if to else RunConfig(), False
    for change in changes:
        name, _, rest = change.strip().partition(" ")
        instruction = _INSTRUCTIONS.get(name.upper())
        if instruction is None:
            raise InvalidChange(f"{name or repr(change)} is not a valid change command; {', '.join(_INSTRUCTIONS)} are")
        if not rest.strip():
            raise InvalidChange(f"{name.upper()} requires at least one argument")
        instruction(run, rest.strip())
        has_command = has_command or instruction is _cmd
        if instruction is _entrypoint and not has_command:
            run.cmd = None
    return run


def _cmd(run: RunConfig, rest: str) -> None:
    run.cmd = _command(rest)


def _entrypoint(run: RunConfig, rest: str) -> None:
    run.entrypoint = _command(rest)


def _env(run: RunConfig, rest: str) -> None:
    pairs = _environment(run) | _pairs(run, "ENV", rest)
    run.env = [f"{name}={value}" for name, value in pairs.items()]


def _label(run: RunConfig, rest: str) -> None:
    run.labels = (run.labels or {}) | _pairs(run, "LABEL", rest)


def _workdir(run: RunConfig, rest: str) -> None:
    run.working_dir = posixpath.normpath(posixpath.join("/", run.working_dir, _unquoted(run, rest)))


def _user(run: RunConfig, rest: str) -> None:
    run.user = _unquoted(run, rest)


def _expose(run: RunConfig, rest: str) -> None:
    ports = dict(run.exposed_ports or {})
    for word in rest.split():
        ports |= {port: {} for port in _ports(_unquoted(run, word))}
    run.exposed_ports = ports


def _volume(run: RunConfig, rest: str) -> None:
    paths = _json_words(rest) or [_unquoted(run, word) for word in _WORD.findall(rest)]
    run.volumes = (run.volumes or {}) | {path: {} for path in paths}


def _stopsignal(run: RunConfig, rest: str) -> None:
    rest = _unquoted(run, rest)
    name = "SIG" + rest.upper().removeprefix("SIG")
    if not (rest.isdigit() and 0 < int(rest) <= signal.SIGRTMAX) and name not in signal.Signals.__members__:
        raise InvalidChange(f"invalid signal: {rest}")
    run.stop_signal = rest


def _onbuild(run: RunConfig, rest: str) -> None:
    trigger = rest.partition(" ")[0].upper()
    if trigger in ("ONBUILD", "FROM", "MAINTAINER"):
        raise InvalidChange(f"{trigger} isn't allowed as an ONBUILD trigger")
    run.on_build = [*(run.on_build or []), rest]


def _healthcheck(run: RunConfig, rest: str) -> None:
    options, kind, command = _FLAGS.findall(rest), *_FLAGS.sub("", rest).partition(" ")[::2]
    check = Healthcheck()
    for name, value in options:
        if name not in _HEALTH_OPTIONS:
            raise InvalidChange(f"unknown flag: --{name}; HEALTHCHECK has {', '.join(_HEALTH_OPTIONS)}")
        setattr(check, _HEALTH_OPTIONS[name], _health_number(name, value))
    if kind.upper() not in ("NONE", "CMD") or bool(command.strip()) != (kind.upper() == "CMD"):
        raise InvalidChange("HEALTHCHECK wants NONE, or CMD and a command")
    words = _json_words(command.strip())
    check.test = ["NONE"] if not command else ["CMD-SHELL", command.strip()] if words is None else ["CMD", *words]
    run.healthcheck = check


def _health_number(name: str, value: str) -> int:
    """`--retries` is a number, the others are durations (`1m30s`), in nanoseconds."""
    if name == "retries" and value.isdigit():
        return int(value)
    parts = _DURATION.findall(value)
    if name == "retries" or not parts or "".join(number + unit for number, unit in parts) != value:
        raise InvalidChange(f"invalid argument {value!r} for --{name}")
    return sum(int(float(number) * _NANOSECONDS[unit]) for number, unit in parts)


_INSTRUCTIONS: dict[str, Callable[[RunConfig, str], None]] = {
    "CMD": _cmd,
    "ENTRYPOINT": _entrypoint,
    "ENV": _env,
    "EXPOSE": _expose,
    "HEALTHCHECK": _healthcheck,
    "LABEL": _label,
    "ONBUILD": _onbuild,
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


def _pairs(run: RunConfig, name: str, rest: str) -> dict[str, str]:
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
    return {_unquoted(run, key): _unquoted(run, value) for key, _, value in pairs}


def _unquoted(run: RunConfig, word: str) -> str:
    """A word without its quotes and escapes, and with the values of variables (`$A`, `${A}`, `${A:-otherwise}`,
    `${A:+instead}`) that are not between single quotes."""
    values = _environment(run)

    def value(match: re.Match[str]) -> str:
        escaped, bare, name, operator, other = match.groups()
        found = values.get(bare or name, "")
        if operator:
            return (found or other) if operator == "-" else (other if found else "")
        return found if escaped is None else escaped

    def plain(part: re.Match[str]) -> str:
        single, double, bare = part.groups()
        return _REPLACED.sub(value, double or bare or "") if single is None else single

    return _QUOTED.sub(plain, word)


def _environment(run: RunConfig) -> dict[str, str]:
    return {name: value for name, _, value in (variable.partition("=") for variable in run.env or [])}


def _ports(word: str) -> list[str]:
    match = _PORT.fullmatch(word)
    first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not match or not 0 < first <= last <= 65535:
        raise InvalidChange(f"invalid containerPort: {word}")
    return [f"{port}/{(match[3] or 'tcp').lower()}" for port in range(first, last + 1)]

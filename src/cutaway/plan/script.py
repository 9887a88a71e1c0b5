"""A plan as a shell script: the same container made with stock tools alone, and removed at the end.

The tools are those of util-linux, iproute2, nftables and coreutils. The first process does what the engine's does, in
the same order but for one thing: it gives up everything while the host's tools can still be reached, and then waits, as
the engine's waits, while the host turns its root. So its last act, `exec`, finds nothing but the container.
"""

from __future__ import annotations

from shlex import join, quote

from cutaway.plan.mounts import AttachRoot, PivotRoot
from cutaway.plan.namespaces import OPTIONS, JoinNamespace, NewNamespaces
from cutaway.plan.network import CreateNetworkNamespace, NameNetworkNamespace
from cutaway.plan.process import Exec, Idle, NewSession

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from cutaway.plan.operation import Operation

_START = """\
#!/bin/sh
# {title}
#
# The same container by hand. Run it as root: it makes everything, runs the program, and takes everything away again.
set -eu
umask 022
[ "$(id -u)" -eq 0 ] || {{ echo "$0: namespaces, mounts and cgroups need root" >&2; exit 125; }}

PID= child= undo=
later() {{ undo="$1
$undo"; }}
take_away() {{
    set +eu
    trap '' INT TERM HUP
    [ -z "$PID" ] || kill -KILL "$PID"
    [ -z "$child" ] || wait "$child"
    eval "$undo"
}}
trap take_away EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP

work=$(mktemp -d)
later "rm -rf $work"
export work
"""
_PIPES = """
# --- A process is cloned

# It says that it is ready through one pipe, and hears through another when it may execute its program.
mkfifo "$work/ready" "$work/go"
"""
_ENTER = """\
set -eu
read -r PID rest < /proc/self/stat  # /proc is the host's still, and so is the PID
echo "$PID" > "$work/pid"
"""
_TURN = """
read -r ready < "$work/ready" || { wait "$child" && code=0 || code=$?; child=; exit "$code"; }
PID=$(cat "$work/pid")

"""
_TURN_ROOT = """\
# Whose root was the host's has the container's from here on; the host's lies on top of it until it is taken away.
nsenter --target "$PID" --mount sh -c 'cd "$1" && pivot_root . .' sh "$ROOT"
nsenter --target "$PID" --mount umount -l /
"""
_COUNT_AGAIN = """
# What ran here so far has used up PIDs; the program's first child is to have the next one again.
[ ! -e /proc/sys/kernel/ns_last_pid ] || echo 1 > /proc/sys/kernel/ns_last_pid
"""
_GO = """
# --- The program

echo go > "$work/go"
wait "$child" && code=0 || code=$?
PID= child=
"""
_SHELL = "/bin/sh"
_WAIT = 'unset PWD OLDPWD; echo >&9; read -r go <&8; exec "$@" 8<&- 9>&-'
"""What the process runs last of the host's: a shell that waits for its root to be the container's."""

_IDLE = 'trap "exit 143" TERM; echo >&9; exec 9>&-; while :; do read -r go <&8; done'


def script(title: str, host: list[Operation], inside: list[Operation], *, stdin: bool) -> str:
    """`host`: what is done on the host before the program runs; `inside`: what its process does; `stdin`: it has the
    script's own standard input. What stock tools cannot do is a comment there, and `left_out` names it."""
    netns = next((each.netns for each in host if isinstance(each, CreateNetworkNamespace)), "")
    root = next(each.source for each in inside if isinstance(each, AttachRoot))
    parts = [_START.format(title=_one_line(title)), *(["exec 7<&0\n"] if stdin else [])]
    parts += ["\n# --- On the host: what the container needs\n", *map(_step, filter(_is_for_host, host))]
    parts += [_PIPES, _enter(inside), _inside(inside), f"ROOT={quote(root)}\n"]
    parts += [_launch(inside, netns, stdin=stdin), _TURN]
    parts += [_comment(each) + _TURN_ROOT for each in inside if isinstance(each, PivotRoot)]
    parts += [_GO, _farewell([*host, *inside])]
    return "".join(parts)


def left_out(operations: list[Operation]) -> list[str]:
    """What stock tools cannot do of these, a phrase each."""
    said = (operation.shell().splitlines() for operation in operations)
    return [line[2:] for lines in said for line in lines if line.startswith("# ") and not line.startswith("#  ")]


def _is_for_host(operation: Operation) -> bool:
    return not isinstance(operation, NameNetworkNamespace)  # ip netns names what it makes


def _step(operation: Operation) -> str:
    command, undone = operation.shell(), operation.shell_undo()
    later = f"later {quote(undone)}\n" if undone else ""
    return f"\n{_comment(operation)}{command}\n{later}" if command else ""


def _comment(operation: Operation) -> str:
    title = f"{type(operation).__name__} {operation.subject()}".strip()
    return f"# {_one_line(f'{title}: {operation.why()} {operation.manual}')}\n"


def _one_line(text: str) -> str:
    """A name may hold whatever it likes; it must not end the comment that it is in."""
    return " ".join(text.split())


def _enter(inside: list[Operation]) -> str:
    """The first of the two scripts that PID 1 goes through: into the cgroup, which its namespace is to begin at."""
    until_new = list(_before_tree(inside))
    joining = [each for each in until_new if not isinstance(each, (NewNamespaces, JoinNamespace))]
    kinds = [kind for each in until_new if isinstance(each, NewNamespaces) for kind in each.kinds_made if kind != "pid"]
    lines = _ENTER + "".join(map(_step, joining)) + f'\nexec unshare {_options(kinds)} {_SHELL} "$work/inside"\n'
    return _file("enter", lines)


def _inside(inside: list[Operation]) -> str:
    """The second: its tree, and who it is to be."""
    own = inside[len(list(_before_tree(inside))) :]
    steps = [each for each in own if not isinstance(each, (PivotRoot, NewSession, Exec, Idle))]
    last = [_program(each) for each in own if isinstance(each, (Exec, Idle))]
    has_pids = any(isinstance(each, NewNamespaces) and "pid" in each.kinds_made for each in inside)
    lines = ["set -eu\n", *map(_step, steps), *([_COUNT_AGAIN] if has_pids else []), *last]
    return _file("inside", "".join(lines))


def _before_tree(inside: list[Operation]) -> Iterator[Operation]:
    for operation in inside:
        if isinstance(operation, NewSession):
            return
        yield operation


def _program(operation: Exec | Idle) -> str:
    if isinstance(operation, Idle):
        return f'\n{_comment(operation)}exec setpriv "$@" {join([_SHELL, "-c", _IDLE])}\n'
    variables = [entry for entry in operation.env if "=" in entry]
    directory = next((f"export PWD={quote(each[4:])}; " for each in variables if each.startswith("PWD=")), "")
    wait = _WAIT.replace("echo", f"{directory}echo", 1)
    command = join([_SHELL, "-c", wait, "sh", *operation.args])
    signals = "--default-signal=INT,QUIT,PIPE"
    return f'\n{_comment(operation)}exec setpriv "$@" env -i {signals} {join(variables)} {command}\n'


def _launch(inside: list[Operation], netns: str, *, stdin: bool) -> str:
    new = next(each for each in inside if isinstance(each, NewNamespaces))
    joined = [each for each in inside if isinstance(each, JoinNamespace)]
    words = [_join(each, netns) for each in joined]
    enter = f"nsenter {' '.join(words)} " if words else ""
    clone = "unshare --pid --fork " if "pid" in new.kinds_made else ""
    comments = "".join(map(_comment, [new, *joined, *(each for each in inside if isinstance(each, NewSession))]))
    given = " <&7" if stdin else ""
    line = f'{enter}{clone}setsid {_SHELL} "$work/enter"{given} 7<&- 8<>"$work/go" 9>"$work/ready" &'
    return f"\n{comments}{line}\nchild=$!\n"


def _join(operation: JoinNamespace, netns: str) -> str:
    path = operation.path or f"/run/netns/{netns}"
    return f"{OPTIONS[operation.kind].split()[0]}={quote(path)}"


def _options(kinds: list[str]) -> str:
    return " ".join(OPTIONS[kind] for kind in kinds)


def _file(name: str, content: str) -> str:
    end = "END"
    while f"\n{end}\n" in content:
        end += "_"
    return f"\ncat > \"$work/{name}\" <<'{end}'\n{content}{end}\n"


def _farewell(operations: list[Operation]) -> str:
    words = [f"echo {quote(f'left out: {phrase}')} >&2\n" for phrase in left_out(operations)]
    said = "\n# What no stock tool does\n" + "".join(words) if words else ""
    return f'{said}exit "$code"\n'

"""A lesson as a shell script that does what the lesson does, checks what it claims, and takes it back.

A second terminal is a shell that reads from one named pipe and answers through another.
"""

from __future__ import annotations

import shlex
import textwrap
from typing import TYPE_CHECKING

from cutaway.lessons import lesson as steps

if TYPE_CHECKING:
    from cutaway.lessons.lesson import Lesson, Step
    from cutaway.lessons.setting import Setting

_START = """\
#!/bin/bash
# {title}: what `cutaway learn {topic}` does, as a script. Run it as root.
# It takes everything back when it ends, also after ^C.
set -e
here=$(mktemp -d)
cd "$here"

undo=()
later() {{ undo=("$1" "${{undo[@]}}"); }}                 # what takes back the next command
forget() {{                                           # it has been taken back
    for at in "${{!undo[@]}}"; do [ "${{undo[at]}}" = "$1" ] && unset "undo[$at]" && return; done
}}
failed() {{ undo=("${{undo[@]:$1}}"); exit 1; }}          # it has done nothing, and what is there is not ours
soon() {{ for _ in {{1..30}}; do eval "$1" && return; sleep .1; done; return 1; }}
claim() {{ if soon "$2" >/dev/null 2>&1; then echo "✓ $1"; else echo "✗ $1"; exit 1; fi; }}
take_down() {{ for each in "${{undo[@]}}"; do soon "$each" || :; done; undo=(); }}
finish() {{
    code=$?
    set +e
    trap '' INT TERM HUP PIPE
    take_down 2>/dev/null
    kill -KILL $(jobs -p) 2>/dev/null
    cd / && rm -r --one-file-system "$here"
    exit $code
}}
trap finish EXIT
trap 'exit 130' INT TERM HUP
trap : PIPE                                           # who types into a terminal that has ended fails like others
"""
_TERMINALS = """
terminal() {                                         # a second terminal, in which a command starts a shell
    mkfifo "$1.in" "$1.out"
    bash -c "$2" <"$1.in" >"$1.out" 2>&1 &           # nobody else reads it: what is typed there happens there
    exec {in}>"$1.in" {out}<"$1.out"
    declare -g "shell_$1=$!" "in_$1=$in" "out_$1=$out"
    at "$1" 'exec 2>&1'
}
at() {                                               # types a line there, and waits for its end
    local in="in_$1" out="out_$1" line
    printf '%s\\nprintf "\\\\nended %%d\\\\n" $?\\n' "$2" >&"${!in}"
    while read -r line <&"${!out}"; do
        case $line in 'ended 0') return 0 ;; 'ended '*) return 1 ;; ?*) printf '%s\\n' "$line" ;; esac
    done
    return 1
}
leave() {
    local shell="shell_$1" in="in_$1"
    echo exit >&"${!in}"
    eval "exec ${!in}>&-"
    wait "${!shell}" || :
}
"""


def script(lesson: Lesson, setting: Setting) -> str:
    """The lesson as it would be played in this setting."""
    there = list(setting.steps(lesson))
    undone = {step.undo for step in there if isinstance(step, steps.Do | steps.Open)}
    parts = [_START.format(title=lesson.title, topic=lesson.topic)]
    if any(isinstance(step, steps.Open) for step in there):
        parts.append(_TERMINALS)
    parts += [_lines(step, undone) for step in there]
    return "\n".join([*parts, "take_down\n"])


def _lines(step: Step, undone: set[str]) -> str:
    """A step's lines; after a command that is among the `undone`, nothing is to be taken back any more."""
    match step:
        case steps.Say():
            return "\n" + _comment(step.text)
        case steps.Do():
            return _command(step, undone)
        case steps.Open():
            later = [*([step.undo] if step.undo else []), f"leave {step.name}"]
            opened = f"terminal {step.name} {shlex.quote(step.command)} || failed {len(later)}"
            return "\n".join([*(f"later {shlex.quote(undo)}" for undo in later), opened])
        case steps.Leave():
            return f"leave {step.name}\nforget 'leave {step.name}'"
        case steps.Ask():
            return "\n" + _comment(f"{step.question} Answer: {step.right}. {step.because}")
        case steps.Guess():
            return "\n" + _comment(f"{step.question} {step.because}")
        case steps.Check():
            return f"claim {shlex.quote(step.claim)} {shlex.quote(_at(step.at, step.condition))}"
        case steps.TakeDown():
            return "\ntake_down"


def _command(step: steps.Do, undone: set[str]) -> str:
    later = [f"later {shlex.quote(_at(step.at, step.undo))}"] if step.undo else []
    command = _at(step.at, step.command)
    forget = [f"forget {shlex.quote(command)}"] if step.command in undone else []
    or_failed = f"{command} || failed 1" if step.undo else command
    return "\n".join([*later, f"! {{ {command}; }}" if step.fails else or_failed, *forget])


def _at(name: str, command: str) -> str:
    return command if name == steps.HOST else f"at {name} {shlex.quote(command)}"


def _comment(text: str) -> str:
    paragraphs = [textwrap.fill(" ".join(each.split()), 100, break_on_hyphens=False) for each in text.split("\n\n")]
    return "\n".join(f"# {line}".rstrip() for line in "\n\n".join(paragraphs).splitlines())

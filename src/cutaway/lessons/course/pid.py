"""Process numbers that begin anew. `pid_namespaces(7)`"""

from __future__ import annotations

from cutaway.lessons.lesson import Lesson, ask, check, do, leave, say, terminal

LESSON = Lesson(
    "pid",
    "A shell with process numbers of its own",
    needs=("unshare", "lsns", "ps", "pgrep", "top"),
    steps=(
        say("""
            A process has a number, its PID, and all of them stand in one list. Unless there are several lists: a *PID
            namespace* is one that begins again at 1. Whoever is in it sees those that are in it, and nobody else.
            It is the first thing that a container needs.

            This is a shell of your machine, and its number:
        """),
        do("echo $$"),
        say("""
            `unshare` starts a program in new namespaces: `--pid` for numbers of its own (`--fork`, since only a child
            can be born into them), and `--mount-proc` for a /proc that shows them. Here is a second terminal, with a
            shell in there:
        """),
        terminal("inside", "unshare --fork --pid --mount-proc bash"),
        ask(
            "Which number does that shell have, if you ask it?",
            right="1",
            wrong=("the next one that is free on this machine", "the same as the shell outside"),
            because="It is the first process of its namespace, as init is of the machine.",
        ),
        do("echo $$", at="inside"),
        check("Inside, the shell is process 1.", "[ $$ = 1 ]", at="inside"),
        say("Let it have company: four processes that sleep."),
        do("sleep 300 & sleep 300 & sleep 300 & sleep 300 &", at="inside"),
        ask(
            "What will `ps` list inside?",
            right="the shell, the four sleepers, and ps itself",
            wrong=("all processes of the machine, these among them", "only the four sleepers"),
            because="It reads /proc, and that of the namespace has no others.",
        ),
        do("ps ax", at="inside"),
        check("Inside there are four sleepers.", "[ $(ps -e -o comm= | grep -c sleep) = 4 ]", at="inside"),
        check("No strangers are seen.", "! ps -e -o comm= | grep -vE 'bash|sleep|ps|grep'", at="inside"),
        do("top -b -n 1 | head -n 12", at="inside"),
        say("Now from outside. There the shell is a child of `unshare`, and a process of this machine like any other:"),
        do("INNER=$(pgrep -P $(pgrep -n -f '^unshare --fork --pid --mount-proc'))\necho $INNER"),
        do("ps -o pid,ppid,args --pid $INNER --ppid $INNER"),
        check("Outside, the same four sleepers have other numbers.", "[ $(pgrep -c -P $INNER -x sleep) = 4 ]"),
        say("The kernel knows both numbers of a process, the outermost first:"),
        do("grep NSpid /proc/$INNER/status"),
        check("One process, two numbers; the inner one is 1.", "grep -qP 'NSpid:\\t\\d+\\t1$' /proc/$INNER/status"),
        say("`lsns` lists namespaces. This is the one that our shell is in:"),
        do("lsns -t pid -p $INNER"),
        check("`lsns` counts five: the shell and its sleepers.", "[ $(lsns -rn -t pid -p $INNER -o NPROCS) = 5 ]"),
        do("SLEEPERS=$(pgrep -d, -P $INNER); echo $SLEEPERS"),
        ask(
            "The shell inside is about to end. What becomes of its sleepers?",
            right="the kernel kills them",
            wrong=("they sleep on, as children of the machine's process 1", "one of them becomes the new process 1"),
            because="A PID namespace does not outlive its process 1. That is why a container stops when its first "
            "process does.",
        ),
        leave("inside"),
        check("Not one of them is left.", "! ps -p $SLEEPERS"),
    ),
)  # fmt: skip

"""The processes of a container, seen from both sides. `pid_namespaces(7)`"""

from __future__ import annotations

from cutaway.lessons.course.image import NEEDS_AN_IMAGE
from cutaway.lessons.lesson import Lesson, ask, check, do, guess, say, terminal

LESSON = Lesson(
    "docker-pid",
    "A container's processes, seen from both sides",
    needs=("ps", "pgrep", "lsns", "top"),
    of_an_engine=True,
    steps=(
        *NEEDS_AN_IMAGE,
        say("A shell in a container, in a second terminal:"),
        terminal("container", "‹engine› run -i --name learn ‹image› sh", undo="‹remove› learn"),
        do("sleep 600 & sleep 600 & sleep 600 & sleep 600 & sleep 600 &", at="container"),
        do("ps ax -o pid,args", at="container"),
        check("The shell is process 1 of the container.", "[ $$ = 1 ]", at="container"),
        do("top -b -n 1 | head -n 12", at="container"),
        say("Back on the host. The engine knows the number that the shell has out here."),
        do("PID=$(‹engine› inspect -f '{{.State.Pid}}' learn); echo $PID"),
        guess(
            "How many children has that process here?",
            answer="pgrep -c -P $PID",
            because="The five sleepers: they are processes of this machine like any other.",
        ),
        do("ps -o pid,ppid,args --pid $PID --ppid $PID"),
        check("The host has the same five sleepers.", "[ $(pgrep -c -P $PID -x sleep) = 5 ]"),
        do("top -b -w 80 -n 1 -p $PID,$(pgrep -d, -P $PID) | tail -n 6"),
        ask(
            "`‹top›` lists a container's processes. Which numbers does it show?",
            right="those of the host",
            wrong=("those of the container", "both"),
            because="It asks the host's /proc, as we did.",
        ),
        do("‹top›"),
        check("`top` shows the host's number of the shell.", "‹top› | grep -qw $PID"),
        say("Both numbers of each, the host's and the container's:"),
        do("for each in $PID $(pgrep -P $PID); do grep NSpid /proc/$each/status; done"),
        do("lsns -t pid -p $PID"),
        check("The namespace has six processes.", "[ $(lsns -rn -t pid -p $PID -o NPROCS) = 6 ]"),
    ),
)  # fmt: skip

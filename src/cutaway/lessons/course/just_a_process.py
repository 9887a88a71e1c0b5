"""There is no inside: a container's processes and files are the host's. `namespaces(7)`, `proc(5)`"""

from __future__ import annotations

from cutaway.lessons.course.image import NEEDS_AN_IMAGE
from cutaway.lessons.lesson import Lesson, ask, check, do, say, terminal

LESSON = Lesson(
    "just-a-process",
    "A container is just a process",
    needs=("ps", "pgrep", "find"),
    of_an_engine=True,
    steps=(
        *NEEDS_AN_IMAGE,
        say("In a container, a file is made and a process started, with a number of seconds that one recognises:"),
        terminal("container", "‹engine› run -i --name learn ‹image› sh", undo="‹remove› learn"),
        do("echo I was made inside > /tmp/my_file", at="container"),
        do("sleep 31415 &", at="container"),
        do("ps ax -o pid,args", at="container"),
        say("Is it visible from here?"),
        ask(
            "Will `ps` on the host show that sleep?",
            right="yes, under another number",
            wrong=("yes, under the same number", "no, it is in the container"),
            because="One kernel knows all processes. A namespace hides what is outside from those inside.",
        ),
        do("ps -C sleep -o pid,args | grep 31415"),
        do("until SLEEP=$(pgrep -n -f '^sleep 31415'); do sleep .1; done\ngrep -E '^(Name|NSpid)' /proc/$SLEEP/status"),
        check("Its number in here is another than in there.", "awk '/NSpid/ {exit $2 == $3}' /proc/$SLEEP/status"),
        say("And the file? A process's root directory can be looked into through `/proc`:"),
        do("cat /proc/$SLEEP/root/tmp/my_file"),
        say("Without that: it lies in the container's upper directory, and in the overlay mounted of it."),
        do("UPPER=$(‹engine› inspect -f '{{.GraphDriver.Data.UpperDir}}' learn)\nfind $UPPER -name my_file"),
        check("The file is found on the host's disk.", "grep -q 'made inside' $UPPER/tmp/my_file"),
        say("What makes it a *container*, then, is which namespaces the process is in. Compare them with our own:"),
        do("readlink /proc/self/ns/{mnt,pid,net,uts,ipc}"),
        do("readlink /proc/$SLEEP/ns/{mnt,pid,net,uts,ipc}"),
        check("It has its own mounts, processes and network.",
              "for each in mnt pid net; do [ /proc/self/ns/$each -ef /proc/$SLEEP/ns/$each ] && exit 1; done; true"),
        say("And the control groups that it counts in:"),
        do("tail -n 3 /proc/$SLEEP/cgroup"),
        ask(
            "We send it a signal from here, by the number it has here. What will the container notice?",
            right="its process has ended",
            wrong=("nothing: a signal does not cross the border", "the container stops"),
            because="There is no border, only a process.",
        ),
        do("kill $SLEEP"),
        do("wait; ps ax -o pid,args | grep -c '[s]leep 31415'", at="container", fails=True),
        check("It is gone outside, too.", "[ ! -e /proc/$SLEEP ] || grep -q '^State:.Z' /proc/$SLEEP/status"),
    ),
)  # fmt: skip

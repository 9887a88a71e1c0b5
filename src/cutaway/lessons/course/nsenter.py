"""Entering a container with nothing but its PID. `nsenter(1)`, `setns(2)`"""

from __future__ import annotations

from cutaway.lessons.course.image import NEEDS_AN_IMAGE
from cutaway.lessons.lesson import Lesson, ask, check, do, leave, say, terminal

LESSON = Lesson(
    "nsenter",
    "Entering a container with nothing but its PID",
    needs=("nsenter", "ip"),
    of_an_engine=True,
    steps=(
        *NEEDS_AN_IMAGE,
        do(
            "‹engine› run -d --name learn --hostname moon ‹image› \\\n"
            "  sh -c 'echo hidden > /tmp/inside; exec sleep 600'",
            undo="‹remove› learn",
        ),
        say("The engine is asked one thing, a number. From here on it is not needed."),
        do("PID=$(‹engine› inspect -f '{{.State.Pid}}' learn); echo $PID"),
        say("The kernel shows the namespaces of a process as files, and whoever has such a file can enter:"),
        do("ls -l /proc/$PID/ns | cut -d' ' -f9-"),
        say("One at a time first. This runs the *host's* program `ip`, in the container's network:"),
        do("nsenter --target $PID --net ip -br address"),
        check("That is the container's eth0.", "nsenter --target $PID --net ip -4 -br address | grep -q ^eth0"),
        ask(
            "Only the network was entered. What will `hostname` say, run in the same way?",
            right="the name of this machine",
            wrong=("moon",),
            because="Names are of the UTS namespace, and that one was not entered.",
        ),
        do("nsenter --target $PID --net hostname"),
        do("nsenter --target $PID --uts hostname"),
        check("With the UTS namespace it says moon.", "[ $(nsenter --target $PID --uts hostname) = moon ]"),
        say("Now all of them. What is this but `exec`?"),
        terminal("entered", "nsenter --target $(‹engine› inspect -f '{{.State.Pid}}' learn) \\\n"
                 "  --mount --uts --ipc --net --pid /bin/sh"),
        do("hostname; cat /tmp/inside", at="entered"),
        check("We see the container's files.", "[ \"$(cat /tmp/inside)\" = hidden ]", at="entered"),
        do("ps ax -o pid,args", at="entered"),
        check("Process 1 is the container's.", "grep -q sleep /proc/1/cmdline", at="entered"),
        say("""
            One thing is missing to be all inside: the control groups, which are not namespaces. What we start here is
            not counted, and no limit holds for it. `‹engine› exec` would have joined them, too.
        """),
        do("echo $$; sleep 27182 &", at="entered"),
        do(
            "until OURS=$(pgrep -n -f '^sleep 27182'); do sleep .1; done\n"
            "tail -n 2 /proc/$OURS/cgroup /proc/$PID/cgroup"
        ),
        check("Our sleep is not in the container's control group.",
              "! cmp -s /proc/$OURS/cgroup /proc/$PID/cgroup"),
        leave("entered"),
        check("The container has not noticed: it runs.", "[ -e /proc/$PID ]"),
        say("`cutaway enter` does this for containers of any engine, by name or PID, and needs none of them to run."),
    ),
)  # fmt: skip

"""Why `free` in a container tells of the host's memory, and what the limit does. `proc_meminfo(5)`, `cgroups(7)`"""

from __future__ import annotations

from cutaway.lessons.course.image import NEEDS_AN_IMAGE
from cutaway.lessons.lesson import Lesson, ask, check, do, say

LESSON = Lesson(
    "free",
    "How much memory is free in here?",
    needs=("free",),
    of_an_engine=True,
    steps=(
        *NEEDS_AN_IMAGE,
        say("A container that may use 300 MB, and this machine's own memory:"),
        do("‹engine› run -d --name learn --memory 300m ‹image› sleep 600", undo="‹remove› learn"),
        do("free -m"),
        ask(
            "What total does `free -m` show inside the container?",
            right="that of this machine",
            wrong=("300", "what is left of 300"),
            because="It reads /proc/meminfo, which is the kernel's, and there is only one kernel. Namespaces do not "
            "reach that file: a limit is not a size.",
        ),
        do("‹engine› exec learn free -m"),
        check(
            "The total inside is the total outside.",
            '[ "$(grep MemTotal /proc/meminfo)" = "$(‹engine› exec learn grep MemTotal /proc/meminfo)" ]',
        ),
        say("Where are the 300 MB, then? In the container's control group, the limit beside what is used of it:"),
        do("PID=$(‹engine› inspect -f '{{.State.Pid}}' learn)"),
        do("GROUP=‹memory tree›$(sed -n 's/^[0-9]*:memory://p' \\\n  /proc/$PID/cgroup)", on="v1"),
        do("GROUP=‹memory tree›$(sed -n 's/^0:://p' /proc/$PID/cgroup)", on="v2"),
        do("cat $GROUP/memory.limit_in_bytes $GROUP/memory.usage_in_bytes", on="v1"),
        do("cat $GROUP/memory.max $GROUP/memory.current", on="v2"),
        check("The limit is 300 MB.", "[ $(cat $GROUP/memory.limit_in_bytes) = $((300 << 20)) ]", on="v1"),
        check("The limit is 300 MB.", "[ $(cat $GROUP/memory.max) = $((300 << 20)) ]", on="v2"),
        say("""
            So a program that looks at `free` to decide how much it may take (many do) decides wrongly. What it gets to
            feel is this:
        """),
        ask(
            "A process in there fills 400 MB, while `free` tells it that there is plenty. What happens?",
            right="it is killed when it comes to 300",
            wrong=("it gets them: there is plenty", "the container is paused", "it gets an error at 300"),
            because="The kernel's out-of-memory killer works for a group as it does for a machine.",
        ),
        do("‹engine› exec learn sh -c 'head -c 400m /dev/zero | tail'", fails=True),
        check("It was killed at the limit.", "grep -q '^oom_kill [1-9]' $GROUP/memory.oom_control", on="v1"),
        check("It was killed at the limit.", "grep -q '^oom_kill [1-9]' $GROUP/memory.events", on="v2"),
        check(
            "The group has not had more than 300 MB.",
            "[ $(cat $GROUP/memory.max_usage_in_bytes) -le $((300 << 20)) ]",
            on="v1",
        ),
        check("The container itself runs on.", "[ $(‹engine› inspect -f '{{.State.Running}}' learn) = true ]"),
        say("""
            A remedy: a /proc that lies. *lxcfs* is a file system that works these files out from the control group of
            who reads them; cutaway binds them over the kernel's own with `--proc-view`.
        """, on="lxcfs"),
        do("cutaway run --rm --memory 300m --proc-view host free -m", on="lxcfs"),
        check(
            "Now the total is the limit.",
            "cutaway run --rm --memory 300m --proc-view host free -m | grep -q '^Mem: *300 '",
            on="lxcfs",
        ),
    ),
)  # fmt: skip

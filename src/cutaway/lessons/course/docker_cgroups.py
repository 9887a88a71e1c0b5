"""The limits of a container: files in a directory. `cgroups(7)`; Linux, `Documentation/admin-guide/cgroup-v2.rst`"""

from __future__ import annotations

from cutaway.lessons.course.image import NEEDS_AN_IMAGE
from cutaway.lessons.lesson import Lesson, ask, check, do, guess, say, terminal

_MEASURED = "awk '{print $9}' measured"

LESSON = Lesson(
    "docker-cgroups",
    "What --memory=10m --cpus=.1 does",
    needs=("top", "awk", "pgrep"),
    of_an_engine=True,
    steps=(
        *NEEDS_AN_IMAGE,
        say("A container that may use 10 MB of memory and a tenth of a CPU, with a shell in it:"),
        terminal(
            "container",
            "‹engine› run -i --name learn --memory=10m --cpus=.1 ‹image› sh",
            undo="‹remove› learn",
        ),
        do("PID=$(‹engine› inspect -f '{{.State.Pid}}' learn); echo $PID"),
        say("Every process is in control groups, and `/proc` says in which:"),
        do("grep -E 'cpu|memory' /proc/$PID/cgroup", on="v1"),
        do("cat /proc/$PID/cgroup", on="v2"),
        say("Version 1 has a tree for memory and one for the CPU; these two directories are the limits.", on="v1"),
        do("MEMORY=‹memory tree›$(sed -n 's/^[0-9]*:memory://p' \\\n  /proc/$PID/cgroup)\necho $MEMORY", on="v1"),
        do("CPU=‹cpu tree›$(sed -nE 's/^[0-9]+:(.*,)?cpu(,.*)?://p' \\\n  /proc/$PID/cgroup)\necho $CPU", on="v1"),
        say("Version 2 has one tree, and this directory is all the limits.", on="v2"),
        do("MEMORY=‹memory tree›$(sed -n 's/^0:://p' /proc/$PID/cgroup)\nCPU=$MEMORY; echo $MEMORY", on="v2"),
        do("cat $MEMORY/memory.limit_in_bytes", on="v1"),
        check("The limit is 10 MB, in bytes.", "[ $(cat $MEMORY/memory.limit_in_bytes) = $((10 << 20)) ]", on="v1"),
        do("cat $MEMORY/memory.max", on="v2"),
        check("The limit is 10 MB, in bytes.", "[ $(cat $MEMORY/memory.max) = $((10 << 20)) ]", on="v2"),
        say("A tenth of a CPU is so many microseconds (the quota) in every period of so many:"),
        do("cat $CPU/cpu.cfs_quota_us $CPU/cpu.cfs_period_us", on="v1"),
        check(
            "The quota is a tenth of the period.",
            "[ $(($(cat $CPU/cpu.cfs_quota_us) * 10)) = $(cat $CPU/cpu.cfs_period_us) ]",
            on="v1",
        ),
        do("cat $CPU/cpu.max", on="v2"),
        check("The quota is a tenth of the period.", "awk '{exit $1 * 10 != $2}' $CPU/cpu.max", on="v2"),
        say("And these are the processes that are held to it, by the numbers they have out here:"),
        do("cat $MEMORY/cgroup.procs"),
        check("It is the container's process.", "[ $(cat $MEMORY/cgroup.procs) = $PID ]"),
        do("‹top›"),
        say("Now a process in there that wants all it can get:"),
        do("cat /dev/urandom > /dev/null &", at="container"),
        do("until BUSY=$(pgrep -x cat -P $PID); do sleep .1; done; echo $BUSY"),
        guess(
            "How many percent of a CPU will `top` show for it?",
            answer=_MEASURED,
            within=3,
            because="Each tenth of a second it runs for ten milliseconds, and then waits: it is *throttled*.",
        ),
        do("top -b -w 80 -d 1 -n 2 -p $BUSY | tail -n 1 | tee measured"),
        check("It gets about a tenth of a CPU.", "awk '{exit $9 < 5 || $9 > 15}' measured"),
        do("cat $CPU/cpu.stat"),
        check("It has been throttled.", "grep -q '^nr_throttled [1-9]' $CPU/cpu.stat"),
        do("‹engine› stats --no-stream learn \\\n  --format '{{.Name}} {{.CPUPerc}} {{.MemUsage}}'"),
        do("kill $BUSY"),
        ask(
            "And if one in the container wants 50 MB?",
            right="the kernel kills it, and the container goes on",
            wrong=("the kernel kills it, and the container ends", "the engine gives it more", "it gets an error"),
            because="Of all in the group the kernel picks the one with the most memory. Were that the container's "
            "first process, the container would end.",
        ),
        # Throttled, the one that is killed ends slowly, and the kernel may kill another: not the shell, then.
        do("(echo 1000 > /proc/self/oom_score_adj\nhead -c 50m /dev/zero | tail)", at="container", fails=True),
        check("It was killed for want of memory.", "grep -q '^oom_kill [1-9]' $MEMORY/memory.oom_control", on="v1"),
        check("It was killed for want of memory.", "grep -q '^oom_kill [1-9]' $MEMORY/memory.events", on="v2"),
        check("The container runs.", "[ $(‹engine› inspect -f '{{.State.Running}}' learn) = true ]"),
    ),
)  # fmt: skip

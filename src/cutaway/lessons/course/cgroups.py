"""Control groups: who gets how much. `cgroups(7)`; Linux, `Documentation/admin-guide/cgroup-v2.rst`, *Weights*"""

from __future__ import annotations

from cutaway.lessons.lesson import Lesson, check, do, guess, say

_LOOP = "taskset -c ‹cpu› cat /dev/urandom > /dev/null"
_COUNTED = "cat /proc/{$BIG,$SMALL,$TINY}/schedstat"
_BIG, _SMALL, _TINY = (
    f"$(paste before after | awk '{{all += used[NR] = $4 - $1}} END {{printf \"%.0f\", 100 * used[{line}] / all}}')"
    for line in (1, 2, 3)
)


def _between(least: int, percent: str, most: int) -> str:
    return f"percent={percent}; [ $percent -ge {least} ] && [ $percent -le {most} ]"


LESSON = Lesson(
    "cgroups",
    "Sharing one CPU: 77, 19 and 3 percent",
    needs=("taskset", "top", "awk"),
    steps=(
        say("""
            Namespaces say what a process sees. How much it may *use* is said by control groups: directories with
            processes in them, and files that limit these. One makes a group with `mkdir`.
        """),
        say("""
            This machine has them in version 1, where each resource has a tree of its own; that of the CPU is mounted on
            ‹cpu tree›.
        """, on="v1"),
        say("This machine has them in version 2: one tree, on ‹cpu tree›, for all resources.", on="v2"),
        say("""
            In version 2 a group hands a resource on to those below it only where it says so, from the top down.
        """, on="v2"),
        do(
            "HAD=$(grep -w cpu ‹cpu tree›/cgroup.subtree_control)\necho +cpu > ‹cpu tree›/cgroup.subtree_control",
            undo='[ "$HAD" ] || echo -cpu > ‹cpu tree›/cgroup.subtree_control',
            on="v2",
        ),
        do("mkdir ‹cpu tree›/learn", undo="rmdir ‹cpu tree›/learn"),
        do("echo +cpu > ‹cpu tree›/learn/cgroup.subtree_control", on="v2"),
        do("mkdir ‹cpu tree›/learn/{big,small,tiny}", undo="rmdir ‹cpu tree›/learn/{big,small,tiny}"),
        do("ls -C ‹cpu tree›/learn/big"),
        say("The kernel has filled it with files. `cpu.shares` is how much a group counts among others:", on="v1"),
        do("echo 2048 > ‹cpu tree›/learn/big/cpu.shares", on="v1"),
        do("echo 512 > ‹cpu tree›/learn/small/cpu.shares", on="v1"),
        do("echo 80 > ‹cpu tree›/learn/tiny/cpu.shares", on="v1"),
        say("""
            The kernel has filled it with files. `cpu.weight` says how much a group counts among its neighbours, 100
            being the usual. In version 1 it was `cpu.shares`, with 1024 the usual: shares of 2048, 512 and 80 are
            weights of 200, 50 and 8.
        """, on="v2"),
        do("echo 200 > ‹cpu tree›/learn/big/cpu.weight", on="v2"),
        do("echo 50 > ‹cpu tree›/learn/small/cpu.weight", on="v2"),
        do("echo 8 > ‹cpu tree›/learn/tiny/cpu.weight", on="v2"),
        say("""
            Three processes that want all the CPU there is. `taskset` has them want the same one: who has a CPU alone
            need not share it, whatever it weighs.
        """),
        do(
            f"{_LOOP} & BIG=$!\n{_LOOP} & SMALL=$!\n{_LOOP} & TINY=$!",
            undo="kill $BIG $SMALL $TINY; wait",
        ),
        say("A process is put into a group by writing its number there."),
        do(
            "echo $BIG > ‹cpu tree›/learn/big/cgroup.procs\n"
            "echo $SMALL > ‹cpu tree›/learn/small/cgroup.procs\n"
            "echo $TINY > ‹cpu tree›/learn/tiny/cgroup.procs"
        ),
        check("Each is in its group.", "grep -q /big$ /proc/$BIG/cgroup && grep -q /tiny$ /proc/$TINY/cgroup"),
        say("The kernel counts in nanoseconds what each has used (the first number), and `top` shows it in percent:"),
        do(f"{_COUNTED} | tee before"),
        say("Now `top` watches them for three seconds, and then we look again."),
        guess(
            "Of what the three get together, how many percent does the biggest get?",
            answer=f"echo {_BIG}",
            within=5,
            because="2048 / (2048 + 512 + 80) is 77%; 512 and 80 of 2640 are 19% and 3%.",
            on="v1",
        ),
        guess(
            "Of what the three get together, how many percent does the biggest get?",
            answer=f"echo {_BIG}",
            within=5,
            because="200 / (200 + 50 + 8) is 77%; 50 and 8 of 258 are 19% and 3%.",
            on="v2",
        ),
        do(f"top -b -w 80 -d 3 -n 2 -p $BIG,$SMALL,$TINY | tail -n 3\n{_COUNTED} > after"),
        do("paste before after"),
        check("The biggest gets about 77%.", _between(71, _BIG, 83)),
        check("The small one gets about 19%.", _between(14, _SMALL, 24)),
        check("The tiny one gets about 3%.", _between(1, _TINY, 7)),
        say("""
            Weights bind only where there is not enough: a group alone gets all. `docker run --cpu-shares` is this
            number; a hard limit, `--cpus`, waits in the lesson docker-cgroups.
        """),
    ),
)  # fmt: skip

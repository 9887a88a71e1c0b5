"""Directories that lie on top of each other and look like one. Linux, `Documentation/filesystems/overlayfs.rst`"""

from __future__ import annotations

from cutaway.lessons.lesson import Lesson, ask, check, do, say

LESSON = Lesson(
    "overlay",
    "Layers: directories on top of each other",
    needs=("mount", "find"),
    steps=(
        say("""
            A thousand containers can share one image, and each of them writes to it as if it were alone. The trick is
            a file system that has no disk: an *overlay* shows several directories as one. Those below are only read.
            What is written goes to the one on top.

            Two lower directories, an upper one, one that the kernel needs to work in, and one to look at it all:
        """),
        do("mkdir lower1 lower2 upper work merged"),
        do("echo 'I am of lower1' > lower1/change-me\necho 'I am of lower2' > lower2/delete-me"),
        do("echo 'lower1 says' > lower1/both\necho 'lower2 says' > lower2/both"),
        do(
            "mount -t overlay -o lowerdir=lower1:lower2,upperdir=upper,workdir=work \\\n  overlay merged",
            undo="umount merged",
        ),
        ask(
            "Both lower directories have a file `both`. Which one does the overlay show?",
            right="that of lower1",
            wrong=("that of lower2", "one after the other", "none: they are in conflict"),
            because="Layers are named from the top down, and the upper one hides what is below.",
        ),
        do("head merged/*"),
        check("All three names are there.", '[ "$(ls merged | wc -l)" = 3 ]'),
        check("Where two layers have a name, the first one wins.", "grep -q lower1 merged/both"),
        say("Now what a container does all day: make a file, change one, delete one."),
        do("echo 'I am new' > merged/made"),
        do("echo 'and I have changed' >> merged/change-me"),
        do("rm merged/delete-me"),
        do("ls merged"),
        ask(
            "`delete-me` is gone from view. Is it gone from `lower2`?",
            right="no: nothing is ever written to a lower directory",
            wrong=("yes", "it has been moved to the work directory"),
            because="The deletion is noted on top instead, as we are about to see.",
        ),
        do("umount merged"),
        check("`lower2` still has its file.", "grep -q lower2 lower2/delete-me"),
        say("The overlay is unmounted. Here is where everything lies:"),
        do("ls lower1 lower2"),
        do("ls -l upper"),
        check("What was made is in `upper`, and only there.", "[ -f upper/made ] && [ ! -e lower1/made ]"),
        say("The file that changed was first *copied up*, then written to: the original is as it was."),
        do("head lower1/change-me upper/change-me"),
        check("The lower file is as it was.", '[ "$(cat lower1/change-me)" = "I am of lower1" ]'),
        say("""
            And the file that was deleted? In `upper` there is a `c` with the numbers 0, 0 under its name: a device that
            does not exist, called a *whiteout*. To the overlay it means: there is nothing here, whatever lies below.
        """),
        do("stat -c '%n: %F %t,%T' upper/delete-me"),
        check("The whiteout is a device 0,0.", "[ -c upper/delete-me ] && [ $(stat -c %t%T upper/delete-me) = 00 ]"),
        say("""
            That is all there is to images: each layer is a lower directory, the container's own files are in the upper
            one, and `docker commit` makes a layer of it.
        """),
    ),
)  # fmt: skip

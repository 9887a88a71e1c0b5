"""The files of a running container, found on the host. Linux, `Documentation/filesystems/overlayfs.rst`"""

from __future__ import annotations

from cutaway.lessons.course.image import NEEDS_AN_IMAGE
from cutaway.lessons.lesson import Lesson, ask, check, do, say

LESSON = Lesson(
    "docker-overlay",
    "Where a container's files are",
    needs=("dpkg-deb", "find"),
    of_an_engine=True,
    steps=(
        *NEEDS_AN_IMAGE,
        do("‹engine› run -d --name learn ‹image› sleep 600", undo="‹remove› learn"),
        say("Its root is an overlay, and the engine tells of which directories (lesson `overlay` made one by hand):"),
        do("LOWER=$(‹engine› inspect -f '{{.GraphDriver.Data.LowerDir}}' learn)\necho $LOWER | tr : '\\n'"),
        say("""
            cutaway's image `host` has one layer: this machine's own root, which an overlay can show and never touches.
        """, on="cutaway"),
        do("ls -C $(echo $LOWER | sed 's/.*://')"),
        check("The image's files are in the lowest of them.", "[ -e $(echo $LOWER | sed 's/.*://')/bin/sh ]"),
        say("What the container writes is in the upper one. So far there is next to nothing:"),
        do("UPPER=$(‹engine› inspect -f '{{.GraphDriver.Data.UpperDir}}' learn)\nls $UPPER"),
        say("Let us install something: a package. It is made here, so that no network is needed."),
        do(
            "mkdir -p moo/DEBIAN moo/usr/bin\n"
            "printf '#!/bin/sh\\necho Moo.\\n' > moo/usr/bin/learn-moo\n"
            "chmod +x moo/usr/bin/learn-moo"
        ),
        do(
            "printf '%s\\n' 'Package: learn-moo' 'Version: 1' 'Architecture: all' \\\n"
            "  'Maintainer: You <you@example.org>' 'Description: A cow' \\\n"
            "  > moo/DEBIAN/control"
        ),
        do("dpkg-deb --build -Zgzip moo learn-moo.deb"),
        do("‹engine› cp learn-moo.deb learn:/tmp/"),
        ask(
            "The package is about to be installed in the container. Where will its program lie?",
            right="in the upper directory",
            wrong=("in the lower directory", "in /usr/bin of this machine"),
            because="Nothing is ever written to an image; that is why a hundred containers can share it.",
        ),
        do("‹engine› exec learn dpkg -i /tmp/learn-moo.deb"),
        do("‹engine› exec learn learn-moo"),
        check("The program runs inside.", "‹engine› exec learn learn-moo | grep -q Moo"),
        do("find $UPPER -type f -printf '%P\\n'"),
        check("It has appeared in the upper directory.", "[ -x $UPPER/usr/bin/learn-moo ]"),
        check("This machine has no such program.", "! command -v learn-moo"),
        check("dpkg's list of packages was copied up, to be changed.", "grep -q learn-moo $UPPER/var/lib/dpkg/status"),
        say("And the engine's `diff` is a look into that directory:"),
        do("‹engine› diff learn | grep -v dpkg"),
        check("`diff` lists what was added.", "‹engine› diff learn | grep -q 'A /usr/bin/learn-moo'"),
        say("Taking the container away takes its upper directory away. The image stays as it was."),
    ),
)  # fmt: skip

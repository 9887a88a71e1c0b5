"""The image of lessons on other engines: this machine's busybox, so that nothing has to be downloaded."""

from __future__ import annotations

from cutaway.lessons.lesson import do, say

NEEDS_AN_IMAGE = (
    say("‹engine› needs an image. One of busybox, a small system in one file, is quickly made:", on="another engine"),
    do(
        "mkdir -p image/{bin,dev,etc,proc,root,sys,tmp,var/lib/dpkg/info}\ncp $(which busybox) image/bin/",
        on="another engine",
    ),
    do("chroot image /bin/busybox --install -s /bin\ntouch image/var/lib/dpkg/status", on="another engine"),
    do("tar -C image -c . | ‹engine› import - ‹image›", undo="‹engine› rmi ‹image›", on="another engine"),
)  # fmt: skip
"""The first steps of a lesson about containers. cutaway needs none: its image `host` is the machine itself."""

"""The course: its lessons in the order in which one takes them. A new one is a file here, and a line below."""

from __future__ import annotations

from cutaway.lessons.course import (
    bridge,
    cgroups,
    docker_cgroups,
    docker_network,
    docker_overlay,
    docker_pid,
    free,
    just_a_process,
    nsenter,
    overlay,
    pid,
    scratch,
)

COURSE = (
    pid.LESSON,
    overlay.LESSON,
    bridge.LESSON,
    cgroups.LESSON,
    scratch.LESSON,
    docker_network.LESSON,
    docker_cgroups.LESSON,
    docker_overlay.LESSON,
    docker_pid.LESSON,
    just_a_process.LESSON,
    nsenter.LESSON,
    free.LESSON,
)

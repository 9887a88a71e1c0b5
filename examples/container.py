"""A container by hand, from nothing but `cutaway.kernel`: run it as root, with a command or without.

It has its own processes, mounts, host name, network and 64 MiB of memory; its files are this machine's, under a layer
of its own that takes what it writes. `cutaway run host` does the same, and about fifty things more.
"""

import os
import sys
import tempfile

from cutaway.kernel import namespaces
from cutaway.kernel.cgroups import Cgroup, host_layout
from cutaway.kernel.cgroups.resources import writes
from cutaway.kernel.mounts import MS_BIND, MS_PRIVATE, MS_REC, attach_at, enter_root, mount, new_mount
from cutaway.kernel.namespaces import CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWUTS
from cutaway.kernel.overlay import mount_overlay
from cutaway.kernel.syscalls import call

command = sys.argv[1:] or ["/bin/sh", "-c", "hostname; echo I am process $$; ls -d /proc/[0-9]*"]
with tempfile.TemporaryDirectory(prefix="container-") as layers:
    upper, work, root = (f"{layers}/{name}" for name in ("upper", "work", "root"))
    for directory in (upper, work, root):
        os.mkdir(directory)
    cgroup = Cgroup(os.path.basename(layers))
    cgroup.create()
    for limit in writes({"memory": {"limit": 64 << 20}}, host_layout()):
        cgroup.write(limit.controller, limit.file, limit.value)

    pid, _ = namespaces.clone(CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET)
    if pid == 0:
        cgroup.join()
        mount("none", "/", flags=MS_REC | MS_PRIVATE)
        mount_overlay(root, ["/"], upper, work)
        attach_at(new_mount("proc"), f"{root}/proc")
        mount("/dev", f"{root}/dev", flags=MS_BIND | MS_REC)
        enter_root(os.open(root, os.O_PATH))
        call("sethostname", "by-hand", 7)
        os.execvp(command[0], command)

    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    cgroup.remove()
sys.exit(status)

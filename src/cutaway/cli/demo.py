"""`make demo`: a container from this machine's own files, and what it is made of, by the commands one would type."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys

NAME = "cutaway-demo"
_KINDS = ("mnt", "uts", "ipc", "pid", "net", "cgroup", "user", "time")
_LIMITS = ("/sys/fs/cgroup/memory{}/memory.limit_in_bytes", "/sys/fs/cgroup{}/memory.max")


class Demo:
    """Types commands for the reader, `cutaway` by its path."""

    def __init__(self, cutaway: str) -> None:
        self._cutaway = cutaway

    def type(self, *words: str) -> str:
        """Shows `cutaway WORDS` and what it prints; raises `CalledProcessError` where it fails."""
        print(f"$ cutaway {shlex.join(words)}")
        printed = self.ask(*words)
        print(printed)
        return printed

    def ask(self, *words: str) -> str:
        """The same, without a word."""
        return subprocess.run([self._cutaway, *words], capture_output=True, text=True, check=True).stdout.rstrip()

    def show(self) -> None:
        """The tour."""
        say("A container from this machine's own root file system: nothing is downloaded.")
        self.type("run", "-d", "--name", NAME, "--memory", "64m", "host", "sleep", "600")
        pid = self.ask("inspect", "-f", "{{.State.Pid}}", NAME)
        self._process(pid)
        _namespaces(pid)
        _cgroup(pid)
        self._layers()
        self._network()

    def _process(self, pid: str) -> None:
        say("It is a process of this machine, with one PID out here and another inside:")
        self.type("exec", NAME, "ps", "-e", "-o", "pid,args")
        *_, outside, inside = status(pid, "NSpid").split()
        print(f"process {outside} out here is process {inside} inside (NSpid in /proc/{pid}/status)")

    def _layers(self) -> None:
        say("Its files: this machine's, read-only, under a layer of its own. A file written inside lies there:")
        self.type("exec", NAME, "sh", "-c", "echo hello > /written-inside; hostname")
        for kind in ("LowerDir", "UpperDir", "MergedDir"):
            print(f"{kind:9}  {self._layer(kind)}")
        found = f"{self._layer('UpperDir')}/written-inside"
        with open(found, encoding="utf-8") as file:
            print(f"{found}: {file.read().strip()}")

    def _layer(self, kind: str) -> str:
        return self.ask("inspect", "-f", f"{{{{.GraphDriver.Data.{kind}}}}}", NAME)

    def _network(self) -> None:
        say("Its address, on a bridge that this machine routes for:")
        settings = "{{range .NetworkSettings.Networks}}{{.IPAddress}}/{{.IPPrefixLen}} via {{.Gateway}}{{end}}"
        self.type("inspect", "-f", settings, NAME)
        self.type("exec", NAME, "cat", "/etc/hosts")

    def clean(self) -> None:
        """Takes the container away."""
        subprocess.run([self._cutaway, "rm", "-f", NAME], capture_output=True, check=False)


def say(text: str) -> None:
    """A sentence before what it is about."""
    print(f"\n# {text}")


def status(pid: str, field: str) -> str:
    """A line of /proc/PID/status."""
    with open(f"/proc/{pid}/status", encoding="utf-8") as lines:
        return next(line.partition(":")[2].strip() for line in lines if line.startswith(f"{field}:"))


def _namespaces(pid: str) -> None:
    say("It has namespaces of its own, where what it sees differs from what the machine sees:")
    for kind in _KINDS:
        own, hosts = (os.readlink(f"/proc/{each}/ns/{kind}") for each in (pid, "self"))
        print(f"{kind:7} {own:22} " + ("shared with the machine" if own == hosts else "its own"))


def _cgroup(pid: str) -> None:
    say("Its cgroup counts and limits what it uses:")
    with open(f"/proc/{pid}/cgroup", encoding="utf-8") as lines:
        fields = [line.strip().split(":", 2) for line in lines]
    path = next((path for _, controllers, path in fields if controllers == "memory"), fields[-1][2])
    file = next(found for limit in _LIMITS if os.path.exists(found := limit.format(path)))
    with open(file, encoding="utf-8") as limit:
        print(f"{file}: {int(limit.read()) >> 20} MiB")


def main() -> int:
    """Shows it; 1 where something is not as it says."""
    demo = Demo(os.path.join(os.path.dirname(sys.executable), "cutaway"))
    demo.clean()
    try:
        demo.show()
    except subprocess.CalledProcessError as error:
        print(error.stderr, file=sys.stderr)
        return 1
    finally:
        demo.clean()
    say(f"Taken away again. Your turn: {os.path.dirname(sys.executable)}/cutaway run -it host bash")
    return 0


if __name__ == "__main__":
    sys.exit(main())

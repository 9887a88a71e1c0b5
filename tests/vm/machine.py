"""A virtual machine on pure cgroup v2: Debian's kernel in qemu's software emulation, over this host's own files.

It boots a kernel package that is unpacked, never installed, with an initrd of busybox and a handful of modules, mounts
the host's root read-only with a layer in memory on top, and runs one command there. So whatever is installed here is
there too, at the same paths. Nothing but the command's output and exit status comes back. `qemu(1)`, `cgroups(7)`.

    python -m tests.vm.machine COMMAND [ARGUMENT…]
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Self

import pytest

from tests.images import CACHE

TOOLS = ("qemu-system-x86_64", "apt-get", "cpio", "depmod", "modprobe", "busybox")
BOOT_MODULES = ["virtio_pci", "9pnet_virtio", "9p", "overlay"]
MEMORY = "2560M"


RUNNING: pytest.StashKey[Machine | str] = pytest.StashKey()
"""In a session, the machine that runs the tests; where it cannot, why not."""


class Kernel:
    """An unpacked kernel package: `version`, `image` (vmlinuz) and `modules` (its /lib/modules)."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (self.image,) = root.glob("boot/vmlinuz-*")
        self.version = self.image.name.removeprefix("vmlinuz-")
        self.modules = next(path for path in (root / "lib/modules", root / "usr/lib/modules") if path.is_dir())


def kernel(network: tuple[str, ...] = ()) -> Kernel:
    """The kernel of this Debian, whose package is downloaded and unpacked the first time, in a few seconds.

    `network` is what a command line starts with to have the Internet.
    """
    root = CACHE / "kernel"
    if not root.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as directory:
            _download_kernel(Path(directory), network).rename(root)
    return Kernel(root)


def _download_kernel(directory: Path, network: tuple[str, ...]) -> Path:
    package = _output("apt-cache", "depends", "--important", "linux-image-amd64").split("Depends: ")[1].split()[0]
    _output(*network, "apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", package, cwd=directory)
    (archive,) = directory.glob("*.deb")
    unpacked = directory / "unpacked"
    _output("dpkg-deb", "--extract", str(archive), str(unpacked))
    _output("depmod", "--basedir", str(unpacked), Kernel(unpacked).version)
    return unpacked


class Machine:
    """A fresh machine that runs one command, in the present directory: a context manager, with which it ends.

    It takes what time the processors have left: what else is tested meanwhile should not wait for it.
    """

    def __init__(self, command: list[str], kernel: Kernel) -> None:
        self._name = tempfile.TemporaryDirectory()
        self._directory, self._command = Path(self._name.name), command
        script = f"cd {shlex.quote(os.getcwd())} && exec {shlex.join(command)}\n"
        (self._directory / "command").write_text(script)
        _make_initrd(self._directory, kernel)
        with open(self._directory / "said", "wb") as said:
            qemu = ["nice", "-n", "19", *_qemu(self._directory, kernel)]
            self._process = subprocess.Popen(qemu, stdin=subprocess.DEVNULL, stdout=said)

    def finished(self, timeout: float) -> subprocess.CompletedProcess[str]:
        """The command's exit status and its output, once it has ended.

        Raises `subprocess.TimeoutExpired` after `timeout` seconds, `RuntimeError` where it never ran.
        """
        code = self._process.wait(timeout)
        if code & 1 == 0:
            console = (self._directory / "console").read_text(errors="replace")
            raise RuntimeError(f"the virtual machine ended without running the command:\n{console[-4000:]}")
        return subprocess.CompletedProcess(self._command, code >> 1, (self._directory / "said").read_text())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._name.cleanup()


def _qemu(directory: Path, kernel: Kernel) -> list[str]:
    parameters = f"console=ttyS0 panic=-1 mitigations=off command={directory}/command modules={kernel.modules}"
    return [
        "qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "qemu64", "-smp", "2", "-m", MEMORY,
        "-nodefaults", "-no-reboot", "-display", "none", "-nic", "none",
        "-kernel", str(kernel.image), "-initrd", f"{directory}/initrd", "-append", parameters,
        "-serial", f"file:{directory}/console", "-serial", "stdio",
        "-device", "isa-debug-exit,iobase=0xf4,iosize=1",
        "-virtfs", "local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap",
    ]  # fmt: skip


def _make_initrd(directory: Path, kernel: Kernel) -> None:
    root = directory / "initrd.d"
    for name in ("bin", "dev", "proc"):
        (root / name).mkdir(parents=True)
    shutil.copy("/bin/busybox", root / "bin")
    for applet in ("sh", "mount", "umount", "mkdir", "cat", "cp", "chmod", "modprobe", "switch_root"):
        (root / "bin" / applet).symlink_to("busybox")
    shutil.copy(Path(__file__).with_name("init"), root)
    for path in _boot_modules(kernel):
        copied = root / "lib/modules" / path.relative_to(kernel.modules)
        copied.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copied)
    with open(directory / "initrd", "wb") as initrd:
        names = "\n".join(str(path.relative_to(root)) for path in sorted(root.rglob("*")))
        subprocess.run(
            ["cpio", "--create", "--format=newc", "--quiet"], cwd=root, input=names.encode(), stdout=initrd, check=True
        )


def _boot_modules(kernel: Kernel) -> list[Path]:
    """The modules that the root needs, with all they depend on, and the lists `modprobe` reads."""
    shown = _output(
        "modprobe", "--dirname", str(kernel.root), "--set-version", kernel.version, "--show-depends", "--all",
        *BOOT_MODULES,
    )  # fmt: skip
    modules = [Path(line.split()[1]) for line in shown.splitlines() if line.startswith("insmod")]
    return [*modules, *(kernel.modules / kernel.version).glob("modules.*")]


def _output(*command: str, cwd: Path | None = None) -> str:
    return subprocess.run(command, cwd=cwd, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    with Machine(sys.argv[1:], kernel()) as machine:
        finished = machine.finished(timeout=1200)
    print(finished.stdout, end="")
    sys.exit(finished.returncode)

"""Root file systems for the tests: busybox, made on the spot, and Debian, made once by mmdebstrap and kept."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from pathlib import Path

CACHE = Path(os.environ.get("CUTAWAY_TEST_CACHE", "/var/cache/cutaway-tests"))
"""Outside the checkout, for what takes long to make or to download."""

_DIRECTORIES = ("bin", "dev", "etc", "home", "proc", "root", "run", "sys", "tmp", "usr/bin", "var")
_FILES = {
    "etc/passwd": "root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/home:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n",
    "etc/group": "root:x:0:\nnobody:x:65534:\nuser:x:1000:\nstaff:x:50:user\n",
}


def make_busybox(archive: Path) -> None:
    """Writes a root file system of Debian's static busybox, all its applets in /bin."""
    applets = subprocess.run(["busybox", "--list"], check=True, capture_output=True, text=True).stdout.split()
    with tarfile.open(archive, "w") as tar:
        for name in _DIRECTORIES:
            tar.addfile(_member(name, tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755))
        tar.add("/bin/busybox", "bin/busybox")
        for applet in set(applets) - {"busybox"}:
            link = _member(f"bin/{applet}", tarfile.SYMTYPE, 0o777)
            link.linkname = "busybox"
            tar.addfile(link)
        for name, content in _FILES.items():
            file = _member(name, tarfile.REGTYPE, 0o644)
            file.size = len(content)
            tar.addfile(file, io.BytesIO(content.encode()))


def _member(name: str, kind: bytes, mode: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.mode = kind, mode
    return member


def debian(real_network: tuple[str, ...]) -> Path:
    """A minimal Debian as a tar archive; made the first time, in about a minute, with the Internet's help.

    Raises `subprocess.CalledProcessError` where mmdebstrap fails.
    """
    archive = CACHE / "debian-bookworm.tar"
    if not archive.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        unfinished = archive.with_suffix(f".{os.getpid()}.tar")
        command = (*real_network, "mmdebstrap", "--quiet", "--variant=minbase", "bookworm", str(unfinished))
        try:
            subprocess.run(command, check=True, timeout=600)
            unfinished.rename(archive)
        finally:
            unfinished.unlink(missing_ok=True)
    return archive

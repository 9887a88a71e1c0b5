"""The tests marked `vm` once more, on pure cgroup v2 and another kernel."""

from __future__ import annotations

import shutil
import sys

import pytest

from tests.host import Host
from tests.vm import machine

TIMEOUT = 1500


@pytest.mark.slow
@pytest.mark.timeout(TIMEOUT + 60)
def test_marked_tests_pass_on_pure_cgroup_v2(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    if missing := [tool for tool in machine.TOOLS if not shutil.which(tool)]:
        pytest.skip(f"the virtual machine needs {', '.join(missing)}")
    command = [sys.executable, "-m", "pytest", "-m", "vm", "-p", "no:cacheprovider", "--timeout=600", "--color=no"]
    done = machine.run(command, machine.kernel(host.real_network), TIMEOUT)
    with capsys.disabled():
        print(f"\n-- in the virtual machine\n{done.stdout}--", end="")
    assert done.returncode == 0, done.stdout

"""The tests marked `vm` once more, on pure cgroup v2 and another kernel."""

from __future__ import annotations

import pytest

from tests.vm.machine import RUNNING

TIMEOUT = 1500


@pytest.mark.slow
@pytest.mark.timeout(TIMEOUT + 60)
def test_marked_tests_pass_on_pure_cgroup_v2(pytestconfig: pytest.Config, capsys: pytest.CaptureFixture[str]) -> None:
    machine = pytestconfig.stash[RUNNING]
    if isinstance(machine, str):
        pytest.skip(machine)
    done = machine.finished(TIMEOUT)
    with capsys.disabled():
        print(f"\n-- in the virtual machine\n{done.stdout}--", end="")
    assert done.returncode == 0, done.stdout

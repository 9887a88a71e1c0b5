"""The virtual machine is at work from when the session begins: its test is the last, and only waits for it."""

from __future__ import annotations

import shutil
import sys
from contextlib import ExitStack

import pytest

from tests.host import HOST
from tests.vm import machine
from tests.vm.machine import RUNNING

_STACK = pytest.StashKey[ExitStack]()
_HERE = "tests/vm/"


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.nodeid.startswith(_HERE))


def pytest_collection_finish(session: pytest.Session) -> None:
    config = session.config
    if config.option.collectonly or not any(item.nodeid.startswith(_HERE) for item in session.items):
        return
    if missing := [tool for tool in machine.TOOLS if not shutil.which(tool)]:
        config.stash[RUNNING] = f"the virtual machine needs {', '.join(missing)}"
        return
    command = [sys.executable, "-m", "pytest", "-m", "vm", "-p", "no:cacheprovider", "--timeout=600", "--color=no"]
    stack = config.stash[_STACK] = ExitStack()
    kernel = machine.kernel(config.stash[HOST].real_network)
    config.stash[RUNNING] = stack.enter_context(machine.Machine(command, kernel))


def pytest_sessionfinish(session: pytest.Session) -> None:
    if stack := session.config.stash.get(_STACK, None):
        stack.close()

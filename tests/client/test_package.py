"""`import cutaway`: what it offers, what it costs, and that its types say what the engine takes."""

from __future__ import annotations

import importlib
import subprocess
import sys
from typing import Any

import pytest

import cutaway
from cutaway.client import options
from cutaway.engine.options import CREATE, EXEC, RUN, Option

OF_A_TERMINAL = {"detach", "detach_keys", "sig_proxy"}
"""Options of `run` that say what the command line does in front of a terminal, not what the container is."""
OF_LASTING_CONTAINERS = {"attach", "interactive", "restart", "rm"}
"""What has no meaning for a container that ends with the call or block that made it."""


def names(table: list[Option]) -> set[str]:
    return {option.name.replace("-", "_") for option in table}


def test_the_types_have_every_option_of_the_engine() -> None:
    assert set(options.CreateOptions.__annotations__) == names(CREATE)
    assert set(options.CreateOptions.__annotations__) == names(RUN) - OF_A_TERMINAL
    assert set(options.RunOptions.__annotations__) == names(CREATE) - OF_LASTING_CONTAINERS
    assert set(options.ExecOptions.__annotations__) == names(EXEC)


def test_options_that_repeat_take_several_values_and_no_others_do() -> None:
    several = (options.Texts, options.Pairs, options.Numbers)
    for option in CREATE:
        annotation = options.CreateOptions.__annotations__[option.name.replace("-", "_")]
        assert (eval(annotation.__forward_arg__, vars(options)) in several) == option.kind.repeats, option.name


def test_every_name_is_there() -> None:
    for name in cutaway.__all__:
        assert getattr(cutaway, name) is not None
    assert set(cutaway.__all__) <= set(dir(cutaway))
    with pytest.raises(AttributeError, match="nosuch"):
        _ = cutaway.nosuch  # type: ignore[attr-defined]


def imported_by(statement: str) -> set[str]:
    command = [sys.executable, "-I", "-c", f"{statement}\nimport sys; print(*sys.modules)"]
    return set(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())


def test_the_package_itself_imports_nothing() -> None:
    assert imported_by("import cutaway") - imported_by("pass") == {"__future__", "cutaway"}


def test_running_imports_nothing_slow() -> None:
    slow = {"asyncio", "dataclasses", "inspect", "msgspec", "socket", "subprocess", "tarfile", "tempfile"}
    assert not slow & imported_by("import cutaway; cutaway.run")


def test_errors_are_those_of_the_engine() -> None:
    engine = importlib.import_module("cutaway.engine.errors")
    kinds: dict[str, Any] = {name: kind for name, kind in vars(engine).items() if isinstance(kind, type)}
    for name, kind in kinds.items():
        ours = getattr(cutaway, name)
        assert [base.__name__ for base in kind.__mro__[1:] if base.__name__ in kinds] == [
            base.__name__ for base in ours.__mro__[1:] if base.__name__ in kinds
        ]
        assert ours.exit_code == kind.exit_code

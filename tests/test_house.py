"""The house around the code: the command's launcher, the examples, the Makefile, what is said about dependencies."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.engines import Engine

CHECKOUT = Path(__file__).parent.parent
EXAMPLES = sorted((CHECKOUT / "examples").glob("*.py"))
SAYS_WHERE = """
import sys
def main():
    print(__file__, sys.flags.isolated, sys.flags.no_site, *sys.argv[1:])
    return 7
"""


@pytest.fixture
def installation(tmp_path: Path) -> Path:
    """A virtual environment with the launcher and no package."""
    home = tmp_path / "home"
    (home / "bin").mkdir(parents=True)
    (home / "bin/python").symlink_to(sys.executable)
    shutil.copy(CHECKOUT / "bin/cutaway", home / "bin")
    site(home).mkdir(parents=True)
    return home


def site(home: Path) -> Path:
    return home / f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"


def place_package(directory: Path) -> str:
    """Makes a package whose command says what it was started with; returns its path."""
    command = directory / "cutaway/client/command.py"
    command.parent.mkdir(parents=True)
    command.write_text(SAYS_WHERE)
    return str(command)


def launch(*command: str | Path, cwd: Path | None = None, environment: dict[str, str] | None = None) -> tuple[int, str]:
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=20)
    return done.returncode, done.stdout.strip() + done.stderr


def test_launcher_starts_the_installed_package_without_site(installation: Path) -> None:
    package = place_package(site(installation))
    code, said = launch(installation / "bin/cutaway", "a b", "-I")
    assert (code, said.endswith("1 1 a b -I")) == (7, True)
    assert os.path.samefile(said.split()[0], package)


def test_launcher_finds_a_development_install(installation: Path, tmp_path: Path) -> None:
    package = place_package(tmp_path / "src")
    (site(installation) / "__editable__.cutaway-0.1.0.pth").write_text(f"{tmp_path}/src\n")
    assert launch(installation / "bin/cutaway") == (7, f"{package} 1 1")


def test_launcher_may_be_linked_and_named_relatively(installation: Path, tmp_path: Path) -> None:
    place_package(site(installation))
    (tmp_path / "one").symlink_to(installation / "bin/cutaway")
    (tmp_path / "another").symlink_to("one")
    assert launch(tmp_path / "another")[0] == 7
    assert launch("./another", cwd=tmp_path)[0] == 7
    assert launch("./cutaway", cwd=installation / "bin")[0] == 7


def test_launcher_is_installed_with_the_package() -> None:
    installed, own = Path(sys.executable).with_name("cutaway").read_text(), (CHECKOUT / "bin/cutaway").read_text()
    directly = own.replace("#!/bin/sh", f"#!{os.path.realpath(sys.executable)} -IS", 1)
    python = Path(sys.executable).with_name("python")
    assert installed in (own, directly.replace("PYTHON = sys.executable", f'PYTHON = "{python}"'))


@pytest.mark.usefixtures("busybox")  # so the engine has run a container before
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_examples_run(engine: Engine, example: Path) -> None:
    code, said = launch(sys.executable, example, environment=engine.environment)
    assert code == 0, said
    assert said


def test_make_says_what_one_can_do() -> None:
    makefile = (CHECKOUT / "Makefile").read_text()
    targets = next(line for line in makefile.splitlines() if line.startswith(".PHONY:")).split()[1:]
    code, said = launch("make", "-C", str(CHECKOUT), "--no-print-directory")
    assert code == 0
    assert re.findall(r"^ *make (\S+) +\S", said, re.MULTILINE) == targets


def test_every_dependency_is_accounted_for() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    account = (CHECKOUT / "docs/dependencies.md").read_text()
    for requirement in project["dependencies"]:
        name = re.split(r"[<>=]", requirement)[0]
        assert f"`{name}`" in account

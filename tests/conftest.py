"""Fixtures of all tests: a host of their own, the check that nothing is left behind, engines, images, Docker."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests import images
from tests.dockerd import Docker
from tests.engines import Engine
from tests.host import ADDRESS, HOST, Host
from tests.leaks import Watch
from tests.registry import Registry

_directories: list[Path] = []
"""State roots and runtime directories of the engines that run."""


def pytest_configure() -> None:
    """Has the session hear the signals that a shell ignores for what it starts in the background: what the tests start
    would inherit that."""
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGTERM):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


def pytest_sessionstart(session: pytest.Session) -> None:
    if session.config.option.collectonly:
        return
    if os.geteuid() != 0:
        pytest.exit("the tests make namespaces, mounts and cgroups: run them as root", returncode=1)
    session.config.stash[HOST] = Host()
    session.config.stash[HOST].enter()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """From the ground up: before an engine runs, those that need none."""
    items.sort(key=lambda item: "engine" in getattr(item, "fixturenames", ()))


@pytest.fixture(scope="session")
def host(pytestconfig: pytest.Config) -> Host:
    return pytestconfig.stash[HOST]


@pytest.fixture(autouse=True)
def leaves_nothing_behind() -> Iterator[None]:
    """Fails a test that leaks a mount, link, cgroup, rule, process, descriptor or file, or takes one of the host's."""
    watch = Watch(_directories)
    yield
    difference = watch.compare()
    _assert_none("left behind", difference.left_behind)
    _assert_none("taken from the host", difference.taken_away)


def _assert_none(what: str, things: list[str]) -> None:
    if things:
        pytest.fail(f"{what}:\n  " + "\n  ".join(things), pytrace=False)


@contextmanager
def _directory() -> Iterator[Path]:
    """A short path, since the sockets within may not have more than 107 characters, on a file system for layers."""
    with tempfile.TemporaryDirectory(prefix="cutaway-") as name:
        yield Path(name)


@contextmanager
def _running_engine() -> Iterator[Engine]:
    with _directory() as directory:
        engine = Engine(directory)
        watch = Watch([engine.runtime_dir])
        engine("version")
        _directories.extend((engine.root, engine.runtime_dir))
        try:
            yield engine
        finally:
            _directories.remove(engine.root)
            _directories.remove(engine.runtime_dir)
            engine.stop()
    _assert_none("left behind by the engine", watch.left_behind())


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """An engine that the session's tests share. Who ends it or its spawner takes `new_engine`."""
    with _running_engine() as engine:
        yield engine


@pytest.fixture
def new_engine() -> Iterator[Callable[[], Engine]]:
    """Starts engines for this test alone."""
    with ExitStack() as engines:
        yield lambda: engines.enter_context(_running_engine())


@pytest.fixture(scope="session")
def cutaway(engine: Engine) -> Engine:
    """The command: `cutaway("run", "--rm", "busybox", "true")`."""
    return engine


@pytest.fixture(scope="session")
def busybox_tar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    archive = tmp_path_factory.mktemp("busybox") / "busybox.tar"
    images.make_busybox(archive)
    return archive


@pytest.fixture(scope="session")
def busybox(engine: Engine, busybox_tar: Path) -> str:
    """The name of an image of Debian's busybox in the shared engine, which has published a port of one."""
    engine("import", busybox_tar, "busybox")
    engine("run", "--rm", "-p", "127.0.0.1::80", "busybox", "true")
    return "busybox"


@pytest.fixture(scope="session")
def debian_tar(host: Host) -> Path:
    if not shutil.which("mmdebstrap"):
        pytest.skip("mmdebstrap is not installed")
    return images.debian(host.real_network)


@pytest.fixture(scope="session")
def debian(engine: Engine, debian_tar: Path) -> str:
    """The name of an image of a minimal Debian in the shared engine."""
    engine("import", debian_tar, "debian", timeout=120)
    return "debian"


@pytest.fixture(scope="module")
def docker(busybox_tar: Path) -> Iterator[Docker]:
    """A Docker daemon on the host of the tests, with an image `busybox`; its FORWARD policy is DROP."""
    if not shutil.which("dockerd") or not shutil.which("docker"):
        pytest.skip("Docker is not installed")
    with _directory() as directory, Docker(directory) as docker:
        docker("import", str(busybox_tar), "busybox")
        yield docker


@contextmanager
def _running_registry(**options: Any) -> Iterator[Registry]:
    if not shutil.which("docker-registry"):
        pytest.skip("docker-registry is not installed")
    with _directory() as directory, Registry(directory, **options) as registry:
        yield registry


@pytest.fixture(scope="session")
def registry() -> Iterator[Registry]:
    """A registry on loopback that anyone may use, without TLS."""
    with _running_registry() as registry:
        yield registry


@pytest.fixture(scope="session")
def protected_registry() -> Iterator[Registry]:
    """A registry on loopback that wants a name and a password, without TLS."""
    with _running_registry(protected=True) as registry:
        yield registry


@pytest.fixture(scope="session")
def secure_registry() -> Iterator[Registry]:
    """A registry on the host's own address, which is not loopback, with TLS, that wants a name and a password."""
    with _running_registry(address=ADDRESS, protected=True, secure=True) as registry:
        yield registry

"""`login`, `logout`, `push`, `pull` and `save` as a person uses them, whose credentials are where Docker keeps them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pexpect
import pytest

from tests.children import wait_until
from tests.engines import COMMAND, Engine
from tests.image import scripted
from tests.registry import PASSWORD, USER, Registry

pytestmark = pytest.mark.usefixtures("busybox")

AUTH = b64encode(f"{USER}:{PASSWORD}".encode()).decode()
HELPER = """#!/bin/sh
# Keeps one secret, in the file that the caller's environment names.
case "$1" in
store) cat > "$KEPT_IN" ;;
get) cat > /dev/null; cat "$KEPT_IN" 2>/dev/null || { echo credentials not found in native keychain; exit 1; } ;;
erase) cat > /dev/null; rm -f "$KEPT_IN" ;;
esac
"""


class Person:
    """Somebody with a home of their own who uses the shared engine. Called with a command's arguments, runs it."""

    def __init__(self, engine: Engine, home: Path) -> None:
        self.home, self.file = home, home / ".docker/config.json"
        self.environment = engine.environment | {"HOME": str(home), "PATH": f"{home}:{os.environ['PATH']}"}
        self.environment.pop("DOCKER_CONFIG", None)
        self.command = [str(COMMAND)]

    def __call__(self, *arguments: str | Path, input: str = "", code: int = 0) -> str:
        """Standard output and error together, from a command that ends with this exit code."""
        done = subprocess.run(
            [*self.command, *arguments],
            input=input, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=self.environment, timeout=60,
        )  # fmt: skip
        assert done.returncode == code, done.stdout
        return done.stdout

    def sees(self, code: int, *arguments: str) -> str:
        """What a command that ends with this exit code shows on a terminal."""
        terminal = pexpect.spawn(str(COMMAND), list(arguments), env=self.environment, encoding="utf-8", timeout=60)
        terminal.expect(pexpect.EOF)
        terminal.close()
        assert terminal.exitstatus == code, terminal.before
        return terminal.before or ""

    def becomes(self, uid: int) -> None:
        """Is from now on another user of the host, in root's group, which may use the engine."""
        self.home.chmod(0o755)
        os.chown(self.home, uid, 0)
        self.command = ["setpriv", "--reuid", str(uid), "--regid", "0", "--clear-groups", *self.command]

    @property
    def config(self) -> Any:
        return json.loads(self.file.read_text())

    @config.setter
    def config(self, config: Any) -> None:
        self.file.parent.mkdir(exist_ok=True)
        self.file.write_text(json.dumps(config))

    def add_helper(self, name: str, script: str = HELPER) -> Path:
        """Puts a credential helper on the path; returns what it keeps the secret in."""
        program, kept = self.home / f"docker-credential-{name}", self.home / f"{name}.kept"
        program.write_text(script)
        program.chmod(0o755)
        self.environment["KEPT_IN"] = str(kept)
        return kept


@pytest.fixture
def person(cutaway: Engine, tmp_path: Path) -> Person:
    return Person(cutaway, tmp_path)


@pytest.fixture
def image(cutaway: Engine, request: pytest.FixtureRequest) -> Iterator[str]:
    """A name for busybox in whatever registry, without the registry."""
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")
    yield name
    tags = cutaway("images", "--format", "{{.Repository}}:{{.Tag}}").stdout.split()
    if mine := [tag for tag in tags if f"/{name}" in tag]:
        cutaway("rmi", *mine)


def log_in(person: Person, registry: Registry) -> str:
    return person("login", "--username", USER, "--password-stdin", registry.name, input=PASSWORD + "\n")


class TestLogin:
    def test_keeps_what_the_registry_accepts(self, person: Person, protected_registry: Registry) -> None:
        said = log_in(person, protected_registry)
        assert said.splitlines()[-1] == "Login Succeeded"
        assert f"WARNING! The password is kept in {person.file}" in said
        assert person.config == {"auths": {protected_registry.name: {"auth": AUTH}}}
        assert (person.file.stat().st_mode & 0o777, person.file.parent.stat().st_mode & 0o777) == (0o600, 0o700)
        again = person("login", protected_registry.name)
        assert again == "Authenticating with existing credentials...\nLogin Succeeded\n"

    def test_keeps_nothing_that_it_refuses(self, person: Person, protected_registry: Registry) -> None:
        said = person("login", "-u", USER, "-p", "wrong", protected_registry.name, code=1)
        assert "WARNING! Using --password via the CLI is insecure. Use --password-stdin." in said
        assert f"cannot log in to {protected_registry.name}: UNAUTHORIZED" in said
        assert not person.file.exists()

    def test_leaves_the_rest_of_the_file_as_it_was(self, person: Person, protected_registry: Registry) -> None:
        before = {"psFormat": "table", "auths": {"other.example": {"auth": "eDp5"}}, "HttpHeaders": {"ä": ["1"]}}
        person.config = before
        person.file.chmod(0o644)
        real = person.home / "real.json"
        person.file.rename(real)
        person.file.symlink_to(real)
        inode = real.stat().st_ino
        log_in(person, protected_registry)
        entry = {protected_registry.name: {"auth": AUTH}}
        assert person.config == before | {"auths": {"other.example": {"auth": "eDp5"}} | entry}
        assert person.file.is_symlink()
        assert real.stat().st_ino != inode  # it was replaced, whole
        assert real.stat().st_mode & 0o777 == 0o600
        person("logout", protected_registry.name)
        assert person.config == before
        assert sorted(path.name for path in person.home.iterdir()) == [".docker", "real.json"]

    def test_where_docker_config_says(self, person: Person, protected_registry: Registry) -> None:
        person.environment["DOCKER_CONFIG"] = str(person.home / "elsewhere")
        log_in(person, protected_registry)
        assert (person.home / "elsewhere/config.json").exists()
        assert not person.file.exists()

    def test_never_writes_over_a_file_that_it_cannot_read(self, person: Person, protected_registry: Registry) -> None:
        person.config = {}
        person.file.write_text("{broken")
        said = person("login", "-u", USER, "-p", PASSWORD, protected_registry.name, code=1)
        assert str(person.file) in said
        assert person.file.read_text() == "{broken"

    @pytest.mark.parametrize(
        ("options", "complaint"),
        [
            (["-u", "x", "-p", "y", "--password-stdin"], "--password and --password-stdin are mutually exclusive"),
            (["--password-stdin"], "Must provide --username with --password-stdin"),
            (["-u", "x"], "Cannot perform an interactive login from a non TTY device"),
        ],
    )
    def test_what_makes_no_sense(self, options: list[str], complaint: str, person: Person) -> None:
        assert complaint in person("login", *options, "127.0.0.1:1", code=1)

    def test_docker_hub_by_its_names(self, person: Person) -> None:
        for name in ([], ["docker.io"], ["index.docker.io"], ["https://index.docker.io/v1/"]):
            person.config = {"auths": {"https://index.docker.io/v1/": {"auth": AUTH}, "quay.io": {}}}
            assert person("logout", *name) == "Removing login credentials for docker.io\n"
            assert person.config == {"auths": {"quay.io": {}}}
        assert person("logout") == "Not logged in to docker.io\n"


class TestTokens:
    @pytest.fixture
    def registry(self) -> Iterator[scripted.Registry]:
        """One that wants tokens of a server that gives identity tokens too."""
        with scripted.Registry() as registry:
            challenge = f'Bearer realm="http://{registry.name}/grant/token",service="tests"'

            def grant(handler: scripted.Handler) -> None:
                asked = registry.requests[-1]
                knows = asked.authorization == f"Basic {AUTH}" or "refresh_token=lasting" in asked.form
                lasting = ', "refresh_token": "lasting"' if "offline_token=true" in asked.query else ""
                handler.whole(f'{{"token": "granted"{lasting}}}'.encode()) if knows else handler.status(401)

            def guarded(handler: scripted.Handler) -> None:
                granted = handler.headers.get("Authorization") == "Bearer granted"
                handler.regular() if granted else handler.status(401, WWW_Authenticate=challenge)

            registry.answers = {"/grant/token": grant, "/v2/": guarded}
            yield registry

    @pytest.mark.parametrize("has_helper", [False, True])
    def test_that_last_are_kept_instead_of_the_password(
        self, has_helper: bool, person: Person, registry: scripted.Registry
    ) -> None:
        kept = person.add_helper("drawer")
        person.config = {"credsStore": "drawer"} if has_helper else {}
        said = person("login", "-u", USER, "--password-stdin", registry.name, input=PASSWORD)
        assert said == "Login Succeeded\n"  # no warning: there is no password to be read
        if has_helper:
            assert json.loads(kept.read_text())["Username"] == "<token>"
            assert json.loads(kept.read_text())["Secret"] == "lasting"
        else:
            name = b64encode(f"{USER}:".encode()).decode()
            assert person.config == {"auths": {registry.name: {"auth": name, "identitytoken": "lasting"}}}
        registry.requests.clear()
        assert person("login", registry.name).endswith("Login Succeeded\n")
        forms = [request.form for request in registry.asked_for("/grant/token")]
        assert forms
        assert all("grant_type=refresh_token&refresh_token=lasting" in form for form in forms)

    def test_are_not_given_for_a_wrong_password(self, person: Person, registry: scripted.Registry) -> None:
        said = person("login", "-u", USER, "--password-stdin", registry.name, input="wrong", code=1)
        assert f"cannot log in to {registry.name}: the token server {registry.name} refuses the credentials" in said
        assert not person.file.exists()


class TestPrompts:
    @pytest.fixture
    def terminal(self, person: Person, protected_registry: Registry) -> Iterator[Any]:
        command = [str(COMMAND), "login", protected_registry.name]
        terminal = pexpect.spawn(
            "sh", ["-c", '"$@"; echo "code $?"; read -r line', "sh", *command],
            env=person.environment, encoding="utf-8", timeout=20,
        )  # fmt: skip
        terminal.delaybeforesend = None
        terminal.expect_exact(f"Username for {protected_registry.name}: ")
        yield terminal
        terminal.close(force=True)

    def test_show_the_name_and_not_the_password(self, terminal: Any, person: Person) -> None:
        terminal.sendline(USER)
        terminal.expect_exact(f"{USER}\r\nPassword: ")
        terminal.waitnoecho()
        terminal.sendline(PASSWORD)
        terminal.expect_exact("Login Succeeded")
        assert PASSWORD not in terminal.before
        terminal.expect_exact("code 0")
        assert terminal.getecho()
        assert list(person.config["auths"].values()) == [{"auth": AUTH}]

    def test_let_go_of_the_terminal_when_interrupted(self, terminal: Any, person: Person) -> None:
        terminal.sendline(USER)
        terminal.expect_exact("Password: ")
        terminal.waitnoecho()
        terminal.sendintr()
        wait_until(terminal.getecho)
        assert not person.file.exists()


class TestHelpers:
    @pytest.mark.parametrize("named", ["credsStore", "credHelpers"])
    def test_keep_the_password_instead_of_the_file(
        self, named: str, person: Person, protected_registry: Registry, image: str
    ) -> None:
        kept, name = person.add_helper("drawer"), protected_registry.name
        settings = {"credsStore": "drawer"} if named == "credsStore" else {"credHelpers": {name: "drawer"}}
        person.config = settings
        assert log_in(person, protected_registry) == "Login Succeeded\n"
        assert json.loads(kept.read_text()) == {"ServerURL": name, "Username": USER, "Secret": PASSWORD}
        assert person.config == settings | {"auths": {name: {}}}
        person("tag", "busybox", f"{name}/{image}")
        person("push", f"{name}/{image}")
        assert person("logout", name) == f"Removing login credentials for {name}\n"
        assert not kept.exists()
        assert person.config == settings | {"auths": {}}
        assert "push access denied" in person("push", f"{name}/{image}", code=1)

    def test_are_the_callers_and_so_is_the_file(self, engine: Engine, protected_registry: Registry) -> None:
        with tempfile.TemporaryDirectory() as home:  # which others may enter
            person = Person(engine, Path(home))
            person.becomes(1234)
            engine.runtime_dir.parent.chmod(0o711)
            log_in(person, protected_registry)
            assert (person.file.stat().st_uid, person.file.parent.stat().st_uid) == (1234, 1234)
            kept = person.add_helper("drawer")
            person.config = {"credsStore": "drawer"}
            log_in(person, protected_registry)
            assert (kept.stat().st_uid, person.file.stat().st_uid) == (1234, 1234)

    def test_of_one_registry_is_asked_before_that_of_all(self, person: Person, protected_registry: Registry) -> None:
        person.add_helper("drawer")
        person.config = {"credsStore": "missing", "credHelpers": {protected_registry.name: "drawer"}}
        log_in(person, protected_registry)

    @pytest.mark.parametrize(
        ("script", "complaint"),
        [
            ("", "cannot run docker-credential-drawer, which {file} names: No such file or directory"),
            ("#!/bin/sh\necho it is locked; exit 1\n", "docker-credential-drawer get: it is locked"),
            ("#!/bin/sh\necho nonsense\n", "docker-credential-drawer get: "),
        ],
    )
    def test_that_fail_are_told_and_done_without(
        self, script: str, complaint: str, person: Person, registry: Registry, image: str
    ) -> None:
        if script:
            person.add_helper("drawer", script)
        person.config = {"credsStore": "drawer"}
        person("tag", "busybox", f"{registry.name}/{image}")
        said = person("push", f"{registry.name}/{image}")
        expected = complaint.format(file=person.file)
        assert f"WARNING: going on without credentials for {registry.name}: {expected}" in said
        assert "latest: digest: sha256:" in said


class TestPush:
    def test_says_what_dockers_says(self, person: Person, registry: Registry, image: str) -> None:
        name = f"{registry.name}/{image}"
        person("tag", "busybox", name)
        layer = person("image", "inspect", "-f", "{{index .RootFS.Layers 0}}", "busybox")[7:19]
        first = person("push", name).splitlines()
        assert first[:3] == [
            "Using default tag: latest", f"The push refers to repository [{name}]", f"{layer}: Preparing"
        ]  # fmt: skip
        assert first[3:-1] in ([f"{layer}: Pushed"], [f"{layer}: Mounted from {first[3].partition(' from ')[2]}"])
        digest, size = re.fullmatch(r"latest: digest: (sha256:[0-9a-f]{64}) size: (\d+)", first[-1]).groups()  # type: ignore[union-attr]
        assert len(registry.get(f"{image}/manifests/{digest}")) == int(size)
        assert person("push", f"{name}:latest").splitlines() == [
            first[1],
            first[2],
            f"{layer}: Layer already exists",
            first[-1],
        ]
        assert person("images", "--digests", "--format", "{{.Digest}}", name).strip() == digest
        assert person("push", "-q", name) == f"{name}:latest\n"

    def test_all_tags(self, person: Person, registry: Registry, image: str) -> None:
        name = f"{registry.name}/{image}"
        for tag in ("a", "b"):
            person("tag", "busybox", f"{name}:{tag}")
        said = person("push", "--all-tags", name)
        assert [line.partition(":")[0] for line in said.splitlines() if "digest:" in line] == ["a", "b"]
        assert set(json.loads(registry.get(f"{image}/tags/list"))["tags"]) == {"a", "b"}
        assert "tag can't be used with --all-tags/-a" in person("push", "-a", f"{name}:a", code=1)
        assert "An image does not exist locally with the tag" in person("push", "-a", f"{name}/none", code=1)

    def test_and_pull_by_tag_and_digest(self, person: Person, protected_registry: Registry, image: str) -> None:
        name = f"{protected_registry.name}/{image}"
        log_in(person, protected_registry)
        person("tag", "busybox", f"{name}:v1")
        digest = re.search(r"sha256:[0-9a-f]{64}", person("push", f"{name}:v1"))
        assert digest
        for reference in (f"{name}:v1", f"{name}@{digest[0]}"):
            person("rmi", f"{name}:v1")
            assert f"Digest: {digest[0]}" in person("pull", reference)
            assert person("run", "--rm", reference, "echo", "here") == "here\n"
            person("tag", reference, f"{name}:v1")
        other = digest[0][:-1] + ("0" if digest[0][-1] != "0" else "1")
        assert "MANIFEST_UNKNOWN" in person("pull", f"{name}@{other}", code=1)

    def test_shows_bars_on_a_terminal(self, person: Person, registry: Registry, image: str) -> None:
        person("tag", "busybox", f"{registry.name}/{image}")
        shown = person.sees(0, "push", f"{registry.name}/{image}")
        assert re.search(r"[0-9a-f]{12}: (Pushed|Mounted from|Layer already)", shown)
        assert "latest: digest: sha256:" in shown


def test_a_password_is_nowhere_but_in_its_file(
    cutaway: Engine, person: Person, protected_registry: Registry, image: str
) -> None:
    name = f"{protected_registry.name}/{image}"
    log_in(person, protected_registry)
    person("tag", "busybox", name)
    person("push", name)
    person("pull", name)
    for secret in (PASSWORD, AUTH):
        assert secret not in person("image", "inspect", name) + person("info")
        for root in (cutaway.root, cutaway.runtime_dir):
            assert holding(root, secret) == []


def holding(root: Path, secret: str) -> list[Path]:
    """The files of an engine, without those of images, that hold a secret."""
    files = [path for path in root.rglob("*") if path.is_file() and root / "images" not in path.parents]
    return [path for path in files if secret.encode() in path.read_bytes()]


class TestSave:
    def test_refuses_a_terminal(self, person: Person, busybox: str) -> None:
        assert "cowardly refusing to save to a terminal" in person.sees(1, "save", busybox)

    def test_to_a_file_and_to_standard_output(self, person: Person, busybox: str) -> None:
        file = person.home / "saved.tar"
        person("save", "-o", file, busybox)
        piped = subprocess.run([COMMAND, "save", busybox], stdout=subprocess.PIPE, env=person.environment, check=True)
        assert piped.stdout == file.read_bytes()
        assert file.stat().st_mode & 0o777 == 0o600

    def test_what_fails_leaves_a_file_as_it_was(self, person: Person) -> None:
        file = person.home / "saved.tar"
        file.write_text("before")
        assert "No such image: nosuch:latest" in person("save", "-o", file, "nosuch", code=1)
        assert file.read_text() == "before"
        assert list(person.home.iterdir()) == [file]

    def test_to_where_no_file_can_be(self, person: Person, busybox: str) -> None:
        assert "no such file or directory" in person("save", "-o", person.home / "no/where", busybox, code=1)
        assert "is a directory" in person("save", "-o", person.home, busybox, code=1)

    def test_to_who_has_left(self, person: Person, busybox: str) -> None:
        done = subprocess.run(
            ["sh", "-c", f"{COMMAND} save {busybox} | head -c 10 | wc -c"],
            env=person.environment, stdout=subprocess.PIPE, text=True, check=True,
        )  # fmt: skip
        assert done.stdout.strip() == "10"

"""runtime.md of the OCI runtime specification: each "must" about a container's state, its life and the operations on
it, seen with `cutaway-oci`."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.children import wait_until
from tests.conformance.bundles import PATH, Bundle, Runtime

pytestmark = pytest.mark.document("runtime.md")


def must(section: str) -> pytest.MarkDecorator:
    return pytest.mark.must(section)


def ended(bundle: Bundle) -> bool:
    return bool(bundle.state()["status"] == "stopped")


# Scope of a container, state


@must("Scope of a container")
def test_an_id_is_one_containers_alone(bundle: Bundle, bundles: Callable[[], Bundle]) -> None:
    bundle.create("sleep", "60")
    other = bundles()
    other.id = bundle.id
    done = other.does("create")
    assert done.returncode != 0 and "already exists" in done.said
    assert bundle.state()["bundle"] == str(bundle.directory)


@must("State")
def test_the_state_has_what_the_specification_lists(bundle: Bundle) -> None:
    bundle.spec["annotations"] = {"a": "b"}
    bundle.create("sleep", "60")
    state = bundle.state()
    assert state["ociVersion"] == "1.3.0"
    assert (state["id"], state["status"], state["bundle"]) == (bundle.id, "created", str(bundle.directory))
    assert state["annotations"] == {"a": "b"}
    assert Path(f"/proc/{state['pid']}").is_dir()


@must("State")
def test_the_status_follows_the_containers_life(bundle: Bundle) -> None:
    bundle.create("sleep", "60")
    assert bundle.state()["status"] == "created"
    bundle.start()
    assert bundle.state()["status"] == "running"
    bundle.runtime("kill", bundle.id, "KILL")
    wait_until(lambda: ended(bundle))


@must("State")
@must("Query state")
def test_the_state_of_a_container_that_is_not_there_is_an_error(runtime: Runtime) -> None:
    done = runtime("state", "absent")
    assert done.returncode != 0 and "does not exist" in done.said
    assert runtime("state").returncode != 0


# Lifecycle, create, start


@must("Create")
def test_all_but_the_process_is_applied_when_a_container_is_created(bundle: Bundle) -> None:
    bundle.spec["hostname"] = "early"
    bundle.create("sh", "-c", "echo ran > /ran")
    pid = bundle.state()["pid"]
    assert os.readlink(f"/proc/{pid}/ns/uts") != os.readlink("/proc/self/ns/uts")
    assert bundle.id in Path(f"/proc/{pid}/cgroup").read_text()
    assert not (bundle.rootfs / "ran").exists()
    bundle.start()
    wait_until(lambda: (bundle.rootfs / "ran").exists())


@must("Create")
def test_a_bundle_that_cannot_be_applied_is_an_error_and_no_container(bundle: Bundle) -> None:
    bundle.mount("/there", "nonsensefs", "x")
    assert "nonsensefs" in bundle.refusal()


@must("Create")
def test_a_directory_that_is_no_bundle_is_an_error(bundle: Bundle, runtime: Runtime, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for directory in (tmp_path / "empty", tmp_path / "absent"):
        assert runtime("create", "--bundle", str(directory), bundle.id).returncode != 0
    (tmp_path / "empty/config.json").write_text('{"ociVersion": "1.3.0",')
    done = runtime("create", "--bundle", str(tmp_path / "empty"), bundle.id)
    assert done.returncode != 0 and "config.json" in done.said


@must("Create")
def test_a_root_can_be_entered_without_pivoting(bundle: Bundle) -> None:
    (bundle.rootfs / "only-inside").touch()
    done = bundle.does("run", "--no-pivot")
    assert done.returncode == 0, done.said
    bundle.process["args"] = ["ls", "/"]
    assert "only-inside" in bundle.does("run", "--no-pivot").stdout


@must("Lifecycle")
def test_changes_of_the_configuration_after_creation_have_no_effect(bundle: Bundle) -> None:
    bundle.create("sh", "-c", "echo first > /ran")
    bundle.process["args"] = ["sh", "-c", "echo second > /ran"]
    bundle.write()
    bundle.start()
    wait_until(lambda: ended(bundle))
    assert (bundle.rootfs / "ran").read_text() == "first\n"


@must("Start")
def test_starting_what_is_not_created_is_an_error_and_changes_nothing(bundle: Bundle) -> None:
    assert bundle.runtime("start", "absent").returncode != 0
    bundle.create("sleep", "60")
    assert bundle.start().returncode == 0
    before = bundle.state()
    assert bundle.start().returncode != 0
    assert bundle.state() == before
    bundle.runtime("kill", bundle.id, "KILL")
    wait_until(lambda: ended(bundle))
    assert bundle.start().returncode != 0
    assert bundle.runtime("start").returncode != 0


@must("Start")
def test_a_program_that_cannot_be_executed_is_an_error(bundle: Bundle) -> None:
    done = bundle.runs("/absent")
    assert done.returncode != 0 and "/absent" in done.said


@must("Lifecycle")
@pytest.mark.parametrize("moment", ["prestart", "createRuntime", "createContainer"])
def test_a_hook_that_fails_while_creating_ends_the_container_and_poststop_hooks_run(
    bundle: Bundle, moment: str
) -> None:
    bundle.spec["hooks"] = {
        moment: [{"path": "/bin/sh", "args": ["sh", "-c", "echo said; exit 3"]}],
        "poststop": [{"path": "/bin/touch", "args": ["touch", str(bundle.directory / "stopped")], "env": [PATH]}],
    }
    said = bundle.refusal()
    assert moment in said and "said" in said
    assert (bundle.directory / "stopped").exists()


@must("Lifecycle")
def test_a_hook_that_fails_before_the_program_starts_keeps_it_from_running(bundle: Bundle) -> None:
    bundle.spec["hooks"] = {"startContainer": [{"path": "/bin/false"}]}
    bundle.create("sh", "-c", "echo ran > /ran")
    assert bundle.start().returncode != 0
    assert not (bundle.rootfs / "ran").exists()


@must("Lifecycle")
@pytest.mark.parametrize("moment", ["startContainer", "poststart"])
def test_a_hook_that_fails_at_the_start_destroys_the_container_and_poststop_hooks_run(
    bundle: Bundle, moment: str
) -> None:
    stopped = bundle.directory / "stopped"
    bundle.spec["hooks"] = {
        moment: [{"path": "/bin/false"}],
        "poststop": [{"path": "/bin/sh", "args": ["sh", "-c", f"cat >> {stopped}"]}],
    }
    bundle.create("sleep", "60")
    pid = bundle.state()["pid"]
    done = bundle.start()
    assert done.returncode != 0 and moment in done.said
    assert json.loads(stopped.read_text())["status"] == "stopped"
    assert not Path(f"/proc/{pid}/exe").exists()
    assert os.listdir(bundle.runtime.root) == []
    assert bundle.runtime("delete", "--force", bundle.id).returncode == 0


@must("Lifecycle")
def test_a_poststop_hook_that_fails_is_a_warning_and_the_others_run(bundle: Bundle) -> None:
    after = {"path": "/bin/touch", "args": ["touch", str(bundle.directory / "after")], "env": [PATH]}
    bundle.spec["hooks"] = {"poststop": [{"path": "/bin/false"}, after]}
    bundle.create("sleep", "60")
    bundle.runtime.options = ("--log", str(bundle.directory / "log"))
    assert bundle.runtime("delete", "--force", bundle.id).returncode == 0
    assert (bundle.directory / "after").exists()
    assert "poststop" in (bundle.directory / "log").read_text()


@must("Lifecycle")
def test_a_warning_of_delete_is_seen_without_a_log_and_one_of_run_is_not(bundle: Bundle) -> None:
    bundle.spec["hooks"] = {"poststop": [{"path": "/bin/false"}]}
    bundle.create("sleep", "60")
    done = bundle.runtime("delete", "--force", bundle.id)
    assert done.returncode == 0
    assert "level=warning" in done.stderr and "poststop hook /bin/false: exit status 1" in done.stderr
    assert bundle.runs("true").said == ""


# Kill, delete


@must("Kill")
def test_a_signal_reaches_the_process_that_is_created_or_runs(bundle: Bundle) -> None:
    bundle.create("sh", "-c", "trap 'echo got > /got; exit' USR1; touch /ready; while :; do sleep 0.05; done")
    bundle.start()
    wait_until(lambda: (bundle.rootfs / "ready").exists())
    assert bundle.runtime("kill", bundle.id, "USR1").returncode == 0
    wait_until(lambda: ended(bundle))
    assert (bundle.rootfs / "got").exists()


@must("Kill")
def test_a_signal_for_what_neither_is_created_nor_runs_is_an_error(bundle: Bundle) -> None:
    assert bundle.runtime("kill", "absent", "KILL").returncode != 0
    assert bundle.runtime("kill").returncode != 0
    bundle.create("sleep", "60")
    assert bundle.runtime("kill", bundle.id, "KILL").returncode == 0
    wait_until(lambda: ended(bundle))
    assert bundle.runtime("kill", bundle.id, "KILL").returncode != 0


@must("Delete")
def test_deleting_what_has_not_stopped_is_an_error_and_changes_nothing(bundle: Bundle) -> None:
    assert bundle.runtime("delete", "absent").returncode != 0
    assert bundle.runtime("delete").returncode != 0
    bundle.create("sleep", "60")
    bundle.start()
    before = bundle.state()
    assert bundle.runtime("delete", bundle.id).returncode != 0
    assert bundle.state() == before


@must("Delete")
def test_deleting_takes_away_what_was_made_and_the_id_can_be_taken_again(bundle: Bundle) -> None:
    for _ in range(2):
        bundle.create("true")
        bundle.start()
        wait_until(lambda: ended(bundle))
        assert bundle.runtime("delete", bundle.id).returncode == 0
        assert bundle.runtime("state", bundle.id).returncode != 0


@must("Delete")
def test_what_the_container_did_not_make_stays(bundle: Bundle, bundles: Callable[[], Bundle]) -> None:
    donor = bundles()
    donor.create("sleep", "60")
    pid = donor.state()["pid"]
    bundle.with_namespace("network", path=f"/proc/{pid}/ns/net")
    bundle.create("sleep", "60")
    bundle.runtime("delete", "--force", bundle.id)
    assert donor.state()["status"] == "created"
    assert (bundle.rootfs / "bin/busybox").exists()


# Errors and warnings


@must("Errors")
def test_an_error_leaves_the_environment_as_if_nothing_had_been_tried(bundle: Bundle) -> None:
    before = Path("/proc/self/mountinfo").read_text()
    for change in ({"readonlyPaths": ["relative"]}, {"resources": {"unified": {"nonsense.max": "1"}}}):
        bundle.linux.update(change)
        bundle.refusal()
        for key in change:
            del bundle.linux[key]
    assert Path("/proc/self/mountinfo").read_text() == before
    assert not bundle.runtime.root.exists() or not os.listdir(bundle.runtime.root)


@must("Warnings")
def test_a_warning_changes_nothing(bundle: Bundle) -> None:
    bundle.process["capabilities"] = {"bounding": ["CAP_NONSENSE"]}
    assert bundle.says("echo", "done") == "done"


@must("State")
def test_the_state_is_json_of_the_specifications_schema(bundle: Bundle) -> None:
    schemas = Path(__file__).resolve().parents[3] / "shared/reference/oci-runtime-schema"
    if not schemas.is_dir():
        pytest.skip("the specification's schemas are not at hand")
    from jsonschema import Draft4Validator
    from referencing import Registry
    from referencing.jsonschema import DRAFT4

    documents = {path.name: json.loads(path.read_text()) for path in schemas.glob("*.json")}
    registry: Registry[Any] = Registry().with_resources(
        (name, DRAFT4.create_resource(document)) for name, document in documents.items()
    )
    bundle.create("sleep", "60")
    Draft4Validator({"$ref": "state-schema.json"}, registry=registry).validate(bundle.state())

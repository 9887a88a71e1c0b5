"""What all operations have in common: four faces, immutable, the same after a journey as JSON."""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil

import pytest

from cutaway import plan
from cutaway.plan.mounts import Mount
from cutaway.plan.namespaces import NewNamespaces
from cutaway.plan.operation import Context, Operation, dump, load
from cutaway.plan.plan import undo

for _module in pkgutil.iter_modules(plan.__path__, "cutaway.plan."):
    importlib.import_module(_module.name)
KINDS = sorted((kind for kind in Operation.kinds.values() if kind.__module__.startswith("cutaway.")), key=str)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_kind_has_its_faces_and_says_where_to_read_on(kind: type[Operation]) -> None:
    for face in ("apply", "shell", "why"):
        assert getattr(kind, face) is not getattr(Operation, face), f"{kind.__name__} has no {face}"
    assert kind.manual.endswith((")", ".rst")), f"{kind.__name__} names no manual page, nor a document of the kernel"
    assert inspect.getdoc(kind), f"{kind.__name__} is not described"


def test_an_operation_is_the_same_after_a_journey_as_json() -> None:
    operations = [Mount("proc", "/proc", "proc", ["nosuid"]), NewNamespaces(["mnt", "pid"])]
    assert load(json.loads(json.dumps(dump(operations)))) == operations


def test_no_two_kinds_have_one_name() -> None:
    """By its name an operation is found again after a journey."""
    with pytest.raises(TypeError, match=r"there is an operation Mount already, in cutaway\.plan\.mounts"):
        type("Mount", (Operation,), {})
    assert Operation.kinds["Mount"] is Mount


def test_an_operation_cannot_be_changed() -> None:
    mount = Mount("proc", "/proc")
    with pytest.raises(AttributeError, match="immutable"):
        mount.target = "/elsewhere"  # type: ignore[misc]
    assert mount == Mount("proc", "/proc") and hash(mount) == hash(Mount("proc", "/proc"))
    assert repr(mount) == "Mount(filesystem='proc', target='/proc', source='', options=[])"


def test_what_is_missing_or_unknown_is_said_with_the_fields() -> None:
    with pytest.raises(TypeError, match="Mount needs target"):
        Mount("proc")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="Mount has the fields filesystem, target, source, options"):
        Mount("proc", "/proc", nonsense=1)  # type: ignore[call-arg]


class Note(Operation):
    """Notes that it was undone; refuses where its name says so."""

    name: str
    manual = "none(0)"

    def undo(self, context: Context) -> None:
        if self.name == "refused":
            raise OSError("refused")
        context.descriptors[self.name] = len(context.descriptors)


def test_undo_goes_backwards_and_on_after_a_refusal() -> None:
    context = Context()
    refused = undo([Note("first"), Note("refused"), Note("last")], context)
    assert list(context.descriptors) == ["last", "first"]
    assert [str(error) for error in refused] == ["refused"]

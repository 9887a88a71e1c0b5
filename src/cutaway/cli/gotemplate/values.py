"""Go's view of values: what is nil, what is true, how a value is printed, what a field of it is.

A template's values are msgspec structs (Go's structs), dicts (maps), lists and tuples (slices), text, numbers, booleans
and None. A field that is None is a nil of its declared kind: Go prints a nil slice as `[]`, a nil pointer as `<nil>`.
"""

from __future__ import annotations

import functools
from types import NoneType, UnionType
from typing import Any, get_args, get_origin

import msgspec

NO_VALUE = "<no value>"


class NilSlice(list[Any]):
    """An absent list: empty to a template, `null` in JSON."""


class NilMap(dict[str, Any]):
    """An absent map."""


class NilPointer:
    """An absent anything else."""

    def __bool__(self) -> bool:
        return False


_NIL_OF_KIND: dict[type, Any] = {list: NilSlice(), dict: NilMap()}
_NIL = NilPointer()
NILS = (NilSlice, NilMap, NilPointer, NoneType)


class Missing(Exception):
    """A field that a value does not have; the text is Go's."""


def field(value: Any, name: str) -> Any:
    """`.Name` of a value. Raises `Missing`; a map without that key gives None."""
    if isinstance(value, msgspec.Struct):
        if name not in value.__struct_fields__:
            raise Missing(f'map has no entry for key "{name}"')
        found = getattr(value, name)
        return _NIL_OF_KIND.get(_kind_when_absent(type(value), name), _NIL) if found is None else found
    if isinstance(value, dict):
        return value.get(name)
    if isinstance(value, NilPointer | NoneType):
        raise Missing(f"nil pointer evaluating interface {{}}.{name}")
    raise Missing(f"can't evaluate field {name} in type {type_name(value)}")


@functools.cache
def _kind_when_absent(kind: type[msgspec.Struct], name: str) -> type:
    """list, dict, or whatever else a field that may be None holds when it is not."""
    declared = next(each.type for each in msgspec.structs.fields(kind) if each.name == name)
    choices = get_args(declared) if isinstance(declared, UnionType) or get_origin(declared) else (declared,)
    held: type = next((choice for choice in choices if choice is not NoneType), object)
    return get_origin(held) or held


def is_true(value: Any) -> bool:
    """A struct is always true, anything else unless it is zero, empty or nil."""
    return isinstance(value, msgspec.Struct) or bool(value)


def type_name(value: Any) -> str:
    """What Go would call its type, in messages and for `%T`."""
    if isinstance(value, msgspec.Struct):
        return type(value).__name__
    names = {bool: "bool", int: "int", float: "float64", str: "string", list: "[]interface {}", tuple: "[]interface {}"}
    return names.get(type(value), "<nil>" if isinstance(value, NILS) else "map[string]interface {}")


def plain(value: Any) -> str:
    """A value as `{{.}}` prints it (Go's `%v`)."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, NilPointer | NoneType):
        return "<nil>"
    if isinstance(value, float):
        return _float(value)
    if isinstance(value, msgspec.Struct):
        return "{" + " ".join(plain(field(value, name)) for name in value.__struct_fields__) + "}"
    if isinstance(value, dict):
        return "map[" + " ".join(f"{plain(key)}:{plain(value[key])}" for key in sorted(value)) + "]"
    if isinstance(value, list | tuple):
        return "[" + " ".join(plain(each) for each in value) + "]"
    return str(value)


def _float(value: float) -> str:
    """The shortest text that is this number, with an exponent where it is below -4 or above 20."""
    text = repr(value)
    if "e" not in text and abs(value) < 1e21:
        return text.removesuffix(".0")
    mantissa, _, exponent = f"{value:e}".partition("e") if "e" not in text else text.partition("e")
    return f"{mantissa}e{int(exponent):+03d}"


def to_json(value: Any) -> str:
    """A value as Go encodes it: the keys of maps sorted, `<`, `>` and `&` as they are."""
    if isinstance(value, NILS):
        return "null"
    return msgspec.json.encode(value, order="deterministic").decode()

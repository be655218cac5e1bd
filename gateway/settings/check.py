"""Holds a tree of values against the settings' types and says everything that does not fit, in people's words.

msgspec itself stops at the first error. This walks msgspec's own description of the types, so the types stay the only
place where the form of the settings is written.
"""

import difflib
import re
from typing import Annotated, Any, Literal, cast

import msgspec
from msgspec import inspect

from gateway.settings.tree import Filled, Place, Problem, Tree, Value
from gateway.values import Secret

_INTEGER = re.compile(r"-?[0-9]{1,18}")
_DECIMAL = re.compile(r"-?[0-9]{1,18}(\.[0-9]{1,18})?")


def kind_of(value: Value) -> str:
    """What a value is, without showing it."""
    names = {
        dict: "a mapping",
        list: "a list",
        str: "text",
        bool: "true or false",
        int: "a number",
        float: "a number",
    }
    return "nothing" if value is None else names.get(type(value), "text")


class Checker:
    """One walk. `check` returns the value in the form that `msgspec.convert` takes; problems gather in `problems`."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self.problems: list[Problem] = []

    def check(self, value: Value, kind: inspect.Type, place: Place) -> Any:
        description = ""
        extra: dict[str, Any] = {}
        while isinstance(kind, inspect.Metadata):
            description = (kind.extra_json_schema or {}).get("description", description)
            extra = {**(kind.extra or {}), **extra}
            kind = kind.type
        match kind:
            case inspect.UnionType():
                return self.union(value, kind, place, description)
            case inspect.StructType():
                return self.struct(value, kind, place)
            case inspect.DictType():
                return self.mapping(value, kind, place, description)
            case inspect.ListType():
                return self.items(value, kind, place, description)
            case inspect.CustomType():
                return self.secret(value, place, description or "text", extra.get("pattern"))
            case _:
                return self.scalar(value, kind, place, description)

    def complain(self, place: Place, expected: str, value: Value, secret: bool = False) -> None:
        shown = kind_of(value)
        if isinstance(value, str | int | float) and not (secret or isinstance(value, Filled)):
            shown = f"{value!r}" if not isinstance(value, bool) else str(value).lower()
        elif isinstance(value, Filled):
            shown = "something else from a variable"
        self.problems.append(Problem(self._tree.line(place), place, f"expected {expected}, got {shown}"))

    def struct(self, value: Value, kind: inspect.StructType, place: Place) -> Any:
        if not isinstance(value, dict):
            self.complain(place, "a mapping", value)
            return None
        fields = {field.encode_name: field for field in kind.fields}
        result = {}
        for key, inner in value.items():
            if key in fields:
                result[key] = self.check(inner, fields[key].type, (*place, key))
                continue
            near = difflib.get_close_matches(key, fields, 1)
            hint = f"; did you mean {near[0]}?" if near else f"; known are {', '.join(fields)}"
            self.problems.append(Problem(self._tree.line((*place, key)), (*place, key), f"is not a setting{hint}"))
        for name, field in fields.items():
            if field.required and name not in value:
                where = (*place, name)
                self.problems.append(
                    Problem(self._tree.line(place), where, f"is missing; expected {describe(field.type)}")
                )
        return result

    def mapping(self, value: Value, kind: inspect.DictType, place: Place, description: str) -> Any:
        if not isinstance(value, dict) or len(value) < (kind.min_length or 0):
            self.complain(place, description or "a mapping", value)
            return None
        result = {}
        for key, inner in value.items():
            self.check(key, kind.key_type, (*place, key))
            result[key] = self.check(inner, kind.value_type, (*place, key))
        return result

    def items(self, value: Value, kind: inspect.ListType, place: Place, description: str) -> Any:
        if not isinstance(value, list) or len(value) < (kind.min_length or 0):
            self.complain(place, description or f"a list of {describe(kind.item_type)}", value)
            return None
        return [self.check(inner, kind.item_type, (*place, index)) for index, inner in enumerate(value)]

    def union(self, value: Value, kind: inspect.UnionType, place: Place, description: str) -> Any:
        branches = [t for t in kind.types if not isinstance(t, inspect.NoneType)]
        nothing = value is None or (isinstance(value, Filled) and not value)  # an empty variable is none
        if nothing and len(branches) < len(kind.types):
            return None
        if isinstance(value, dict):
            structs = [t for t in branches if isinstance(bare(t), inspect.StructType | inspect.DictType)]
            if structs:
                return self.check(value, structs[0], place)
        if len(branches) == 1:
            return self.check(value, branches[0], place)
        for branch in branches:
            attempt = Checker(self._tree)
            result = attempt.check(value, branch, place)
            if not attempt.problems:
                return result
        self.complain(place, description or " or ".join(describe(b) for b in branches), value)
        return None

    def secret(self, value: Value, place: Place, description: str, pattern: str | None) -> Any:
        if isinstance(value, int | float) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str) or not value or (pattern and not re.search(pattern, value)):
            self.complain(place, description, value, secret=True)
            return None
        return str(value)

    def scalar(self, value: Value, kind: inspect.Type, place: Place, description: str) -> Any:
        plain = from_text(value, kind) if isinstance(value, Filled) else value
        try:
            return msgspec.convert(plain, python_type(kind))
        except (msgspec.ValidationError, TypeError):
            self.complain(place, description or describe(kind), value)
            return None


def bare(kind: inspect.Type) -> inspect.Type:
    while isinstance(kind, inspect.Metadata):
        kind = kind.type
    return kind


def from_text(text: Filled, kind: inspect.Type) -> Value:
    """A variable's text as the number or truth value that is wanted there, if it looks like one."""
    if isinstance(kind, inspect.IntType) and _INTEGER.fullmatch(text):
        return int(text)
    if isinstance(kind, inspect.FloatType) and _DECIMAL.fullmatch(text):
        return float(text)
    if isinstance(kind, inspect.BoolType) and text in {"true", "false"}:
        return text == "true"
    return str(text)


def python_type(kind: inspect.Type) -> Any:
    """The annotation that a scalar's description came from."""
    match kind:
        case inspect.LiteralType(values=values):
            return cast("Any", Literal)[tuple(values)]
        case inspect.BoolType():
            return bool
        case inspect.IntType() | inspect.FloatType():
            limits = {name: getattr(kind, name) for name in ("gt", "ge", "lt", "le")}
            base = int if isinstance(kind, inspect.IntType) else float
            return _annotated(base, {k: v for k, v in limits.items() if v is not None})
        case inspect.StrType():
            return _annotated(str, {"pattern": kind.pattern} if kind.pattern else {})
        case _:
            raise AssertionError(f"settings do not use {kind!r}")


def _annotated(base: type, limits: dict[str, Any]) -> Any:
    return Annotated[base, msgspec.Meta(**limits)] if limits else base


def describe(kind: inspect.Type) -> str:
    """The expected form, in words."""
    if isinstance(kind, inspect.Metadata):
        return (kind.extra_json_schema or {}).get("description") or describe(kind.type)
    match kind:
        case inspect.UnionType(types=types):
            return " or ".join(describe(t) for t in types if not isinstance(t, inspect.NoneType))
        case inspect.LiteralType(values=values):
            return "one of " + ", ".join(str(v) for v in values) if len(values) > 1 else repr(values[0])
        case inspect.StructType() | inspect.DictType():
            return "a mapping"
        case inspect.ListType(item_type=item):
            return "a list of mappings" if isinstance(bare(item), inspect.StructType) else f"a list of {describe(item)}"
        case inspect.BoolType():
            return "true or false"
        case inspect.IntType():
            return "a whole number"
        case inspect.FloatType():
            return "a number"
        case inspect.CustomType(cls=cls) if cls is not Secret:
            return cls.__name__
        case _:
            return "text"

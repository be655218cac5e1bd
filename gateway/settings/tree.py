"""YAML as a tree of plain values in which every place knows its line, with `${…}` filled in.

Stricter than YAML 1.1, on purpose: only true/false are booleans (`on`, `yes`, `no` stay text), 1:30 is text, a key may
stand only once in a mapping. Variables are filled in on values after parsing, so what they hold is never read as YAML.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import yaml

Place = tuple[str | int, ...]  # the way from the root: mapping keys and list positions
Value = Any  # dict, list, str, int, float, bool or None; Filled where a variable was

_MAX_DEPTH = 50
_LONGEST_NUMBER = 40
_VARIABLE = re.compile(r"\$\$|\$\{(?:file:(?P<file>[^}]+)|(?P<env>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?)\}")


class Filled(str):
    """Text that a variable gave, wholly or in part: it may be a secret, and `"8080"` may stand for a number."""

    __slots__ = ()


class Problem(msgspec.Struct, frozen=True):
    """What is wrong at one place. line: counted from 1; 0 is the whole file."""

    line: int
    place: Place
    text: str


class Tree(msgspec.Struct, frozen=True):
    """The file's values, the line of each place, and what was wrong so far."""

    root: Value
    lines: dict[Place, int]
    problems: list[Problem]

    def line(self, place: Place) -> int:
        """The line of a place, or of the nearest one around it that is in the file."""
        while place and place not in self.lines:
            place = place[:-1]
        return self.lines.get(place, 0)


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """A loader that knows JSON's scalars only."""

    yaml_implicit_resolvers: Mapping[str, Any] = {}


for _tag, _pattern, _first in (
    ("tag:yaml.org,2002:null", r"^(?:null|~|)$", ["n", "~", ""]),
    ("tag:yaml.org,2002:bool", r"^(?:true|false)$", ["t", "f"]),
    ("tag:yaml.org,2002:int", r"^-?(?:0|[1-9][0-9_]*)$", list("-0123456789")),
    (
        "tag:yaml.org,2002:float",
        r"^-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?$",
        list("-0123456789"),
    ),
):
    _Loader.add_implicit_resolver(_tag, re.compile(_pattern), _first)


class _Reader:
    """Turns YAML nodes into values, keeping lines and collecting problems."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder = folder
        self.environment = environment
        self.lines: dict[Place, int] = {}
        self.problems: list[Problem] = []

    def complain(self, place: Place, text: str) -> None:
        self.problems.append(Problem(self.lines.get(place, 0), place, text))

    def read(self, node: yaml.Node, place: Place) -> Value:
        self.lines.setdefault(place, node.start_mark.line + 1)
        if len(place) > _MAX_DEPTH:
            self.complain(place, "is nested too deeply")
            return None
        if isinstance(node, yaml.MappingNode):
            return self.mapping(node, place)
        if isinstance(node, yaml.SequenceNode):
            return [self.read(item, (*place, index)) for index, item in enumerate(node.value)]
        return self.scalar(node, place)

    def mapping(self, node: yaml.MappingNode, place: Place) -> dict[str, Value]:
        values: dict[str, Value] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self.complain(place, "expected plain text as the key of a mapping")
                continue
            key = str(key_node.value)
            inner = (*place, key)
            if key in values:
                first = self.lines[inner]
                self.problems.append(
                    Problem(key_node.start_mark.line + 1, inner, f"stands twice; it is on line {first} already")
                )
                continue
            self.lines[inner] = key_node.start_mark.line + 1
            values[key] = self.read(value_node, inner)
        return values

    def scalar(self, node: yaml.Node, place: Place) -> Value:
        text = str(node.value)
        kind = node.tag.rsplit(":", 1)[-1]
        if kind == "null":
            return None
        if kind == "bool":
            return text == "true"
        if kind in {"int", "float"} and len(text) > _LONGEST_NUMBER:
            self.complain(place, "has too many digits")
            return None
        if kind == "int":
            return int(text.replace("_", ""))
        if kind == "float":
            return float(text)
        if kind != "str":
            self.complain(place, f"has the YAML tag {node.tag}, which settings do not use")
            return None
        return self.fill(text, place) if "$" in text else text

    def fill(self, text: str, place: Place) -> str:
        """Puts variables into a text; what is missing is a problem, and stays as it was written."""

        def one(match: re.Match[str]) -> str:
            if match[0] == "$$":
                return "$"
            if match["file"] is not None:
                return self.file(match["file"], place)
            value = self.environment.get(match["env"]) or match["default"]
            if value is None:
                self.complain(place, f"expected the environment variable {match['env']} to be set")
                return match[0]
            return value

        filled = _VARIABLE.sub(one, text)
        rest = _VARIABLE.sub("", text)
        if "${" in rest:
            self.complain(place, "expected ${NAME}, ${NAME:-default} or ${file:/path} (write $$ for a plain $)")
        return Filled(filled)

    def file(self, name: str, place: Place) -> str:
        path = self.folder / name
        try:
            text = path.read_text().rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else "it is not UTF-8 text"
            self.complain(place, f"expected to read the file {path}: {reason}")
            return ""
        if not text:  # a secret that has not been put there yet must not pass for none
            self.complain(place, f"expected something in the file {path}: it is empty")
        return text


def read_tree(text: str, folder: Path, environment: Mapping[str, str]) -> Tree:
    """Parses a settings file. folder: what `${file:…}` paths are relative to. Never raises: see `Tree.problems`."""
    reader = _Reader(folder, environment)
    root: Value = None
    try:
        node = yaml.compose(text, Loader=_Loader)
        if node is not None:
            root = reader.read(node, ())
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        reader.problems.append(Problem(line, (), f"is not valid YAML: {error.problem or error.context}"))
    except (yaml.YAMLError, RecursionError) as error:
        reader.problems.append(Problem(0, (), f"is not valid YAML: {type(error).__name__}"))
    return Tree(root, reader.lines, reader.problems)

"""docs/settings.md: --write makes it from the types in gateway/settings; without it, fails when the two differ."""

import ast
import sys
from collections.abc import Iterator
from typing import Any

import msgspec
from made_page import ROOT, hold
from msgspec import inspect

from gateway.settings.check import bare, describe
from gateway.settings.model import Settings

SETTINGS = ROOT / "gateway" / "settings"
MODELS = (SETTINGS / "model.py", SETTINGS / "limits.py", SETTINGS / "tokens.py")
MANY = 10  # places that are not listed
HEAD = """\
# Settings

Made from `model.py`, `limits.py` and `tokens.py` in `gateway/settings` by `.ci/settings_doc.py --write`; not to be
edited by hand. The annotated example is [config/gateway.yaml](../config/gateway.yaml); beside it there is one small
example per use.

Settings are one YAML file. `gateway check-config FILE` says all that is wrong with it: file and line, the path of the
setting, the form that is expected. Unknown and repeated settings are refused. `true` and `false` are the only truth
values (`yes` and `on` are text), and relative paths count from the file.

In values, `${NAME}` is an environment variable, `${NAME:-text}` one with a default, `${file:/run/secrets/name}` the
text of a file without its last line break, and `$$` a plain `$`. What they give is never read as YAML. Where a setting
may be null, an empty variable is null; an empty file is an error.

Durations end in `_s` (seconds), sizes in `_mib` or `_kib`. Which settings take a restart is in
[operations](operations.md#signals).
"""


class Section(msgspec.Struct):
    """A table: of one struct, at all the places where it stands."""

    places: list[str]
    kind: inspect.StructType


def struct_in(kind: inspect.Type) -> tuple[inspect.StructType | None, str]:
    """The struct that a setting holds, if it holds one, and what its place gets appended for a list or a mapping."""
    kind = bare(kind)
    match kind:
        case inspect.StructType():
            return kind, ""
        case inspect.UnionType(types=types):
            return next((found for t in types if (found := struct_in(t))[0] is not None), (None, ""))
        case inspect.ListType(item_type=item):
            return struct_in(item)[0], "[]"
        case inspect.DictType(value_type=value):
            return struct_in(value)[0], ".NAME"
    return None, ""


def sections() -> list[Section]:
    """Every struct of the settings once, from the top down."""
    found: dict[type, Section] = {}

    def visit(kind: inspect.StructType, place: str) -> None:
        known = found.get(kind.cls)
        if known is not None:  # what is in it has been seen too
            known.places.append(place)
            return
        found[kind.cls] = Section([place], kind)
        for field in kind.fields:
            inner, more = struct_in(field.type)
            if inner is not None:
                visit(inner, f"{place}.{field.encode_name}{more}".lstrip("."))

    top = inspect.type_info(Settings)
    assert isinstance(top, inspect.StructType)
    visit(top, "")
    return list(found.values())


def comments() -> dict[tuple[str, str], str]:
    """The comment of each field, by its class and name. It stands at the end of the field's last line."""
    return {name: said for model in MODELS for name, said in comments_in(model.read_text())}


def comments_in(text: str) -> Iterator[tuple[tuple[str, str], str]]:
    lines = text.splitlines()
    for node in ast.parse(text).body:
        for part in node.body if isinstance(node, ast.ClassDef) else ():
            if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name) and isinstance(node, ast.ClassDef):
                assert part.end_lineno is not None
                assert part.end_col_offset is not None
                line = lines[part.end_lineno - 1].encode()[part.end_col_offset :].decode()
                yield (node.name, part.target.id), line.strip().removeprefix("#").strip()


def comment(said: dict[tuple[str, str], str], kind: type, name: str) -> str:
    """A field's comment, in the class that declares it."""
    return next(said[cls.__name__, name] for cls in kind.__mro__ if (cls.__name__, name) in said)


def expected(kind: inspect.Type) -> str:
    described = describe(kind)
    nullable = isinstance(bare(kind), inspect.UnionType) and any(
        isinstance(t, inspect.NoneType) for t in getattr(bare(kind), "types", ())
    )
    return f"{described}, or null" if nullable else described


def default(field: inspect.Field) -> str:
    """What a setting is if nobody writes it, as YAML."""
    if field.required:
        return "required"
    value: Any = field.default
    if field.default_factory is not msgspec.NODEFAULT:
        value = field.default_factory()
    if value is msgspec.NODEFAULT or value is msgspec.UNSET:
        return ""
    if isinstance(value, msgspec.Struct):
        usual = type(value)()
        own = {n: getattr(value, n) for n in value.__struct_fields__ if getattr(value, n) != getattr(usual, n)}
        return ", ".join(f"`{name}: {yaml(inner)}`" for name, inner in own.items())
    return f"`{yaml(value)}`"


def yaml(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, str) and value else msgspec.json.encode(value).decode()


def link(place: str) -> str:
    """A section's name in an address, as GitHub makes them from headings."""
    return "#" + "".join(letter for letter in place.lower() if letter.isalnum() or letter in "_-")


def rows(section: Section, said: dict[tuple[str, str], str], named: dict[type, str]) -> Iterator[str]:
    yield "| setting | expected | default | |"
    yield "| --- | --- | --- | --- |"
    for field in section.kind.fields:
        inner, _ = struct_in(field.type)
        form = expected(field.type)
        if inner is not None:
            form = f"[{form}]({link(named[inner.cls])})"
        cells = [f"`{field.encode_name}`", form, default(field), comment(said, section.kind.cls, field.name)]
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def unsaid(all_sections: list[Section], said: dict[tuple[str, str], str]) -> list[str]:
    """Settings without a comment. One that holds others may go without: its section says all."""
    return [
        f"{section.kind.cls.__name__}.{field.name}"
        for section in all_sections
        for field in section.kind.fields
        if struct_in(field.type)[0] is None and not comment(said, section.kind.cls, field.name)
    ]


def page() -> str:
    said = comments()
    all_sections = sections()
    if missing := unsaid(all_sections, said):
        raise SystemExit(f"gateway/settings: without a comment: {', '.join(missing)}")
    named = {section.kind.cls: section.places[0] or "The file" for section in all_sections}
    parts = [HEAD]
    for section in all_sections:
        parts.append(f"\n## {named[section.kind.cls]}\n\n")
        if len(section.places) > MANY:
            parts.append(f"The same in {len(section.places) - 1} other places, which link here.\n\n")
        elif len(section.places) > 1:
            parts.append("The same for " + ", ".join(f"`{place}`" for place in section.places[1:]) + ".\n\n")
        parts += [row + "\n" for row in rows(section, said, named)]
    return "".join(parts)


if __name__ == "__main__":
    sys.exit(hold("docs/settings.md", page()))

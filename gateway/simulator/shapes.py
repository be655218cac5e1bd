"""Making up JSON that satisfies a JSON schema: arguments of tool calls, structured outputs."""

from types import MappingProxyType
from typing import Any

from gateway.simulator.call import Json
from gateway.simulator.text import Dice, Prose

_MAX_DEPTH = 8
_FORMATS = MappingProxyType(
    {
        "date": "2024-11-22",
        "date-time": "2024-11-22T09:30:00Z",
        "email": "reader@example.com",
        "time": "09:30:00Z",
        "uri": "https://example.com/",
        "uuid": "5f0c2f3e-8a44-4f6e-9a1c-0f4f5f6a7b8c",
    }
)


def example(schema: Json, prose: Prose, seed: int) -> Any:
    """A value that fits the schema, as far as types, enums, required members, references and bounds go."""
    return _Maker(schema, prose, seed).make(schema, 0)


class _Maker:
    def __init__(self, root: Json, prose: Prose, seed: int) -> None:
        self._root, self._prose, self._dice = root, prose, Dice(seed)

    def make(self, schema: Any, depth: int) -> Any:
        if not isinstance(schema, dict) or depth > _MAX_DEPTH:
            return None
        if "$ref" in schema:
            return self.make(self._follow(str(schema["$ref"])), depth + 1)
        if "const" in schema:
            return schema["const"]
        if schema.get("enum"):
            return schema["enum"][self._dice.below(len(schema["enum"]))]
        for several in ("anyOf", "oneOf"):
            if schema.get(several):
                return self.make(schema[several][0], depth + 1)
        if schema.get("allOf"):
            merged: Json = {}
            for part in schema["allOf"]:
                merged.update(part)
            return self.make(merged, depth + 1)
        kind = schema.get("type", "object" if "properties" in schema else "string")
        if isinstance(kind, list):
            kind = next((k for k in kind if k != "null"), "null")
        return self._of_kind(str(kind), schema, depth)

    def _of_kind(self, kind: str, schema: Json, depth: int) -> Any:
        if kind == "object":
            return {name: self.make(part, depth + 1) for name, part in (schema.get("properties") or {}).items()}
        if kind == "array":
            size = max(int(schema.get("minItems", 1)), min(2, int(schema.get("maxItems", 2))))
            return [self.make(schema.get("items", {}), depth + 1) for _ in range(size)]
        if kind in {"integer", "number"}:
            least = float(schema.get("minimum", schema.get("exclusiveMinimum", 0)) or 0)
            most = float(schema.get("maximum", least + 100))
            value = least + self._dice.below(max(1, int(most - least)))
            if "exclusiveMinimum" in schema and value == schema["exclusiveMinimum"]:
                value += 1
            return int(value) if kind == "integer" else float(value)
        if kind == "boolean":
            return self._dice.below(2) == 1
        if kind == "null":
            return None
        return self._string(schema)

    def _string(self, schema: Json) -> str:
        if (known := _FORMATS.get(str(schema.get("format")))) is not None:
            return known
        value = self._prose.words(self._dice.below(1 << 30), 3)
        return value.ljust(int(schema.get("minLength", 0)), "x")[: int(schema.get("maxLength", 1000))]

    def _follow(self, reference: str) -> Any:
        found: Any = self._root
        for step in reference.removeprefix("#").strip("/").split("/"):
            if step:
                found = found.get(step, {}) if isinstance(found, dict) else {}
        return found

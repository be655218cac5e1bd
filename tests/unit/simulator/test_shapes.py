import re

import pytest

from gateway.simulator import shapes
from gateway.simulator.call import Json
from gateway.simulator.text import Prose

PROSE = Prose()


def test_an_object_has_its_members_with_their_types() -> None:
    schema: Json = {
        "type": "object",
        "properties": {
            "city": {"type": "string", "maxLength": 5},
            "days": {"type": "integer", "minimum": 3, "maximum": 9},
            "share": {"type": "number"},
            "sure": {"type": "boolean"},
            "unit": {"enum": ["c", "f"]},
            "kind": {"const": "x"},
            "when": {"type": "string", "format": "date"},
            "tags": {"type": "array", "items": {"type": "string"}, "minItems": 3},
            "next": {"$ref": "#/$defs/node"},
            "maybe": {"type": ["null", "integer"]},
            "either": {"anyOf": [{"type": "null"}, {"type": "string"}]},
        },
        "$defs": {"node": {"type": "object", "properties": {"name": {"type": "string", "minLength": 80}}}},
    }
    value = shapes.example(schema, PROSE, 5)
    assert value == shapes.example(schema, PROSE, 5)
    assert len(value["city"]) <= 5
    assert 3 <= value["days"] <= 9
    assert isinstance(value["share"], float)
    assert isinstance(value["sure"], bool)
    assert value["unit"] in {"c", "f"}
    assert value["kind"] == "x"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", value["when"])
    assert len(value["tags"]) == 3
    assert len(value["next"]["name"]) >= 80
    assert isinstance(value["maybe"], int)
    assert value["either"] is None


@pytest.mark.parametrize("schema", [{}, {"type": "string"}, {"allOf": [{"type": "object"}]}, {"type": "null"}])
def test_odd_schemas_are_answered(schema: Json) -> None:
    shapes.example(schema, PROSE, 1)


def test_a_schema_that_contains_itself_ends() -> None:
    schema: Json = {"$ref": "#/$defs/n", "$defs": {"n": {"type": "object", "properties": {"n": {"$ref": "#/$defs/n"}}}}}
    assert shapes.example(schema, PROSE, 1)["n"]

"""Reading parameters, with OpenAI's complaints about wrong ones."""

from collections.abc import Mapping
from typing import Any

from gateway.simulator import errors
from gateway.simulator.call import Call, Json


def model(call: Call, default: str | None = None) -> str:
    """The model that was asked for; the door has already looked whether there is such a one."""
    if call.model:
        return call.model
    if default is None:
        raise errors.missing("model")
    return default


def need(body: Json, name: str) -> Any:
    """A parameter that must be there and not null."""
    value = body.get(name)
    if value is None:
        raise errors.missing(name)
    return value


def need_text(body: Json, name: str) -> str:
    value = need(body, name)
    if not isinstance(value, str):
        raise errors.wrong_type(name, "a string", value)
    return value


def need_list(body: Json, name: str) -> list[Any]:
    value = need(body, name)
    if not isinstance(value, list):
        raise errors.wrong_type(name, "an array", value)
    return value


def text(body: Json, name: str, default: str = "") -> str:
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, str):
        raise errors.wrong_type(name, "a string", value)
    return value


def choice(body: Json, name: str, allowed: tuple[str, ...], default: str) -> str:
    value = text(body, name, default)
    if value not in allowed:
        raise errors.wrong_value(name, value, allowed)
    return value


def integer(
    body: Mapping[str, Any], name: str, default: int | None = None, least: int = 0, most: int | None = None
) -> int | None:
    """A whole number between `least` and `most`; forms bring it as text."""
    value = body.get(name)
    if value is None:
        return default
    if isinstance(value, str) and value.lstrip("-").isdigit():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise errors.wrong_type(name, "an integer", value)
    if value < least:
        raise errors.too_small(name, value, least)
    if most is not None and value > most:
        raise errors.too_large(name, value, most)
    return value


def number(body: Json, name: str, default: float, least: float, most: float) -> float:
    value = body.get(name)
    if value is None:
        return default
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            raise errors.wrong_type(name, "a decimal", value) from None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise errors.wrong_type(name, "a decimal", value)
    if not least <= value <= most:
        complaint = errors.too_small if value < least else errors.too_large
        raise complaint(name, value, least if value < least else most)
    return float(value)


def flag(body: Json, name: str, default: bool = False) -> bool:
    """A truth value; forms bring it as text."""
    value = body.get(name)
    if value is None:
        return default
    if isinstance(value, str) and value in {"true", "false"}:
        return value == "true"
    if not isinstance(value, bool):
        raise errors.wrong_type(name, "a boolean", value)
    return value


def need_mapping(body: Json, name: str) -> Json:
    """An object that must be there."""
    need(body, name)
    return mapping(body, name)


def mapping(body: Json, name: str) -> Json:
    """An object, or an empty one."""
    value = body.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise errors.wrong_type(name, "an object", value)
    return value


def items(body: Json, name: str) -> list[Any]:
    """An array, or an empty one."""
    value = body.get(name)
    if value is None:
        return []
    if not isinstance(value, list):
        raise errors.wrong_type(name, "an array", value)
    return value


def objects(body: Json, name: str) -> list[Json]:
    """An array of objects, or an empty one."""
    found = items(body, name)
    for i, part in enumerate(found):
        if not isinstance(part, dict):
            raise errors.wrong_type(f"{name}[{i}]", "an object", part)
    return found


def typed(body: Json, name: str) -> list[Json]:
    """An array of objects that all have a `type`, or an empty one."""
    found = objects(body, name)
    for i, part in enumerate(found):
        if not isinstance(part.get("type"), str):
            raise errors.missing(f"{name}[{i}].type")
    return found


def texts(body: Json, name: str) -> list[str]:
    """An array of texts, or an empty one; a text alone counts as one."""
    value = body.get(name)
    found = [value] if isinstance(value, str) else items(body, name)
    for i, part in enumerate(found):
        if not isinstance(part, str):
            raise errors.wrong_type(f"{name}[{i}]", "a string", part)
    return found


def metadata(body: Json) -> dict[str, str]:
    """The `metadata` member: at most 16 pairs of texts."""
    value = mapping(body, "metadata")
    if len(value) > 16:
        raise errors.too_large("metadata", len(value), 16)
    for name, text_ in value.items():
        if not isinstance(text_, str):
            raise errors.wrong_type(f"metadata.{name}", "a string", text_)
    return value

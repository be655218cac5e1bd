"""Reads what answers say of their usage, by `rules.py`. What is not as expected is passed over, never raised."""

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from gateway.usage.plain import plain
from gateway.usage.rules import ANY, QUANTITIES, RULES, SECONDS, Rule, Tool
from gateway.values import Quantities

_LARGEST = 1 << 53  # what every reader of JSON takes for a whole number; more is no count of anything


class Report(msgspec.Struct, frozen=True):
    """What an answer says of one thing that it used.

    category: of OpenAI's usage API where it is not the operation's, else empty. model, service_tier, object_id: as the
    answer says, empty if it does not. size, quality: of images. each: counts beside earlier ones of the same stream,
    and does not stand for them.
    """

    quantities: Quantities
    category: str = ""
    model: str = ""
    service_tier: str = ""
    object_id: str = ""
    size: str = ""
    quality: str = ""
    each: bool = False


class _Top(msgspec.Struct):
    """The members of an answer, or of an object in it, that may matter. The large ones are skipped over."""

    type: Any = None
    id: Any = None
    model: Any = None
    service_tier: Any = None
    usage: Any = None
    tool_usage: Any = None
    svg_usage: Any = None
    x_groq: Any = None
    token_usage: Any = None
    size: Any = None
    quality: Any = None
    duration: Any = None
    error: Any = None
    tools: Any = None
    output: msgspec.Raw = msgspec.Raw()
    response: msgspec.Raw = msgspec.Raw()
    turn: msgspec.Raw = msgspec.Raw()
    decision: msgspec.Raw = msgspec.Raw()
    metadata: msgspec.Raw = msgspec.Raw()


class _Item(msgspec.Struct):
    type: Any = None
    container_id: Any = None


_decode_top = msgspec.json.Decoder(_Top).decode
_decode_items = msgspec.json.Decoder(list[_Item]).decode
_decode_any = msgspec.json.Decoder().decode


def rules_of(operation_id: str) -> tuple[Rule, ...]:
    """The rules of an operation; none if its answers say nothing of usage."""
    return tuple(rule for rule in RULES if operation_id in rule.operations)


def of_body(body: bytes | bytearray | memoryview, rules: tuple[Rule, ...]) -> list[Report]:
    """What a whole JSON answer reports."""
    if len(rules) == 1 and rules[0].plain and (short := plain(body)) is not None:
        return [Report(short.quantities, "", short.model or "", (short.service_tier or "").lower(), short.id or "")]
    top = _top(body)
    if top is None:
        return []
    return [
        report
        for rule in rules
        if rule.body is not None
        for report in _reports(_inner(top, rule.body), rule)
    ]  # fmt: skip


def of_event(name: str, data: bytes, rules: tuple[Rule, ...]) -> list[Report]:
    """What an event reports. name: of its `event:` line; the member `type` comes first."""
    top = _top(data)
    if top is None:
        return []
    kind = top.type if isinstance(top.type, str) and not name.startswith("thread.") else name
    found: list[Report] = []
    for rule in rules:
        path = rule.events.get(kind, rule.events.get(ANY))
        if path is not None:
            found += _reports(_inner(top, path), rule)
    return found


def _top(data: bytes | bytearray | memoryview | msgspec.Raw) -> _Top | None:
    try:
        return _decode_top(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _inner(top: _Top, path: str) -> _Top | None:
    return top if path == ANY else _top(getattr(top, path))


def _reports(top: _Top | None, rule: Rule) -> Iterator[Report]:
    """The lines that an object with usage makes: its own, and one for each tool."""
    if top is None:
        return
    model, tier, object_id = _text(top.model), _text(top.service_tier).lower(), _text(top.id)
    quantities = None
    for path in rule.usage:
        quantities = quantities or quantities_of(_at(top, path))
    if quantities is not None:
        yield Report(
            quantities, rule.category or "", model, tier, object_id, _text(top.size), _text(top.quality),
            each=rule.several == "each",
        )  # fmt: skip
    for tool in rule.tools:
        for used, distinct in _used(top, tool):
            maker = _maker(top, tool) or model
            yield Report(used, tool.category, maker, tier, distinct or object_id, each=rule.several == "each")


def _used(top: _Top, tool: Tool) -> Iterator[tuple[Quantities, str]]:
    """How much of a tool was used, and under which id of its own if it has one."""
    if tool.usage:
        quantities = quantities_of(_at(top, tool.usage))
        if quantities is not None and (quantities.input_tokens or quantities.output_tokens):
            number = sum(item.type == tool.items for item in _items(top))
            yield msgspec.structs.replace(quantities, **{tool.quantity: number}), ""
    elif tool.number:
        number = _count(_at(top, tool.number))
        if number:
            yield Quantities(**{tool.quantity: number}), ""
    else:
        items = [item for item in _items(top) if item.type == tool.items]
        if tool.distinct:
            for value in dict.fromkeys(_text(getattr(item, tool.distinct)) for item in items):
                yield Quantities(**{tool.quantity: 1}), value
        elif items:
            yield Quantities(**{tool.quantity: len(items)}), ""


def _maker(top: _Top, tool: Tool) -> str:
    """The model of a tool that has one of its own."""
    declared = top.tools if tool.declared and isinstance(top.tools, list) else ()
    for each in declared:
        if isinstance(each, dict) and each.get("type") == tool.declared and _text(each.get("model")):
            return _text(each["model"])
    return tool.model


def _items(top: _Top) -> list[_Item]:
    try:
        return _decode_items(top.output)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return []


def _at(top: _Top, path: str) -> Any:
    """The value at a path, None if there is none."""
    if path == "usage":  # nearly always
        return top.usage
    first, *rest = path.split(".")
    value: Any = getattr(top, first, None)
    if isinstance(value, msgspec.Raw):
        value = _plain(value)
    for name in rest:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _plain(raw: msgspec.Raw) -> Any:
    try:
        return _decode_any(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def quantities_of(usage: Any) -> Quantities | None:
    """A usage object's numbers; None if it is none, or counts nothing that is known."""
    if not isinstance(usage, dict):
        return None
    found: dict[str, int] = {}
    ranks: dict[str, int] = {}
    _collect(usage, _TREE, found, ranks)
    seconds = usage.get(SECONDS)
    if isinstance(seconds, int | float) and not isinstance(seconds, bool) and 0 <= seconds < _LARGEST / 1000:
        found["duration_ms"] = round(seconds * 1000)
    return Quantities(**found) if found else None


class _Place(msgspec.Struct, frozen=True):
    """What a member of a usage object means: a quantity, unless a place of lower rank has given it; or an object."""

    quantity: str = ""
    rank: int = 0
    inside: "dict[str, _Place]" = {}


def _tree(paths: Iterable[tuple[list[str], str, int]]) -> dict[str, _Place]:
    """The places by the members that lead to them, from paths of members, each with its quantity and rank."""
    deeper: dict[str, list[tuple[list[str], str, int]]] = {}
    places: dict[str, _Place] = {}
    for (first, *rest), quantity, rank in paths:
        if rest:
            deeper.setdefault(first, []).append((rest, quantity, rank))
        else:
            places[first] = _Place(quantity, rank)
    return places | {first: _Place(inside=_tree(inner)) for first, inner in deeper.items()}


_TREE = MappingProxyType(
    _tree(
        (path.split("."), quantity, rank) for quantity, paths in QUANTITIES.items() for rank, path in enumerate(paths)
    )
)


def _collect(usage: dict[str, Any], tree: Mapping[str, _Place], found: dict[str, int], ranks: dict[str, int]) -> None:
    """Notes the numbers of a usage object, or of an object in it, that are known."""
    for name, value in usage.items():
        place = tree.get(name)
        if place is None or value is None:
            continue
        if place.inside:
            if isinstance(value, dict):
                _collect(value, place.inside, found, ranks)
            continue
        number = value if type(value) is int and 0 <= value < _LARGEST else _count(value)
        if number is not None and ranks.get(place.quantity, place.rank) >= place.rank:
            found[place.quantity] = number
            ranks[place.quantity] = place.rank


def _count(value: Any) -> int | None:
    """A number of something. Some upstreams write whole numbers with a point."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _LARGEST:
        return value
    return None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""

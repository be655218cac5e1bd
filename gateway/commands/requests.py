"""`gateway requests show`: what became of a call, over the admin API."""

import argparse
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

from gateway.commands.asking import Api, asking
from gateway.commands.console import moment, say, say_json, table
from gateway.pricing.units import dollars

_NANO = 1_000_000_000
_OUTCOMES = (
    ("complete", "served to its end"),
    ("client_left", "its client left before the end"),
    ("cut", "cut off before its end"),
    ("refused", "refused by the gateway, or no upstream could be reached"),
    ("unknown", "its worker ended before it was over: charged as it was reserved"),
    ("limited", "refused by a limit"),
    ("running", "not over yet, or not in the ledger yet"),
    ("socket", "a WebSocket: each of its responses is a call of its own"),
)
_UNITS = (
    ("requests", "requests"), ("tokens", "tokens"), ("images", "images"), ("audio bytes", "audio_bytes"),
    ("batch input tokens", "batch_input_tokens"), ("dollars", "amount"),
)  # fmt: skip

_NOTHING = frozenset({"-", "0", "$0.00"})

Shown = Mapping[str, Any]


def requests(options: argparse.Namespace) -> int:
    return asking(options, lambda api: _show(api, options))


def _show(api: Api, options: argparse.Namespace) -> int:
    found = api.ask("GET", f"/organization/requests/{quote(options.request, safe='')}")
    if options.json:
        return say_json(found)
    say("\n".join(explained(found)))
    return 0


def explained(found: Shown) -> list[str]:
    """What the admin API says of a call, for people."""
    parts = [_head(found), _refusals(found), _limits(found), _amounts(found), _attempts(found), *_lines(found)]
    return [line for part in parts if part for line in ("", *part)][1:]


def _head(found: Shown) -> list[str]:
    rows = [("request:", found["id"]), ("outcome:", dict(_OUTCOMES).get(found["outcome"], found["outcome"]))]
    if "created_at" in found:
        rows.append(("time:", moment(found["created_at"])))
    for name, key in (
        ("project:", "project_id"), ("user:", "user_id"), ("key:", "api_key_id"), ("operation:", "operation"),
        ("model:", "model"), ("status:", "status"), ("end user:", "end_user"), ("waits for:", "pending_object_id"),
    ):  # fmt: skip
        if found.get(key):
            rows.append((name, str(found[key])))
    rows += [("response:", one) for one in found.get("responses", ())]
    return table(rows[0], rows[1:])


def _refusals(found: Shown) -> list[str]:
    rows = [
        (
            "would have refused (shadow)" if one["shadow"] else "refused",
            one["limit"],
            f"{one['scope']} {one['subject_id']}",
            *(_value(one[name]) for name in ("value", "used", "requested")),
        )
        for one in found.get("refusals", ())
    ]
    return table(("by a limit", "limit", "counted for", "value", "used before", "requested"), rows) if rows else []


def _limits(found: Shown) -> list[str]:
    limits = found.get("limits")
    if limits is None:
        return ["limits: nothing is known of them"] if found["outcome"] == "unknown" else []
    if not limits:
        return ["limits: none that hold for it"]
    rows = [
        (one["limit"], _value(one["value"]) + (" (shadow)" if one["shadow"] else ""), _counted_for(one))
        for one in limits
    ]
    checked = table(("limit checked", "value", "counted for"), rows)
    if found["checked_by"] == "worker":
        checked.append("Redis was away: these were checked by the worker alone, with its share of each.")
    return checked


def _amounts(found: Shown) -> list[str]:
    if "settled" not in found:
        return []
    reserved, settled = found["reserved"], found["settled"]
    rows = []
    for name, key in _UNITS:
        row = (name, _value(reserved and reserved[key]), _value(settled[key]))
        if not {*row[1:]} <= _NOTHING:
            rows.append(row)
    return table(("amount", "reserved", "settled"), rows) if rows else []


def _attempts(found: Shown) -> list[str]:
    rows = [
        (
            str(one["attempt"] or "-"),
            one["upstream"],
            one["error"] or (str(one["status"]) if one["status"] else "no answer"),
            f"{one['milliseconds']:,} ms",
            one["request_id"] or "",
        )
        for one in found.get("attempts", ())
    ]
    return table(("attempt", "upstream", "status", "after", "its id of the call"), rows) if rows else []


def _lines(found: Shown) -> Iterator[list[str]]:
    if "lines" not in found:
        return
    for line in found["lines"]:
        yield _line(line)
    if not found["lines"]:
        yield ["usage: none, nothing is charged"]


def _line(line: Shown) -> list[str]:
    model = line["response_model"] or line["upstream_model"] or line["request_model"]
    of = [line["category"] or "usage", *(one for one in (model, line["service_tier"]) if one)]
    of += ["batch"] if line["batch"] else []
    used = ", ".join(f"{number:,} {name}" for name, number in line["quantities"].items())
    rows = [
        (cost["line_item"], f"{cost['quantity']:,} {cost['unit']}", _value(cost["amount"])) for cost in line["costs"]
    ]
    rows.append(("total", "", _value(line["amount"])))
    return [
        f"{' / '.join(of)}, {line['source']}: {used or 'nothing'}",
        *table(("line item", "quantity", "price"), rows),
    ]


def _counted_for(one: Shown) -> str:
    if "model" in one:
        return f"project {one['subject_id']}, {one['model']}"
    return f"{one['scope']} {one['subject_id']}"


def _value(value: Any) -> str:
    """A number, or an amount in dollars."""
    if value is None:
        return "-"
    if not isinstance(value, Mapping):
        return f"{value:,}"
    whole, _, decimals = dollars(round(value["value"] * _NANO)).partition(".")
    decimals = decimals.rstrip("0")
    return f"${whole}.{decimals.ljust(2, '0')}"

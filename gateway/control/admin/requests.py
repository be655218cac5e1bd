"""Single calls, explained; of this gateway. What they said or were answered is nowhere.

Amounts are dollars. A limit's `value`, and what was `used` of it before a call that `requested` more, are in the unit
that it is declared in; of spend they are amounts.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.accounts.refusals import Refusal
from gateway.control.admin.asked import Asked, Query
from gateway.control.admin.routes import Route, reading
from gateway.control.ledger.calls import Call, Whose, call_of
from gateway.control.sql.ledger_tables import LONGEST_TEXT
from gateway.errors import NO_SUCH_REQUEST, GatewayError
from gateway.limits import RATES
from gateway.values import Checked, Quantities, Taking, Tried, UsageEvent, UsageLine

_PATH = "/organization/requests/{request_id}"
_OBJECT = "organization.request"
_NANO = 1_000_000_000


def routes() -> tuple[Route, ...]:
    return (reading(_PATH, "api.usage", read_request, own=True, judges=("request_id",)),)


async def read_request(asked: Asked, connection: AsyncConnection) -> dict[str, Any]:
    """Raises GatewayError NO_SUCH_REQUEST (404), also to API keys that ask about others' calls."""
    request_id, caller = asked.ids["request_id"], asked.caller
    asked.query(Query)
    found = None
    if "\0" not in request_id and len(request_id) <= LONGEST_TEXT:
        whose = Whose(asked.organization_id, caller.id if caller.kind == "api_key" else None)
        found = await call_of(connection, whose, request_id, asked.now)
    if found is None:
        days = asked.house.settings.ledger.events_days
        raise GatewayError(NO_SUCH_REQUEST, id=request_id[:100], days=days)
    return shown(request_id, found)


def shown(request_id: str, call: Call) -> dict[str, Any]:
    """The object."""
    event, refusals = call.event, [_refusal(one) for one in call.refusals]
    if event is not None:
        return {**_of_event(event), "refusals": refusals}
    if not call.refusals:
        return {"object": _OBJECT, "id": request_id, "outcome": "socket", "responses": list(call.responses)}
    first = call.refusals[0]
    return {
        "object": _OBJECT,
        "id": request_id,
        "created_at": first.at_us // 1_000_000,
        "outcome": "running" if all(one.shadow for one in call.refusals) else "limited",
        "project_id": first.project_id,
        "user_id": first.user_id,
        "api_key_id": first.key_id,
        "model": first.model or None,
        "refusals": refusals,
    }


def _of_event(event: UsageEvent) -> dict[str, Any]:
    reserved = event.reserved
    return {
        "object": _OBJECT,
        "id": event.id,
        "created_at": event.at_us // 1_000_000,
        "outcome": "unknown" if event.unconfirmed else event.ended,
        "project_id": event.project_id,
        "user_id": event.user_id,
        "api_key_id": event.key_id,
        "operation": event.operation or None,
        "category": event.category,
        "model": next((line.request_model for line in event.lines if line.request_model), None),
        "status": event.status or None,
        "stream": event.stream,
        "end_user": event.end_user or None,
        "pending_object_id": event.pending or None,
        "limits": [_limit(one, event) for one in event.limits] if reserved is not None else None,
        "checked_by": None if reserved is None else "worker" if event.locally else "redis",
        "reserved": _taking(reserved) if reserved is not None else None,
        "settled": _taking(_settled(event)),
        "attempts": [_attempt(one) for one in event.attempts],
        "lines": [_line(one) for one in event.lines],
    }


def _settled(event: UsageEvent) -> Taking:
    """What the limits have been charged in the end. Bytes and tokens of batches stay as they were reserved, unless all
    is given back."""
    lines, reserved = event.lines, event.reserved or Taking()
    if not lines:
        return Taking(reserved.requests)
    quantities = [line.quantities for line in lines]
    return Taking(
        reserved.requests,
        tokens=sum(one.input_tokens + one.output_tokens for one in quantities),
        images=sum(one.images for one in quantities),
        audio_bytes=reserved.audio_bytes,
        batch_tokens=reserved.batch_tokens,
        nano_usd=sum(line.nano_usd or 0 for line in lines),
    )


def _taking(taking: Taking) -> dict[str, Any]:
    return {
        "requests": taking.requests,
        "tokens": taking.tokens,
        "images": taking.images,
        "audio_bytes": taking.audio_bytes,
        "batch_input_tokens": taking.batch_tokens,
        "amount": _amount(taking.nano_usd),
    }


def _limit(one: Checked, event: UsageEvent) -> dict[str, Any]:
    subjects = {"organization": event.organization_id, "key": event.key_id, "user": event.user_id}
    subject = subjects.get(one.scope) or (event.user_id if one.scope == "member" else event.project_id)
    return {
        "limit": one.limit,
        "scope": one.scope,
        "subject_id": subject,
        **({"model": one.model} if one.model else {}),
        "value": _amount(one.value) if _is_spend(one.limit) else one.value,
        "shadow": one.shadow,
    }


def _refusal(one: Refusal) -> dict[str, Any]:
    factor = RATES[one.limit].factor if one.limit in RATES else 1

    def counted(number: int | None) -> Any:
        if number is None:
            return None
        return _amount(number) if _is_spend(one.limit) else number if factor == 1 else number / factor

    return {
        "at": one.at_us // 1_000_000,
        "limit": one.limit,
        "scope": one.scope,
        "subject_id": one.subject,
        "value": counted(one.value * factor if one.value is not None else None),
        "used": counted(one.used),
        "requested": counted(one.wanted),
        "shadow": one.shadow,
    }


def _attempt(one: Tried) -> dict[str, Any]:
    return {
        "attempt": one.attempt or None,
        "upstream": one.upstream,
        "status": one.status or None,
        "error": one.error or None,
        "milliseconds": one.ms,
        "request_id": one.request_id or None,
    }


def _line(line: UsageLine) -> dict[str, Any]:
    return {
        "attempt": line.attempt,
        "upstream": line.upstream or None,
        "category": line.category,
        "request_model": line.request_model or None,
        "upstream_model": line.upstream_model or None,
        "response_model": line.response_model or None,
        "service_tier": line.service_tier or None,
        "batch": line.batch,
        "source": line.source,
        "object_id": line.object_id or None,
        "quantities": _quantities(line.quantities),
        "amount": _amount(line.nano_usd or 0),
        "costs": [
            {"line_item": cost.item, "unit": cost.unit, "quantity": cost.quantity, "amount": _amount(cost.nano_usd)}
            for cost in line.costs
        ],
    }


def _quantities(quantities: Quantities) -> dict[str, int]:
    """Those that there are."""
    named: Sequence[str] = quantities.__struct_fields__
    return {name: number for name in named if (number := getattr(quantities, name))}


def _amount(nano_usd: int) -> dict[str, Any]:
    return {"value": nano_usd / _NANO, "currency": "usd"}


def _is_spend(limit: str) -> bool:
    return limit.startswith("spend.")

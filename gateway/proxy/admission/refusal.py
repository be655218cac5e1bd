"""A refusal in OpenAI's words, from the limit that refused."""

from collections.abc import Mapping
from types import MappingProxyType

from gateway.errors import (
    KEY_SPEND_LIMITED,
    ORGANIZATION_SPEND_LIMITED,
    PROJECT_SPEND_LIMITED,
    REQUEST_TOO_LARGE,
    REQUESTS_LIMITED,
    REQUESTS_NEVER,
    TOKENS_LIMITED,
    USER_SPEND_LIMITED,
    ErrorKind,
    GatewayError,
)
from gateway.limits import CONCURRENT, RATES, Applied, RateLimit, Scope, SpendLimit
from gateway.pricing.units import dollars
from gateway.values import Taking

_SPENT: Mapping[Scope, ErrorKind] = MappingProxyType({
    "organization": ORGANIZATION_SPEND_LIMITED, "project": PROJECT_SPEND_LIMITED, "user": USER_SPEND_LIMITED,
    "member": USER_SPEND_LIMITED, "key": KEY_SPEND_LIMITED,
})  # fmt: skip
_WINDOWS = MappingProxyType({"day": "daily", "week": "weekly", "month": "monthly", "total": "total"})
_TOKENS = frozenset({"tokens", "batch_tokens"})
_LONGEST_MODEL = 200
CONCURRENT_WAIT_US = 1_000_000  # nobody knows when another request will end


def refusal(  # noqa: PLR0917 - a refusal is made of all of this
    applied: Applied, organization_id: str, model: str, taking: Taking, used: int, wait_us: int | None
) -> GatewayError:
    """The error for a call that a limit refused.

    used: of the limit, in its unit (nano-USD of a spend limit) before this call. wait_us: when this call would pass,
    which is told in whole milliseconds, none too few; None for never: it is larger than the whole limit.
    """
    where = _where(applied, organization_id)
    limit = applied.limit
    if isinstance(limit, SpendLimit):
        return GatewayError(
            _SPENT[applied.scope],
            window=_WINDOWS[limit.window],
            where=where,
            limit=_usd(limit.nano_usd or 0),
            used=_usd(used),
            requested=_usd(taking.nano_usd),
        )
    requested, words, factor = _requested(limit, taking)
    of_tokens = limit.kind in RATES and RATES[limit.kind].unit in _TOKENS
    if wait_us is None:
        kind = REQUEST_TOO_LARGE if of_tokens else REQUESTS_NEVER
    else:
        kind = TOKENS_LIMITED if of_tokens else REQUESTS_LIMITED
        wait_us = max(1000, -(-wait_us // 1000) * 1000) if limit.kind != CONCURRENT else CONCURRENT_WAIT_US
    return GatewayError(
        kind,
        wait_us=wait_us,
        model=model[:_LONGEST_MODEL] or "default",
        where=where,
        words=words,
        limit=limit.limit,
        used=_declared(used, factor),
        requested=_declared(requested, factor),
        wait=go_duration(wait_us or 0),
    )


def go_duration(us: int) -> str:
    """Microseconds as Go writes a duration, cut to milliseconds: `20ms`, `8.64s`, `6m0s`, `1h0m0.5s`; `0s` for none."""
    ms = us // 1000
    if ms <= 0:
        return "0s"
    if ms < 1000:
        return f"{ms}ms"
    minutes, ms = divmod(ms, 60_000)
    hours, minutes = divmod(minutes, 60)
    seconds = f"{ms // 1000}.{ms % 1000:03d}".rstrip("0").rstrip(".") + "s"
    return (f"{hours}h" if hours else "") + (f"{minutes}m" if hours or minutes else "") + seconds


def _requested(limit: RateLimit, taking: Taking) -> tuple[int, str, int]:
    """How much of the limit's unit the call takes, what OpenAI calls the limit, and the unit's factor."""
    if limit.kind == CONCURRENT:
        return 1, "concurrent requests", 1
    rate = RATES[limit.kind]
    amount: int = getattr(taking, rate.unit)
    return amount, rate.words, rate.factor


def _declared(amount: int, factor: int) -> str:
    """An amount in the unit in which the limit was declared."""
    return str(amount) if factor == 1 else f"{amount / factor:.3f}".rstrip("0").rstrip(".")


def _where(applied: Applied, organization_id: str) -> str:
    organization = f"organization {organization_id}"
    match applied.scope:
        case "organization":
            return organization
        case "project" | "project_model":
            return f"project {applied.subject} {organization}"
        case "member":
            return f"user {applied.subject} in this project of {organization}"
        case _:
            return f"{applied.scope} {applied.subject} {organization}"


def _usd(nano_usd: int) -> str:
    """Dollars with as many decimals as the amount needs, two at least."""
    whole, _, decimals = dollars(nano_usd).partition(".")
    return f"{whole}.{decimals.rstrip('0').ljust(2, '0')}"

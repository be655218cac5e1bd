"""What limits a call, as the reserve script takes it: made once for a principal and a model, and kept."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from itertools import chain
from types import MappingProxyType

import msgspec

from gateway.limits import (
    CONCURRENT,
    RATES,
    Applied,
    RateKind,
    RateLimit,
    Scope,
    SpendLimit,
    Unit,
    Window,
    member_field,
)

UNITS: tuple[Unit, ...] = ("requests", "tokens", "images", "audio_bytes", "batch_tokens")  # as the scripts number them
_WINDOWS: Mapping[Window, int] = MappingProxyType({"day": 0, "week": 0, "month": 1, "total": 2})  # the week's last day
_PLAIN_NAME = re.compile(r"[A-Za-z0-9._:@/+*-]{1,64}")
_MOST_ROUNDED = 10_000
SERVICE_ACCOUNT = "svc_acct_"  # what ids of users begin with who are none
_encoder = msgspec.msgpack.Encoder()

Value = str | int | float


class Plan(msgspec.Struct, frozen=True):
    """Who is limited by what.

    limits_version: of the documents from which `entries` follow. key_version: of the key's record as the worker has it;
    0: not to be checked. entries: what a refusal's or a level's number points into. blob: for the script.
    """

    organization_id: str
    project_id: str
    user_id: str
    key_id: str
    limits_version: int
    key_version: int
    entries: tuple[Applied, ...]
    blob: bytes


def subjects(project_id: str, user_id: str, key_id: str) -> dict[Scope, str]:
    """For which fields of its windows a call's spend is counted; an empty id has none. A service account, which has one
    project, is not counted for that once more."""
    found: dict[Scope, str] = {"organization": "o"}
    scopes: tuple[tuple[Scope, str], ...] = (("project", project_id), ("user", user_id), ("key", key_id))
    found |= {scope: f"{scope[0]}:{subject}" for scope, subject in scopes if subject}
    if project_id and user_id and not user_id.startswith(SERVICE_ACCOUNT):
        found["member"] = member_field(project_id, user_id)
    return found


def bucket_name(entry: Applied, kind: str) -> str:
    """The field of a bucket. Names of models come from clients: what is long or
    unusual in one is hashed."""
    return f"b:{kind}:{_counted_for(entry)}"


def running_name(entry: Applied) -> str:
    """The same for the count of what runs at a time."""
    return f"c:{_counted_for(entry)}"


def _counted_for(entry: Applied) -> str:
    if entry.scope != "project_model":
        return f"{entry.scope[0]}:{entry.subject}"
    model = entry.model
    if not _PLAIN_NAME.fullmatch(model):  # no plain name begins with #
        model = "#" + hashlib.sha256(model.encode("utf-8", "surrogatepass")).hexdigest()[:32]
    return f"m:{entry.subject}:{model}"


def _bucket(limit: int, burst: int | None, kind: RateKind) -> tuple[float, float]:
    """In µs: what one unit refills in, and the capacity; that of a limit of 0 is 0.

    A bucket's time is rounded at each reserve, by 1/32 µs at most. Where many of them fill it, the
    capacity has so much more that the last one fits; never more than 320 µs.
    """
    per_us = kind.period_us / (max(limit, 1) * kind.factor)
    capacity = limit if burst is None else min(limit, burst)
    tolerance_us = 1 + min(capacity, _MOST_ROUNDED) / 32 if capacity else 0
    return per_us, kind.period_us * capacity / max(limit, 1) + tolerance_us


def make_plan(
    *,
    organization_id: str,
    project_id: str,
    user_id: str,
    key_id: str,
    limits_version: int,
    key_version: int = 0,
    applied: Sequence[Applied] = (),
    closes: bool = True,
) -> Plan:
    """A limit of None limits nothing. closes: spend limits refuse everything while the counters are not open; else they
    hold for what has been counted. Raises ValueError for a spend limit of a model, or of a subject that has no id,
    and KeyError for a kind that there is not."""
    fields = subjects(project_id, user_id, key_id)
    numbers = {scope: number for number, scope in enumerate(fields, 1)}
    counted: list[str] = []
    running: list[str] = []
    shapes: tuple[list[Value], list[Value], list[Value]] = ([], [], [])  # of buckets, running counts, spend limits
    spends = 0
    refuses = False
    for number, entry in enumerate(applied):
        match entry.limit:
            case RateLimit(limit=None) | SpendLimit(nano_usd=None):
                pass
            case RateLimit(kind=kind, limit=int(limit), shadow=shadow) if kind == CONCURRENT:
                running.append(running_name(entry))
                shapes[1].extend((limit, int(shadow), number))
            case RateLimit(kind=kind, limit=int(limit), burst=burst, shadow=shadow):
                rate = RATES[kind]
                counted.append(bucket_name(entry, kind))
                shapes[0].extend((UNITS.index(rate.unit) + 1, *_bucket(limit, burst, rate), int(shadow), number))
            case SpendLimit(window=window, nano_usd=int(nano_usd), shadow=shadow):
                if entry.scope not in numbers:
                    raise ValueError(f"spend is not counted for {entry.scope} {entry.subject}")
                place = _WINDOWS[window] * len(fields) + numbers[entry.scope]
                shapes[2].extend((place, int(window == "week"), nano_usd, int(shadow), number))
                spends += 1
                refuses |= not shadow
    head = (limits_version, key_version, f"key:{key_id}", int(closes and refuses))
    sizes = (len(counted), len(running), len(fields), spends)
    values = chain(head, sizes, counted, running, fields.values(), *shapes)
    return Plan(
        organization_id=organization_id,
        project_id=project_id,
        user_id=user_id,
        key_id=key_id,
        limits_version=limits_version,
        key_version=key_version,
        entries=tuple(applied),
        blob=b"".join(map(_encoder.encode, values)),
    )

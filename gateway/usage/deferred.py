"""Objects that finish later, and what they say of usage then. Pure; for the job that settles pending objects.

Nothing of the data plane calls this: it reserves and records an estimate when such an object is made, and reading the
object never bills. `DEFERRED` is data like `rules.py`, `settled` reads it.
"""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from gateway.usage.extract import Report, of_body, quantities_of, rules_of
from gateway.usage.rules import ANY, Rule

USAGE = (Rule((), "a member `usage`, in what no other rule knows", body=ANY),)


class Deferred(msgspec.Struct, frozen=True):
    """How a kind of object tells what it used.

    final: the statuses after which nothing changes any more. charged: those of them in which it used something, all if
    empty. rules: of answers that are the object itself. members: what is read from the object as from a usage object.
    each: the member that lists usage objects, one for each model, whose name is their member `model_name`.
    source: where this is written.
    """

    source: str
    final: frozenset[str]
    charged: frozenset[str] = frozenset()
    rules: tuple[Rule, ...] = ()
    members: tuple[str, ...] = ()
    each: str = ""


# By the object's own `object`.
DEFERRED: Mapping[str, Deferred] = MappingProxyType({
    "batch": Deferred(
        "reference: The batch object; `usage` since 7 September 2025, before that only its output file tells",
        frozenset({"completed", "expired", "cancelled", "failed"}),
        rules=USAGE,
    ),
    "thread.run": Deferred(
        "reference: The run object; `usage` is null until it is final",
        frozenset({"completed", "incomplete", "failed", "cancelled", "expired"}),
        rules=rules_of("createRun"),
    ),
    "response": Deferred(
        "reference: The response object; made in the background it has no `usage` at first",
        frozenset({"completed", "incomplete", "failed", "cancelled"}),
        rules=rules_of("createResponse"),
    ),
    "fine_tuning.job": Deferred(
        "reference: The fine-tuning job object; `trained_tokens` counts every epoch, and is null while it runs",
        frozenset({"succeeded", "failed", "cancelled"}),
        members=("trained_tokens",),
    ),
    "video": Deferred(
        "reference: The video job; `seconds` is a text, and is paid for once the video is there",
        frozenset({"completed", "failed"}),
        charged=frozenset({"completed"}),
        members=("seconds",),
    ),
    "eval.run": Deferred(
        "reference: The eval run object; package: types/evals/run_retrieve_response.py",
        frozenset({"completed", "failed", "canceled", "cancelled"}),
        each="per_model_usage",
    ),
})  # fmt: skip


class Settled(msgspec.Struct, frozen=True):
    """What such an object says.

    final: it will not change any more; there are no reports before that. endpoint, output_file_id, error_file_id,
    requests: of a batch; the files' lines tell what each of its requests used (`batches.py`), and `requests` is how
    many of them were answered. The reports of a batch cost a batch's price.
    """

    kind: str
    object_id: str
    status: str
    final: bool
    reports: tuple[Report, ...] = ()
    endpoint: str = ""
    output_file_id: str = ""
    error_file_id: str = ""
    requests: int = 0


class _Object(msgspec.Struct):
    id: Any = None
    status: Any = None
    model: Any = None
    size: Any = None
    quality: Any = None
    seconds: Any = None
    trained_tokens: Any = None
    per_model_usage: Any = None
    endpoint: Any = None
    output_file_id: Any = None
    error_file_id: Any = None
    request_counts: Any = None


_decode = msgspec.json.Decoder(_Object).decode


def settled(kind: str, body: bytes | bytearray | memoryview) -> Settled | None:
    """What an object of a kind of DEFERRED says; None if this is no such object, as an error is not. Never raises."""
    how = DEFERRED.get(kind)
    try:
        found = _decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    object_id, status = _text(found.id), _text(found.status)
    if how is None or not object_id or not status:
        return None
    final = status in how.final
    charged = final and (not how.charged or status in how.charged)
    counts = found.request_counts if isinstance(found.request_counts, dict) else {}
    completed = counts.get("completed")
    return Settled(
        kind,
        object_id,
        status,
        final,
        tuple(_reports(how, found, body)) if charged else (),
        _text(found.endpoint),
        _text(found.output_file_id),
        _text(found.error_file_id),
        completed if isinstance(completed, int) and not isinstance(completed, bool) and completed > 0 else 0,
    )


def _reports(how: Deferred, found: _Object, body: bytes | bytearray | memoryview) -> Iterator[Report]:
    yield from of_body(body, how.rules)
    object_id, model = _text(found.id), _text(found.model)
    quantities = quantities_of({name: _number(getattr(found, name)) for name in how.members})
    if quantities is not None:
        yield Report(quantities, "", model, "", object_id, _text(found.size), _text(found.quality))
    used = getattr(found, how.each) if how.each else None
    for usage in used if isinstance(used, list) else ():
        quantities = quantities_of(usage)
        if quantities is not None:
            yield Report(quantities, model=_text(usage.get("model_name")), object_id=object_id, each=True)


def _number(value: Any) -> Any:
    """Numbers also where they are written as texts."""
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 16:
        return int(value)
    return value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""

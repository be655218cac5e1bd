"""The event that stands for a call of which nothing is heard any more: reserved with it, used if its worker dies."""

import msgspec

from gateway.operations.table import Operation
from gateway.proxy.admission.estimate import Estimate
from gateway.values import Principal, UsageEvent, UsageLine

_encode = msgspec.json.Encoder().encode


def head_of(principal: Principal, operation: Operation, model: str) -> bytes:
    """What the events of a principal, an operation and a model have in common; `of_tokens` makes them whole. model: as
    the client names it, so it may be anything."""
    line = UsageLine(category=operation.category, request_model=as_text(model), source="estimated")
    whole = _encode(event_of(principal, operation, "", line))
    start = whole.index(b'"at_us":0,') + len(b'"at_us":0,')
    end = whole.rindex(b'"source":"estimated"') + len(b'"source":"estimated"')
    return b"{" + whole[start:end]


def of_tokens(head: bytes, call_id: str, estimate: Estimate) -> bytes:
    """JSON of a UsageEvent without its instant. call_id: of letters, digits and _."""
    return b'%b,"quantities":{"input_tokens":%d,"output_tokens":%d},"nano_usd":%d}],"unconfirmed":true,"id":"%b"}' % (
        head, estimate.input_tokens, estimate.output_tokens, estimate.taking.nano_usd, call_id.encode(),
    )  # fmt: skip


def begun_at(event: bytes, at_us: int) -> bytes:
    """Such an event with its instant, µs since 1970: whole."""
    return b'{"at_us":%d,%b' % (at_us, event[1:])


def as_text(model: str) -> str:
    """A client's model without what JSON has no form for."""
    return model.encode("utf-8", "replace").decode()


def event_of(principal: Principal, operation: Operation, call_id: str, line: UsageLine) -> UsageEvent:
    """The event with such a line."""
    return UsageEvent(
        id=call_id,
        at_us=0,
        organization_id=principal.organization_id,
        project_id=principal.project_id,
        user_id=principal.user_id,
        key_id=principal.key_id,
        operation=operation.id,
        category=operation.category,
        ended="unknown",
        lines=(line,),
    )

"""The event that a reservation carries: whatever a client calls its model, it can be read when it is needed."""

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.operations.table import Operation, load_operations
from gateway.proxy.admission.estimate import Estimate
from gateway.proxy.admission.provisional import event_of, head_of, of_tokens
from gateway.values import Principal, Quantities, Taking, UsageEvent, UsageLine

CHAT: Operation = next(one for one in load_operations() if one.id == "createChatCompletion")
AT = 1_800_000_000_123_456


def dated(provisional: bytes) -> UsageEvent:
    """As the script puts the instant in."""
    return msgspec.json.decode(b'{"at_us":%d,' % AT + provisional[1:], type=UsageEvent)


@given(st.text(st.characters(), max_size=300), st.integers(0, 2**40), st.integers(0, 2**40), st.integers(0, 2**53))
@example('","source":"estimated"', 1, 2, 3)
@example('"at_us":0,', 1, 2, 3)
@example('{"quantities":%d}%b%%', 1, 2, 3)
@example("half a pair: \ud83d", 0, 0, 0)
@example("bytes: \udcff", 0, 0, 0)
def test_any_model(model: str, read: int, written: int, nano_usd: int) -> None:
    principal = Principal("key_1", "proj_1", "user_1", "org-1")
    estimate = Estimate(Taking(tokens=read + written, nano_usd=nano_usd), read, written)
    found = dated(of_tokens(head_of(principal, CHAT, model), "req_0a", estimate))
    shown = model.encode("utf-8", "replace").decode()
    line = UsageLine(
        category="completions",
        request_model=shown,
        source="estimated",
        quantities=Quantities(input_tokens=read, output_tokens=written),
        nano_usd=nano_usd,
    )
    made = event_of(principal, CHAT, "req_0a", line)
    assert found == msgspec.structs.replace(made, at_us=AT, unconfirmed=True)
    assert (found.ended, found.operation, found.key_id) == ("unknown", "createChatCompletion", "key_1")


@pytest.mark.parametrize("id", ['k"ey', "k\\ey", "ключ"])
def test_any_ids(id: str) -> None:  # noqa: A002
    found = dated(of_tokens(head_of(Principal(id, id, id, id), CHAT, "m"), "req_1", Estimate(Taking())))
    assert (found.key_id, found.project_id, found.user_id, found.organization_id) == (id, id, id, id)

"""How a stream says that something went wrong: in the form that the clients of its operation understand."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import DRAINING, UPSTREAM_CUT, GatewayError
from gateway.operations.table import load_operations
from gateway.proxy.relay import error_event, flavour_of

FLAVOURS = {
    "/chat/completions": "plain", "/completions": "plain", "/responses": "responses", "/threads/runs": "event",
    "/audio/speech": "event", "/images/generations": "event",
}  # fmt: skip


@pytest.mark.parametrize("path", FLAVOURS)
def test_the_flavour_of_an_operation(path: str) -> None:
    operation = next(o for o in load_operations() if (o.method, o.path) == ("POST", path))
    assert flavour_of(operation) == FLAVOURS[path]
    assert flavour_of(None) == "event"


def parsed(event: bytes) -> tuple[str, dict[str, object]]:
    """An event's name and data; it is one whole event."""
    assert event.endswith(b"\n\n")
    assert event.count(b"\n\n") == 1
    fields = dict(line.split(": ", 1) for line in event.decode().strip().split("\n"))
    return fields.get("event", ""), json.loads(fields["data"])


@given(st.sampled_from(["plain", "event", "responses"]), st.binary(max_size=50))
def test_it_is_one_event_whatever_came_before(flavour: str, last: bytes) -> None:
    name, data = parsed(error_event(GatewayError(DRAINING), flavour, last))
    assert name == ("" if flavour == "plain" else "error")
    error = data["error"]
    assert isinstance(error, dict)
    assert error["code"] == "server_is_shutting_down"
    assert set(error) == {"message", "type", "param", "code"}


@pytest.mark.parametrize(
    ("last", "number"),
    [
        (b'{"sequence_number":7}', 8),
        (b'{"sequence_number": 7} {"sequence_number" : 12}\n\n', 13),
        (b"", 0),
        (b'"sequence_number":x', 0),
    ],
)
def test_the_sequence_goes_on(last: bytes, number: int) -> None:
    _, data = parsed(error_event(GatewayError(UPSTREAM_CUT), "responses", last))
    assert (data["type"], data["sequence_number"]) == ("error", number)

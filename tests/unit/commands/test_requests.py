"""`gateway requests show`: what people read of a call."""

from pathlib import Path
from typing import Any

import msgspec

from gateway.accounts.refusals import Refusal
from gateway.commands.requests import explained
from gateway.control.admin.requests import shown
from gateway.control.ledger.calls import Call
from gateway.values import Checked, Cost, Quantities, Taking, Tried, UsageEvent, UsageLine

LINE = UsageLine(
    upstream="openai", category="completions", request_model="gpt-5", response_model="gpt-5-2025-08-07",
    service_tier="flex", batch=True, quantities=Quantities(input_tokens=1321, output_tokens=45), nano_usd=75_150,
    costs=(Cost("gpt-5, input_tokens", "input_tokens", 1321, 57_900), Cost("gpt-5, output_tokens", "output_tokens", 45, 17_250)),
)  # fmt: skip
REFUSAL = Refusal(
    at_us=1_800_000_000_000_000, organization_id="org", project_id="proj_1", user_id="ada", key_id="key_1",
    limit="spend.day", scope="member", subject="ada", request_id="req_1", value=5 * 10**9, used=10**9, wanted=45 * 10**8,
)  # fmt: skip


def event(**changes: Any) -> UsageEvent:
    told: dict[str, Any] = {
        "reserved": Taking(tokens=1900, nano_usd=200_000),
        "limits": (Checked("tokens_per_minute", "project_model", 90_000, "gpt-5"), Checked("spend.day", "key", 10**9, shadow=True)),
        "attempts": (Tried(0, "first", 0, "upstream_unreachable", 3), Tried(1, "openai", 200, "", 1250, "req_up")),
        "lines": (LINE,),
    }  # fmt: skip
    return UsageEvent(
        id="req_1", at_us=1_800_000_000_000_000, organization_id="org", project_id="proj_1", user_id="ada", key_id="key_1",
        operation="createChatCompletion", category="completions", **{"status": 200, **told, **changes},
    )  # fmt: skip


def said(event: UsageEvent | None, *refusals: Refusal, responses: tuple[str, ...] = ()) -> list[str]:
    return [" ".join(line.split()) for line in explained(shown("req_1", Call(event, refusals, responses)))]


def test_all_of_it() -> None:
    assert said(event(), Refusal(**{**_fields(REFUSAL), "shadow": True, "used": None})) == [
        "request: req_1",
        "outcome: served to its end",
        "time: 2027-01-15 08:00:00 UTC",
        "project: proj_1",
        "user: ada",
        "key: key_1",
        "operation: createChatCompletion",
        "model: gpt-5",
        "status: 200",
        "",
        "by a limit limit counted for value used before requested",
        "would have refused (shadow) spend.day member ada $5.00 - $4.50",
        "",
        "limit checked value counted for",
        "tokens_per_minute 90,000 project proj_1, gpt-5",
        "spend.day $1.00 (shadow) key key_1",
        "",
        "amount reserved settled",
        "requests 1 1",
        "tokens 1,900 1,366",
        "dollars $0.0002 $0.00007515",
        "",
        "attempt upstream status after its id of the call",
        "- first upstream_unreachable 3 ms",
        "1 openai 200 1,250 ms req_up",
        "",
        "completions / gpt-5-2025-08-07 / flex / batch, reported: 1,321 input_tokens, 45 output_tokens",
        "line item quantity price",
        "gpt-5, input_tokens 1,321 input_tokens $0.0000579",
        "gpt-5, output_tokens 45 output_tokens $0.00001725",
        "total $0.00007515",
    ]


def test_a_refused_call() -> None:
    assert said(None, REFUSAL)[1:] == [
        "outcome: refused by a limit",
        "time: 2027-01-15 08:00:00 UTC",
        "project: proj_1",
        "user: ada",
        "key: key_1",
        "",
        "by a limit limit counted for value used before requested",
        "refused spend.day member ada $5.00 $1.00 $4.50",
    ]


def test_what_there_is_not() -> None:
    lines = said(event(limits=(), lines=(), attempts=(), status=0, ended="cut"))
    assert lines[-9:] == [
        "", "limits: none that hold for it", "", "amount reserved settled", "requests 1 1", "tokens 1,900 0",
        "dollars $0.0002 $0.00", "", "usage: none, nothing is charged",
    ]  # fmt: skip
    assert "outcome: cut off before its end" in lines
    lines = said(event(reserved=None, limits=(), attempts=(), unconfirmed=True))
    assert "limits: nothing is known of them" in lines
    assert "tokens - 1,366" in lines
    assert "Redis was away: these were checked by the worker alone, with its share of each." in said(
        event(locally=True)
    )


def test_what_the_page_shows() -> None:
    """docs/limits-and-budgets.md has the text of such calls."""
    page = (Path(__file__).parents[3] / "docs" / "limits-and-budgets.md").read_text()
    line = msgspec.structs.replace(LINE, batch=False, service_tier="default")
    limits = (Checked("requests_per_minute", "project_model", 500, "gpt-5"), Checked("spend.month", "key", 5 * 10**9))
    for lines in (
        explained(shown("req_1", Call(event(limits=limits, lines=(line,)), ()))),
        explained(shown("req_2", Call(None, (REFUSAL,)))),
    ):
        assert "".join(f"    {line}".rstrip() + "\n" for line in lines) in page


def test_a_socket() -> None:
    assert said(None, responses=("req_1/1", "req_1/2"))[2:] == ["response: req_1/1", "response: req_1/2"]


def test_a_terminal_gets_text_only() -> None:
    assert "\x1b" not in "\n".join(explained(shown("req_1", Call(event(end_user="a\x1b[2Jb"), ()))))


def _fields(refusal: Refusal) -> dict[str, Any]:
    return {name: getattr(refusal, name) for name in refusal.__struct_fields__}

"""The socket of the Responses API. Shapes: OpenAI's package, types/responses."""

import random
from typing import Any

import pytest

from tests.unit.usage.sockets.kit import Meter

USAGE = {
    "input_tokens": 40, "input_tokens_details": {"cached_tokens": 8}, "output_tokens": 20,
    "output_tokens_details": {"reasoning_tokens": 5}, "total_tokens": 60,
}  # fmt: skip


@pytest.fixture
def meter() -> Meter:
    return Meter("connectResponses")


def response(number: int, status: str = "in_progress", usage: Any = None, **more: Any) -> dict[str, Any]:
    return {
        "id": f"resp_{number}", "object": "response", "model": "gpt-5-mini-2025-08-07", "status": status,
        "service_tier": "Default", "output": [], "usage": usage, **more,
    }  # fmt: skip


def used(tokens: int) -> dict[str, Any]:
    return {"input_tokens": tokens, "output_tokens": tokens, "total_tokens": 2 * tokens}


def test_a_response_that_reports(meter: Meter) -> None:
    meter.up("response.create", model="gpt-5-mini", input="Hello", user="u", safety_identifier="s")
    meter.down("response.created", response=response(1))
    meter.down("response.output_text.delta", item_id="msg_1", output_index=0, content_index=0, delta="Hi")
    meter.down("response.completed", response=response(1, "completed", USAGE))
    (done,) = meter.found
    assert (done.begun_at, done.complete, done.category, done.model, done.end_user) == (
        1001, True, "completions", "gpt-5-mini", "s",
    )  # fmt: skip
    line = meter.line()
    assert (line.source, line.response_model, line.service_tier, line.object_id) == (
        "reported", "gpt-5-mini-2025-08-07", "default", "resp_1",
    )  # fmt: skip
    assert (line.quantities.input_tokens, line.quantities.cached_tokens, line.quantities.reasoning_tokens) == (40, 8, 5)
    meter.end()
    assert len(meter.found) == 1


def test_tools_are_lines_of_the_response(meter: Meter) -> None:
    meter.up("response.create", model="gpt-5-mini", input="Hello")
    meter.down("response.created", response=response(1))
    calls = [{"type": "file_search_call"}, {"type": "code_interpreter_call", "container_id": "c"}]
    ended = response(1, "completed", USAGE, output=calls, tool_usage={"web_search": {"num_requests": 2}})
    meter.down("response.completed", response=ended)
    assert [line.category for line in meter.lines()] == [
        "completions", "web_search_calls", "file_search_calls", "code_interpreter_sessions",
    ]  # fmt: skip


@pytest.mark.parametrize("ending", ["response.incomplete", "response.cancelled", "response.failed"])
def test_other_endings_report_too(meter: Meter, ending: str) -> None:
    meter.up("response.create", model="m", input="Hello")
    meter.down("response.created", response=response(1))
    meter.down(ending, response=response(1, ending.partition(".")[2], USAGE))
    assert meter.used().output_tokens == 20


def test_what_failed_before_anything_was_made_is_refused(meter: Meter) -> None:
    meter.up("response.create", model="m", input="Hello")
    meter.down("response.created", response=response(1))
    meter.down("response.failed", response=response(1, "failed"))
    assert meter.lines() == []
    meter.up("response.create", model="m", input="Hello")
    meter.down("error", status=404, error={"code": "model_not_found"})
    assert (meter.lines(), meter.found[-1].status) == ([], 404)
    meter.end()
    assert len(meter.found) == 2


def test_what_failed_later_is_estimated(meter: Meter) -> None:
    meter.up("response.create", model="m", input="H" * 45)
    meter.down("response.created", response=response(1))
    meter.down("response.output_text.delta", delta="é" * 45)
    meter.down("response.failed", response=response(1, "failed"))
    line = meter.line()
    assert (line.source, line.quantities.input_tokens, line.quantities.output_tokens) == ("estimated", 10, 20)


def test_the_socket_ends_before_the_response(meter: Meter) -> None:
    meter.up("response.create", model="m", input="H" * 45)
    meter.down("response.created", response=response(1))
    meter.down("response.reasoning_summary_text.delta", delta="x" * 45)
    meter.down("response.web_search_call.completed", item_id="ws_1")
    meter.down("response.output_text.delta", delta="x" * 45)
    meter.end()
    main, search = meter.lines()
    assert not meter.found[0].complete
    assert (main.response_model, main.object_id) == ("gpt-5-mini-2025-08-07", "resp_1")
    assert (main.quantities.input_tokens, main.quantities.output_tokens) == (10, 20)
    assert (search.category, search.quantities.web_searches, search.source) == ("web_search_calls", 1, "estimated")


def test_the_socket_ends_before_the_response_begins(meter: Meter) -> None:
    """The first request may have been taken up, and is charged as one whose answer nobody saw; those behind it were not."""
    meter.up("response.create", model="m", input="H" * 45)
    meter.up("response.create", model="m", input="next")
    meter.end()
    assert (meter.used().input_tokens, meter.used().output_tokens) == (10, 100)
    assert len(meter.found) == 1


def test_nobody_waits_behind_a_response_that_is_under_way(meter: Meter) -> None:
    for stream in ("a", "a", "b"):
        meter.up("response.create", model=f"m-{stream}", input="Hello", stream_id=stream)
    meter.down("response.created", response=response(1), stream_id="a")
    meter.end()
    assert [done.model for done in meter.found] == ["m-a", "m-b"]


def test_any_interleaving_of_lanes() -> None:
    for seed in range(50):
        chosen = random.Random(seed)
        meter = Meter("connectResponses")
        scripts: list[list[tuple[str, dict[str, Any]]]] = []
        for lane in range(4):
            script: list[tuple[str, dict[str, Any]]] = []
            for turn in range(3):
                number, stream = 10 * lane + turn, f"lane {lane}"
                script.append(("up", {"type": "response.create", "model": f"m-{number}", "input": "Hello"}))
                script.append(("down", {"type": "response.created", "response": response(number)}))
                script += [("down", {"type": "response.output_text.delta", "delta": "x" * 9}) for _ in range(number)]
                usage = used(number) if turn != 1 else None
                ended = {"type": "response.completed", "response": response(number, "completed", usage)}
                script.append(("down", ended))
                for _, message in script:
                    message["stream_id"] = stream
            scripts.append(script)
        while any(scripts):
            way, message = chosen.choice([script for script in scripts if script]).pop(0)
            kind = message.pop("type")
            meter.up(kind, **message) if way == "up" else meter.down(kind, **message)
        assert len(meter.found) == 12
        for at, done in enumerate(meter.found):
            number = int(done.model.removeprefix("m-"))
            assert done.answer.object_id == f"resp_{number}"
            if number % 10 != 1:
                assert meter.used(at).output_tokens == number
            else:
                assert (meter.line(at).source, meter.used(at).output_tokens) == ("estimated", 2 * number)


def test_an_upstream_without_lanes(meter: Meter) -> None:
    meter.up("response.create", model="m", input="Hello", stream_id="a")
    meter.down("response.created", response=response(1))
    meter.down("response.completed", response=response(1, "completed", USAGE))
    meter.end()
    assert [done.model for done in meter.found] == ["m"]


def test_what_is_beyond_the_bound_counts_if_it_reports(meter: Meter) -> None:
    for number in range(1000):
        meter.up("response.create", model="m", input="Hello", stream_id=str(number))
    for number in range(1000):
        meter.down("response.created", response=response(number), stream_id=str(number))
    for number in range(1000):
        meter.down("response.completed", response=response(number, "completed", USAGE), stream_id=str(number))
    meter.end()
    assert len(meter.found) == 1000


def test_what_it_goes_on_from_is_read_again(meter: Meter) -> None:
    meter.up("response.create", model="m", input="Hello")
    meter.down("response.created", response=response(1))
    meter.down("response.completed", response=response(1, "completed", USAGE))
    meter.up("response.create", model="m", input="x" * 45, previous_response_id="resp_1")
    meter.down("response.created", response=response(2))
    meter.end()
    assert meter.used().input_tokens == 10 + 40 + 15


def test_large_requests_are_not_kept(meter: Meter) -> None:
    meter.up("response.create", model="m", input="word " * 90_000)
    meter.end()
    assert 100_000 <= meter.used().input_tokens <= 100_100
